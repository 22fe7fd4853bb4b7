"""Splits: borders in time order, every part with a window, checked against counting by hand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import has, refused

from tsforecast.data.frames import to_panel
from tsforecast.data.panel import Panel, seasonality
from tsforecast.data.schema import Schema
from tsforecast.data.sizes import sizes
from tsforecast.data.splits import DateSplit, FractionSplit, RowSplit, Split, TailSplit
from tsforecast.errors import ConfigError, DataError


def panel_of(*lengths: int, tz: str | None = None) -> Panel:
    frames = [
        pd.DataFrame({"unique_id": f"s{i}", "ds": pd.date_range("2020-01-01", periods=n, tz=tz), "y": np.arange(n)})
        for i, n in enumerate(lengths)
    ]
    return to_panel(pd.concat(frames), Schema(id="unique_id", freq="D"))


def test_the_ltsf_rows_are_those_of_the_protocol():
    borders = RowSplit()(panel_of(17_420), 336, 96)
    assert [int(edge[0]) for edge in (borders.begin, *borders.ends)] == [0, 8640, 11520, 14400]


def test_fractions_hold_for_each_series_and_use_every_row():
    borders = FractionSplit(0.6, 0.2, 0.2)(panel_of(100, 50), 5, 2)
    assert borders.begin.tolist() == [0, 100]
    assert borders.train_end.tolist() == [60, 130]
    assert borders.val_end.tolist() == [80, 140]
    assert borders.test_end.tolist() == [100, 150]


@pytest.mark.parametrize("n", range(40, 140))
def test_when_shares_add_up_to_one_then_no_row_is_lost_to_rounding(n):
    borders = FractionSplit()(panel_of(n), 2, 1)
    ends = [int(edge[0]) for edge in (borders.begin, *borders.ends)]
    assert ends == sorted(ends)
    assert ends[-1] == n


@pytest.mark.parametrize("tz", [None, "Europe/Berlin"])
def test_dates_cut_every_series_at_the_same_moment(tz):
    panel = panel_of(100, 80, tz=tz)
    split = DateSplit("2020-02-01", "2020-02-20", "2020-03-01")
    borders = split(panel, 5, 2)
    for i in range(2):
        days = panel.time[panel.offsets[i] : panel.offsets[i + 1]].tz_localize(None)
        counts = [int((days < pd.Timestamp(d)).sum()) for d in (split.val_start, split.test_start, split.test_end)]
        cut = [borders.train_end[i], borders.val_end[i], borders.test_end[i]]
        assert [int(c - panel.offsets[i]) for c in cut] == counts


def test_when_there_is_no_last_date_then_the_test_goes_to_the_end():
    assert DateSplit("2020-02-01", "2020-03-01")(panel_of(100), 5, 2).test_end.tolist() == [100]


def test_a_part_with_exactly_one_window_is_enough_and_one_row_less_is_not():
    panel = panel_of(14)
    RowSplit(train=8, val=3, test=3)(panel, 5, 3)
    with refused(DataError, where="split, with lookback 5 and horizon 3", what=has("train needs 8 rows, it has 7")):
        RowSplit(train=7, val=3, test=3)(panel, 5, 3)
    with refused(DataError, where=has("lookback 5", "horizon 3"), what=has("validation needs 3 rows, it has 2")):
        RowSplit(train=8, val=2, test=3)(panel, 5, 3)


def test_when_series_are_too_short_then_they_are_counted_and_named():
    with pytest.raises(DataError) as caught:
        FractionSplit()(panel_of(100, 20, 10), 10, 5)
    said = str(caught.value)
    assert "train needs 15 rows, 2 series are short: s1 has 14, s2 has 7" in said
    assert "test needs 5 rows, 2 series are short: s1 has 4, s2 has 2" in said


@pytest.mark.parametrize(
    "make",
    [
        lambda: FractionSplit(0.9, 0.1, 0.1),
        lambda: FractionSplit(0.7, 0.0, 0.3),
        lambda: RowSplit(0, 1, 1),
        lambda: DateSplit("2020-03-01", "2020-02-01")(panel_of(100), 5, 2),
        lambda: DateSplit("whenever", "2020-02-01")(panel_of(100), 5, 2),
        lambda: DateSplit("2020-02-01T00:00Z", "2020-03-01T00:00Z")(panel_of(100), 5, 2),
    ],
)
def test_when_a_split_makes_no_sense_then_it_is_a_config_error(make):
    with pytest.raises(ConfigError):
        make()


@dataclass(frozen=True)
class Own(Split):
    """Whatever is given as `ends`."""

    given: Any

    def ends(self, panel: Panel, lookback: int, horizon: int) -> Any:
        return self.given


def test_rows_that_a_series_has_not_lie_before_no_end() -> None:
    ends = [np.array(rows) for rows in ([50, 20], [60, 30], [99, 99])]
    borders = Own(ends)(panel_of(100, 40), 5, 2)
    assert [rows.tolist() for rows in borders.ends] == [[50, 120], [60, 130], [99, 140]]
    with refused(DataError, what=has("test needs 2 rows, 1 series are short: s1 has 0")):
        Own([np.array(rows) for rows in ([50, 30], [60, 40], [99, 99])])(panel_of(100, 40), 5, 2)


@pytest.mark.parametrize("ends", [[], [np.array([5])] * 2, [5, 10, 15], [np.array([5.0])] * 3, [np.array([5, 5])] * 3])
def test_ends_that_are_none_are_refused_wherever_they_are_asked_for(ends: Any) -> None:
    for lookback in (5, "auto"):
        with refused(ConfigError, where="Own.ends", allowed=has("[1]")):
            split, panel = Own(ends), panel_of(100)
            split(panel, *sizes(panel, split, lookback, 2, None)[:2])


def test_a_tail_split_counts_from_each_series_end() -> None:
    borders = TailSplit(val=20, test=10)(panel_of(100, 50), 5, 2)
    assert borders.train_end.tolist() == [70, 120]
    assert borders.val_end.tolist() == [90, 140]
    assert borders.test_end.tolist() == [100, 150]
    with refused(ConfigError, where="split.val", got=0, allowed="1, 2, ..."):
        TailSplit(val=0, test=1)


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (
            FractionSplit(0.1, 0.1, 0.2),
            "unused: 60 of 100, 2020-02-10 00:00:00 to 2020-04-09",
        ),
        (RowSplit(40, 20, 39), "unused: 1 of 100, 2020-04-09 00:00:00 to 2020-04-09"),
        (DateSplit("2020-02-01", "2020-03-01", "2020-04-01"), "9 of 100, 2020-04-01"),
        (FractionSplit(), ""),
        (TailSplit(val=20, test=10), ""),
    ],
)
def test_rows_that_no_part_of_a_split_holds_are_told(caplog: pytest.LogCaptureFixture, split: Any, said: str) -> None:
    with caplog.at_level("INFO"):
        split(panel_of(100), 5, 2).kept(panel_of(100))
    assert said in caplog.text
    assert bool(said) == ("unused" in caplog.text)


@given(
    freq=st.sampled_from(["YS", "QS", "MS", "W", "B", "D", "h", "15min"]), rows=st.integers(1, 400),
    lookback=st.integers(1, 336), horizon=st.integers(1, 96),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_when_windows_do_not_fit_then_sizes_that_do_are_named_for_the_frequency(freq, rows, lookback, horizon) -> None:
    stamps = pd.date_range("1750-01-01", periods=rows, freq=freq)
    panel = to_panel(pd.DataFrame({"date": stamps, "a": np.arange(rows)}), Schema(freq=freq), for_training=False)
    try:
        FractionSplit()(panel, lookback, horizon)
    except DataError as error:
        if sizes := re.findall(r"(?:lookback|horizon)=(\d+)", str(error.fix)):
            FractionSplit()(panel, *map(int, sizes))
            assert int(sizes[0]) >= seasonality(freq)
        else:
            assert rows < 2 * seasonality(freq) + 10


def test_windows_of_less_than_a_season_are_not_told_to_reach_back_further() -> None:
    with refused(DataError, fix=has("split.short=pad")):
        FractionSplit()(panel_of(100, 1), 8, 1)
    with pytest.raises(DataError) as told:
        FractionSplit()(panel_of(100, 1), 7, 1)
    assert "split.short=pad" not in str(told.value)


def test_short_series_are_dropped_when_that_is_stated_and_named_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    panel = panel_of(100, 20, 60)
    with refused(DataError, where="split, with lookback 10 and horizon 5", fix=has("split.short=drop")):
        TailSplit(val=10, test=10)(panel, 10, 5)
    with caplog.at_level("INFO"):
        kept, borders = TailSplit(val=10, test=10, short="drop")(panel, 10, 5).kept(panel)
    assert "1 of 3 series are too short and left out: " + str(panel.ids[1]) in caplog.text
    assert kept.ids.tolist() == [panel.ids[0], panel.ids[2]]
    assert kept.offsets.tolist() == [0, 100, 160]
    np.testing.assert_array_equal(kept.target, np.delete(panel.target, slice(100, 120), axis=0))
    assert borders.begin.tolist() == [0, 100]
    assert borders.test_end.tolist() == [100, 160]
    with refused(DataError, where="split, with lookback 10 and horizon 5", what=has("needs 15 rows, it has none")):
        TailSplit(val=10, test=10, short="drop")(panel_of(20), 10, 5)
    with refused(ConfigError, where="split.short", got="maybe", allowed=["error", "drop", "naive", "pad"]):
        TailSplit(val=1, test=1, short="maybe")
