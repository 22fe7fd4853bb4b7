"""Sizes and columns that nobody has stated are those that an owner of such data would state, and are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.errors import has, refused

import tsforecast as tsf
from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.data.sizes import sizes
from tsforecast.data.splits import FractionSplit, TailSplit
from tsforecast.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def frame(freq: str, rows: int) -> pd.DataFrame:
    return pd.DataFrame({"date": pd.date_range("2000-01-02", periods=rows, freq=freq), "y": RNG.random(rows)})


@pytest.mark.parametrize(
    ("freq", "rows", "wanted"),
    [
        ("h", 43_824, (168, 24, 168)),
        ("15min", 50_000, (672, 96, 672)),
        ("min", 50_000, (1440, 96, 1440)),
        ("D", 1_500, (168, 14, 168)),
        ("W", 520, (156, 13, 156)),
        ("MS", 360, (120, 18, 120)),
        ("MS", 240, (120, 18, 12)),
        ("MS", 48, (12, 6, 12)),
        ("QS", 80, (40, 8, 4)),
        ("YS", 60, (20, 6, 4)),
        ("YS", 8, (3, 1, 3)),
    ],
)
def test_sizes_follow_the_frequency_as_far_as_there_are_rows(
    freq: str, rows: int, wanted: tuple[int, int, int]
) -> None:
    panel, split = to_panel(frame(freq, rows), Schema(freq=freq)), FractionSplit()
    back, ahead, least = sizes(panel, split, "auto", "auto", None)
    assert (back, ahead, least) == wanted
    split(panel, least, ahead)  # which refuses what does not fit


def test_a_model_that_learns_nothing_has_all_rows_of_a_short_series() -> None:
    panel = to_panel(frame("MS", 48), Schema(freq="MS"))
    assert sizes(panel, FractionSplit(), "auto", "auto", None, trains=False) == (38, 6, 12)
    found = tsf.train("model=croston", data=frame("MS", 48)).bundle
    assert (found.dims.lookback, found.dims.horizon, found.least) == (38, 6, 12)
    known = frame("MS", 12)  # a year that is known is forecast from, with a word
    assert found.forecast(known).warnings[0] == "fewer rows than the 38 that a forecast reads: 12"


@pytest.mark.parametrize(("freq", "rows"), [("D", 74), ("D", 99), ("MS", 41), ("MS", 64), ("W", 90), ("h", 171)])
def test_sizes_of_many_short_series_leave_rows_to_choose_and_to_judge_on(freq: str, rows: int) -> None:
    many = pd.concat([frame(freq, rows).assign(unique_id=f"s{i}") for i in range(20)])
    panel, split = to_panel(many, Schema(id="unique_id", time="date", freq=freq)), FractionSplit()
    _, ahead, least = sizes(panel, split, "auto", "auto", None)
    split(panel, least, ahead)  # which refuses what does not fit


def test_a_size_that_is_stated_stays_and_the_other_fits_to_it() -> None:
    panel = to_panel(frame("MS", 100), Schema(freq="MS"))
    assert sizes(panel, FractionSplit(), "auto", 30, None)[1] == 30
    assert sizes(panel, FractionSplit(), 7, "auto", None) == (7, 12, 7)
    assert sizes(panel, FractionSplit(), 7, 5, None) == (7, 5, 7)


def test_where_short_series_are_dropped_sizes_are_those_of_the_others() -> None:
    both = pd.concat(
        [frame("MS", 20).assign(shop="a"), frame("MS", 200).assign(shop="b"), frame("MS", 200).assign(shop="c")]
    )
    panel = to_panel(both, Schema(time="date", id="shop", freq="MS"))
    assert sizes(panel, FractionSplit(), "auto", "auto", None)[1] == 2
    assert sizes(panel, FractionSplit(short="drop"), "auto", "auto", None) == (120, 18, 12)


def test_what_holds_the_horizon_of_all_down_is_named_with_what_gives_more(caplog: pytest.LogCaptureFixture) -> None:
    parts = [frame("D", rows).assign(shop=f"s{rows}") for rows in (400, 5, 401, 90, 10)]
    panel = to_panel(pd.concat(parts), Schema(time="date", id="shop", freq="D"))
    assert sizes(panel, FractionSplit(), "auto", "auto", None)[1] == 1
    (told,) = (each.getMessage() for each in caplog.records if each.levelname == "WARNING")
    assert told.startswith(
        "horizon=1 for all 5 series, by the 2 shortest: s5 has 5 rows, s10 has 10 rows; split.short="
    )
    assert "split.short=naive gives 11 " in told
    assert sizes(panel, FractionSplit(short="naive"), "auto", "auto", None)[1] == 11
    caplog.clear()
    for kept, horizon in ((panel.lengths > 80, "auto"), (panel.lengths > 4, 1), (panel.lengths < 9, "auto")):
        sizes(panel.select(kept), FractionSplit(), "auto", horizon, None)
    assert not caplog.records


def test_short_series_get_the_lookback_of_the_others_and_windows_as_short_as_they_need_where_none_is_stated() -> None:
    lengths = (36, 130, 140, 150)
    both = pd.concat([frame("MS", rows).assign(shop=f"s{rows}") for rows in lengths])
    panel, split = to_panel(both, Schema(time="date", id="shop", freq="MS")), TailSplit(val=4, test=4)
    assert sizes(panel, split, "auto", "auto", None) == (120, 4, 12)
    assert sizes(panel, split, 60, 4, None) == (60, 4, 60)  # which the split refuses, as ever
    assert sizes(panel, replace(split, short="pad"), 60, 4, None) == (60, 4, 12)
    assert sizes(panel, replace(split, short="pad"), 20, 4, None) == (20, 4, 20)
    shorter = panel.select(panel.lengths < 100).tail(16)
    assert sizes(shorter, split, "auto", 4, None) == (3, 4, 3)
    assert sizes(shorter, split, "auto", 4, None, trains=False) == (12, 4, 4)


def test_a_newcomers_file_of_48_months_has_forecasts_with_intervals_and_nothing_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wave = 100 + 10 * np.sin(np.arange(48) / 12 * 2 * np.pi) + RNG.standard_normal(48)
    months = pd.date_range("2020-01-01", periods=48, freq="MS").strftime("%Y-%m-%d")
    pd.DataFrame({"Month": months, "Sales": wave.round(1)}).to_csv(tmp_path / "sales.csv", index=False)
    caplog.set_level("INFO", logger="tsforecast")
    found = tsf.train("dataset=wide", f"dataset.path={tmp_path / 'sales.csv'}").bundle
    assert (found.dims.lookback, found.dims.horizon, found.channels) == (12, 6, ("Sales",))
    assert not [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert [*found.intervals] == ["90", "80"]
    assert "dataset.time=Month" in caplog.text
    assert "lookback=12 horizon=6" in caplog.text


def test_a_long_table_is_known_by_the_names_of_its_columns_and_ids_stay_text(tmp_path: Path) -> None:
    parts = [frame("D", 200).assign(store=f"0{i}", price=RNG.random(200)) for i in range(3)]
    table = pd.concat(parts).rename(columns={"date": "timestamp", "y": "sales"})
    table.to_csv(tmp_path / "x.csv", index=False)
    for given in ({}, {"data": pd.read_csv(tmp_path / "x.csv", dtype={"store": str})}):
        place = [] if given else [f"dataset.path={tmp_path / 'x.csv'}"]
        found = tsf.train("dataset=long", *place, "lookback=14", "horizon=2", **given).bundle
        assert (found.schema.time, found.schema.id, found.channels) == ("timestamp", "store", ("sales",))
        assert found.features.ids.tolist() == ["00", "01", "02"]


@pytest.mark.parametrize(
    ("table", "gone"),
    [
        ({"day": [1], "week": [1], "y": [1]}, "'date' is missing"),  # two that could be it
        ({"when": [1], "y": [1]}, "'date' is missing"),
    ],
)
def test_names_that_leave_a_doubt_are_asked_for(table: dict[str, list[int]], gone: str) -> None:
    with refused(DataError, what=has(gone), fix=has("dataset.time=")):
        tsf.train(data=pd.DataFrame(table))


@pytest.mark.parametrize(("key", "told"), [("shop", "shop"), ("unique_id", "unique_id"), ("place", "COLUMN")])
def test_a_table_of_several_series_is_refused_with_the_column_that_tells_them_apart(key: str, told: str) -> None:
    both = pd.concat([frame("D", 200).assign(**{key: i}) for i in range(3)])
    with refused(DataError, fix=has(f"dataset=long dataset.id={told}")):
        tsf.train(data=both)


def test_a_column_that_was_stated_is_never_taken_for_another() -> None:
    data = frame("D", 200).rename(columns={"date": "timestamp"})
    with refused(DataError, what=has("'moment' is missing")):
        tsf.train(data=data, time="moment")
    found = tsf.train(data=data).bundle
    with refused(DataError, what=has("'timestamp' is missing")):  # a request has the columns of training
        found.forecast(data.rename(columns={"timestamp": "date"}))


def test_a_size_that_is_none_is_refused() -> None:
    for name, got in (("lookback", "soon"), ("horizon", 0)):
        with refused(ConfigError, where=name, got=got):
            tsf.train(f"{name}={got}", data=frame("D", 200))
