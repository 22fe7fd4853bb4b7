"""What a run leaves to read: the table, and the windows that are drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsforecast.bundle.bundle import Bundle
from tsforecast.data.panel import Panel
from tsforecast.data.schema import Schema
from tsforecast.features.base import FeatureSet
from tsforecast.metrics import Scores
from tsforecast.models.naive import SeasonalNaive
from tsforecast.training.results import example_windows, flatten, table
from tsforecast.windows import Windows

L, H, T = 12, 4, 300
LEVELS = (0.1, 0.5, 0.9)


@pytest.fixture
def problem() -> tuple[Bundle, Panel, Windows]:
    """A slope, and a channel b that is flat but for one jump at row 200: naive misses there more than elsewhere."""
    target = np.zeros((T, 2), dtype=np.float32)
    target[:, 0] = np.arange(T) / T
    target[200:, 1] = 50.0
    panel = Panel(
        np.array(["s"], dtype=object), np.array([0, T]), pd.date_range("2024", periods=T, freq="h"), target,
        np.empty((T, 0), np.float32), np.empty((T, 0), np.float32), np.empty((1, 0), np.float32),
        ("a", "b"), (), (), (), "h",
    )  # fmt: skip
    features = FeatureSet().fit(panel)
    encoded = features.encode(panel)
    windows = Windows.over(encoded, lookback=L, horizon=H, begin=np.array([0]), end=np.array([T]))
    dims = encoded.dims(L, H, 1)
    bundle = Bundle(
        schema=Schema().resolved(panel), dims=dims, features=features,
        forecaster=SeasonalNaive(1).fit(windows, windows, dims), quantile_levels=LEVELS,
        offsets=np.zeros((H, 2, 3), np.float32) + np.array([-1, 0, 1], np.float32),
    )  # fmt: skip
    return bundle, panel, windows


def test_the_worst_window_is_the_one_with_the_jump_and_no_two_overlap(problem) -> None:
    found = example_windows(problem[0], None, problem[1], problem[2], 3)
    assert [example.label for example in found["extremes"]] == ["worst", "worst", "best", "best"]
    worst = found["extremes"][0]
    assert worst.channel == "b"
    assert worst.target[-H] - worst.target[-H - 1] == pytest.approx(50)
    starts = sorted(example.time[-H] for example in found["extremes"][:2])
    assert starts[1] - starts[0] >= pd.Timedelta(hours=H)
    np.testing.assert_allclose(found["extremes"][2].forecast, found["extremes"][2].target[-H:], atol=1e-5)


def test_examples_are_evenly_spaced_and_carry_their_intervals(problem) -> None:
    found = example_windows(problem[0], problem[0], problem[1], problem[2], 3)["forecast"]
    assert [example.time[-H].hour for example in found] == [problem[1].time[row].hour for row in (12, 154, 296)]
    assert list(found[0].intervals) == ["80"]
    low, high = found[0].intervals["80"]
    assert (low < found[0].forecast).all()
    assert (high > found[0].forecast).all()
    np.testing.assert_array_equal(found[0].baseline, found[0].forecast)


def test_when_none_are_asked_for_then_there_are_none(problem) -> None:
    assert example_windows(problem[0], None, problem[1], problem[2], 0) == {"forecast": [], "extremes": []}


@given(st.lists(st.floats(1e-9, 1e30), min_size=4, max_size=4))
def test_the_tables_columns_stay_apart_whatever_the_scale(levels: list[float]) -> None:
    found = {}
    for name, level in zip(("mine", "naive", "seasonal_naive", "a"), levels, strict=True):
        found[name] = Scores(("y",), H, np.ones((1, 1)), np.ones((1, 1)))
        label = np.full((2, H, 1), level)
        found[name].update(label, label * 2, label, label * 2, np.zeros(2, dtype=int))
    header, *rows = table(found, "mine").splitlines()[:5]
    assert [len(row.split()) for row in rows] == [len(header.split())] * 4
    assert {len(row) for row in rows} == {len(header)}
    assert [row.split()[4] for row in rows] == [f"{each.summary()['mae_raw']:.4f}" for each in found.values()]


def test_the_table_tells_who_is_better_and_what_the_intervals_cover() -> None:
    rng = np.random.default_rng(0)
    label = rng.normal(size=(50, H, 1))
    scale = np.ones((1, 1))
    found = {}
    for name, error in (("mine", 0.1), ("naive", 1.0)):
        scores = Scores(("y",), H, scale, scale, quantile_levels=LEVELS if name == "mine" else ())
        forecast = label + error
        scores.update(label, forecast, label, forecast, np.zeros(50, dtype=int))
        if scores.quantiles is not None:
            spread = forecast[..., None] + np.array([-1.0, 0.0, 1.0])
            scores.quantiles.update(label, spread, label, spread)
        found[name] = scores
    text = table(found, "mine")
    assert "mine has a 90.0 % lower MAE than naive" in text
    assert "the 80 % interval covers 100.0 %, 2 wide on average in original units" in text
    flat = flatten(found["mine"], "test", detail=True)
    assert flat["test/coverage-80"] == flat["test/coverage-80/step/4"] == 1.0
    assert flat["test/mae/channel/y"] == pytest.approx(0.1)
    assert flat["test/windows"] == 50
    assert f"over 50 windows of {H} rows" in text.splitlines()


def test_a_score_says_on_how_few_windows_it_rests() -> None:
    scores, zeros = Scores(("y",), H, np.ones((1, 1)), np.ones((1, 1))), np.zeros((1, H, 1))
    for count in (1, 2):
        scores.update(zeros, zeros, zeros, zeros, np.zeros(1, dtype=int))
        text = table({"mine": scores}, "mine")
        assert f"over {count} window{'s' * (count > 1)} of {H} rows: so few say little" in text
        assert flatten(scores, "val")["val/windows"] == count
