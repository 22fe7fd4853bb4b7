"""Windows that reach back before the first row of their series: what lies there is missing, and nobody else's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.contracts.conftest import HORIZON, LOOKBACK, Trained, changed, deep, local, options
from tests.errors import has, refused
from tests.serving.conftest import Client
from tsforecast import backtest, train
from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle, Prediction
from tsforecast.data.panel import Panel
from tsforecast.data.schema import Schema
from tsforecast.data.sources import FrameSource
from tsforecast.data.splits import TailSplit
from tsforecast.errors import DataError
from tsforecast.promotion.comparison import compared
from tsforecast.serving.asgi import create_app
from tsforecast.types import Dims
from tsforecast.windows import Windows

Train = Callable[..., Trained]
LEAST = 12
ROWS = (LEAST, 31, LOOKBACK - 1)  # of a history that is shorter than the lookback
# one network of a package sees the mask as all of them do, one local model drops rows as all of them do
SEEN = [*(model for model in options("model") if not deep(model) and not local(model)), "nhits", "ets"]
MODELS = [("panel", "calendar", model) for model in SEEN]
MODELS += [("beijing_pm25", "lags", "ridge"), ("panel", "calendar", "ridge", "scaler.scope=window")]


def early(case: Trained, panel: Panel, rows: int) -> Windows:
    """Of each series, the window with so many rows before its origin."""
    encoded = case.bundle.features.encode(panel, pad=LOOKBACK - LEAST)
    begin = panel.offsets[:-1] + rows
    return Windows.over(encoded, lookback=LOOKBACK, horizon=HORIZON, begin=begin, end=begin + HORIZON)


def predicted(case: Trained, panel: Panel, rows: int) -> Prediction:
    windows = early(case, panel, rows)
    assert len(windows) == len(panel)
    found = case.bundle.predict(windows, slice(None))
    return case.bundle.invert(found, case.bundle.features.series(panel.ids))


def asked(case: Trained, rows: int) -> dict[str, pd.DataFrame]:
    """What a caller has who knows so many rows of each series, the first of them."""
    first = case.panel.offsets[:-1]
    found = {"history": golden.frame_of(case.bundle, case.panel.rows(first, first + rows))}
    if case.bundle.schema.known:
        ahead = case.panel.rows(first + rows, first + rows + HORIZON)
        known = golden.frame_of(case.bundle, ahead)
        found["known_future"] = known[[*case.bundle.schema.key, case.bundle.schema.stamp, *case.bundle.schema.known]]
    return found


@pytest.mark.parametrize("key", MODELS, ids="-".join)
def test_a_short_history_is_forecast_as_the_padded_window_is_scored_to_the_bit(trained: Train, key: Any) -> None:
    case = trained(*key, least=LEAST)
    assert case.bundle.least == case.data.dims.least == LEAST
    for rows in ROWS:
        alone, scored = case.bundle.forecast(**asked(case, rows)), predicted(case, case.panel, rows)
        np.testing.assert_array_equal(alone.values, scored.point)
        np.testing.assert_array_equal(alone.quantiles, scored.quantiles)
        assert np.isfinite(alone.values).all()
        assert alone.history.lengths.tolist() == [rows + HORIZON] * len(case.panel)
        first = f"{case.panel.ids[0]} ({rows})" if case.bundle.schema.id else f"{rows}"
        told = f"fewer rows than the {LOOKBACK} that a forecast reads: {first}"
        assert any(each.startswith(told) for each in alone.warnings), alone.warnings


@pytest.mark.parametrize("key", MODELS, ids="-".join)
def test_a_padded_window_reads_neither_the_future_nor_the_series_before(trained: Train, key: Any) -> None:
    case = trained(*key, least=LEAST)
    first = case.panel.offsets[:-1]
    own = predicted(case, case.panel, 20)
    for found in (predicted(case, changed(case.panel, first + 20), 20), others_changed(case, 20)):
        np.testing.assert_array_equal(found.point, own.point)
        np.testing.assert_array_equal(found.quantiles, own.quantiles)


def others_changed(case: Trained, rows: int) -> Prediction:
    """Each series' forecast where every other series is another one."""
    point, quantiles, panel = [], [], case.panel
    for i in range(len(panel)):
        begin = np.where(np.arange(len(panel)) == i, panel.offsets[1:], panel.offsets[:-1])
        found = predicted(case, changed(panel, begin), rows)
        point.append(found.point[i])
        quantiles.append(found.quantiles[i])
    return Prediction(np.array(point), np.array(quantiles))


