"""What a gate lets through, on ridge and ETTh1: every rule, and what it says with which figures."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.errors import has, refused
from tests.promotion.conftest import Trained, biased

import tsforecast as tsf
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError
from tsforecast.promotion.comparison import CANDIDATE, CHAMPION, NAIVE, Comparison, IncomparableError, compared
from tsforecast.promotion.gate import Gate, Verdict
from tsforecast.result import Result

ASKED = partial(Gate, tolerance=None, difference=None, baseline=False, coverage=None, latency=None)


def on_its_data(run: Result, candidate: Bundle, champion: Bundle | None = None, **how: Any) -> Comparison:
    return compared(candidate, champion, run.experiment.source, run.experiment.split, **how)


def judged(gate: Gate, found: Comparison) -> dict[str, Verdict]:
    return {each.rule: each for each in gate(found)}


@pytest.fixture(scope="module")
def two_percent(ridge: Result) -> Bundle:
    """Worse than ridge by 2 % and a bit."""
    own = ridge.bundle
    for by in np.arange(0.05, 0.15, 0.01):
        worse = biased(own, float(by))
        scores = on_its_data(ridge, worse, own).scores
        if 1.02 < scores[CANDIDATE]["mase"] / scores[CHAMPION]["mase"] < 1.03:
            return worse
    raise AssertionError("no bias makes it two percent worse")


def test_the_scores_are_those_that_the_run_had_on_the_same_windows(ridge: Result) -> None:
    found = on_its_data(ridge, ridge.bundle)
    assert found.windows["count"] == ridge.metrics["test/windows"]
    assert found.windows["left_out"] == 0
    for name in ("mase", "mse", "mae_raw", "coverage-90"):
        assert found.scores[CANDIDATE][name] == ridge.metrics[f"test/{name}"]
    assert found.scores[NAIVE]["mase"] == pytest.approx(ridge.metrics["baseline/seasonal_naive/test/mase"], rel=1e-7)
    assert found.latency > 0


def test_the_seasonal_naive_has_the_score_that_the_run_gave_it_also_where_values_are_missing() -> None:
    rng = np.random.default_rng(0)
    load = np.sin(np.arange(900) * 2 * np.pi / 24) + rng.normal(0, 0.3, 900)
    load[rng.random(900) < 0.05] = np.nan  # a season that begins with one has the value from before it
    rows = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=900, freq="h"), "load": load})
    run = tsf.train("model=ridge", "lookback=72", "horizon=6", data=rows, time="date", target=["load"])
    told = on_its_data(run, run.bundle).scores[NAIVE]
    for name in ("mase", "mae_raw", "smape"):
        assert told[name] == pytest.approx(run.metrics[f"baseline/seasonal_naive/test/{name}"], rel=1e-7)


def test_other_lookback_scaler_and_order_of_channels_are_compared_on_the_same_windows_and_scale(
    ridge: Result, trained: Trained
) -> None:
    names = "dataset.target=[OT,LULL,LUFL,MULL,MUFL,HULL,HUFL]"
    other = trained("lookback=168", "scaler=robust", "quantiles=[]", "calibration=none", names)
    found = on_its_data(ridge, ridge.bundle, other.bundle)
    windows = other.data.windows("test")
    assert found.windows["count"] == len(windows)
    assert found.scores[CHAMPION]["mae_raw"] == pytest.approx(other.metrics["test/mae_raw"], rel=1e-6)
    ours, theirs = (found.record.scores[name].mase_scale for name in (CANDIDATE, CHAMPION))
    np.testing.assert_allclose(theirs, ours[:, ::-1])
    panel, step = other.data.panel, np.arange(24)  # a slow look at one window
    index = slice(100, 101)
    series = np.zeros(1, dtype=np.int64)
    point = other.bundle.invert(other.bundle.predict(windows, index), series).point[0]
    error = np.abs(point - panel.target[windows.origins[100] + step])
    assert found.record.scores[CHAMPION].losses[100, 3] == pytest.approx(error.mean(), rel=1e-5)


def test_worse_by_two_percent_is_refused_and_told_with_figures(ridge: Result, two_percent: Bundle) -> None:
    verdicts = judged(Gate(), on_its_data(ridge, two_percent, ridge.bundle))
    assert not verdicts["metric"].passed
    assert 0.02 < verdicts["metric"].figures["change"] < 0.03
    assert "of the champion: +2." in verdicts["metric"].said
    assert not verdicts["difference"].passed
    assert verdicts["difference"].figures["low"] > 0
    assert verdicts["difference"].figures["p"] < 0.05
    assert "told apart as worse" in verdicts["difference"].said
    assert verdicts["baseline"].passed
    found = on_its_data(ridge, two_percent, ridge.bundle)
    assert judged(Gate(tolerance=0.04), found)["metric"].passed
    assert not judged(Gate(tolerance=0.04), found)["difference"].passed  # tolerated, and yet surely worse


def test_one_that_is_better_passes_the_strictest_gate(ridge: Result, two_percent: Bundle) -> None:
    strict = Gate(tolerance=0, difference="better")
    verdicts = judged(strict, on_its_data(ridge, ridge.bundle, two_percent))
    assert verdicts["metric"].passed
    assert verdicts["difference"].passed
    assert "told apart as better" in verdicts["difference"].said


def test_an_equal_one_passes_by_tolerance_and_not_where_it_has_to_be_better(ridge: Result, trained: Trained) -> None:
    found = on_its_data(ridge, ridge.bundle, ridge.bundle)
    assert all(each.passed for each in Gate()(found))
    assert judged(Gate(), found)["metric"].figures["change"] == 0
    better = judged(Gate(difference="better"), found)["difference"]
    assert not better.passed
    assert "not told apart" in better.said
    near = on_its_data(ridge, biased(ridge.bundle, 0.0, 0.005), ridge.bundle)
    assert 0 < abs(judged(Gate(), near)["metric"].figures["change"]) < 0.001
    assert judged(Gate(), near)["difference"].passed


def test_a_candidate_below_the_seasonal_naive_is_refused_also_without_a_champion(ridge: Result) -> None:
    verdicts = judged(Gate(), on_its_data(ridge, biased(ridge.bundle, 1.0)))
    assert verdicts.keys() == {"baseline", "coverage-90", "latency"}
    assert not verdicts["baseline"].passed
    assert not verdicts["coverage-90"].passed


@pytest.mark.parametrize(("margin", "passed"), [(0.0, False), (1.0, True)])
def test_coverage_is_held_to_its_level(ridge: Result, margin: float, passed: bool) -> None:
    (verdict,) = ASKED(coverage=margin)(on_its_data(ridge, ridge.bundle, stride=24))
    assert verdict.passed is passed
    assert verdict.figures["level"] == 0.9
    assert f"covers {100 * verdict.figures['coverage']:.1f} %, needs 90 %" in verdict.said


@pytest.mark.parametrize(("bound", "passed"), [(0.0001, False), (10_000.0, True)])
def test_a_forecast_may_take_so_long(ridge: Result, bound: float, passed: bool) -> None:
    (verdict,) = ASKED(latency=bound)(on_its_data(ridge, ridge.bundle, stride=24))
    assert verdict.passed is passed
    (without,) = ASKED(latency=bound)(on_its_data(ridge, replace(ridge.bundle, golden=None), stride=24))
    assert not without.passed
    assert "no golden request" in without.said


def test_windows_that_a_bundle_has_seen_are_left_out_and_counted(ridge: Result) -> None:
    until = "2017-12-31 23:00:00"
    later = replace(ridge.bundle, metadata={**ridge.bundle.metadata, "chosen_until": until})
    found = on_its_data(ridge, ridge.bundle, later)
    first = pd.Timestamp(found.windows["first_cutoff"])
    assert first == pd.Timestamp(until)  # whose first target is the row after it
    assert found.windows["left_out"] > 0
    assert found.windows["left_out"] + found.windows["count"] == ridge.metrics["test/windows"]
    all_rows = replace(ridge.bundle, metadata={"chosen_until": "2018-06-26 19:00:00"})
    with refused(IncomparableError, allowed=has("2018-06-26 19:00:00 (champion)"), fix=has("NEWER.csv")):
        on_its_data(ridge, ridge.bundle, all_rows)


def test_a_stride_takes_every_so_manieth_window(ridge: Result) -> None:
    every, some = (on_its_data(ridge, ridge.bundle, stride=stride) for stride in (1, 24))
    assert some.windows["count"] == -(-every.windows["count"] // 24)
    np.testing.assert_allclose(some.record.scores[CANDIDATE].losses, every.record.scores[CANDIDATE].losses[::24], 1e-6)


def test_bundles_that_forecast_other_things_are_told_to_be_so(ridge: Result, trained: Trained) -> None:
    other = trained("horizon=12", "dataset.target=[OT]", "quantiles=[]", "calibration=none")
    what, fix = has("cannot be compared", "other channels and horizon"), has("--force reason=")
    with refused(IncomparableError, what=what, got=has("horizon 24"), allowed=has("channels OT; horizon 12"), fix=fix):
        on_its_data(ridge, ridge.bundle, other.bundle)


def test_series_that_the_champion_does_not_know_are_not_compared(ridge: Result) -> None:
    wide = ridge.data.panel.to_wide(time="ds")
    long = [wide[["ds"]].assign(unique_id=name, y=wide[name]) for name in ("OT", "HUFL", "LUFL")]
    how = {"id": "unique_id", "time": "ds", "target": ["y"], "freq": "h"}
    words = ("dataset=long", "split=ltsf", "model=ridge", "lookback=48", "horizon=24", "tracking=none", "report=none")
    three = tsf.train(*words, data=pd.concat(long), **how)
    two = tsf.train(*words, data=pd.concat(long[:2]), **how)
    found = compared(three.bundle, two.bundle, three.experiment.source, three.experiment.split)
    assert set(found.record.windows["unique_id"]) == {"OT", "HUFL"}
    assert found.windows["count"] == two.metrics["test/windows"]
    assert found.scores[CHAMPION]["mae_raw"] == pytest.approx(two.metrics["test/mae_raw"], rel=1e-9)
    assert found.windows["series"] == 2
    assert found.windows["unknown_series"] == 1


def test_a_gate_has_no_other_metric_and_no_negative_bound() -> None:
    with refused(ConfigError, where="gate.metric", got="mse"):
        Gate(metric="mse")
    with refused(ConfigError, where="gate.difference", got="best"):
        Gate(difference="best")
    for word in ("no", "maybe"):
        with refused(ConfigError, where="gate.baseline", got=word):
            Gate(baseline=word)  # type: ignore[arg-type]
    for bound in (True, "much"):
        with refused(ConfigError, where="gate.coverage", got=bound):
            Gate(coverage=bound)  # type: ignore[arg-type]
    with refused(ConfigError, where="gate.tolerance", got=-1):
        Gate(tolerance=-1)
