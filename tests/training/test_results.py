"""What a run leaves to read: the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsforecast.metrics import Scores
from tsforecast.training.results import flatten, table, write_json

L, H, T = 12, 4, 300
LEVELS = (0.1, 0.5, 0.9)


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
    assert "the MAE of mine is 90.0 % lower than that of naive" in text
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


def test_forecasts_that_keep_too_little_of_the_volume_are_told_of() -> None:
    sales = np.tile([0.0, 0.0, 3.0, 0.0], (50, 1))[..., None]
    for share, said in ((0.5, "50 % less than came: model=tsb"), (1.4, "40 % more than came"), (0.9, None)):
        scores = Scores(("y",), H, np.ones((1, 1)), np.ones((1, 1)))
        scores.update(sales, sales * share, sales, sales * share, np.zeros(50, dtype=int))
        line = [each for each in table({"mine": scores}, "mine").splitlines() if "add up to" in each]
        assert line == [] if said is None else said in line[0]
        assert said is None or ("tsb" in said) == ("tsb" in line[0])


def test_what_is_no_number_is_null_in_json_however_deep_it_lies(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"mse": float("nan"), "past": {"x": [1.5, float("inf")]}})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"mse": None, "past": {"x": [1.5, None]}}