def test_train_windows_start_where_a_series_has_the_least_rows_and_scores_know_of_no_other_rows(trained: Train) -> None:
    padded, whole = trained("panel", "calendar", "ridge", least=LEAST).data, trained("panel", "calendar", "ridge").data
    first = padded.panel.offsets[:-1]
    windows = padded.windows("train")
    assert [windows.origins[windows.series == i].min() for i in range(len(first))] == [*first + LEAST]
    np.testing.assert_array_equal(windows.label(slice(None)), [
        padded.encoded.target[row + (i + 1) * (LOOKBACK - LEAST) :][:HORIZON]
        for row, i in zip(windows.origins, windows.series, strict=True)
    ])  # fmt: skip
    for part in ("val", "test"):  # which begin further behind than a lookback: they are as ever
        found, known = padded.windows(part), whole.windows(part)
        np.testing.assert_array_equal(found.origins, known.origins)
        np.testing.assert_array_equal(found.window(slice(0, 9)).target, known.window(slice(0, 9)).target)
        np.testing.assert_array_equal(found.window(slice(0, 9)).known, known.window(slice(0, 9)).known)


def test_a_loaded_bundle_and_a_server_answer_short_histories_alike_and_refuse_shorter_ones(
    trained: Train, tmp_path: Any
) -> None:
    case = trained("panel", "calendar", "ridge", least=LEAST)
    loaded = case.saved(tmp_path / "bundle")
    assert Bundle.load(tmp_path / "bundle").least == LEAST
    (app := create_app()).state.server.start(str(loaded.path))
    told = Client(app)("GET", "/model").json
    assert (told["context"], told["least"]) == (LOOKBACK, LEAST)
    tensors = Client(app)("GET", "/v2/models/default").json["inputs"]
    assert tensors[0]["shape"] == [-1, -1, len(loaded.channels)]  # of any number of rows
    given = asked(case, 20)
    body = {name: table.astype({loaded.schema.stamp: str}).to_dict("list") for name, table in given.items()}
    found = Client(app)("POST", "/forecast", body)
    assert found.status == 200, found.body
    expected = loaded.forecast(**given)
    np.testing.assert_array_equal(expected.values, case.bundle.forecast(**given).values)
    for i, one in enumerate(found.json["forecasts"]):
        values = np.array([one["point"][name] for name in loaded.channels], np.float32).T
        np.testing.assert_array_equal(values, expected.values[i])
        assert one["cutoff"] == expected.cutoff[i].isoformat()
    assert found.json["warnings"] == [*expected.warnings]
    watched = app.state.server.slot.live.monitor.report()
    assert watched["rows"] == 20 * len(case.panel)  # what lies before a series is not among what came
    with refused(DataError, where="history", got=has(f"{LEAST - 1} rows"), allowed=has(f"{LEAST} rows or more")):
        loaded.forecast(**asked(case, LEAST - 1))


