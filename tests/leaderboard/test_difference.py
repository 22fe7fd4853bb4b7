"""The test and the interval of a difference are those of statsmodels and of a slow loop, and err as often as stated."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from tsforecast.leaderboards.difference import LEVEL, Difference, bootstrap_interval, diebold_mariano

RNG = np.random.default_rng(0)


def overlapping(
    rng: np.random.Generator, count: int, overlap: int, worse: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared errors of two models whose windows overlap, the first worse by a factor."""
    squares = rng.standard_normal((2, count + overlap - 1)) ** 2
    squares[0] *= worse
    first, second = (np.convolve(each, np.ones(overlap) / overlap, "valid") for each in squares)
    return first, second


@pytest.mark.parametrize(("count", "overlap"), [(10, 1), (60, 4), (400, 24)])
def test_the_statistic_is_that_of_statsmodels_with_the_correction(count: int, overlap: int) -> None:
    first, second = overlapping(RNG, count, overlap, worse=1.2)
    lags = {"maxlags": overlap - 1, "kernel": "uniform", "use_correction": False}
    fit = sm.OLS(first - second, np.ones(count)).fit(cov_type="HAC", cov_kwds=lags)
    correction = np.sqrt((count + 1 - 2 * overlap + overlap * (overlap - 1) / count) / count)
    statistic, p = diebold_mariano(first - second, overlap)
    assert statistic == pytest.approx(fit.tvalues[0] * correction)
    assert p == pytest.approx(2 * stats.t.sf(abs(statistic), count - 1))


def test_a_variance_that_is_not_positive_is_taken_with_bartletts_weights() -> None:
    difference = 0.1 + np.tile([1.0, -1.0], 20)
    statistic, p = diebold_mariano(difference, 2)
    weights = {"maxlags": 1, "kernel": "bartlett", "use_correction": False}
    fit = sm.OLS(difference, np.ones(40)).fit(cov_type="HAC", cov_kwds=weights)
    assert statistic == pytest.approx(fit.tvalues[0] * np.sqrt((40 + 1 - 4 + 2 / 40) / 40))
    assert 0 < p < 1


def test_the_interval_is_that_of_a_slow_loop() -> None:
    first, second = overlapping(RNG, 90, 3)
    each, block = first - second, 9
    rng, means = np.random.default_rng(1), []
    for _ in range(20_000):
        starts = rng.integers(90, size=10)
        means.append(np.mean([each[(start + i) % 90] for start in starts for i in range(block)]))
    wider = stats.t.ppf(0.975, 9) / stats.norm.ppf(0.975) * np.sqrt(10 / 9)
    expected = each.mean() + wider * (np.quantile(means, [0.025, 0.975]) - each.mean())
    assert bootstrap_interval(each, 3) == pytest.approx(expected, abs=0.05 * np.ptp(expected))


@pytest.mark.parametrize(("count", "overlap"), [(10, 1), (100, 1), (60, 4), (500, 24)])
def test_equal_models_are_told_apart_as_rarely_as_stated(count: int, overlap: int) -> None:
    rng, times = np.random.default_rng(2), 500
    found = [Difference.of(*overlapping(rng, count, overlap), overlap).told_apart for _ in range(times)]
    assert np.mean(found) <= LEVEL + 0.03


@pytest.mark.parametrize(("count", "overlap"), [(100, 1), (100, 4)])
def test_the_test_alone_has_its_size(count: int, overlap: int) -> None:
    rng = np.random.default_rng(3)
    p = [Difference.of(*overlapping(rng, count, overlap), overlap).p for _ in range(1000)]
    assert 0.02 < np.mean(np.array(p) < LEVEL) < 0.09


def test_a_worse_model_is_told_apart_the_more_often_the_more_cutoffs_there_are() -> None:
    rng, power = np.random.default_rng(4), []
    for count in (20, 100, 500):
        found = [Difference.of(*overlapping(rng, count, 1, worse=1.5), 1) for _ in range(200)]
        power.append(np.mean([each.told_apart and each.mean > 0 for each in found]))
    assert power[0] < power[1] < power[2]
    assert power[2] > 0.95


def test_nothing_is_told_from_few_cutoffs_or_none_that_differ() -> None:
    assert not Difference.of(np.array([2.0, 2.0]), np.array([1.0, 1.1]), 1).told_apart
    assert np.isnan(diebold_mariano(np.arange(8.0), 4)[1])
    same = Difference.of(np.ones(50), np.ones(50), 1)
    assert not same.told_apart
    assert not same.differ
    assert Difference.of(np.array([2.0, 2.0]), np.array([1.0, 1.1]), 1).differ
