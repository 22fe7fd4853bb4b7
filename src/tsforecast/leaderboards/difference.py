"""Whether one model forecasts better than another: a test and an interval of the difference of paired losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LEVEL = 0.05
RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """Losses of one model less those of another, by cutoff.

    Attributes
    ----------
    mean
        Below 0 where the first is better.
    p
        Of the Diebold-Mariano test that it is 0; NaN where there are too few cutoffs.
    interval
        Where the mean lies with 95 % confidence.
    count
        Cutoffs.
    """

    mean: float
    p: float
    interval: tuple[float, float]
    count: int

    @property
    def differ(self) -> bool:
        """Whether any loss differs."""
        return self.mean != 0 or self.interval[0] != self.interval[1]

    @property
    def told_apart(self) -> bool:
        """Whether test and interval agree, at 5 %, that the models differ."""
        low, high = self.interval
        return bool(self.p < LEVEL and (low > 0 or high < 0))

    @classmethod
    def of(cls, first: Float[np.ndarray, " T"], second: Float[np.ndarray, " T"], overlap: int) -> Difference:
        """Compare losses at the same cutoffs, in order; `overlap` as in `diebold_mariano`; NaN is left out."""
        each = np.asarray(first, dtype=np.float64) - second
        each = each[~np.isnan(each)]
        _, p = diebold_mariano(each, overlap)
        return cls(float(each.mean()) if len(each) else float("nan"), p, bootstrap_interval(each, overlap), len(each))


def diebold_mariano(difference: Float[np.ndarray, " T"], overlap: int) -> tuple[float, float]:
    """The statistic of Diebold & Mariano (1995) with the small-sample correction, and its two-sided p value.

    The variance of the mean has the autocovariances of `overlap - 1` lags, for a forecast of h steps made at every row
    errs as the h - 1 before it do. The correction, and Student's t with T - 1 degrees of freedom in place of the
    normal, are those of Harvey, Leybourne & Newbold (Testing the equality of prediction mean squared errors,
    International Journal of Forecasting 13, 1997). Where that estimate of the variance is not positive, its lags are
    weighted by Bartlett's kernel (Newey & West, 1987), which cannot fail.

    Parameters
    ----------
    overlap
        How many consecutive cutoffs forecast a row: the horizon over the rows from one cutoff to the next, rounded up.

    Returns
    -------
    statistic, p
        NaN where there are not more than twice as many cutoffs as overlap.
    """
    count, centred = len(difference), difference - difference.mean() if len(difference) else difference
    if count <= 2 * overlap or count < 3 or not centred.any():
        return float("nan"), float("nan")
    covariances = np.array([centred[lag:] @ centred[: count - lag] for lag in range(overlap)]) / count
    variance = covariances[0] + 2 * covariances[1:].sum()
    if variance <= 0:
        variance = covariances[0] + 2 * (1 - np.arange(1, overlap) / overlap) @ covariances[1:]
    correction = (count + 1 - 2 * overlap + overlap * (overlap - 1) / count) / count
    statistic = difference.mean() / np.sqrt(variance / count) * np.sqrt(correction)
    from scipy.special import stdtr  # takes a while to import

    return float(statistic), float(2 * stdtr(count - 1, -abs(statistic)))


def bootstrap_interval(difference: Float[np.ndarray, " T"], overlap: int, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean by the circular block bootstrap (Politis & Romano, 1992).

    A block is three times as long as forecasts overlap, and T^(1/3) at least: the dependence between cutoffs is kept.
    Percentiles of few blocks lie too near: they are moved away from the mean as Student's t is wider than the normal
    for as many, and their variance greater than that of the resamples.
    """
    count = len(difference)
    if count < 3:
        return float("-inf"), float("inf")
    from scipy.special import ndtri, stdtrit

    block = min(max(3 * overlap if overlap > 1 else 1, round(count ** (1 / 3))), count // 2)
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([difference, difference]))])
    blocks = -(-count // block)
    starts = np.random.default_rng(seed).integers(count, size=(RESAMPLES, blocks))
    means = (sums[starts + block] - sums[starts]).sum(axis=1) / (blocks * block)
    free = count / block - 1
    wider = stdtrit(free, 1 - LEVEL / 2) / ndtri(1 - LEVEL / 2) * np.sqrt((free + 1) / free)
    low, high = np.mean(difference) + wider * (np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2]) - np.mean(difference))
    return float(low), float(high)