def test_rows_before_the_first_are_those_of_the_frequency_with_the_first_known_covariates(trained: Train) -> None:
    panel = trained("panel", "calendar", "ridge", least=LEAST).panel
    padded = panel.padded(np.arange(len(panel)))
    assert padded.lengths.tolist() == (panel.lengths + np.arange(len(panel))).tolist()
    for i, (begin, end) in enumerate(zip(padded.offsets, padded.offsets[1:], strict=False)):
        own = padded.time[begin:end]
        assert (own == pd.date_range(end=own[-1], periods=len(own), freq=panel.freq)).all()
        assert np.isnan(padded.target[begin : begin + i]).all()
        np.testing.assert_array_equal(
            padded.target[begin + i : end], panel.target[panel.offsets[i] : panel.offsets[i + 1]]
        )
        np.testing.assert_array_equal(padded.known[begin : begin + i], panel.known[[panel.offsets[i]] * i])


@pytest.mark.parametrize("freq", ["h", "D", "W-SUN", "MS", "YS"])
def test_rows_before_what_nanoseconds_tell_are_of_the_earliest_that_they_do(trained: Train, freq: str) -> None:
    panel = trained("panel", "calendar", "ridge", least=LEAST).panel
    rows = 4000
    time = pd.date_range("1678-01-05", periods=panel.lengths[0], freq="h").as_unit("ns")
    old = replace(panel.select(np.arange(len(panel)) == 0), time=time, freq=freq)
    found = old.padded(np.array([rows])).time[:rows]
    assert found.is_monotonic_increasing
    assert found[0].year == 1677, "none has wrapped to another millennium"
    assert found[-1] < time[0]


@pytest.fixture(scope="module")
def shops() -> pd.DataFrame:
    """Months of sales of four shops, of which one opened late."""
    parts, rng = [], np.random.default_rng(0)
    for i, rows in enumerate((44, 120, 130, 130)):
        t = np.arange(rows)
        sales = 100 * (i + 1) + 20 * np.sin(2 * np.pi * t / 12) + rng.normal(0, 3, rows)
        stamps = pd.date_range(end="2024-12-01", periods=rows, freq="MS")
        parts.append(pd.DataFrame({"unique_id": f"shop{i}", "ds": stamps, "y": sales}))
    return pd.concat(parts, ignore_index=True)


OWN = ("dataset=long", "model=ridge", "horizon=4", "feature=[calendar]", "split=tail", "split.val=8", "split.test=8")


def test_short_series_are_trained_refitted_and_backtested_with_the_others_and_no_word(shops: pd.DataFrame) -> None:
    found = train(*OWN, "refit=all", data=shops)
    bundle, scored = found.bundle, found.parts["test"].windows
    assert (bundle.context, bundle.least) == (117, 12)  # what the median series has before its test rows
    assert sorted({*scored.series.tolist()}) == [0, 1, 2, 3]
    late = shops[shops["unique_id"] == "shop0"]
    answer = bundle.forecast(late)
    assert abs(answer.values[0, :, 0] - 100).max() < 40
    assert answer.quantiles is not None
    np.testing.assert_array_equal(answer.values, bundle.forecast(shops).values[:1])
    folds = backtest(*OWN, "backtest.windows=3", "backtest.step=1", data=shops).frame
    assert {*folds["unique_id"]} == {*shops["unique_id"]}
    assert folds["ridge"].notna().all()


def test_a_bundle_of_short_histories_is_compared_with_one_of_long_ones_on_the_same_windows(shops: pd.DataFrame) -> None:
    long = train(*OWN, "lookback=12", data=shops).bundle
    padded = train(*OWN, data=shops).bundle
    forgetful = [replace(each, metadata={}) for each in (padded, long)]  # of the rows that they were chosen on
    source = FrameSource(shops, Schema(time="ds", id="unique_id", target=("y",), freq="MS"))
    for one, other in (forgetful, forgetful[::-1]):
        found = compared(one, other, source, TailSplit(val=8, test=8))
        assert found.windows["count"] == 4 * 5
        assert all(np.isfinite(each["mae"]) for each in found.scores.values())


def test_a_bundle_of_before_needs_all_of_its_lookback() -> None:
    assert Dims(lookback=48, horizon=8, channels=1).least == 48
    assert replace(Dims(lookback=48, horizon=8, channels=1, least=12), lookback=60).least == 12
