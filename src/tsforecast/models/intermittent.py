"""Demand that comes now and then: its size and how often it comes, each smoothed by itself; numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tsforecast.errors import ConfigError
from tsforecast.models.local import Local


def smoothed(values: Float[np.ndarray, " D"], weight: float) -> float:
    """The last level of simple exponential smoothing that starts from the first value."""
    level = float(values[0])
    for value in values[1:].tolist():
        level += weight * (value - level)
    return level


def _check(**weights: float) -> None:
    for name, weight in weights.items():
        if not 0 < weight <= 1:
            what, allowed = "smoothing takes a weight", "above 0, at most 1"
            raise ConfigError(what, where=f"model.{name}", got=weight, allowed=allowed)


@dataclass(kw_only=True)
class Croston(Local):
    """Mean demand over mean interval (Croston, Operational Research Quarterly 23(3), 1972); every step alike.

    Parameters
    ----------
    weight
        Of the newest demand, and of the newest interval between two, as they are smoothed.
    debiased
        Times `1 - weight / 2` (Syntetos & Boylan, International Journal of Forecasting 21(2), 2005): a mean over a mean
        is too high.
    """

    weight: float = 0.1
    debiased: bool = True

    def __post_init__(self) -> None:
        _check(weight=self.weight)

    def forecast(self, y: Float[np.ndarray, " L"]) -> Float[np.ndarray, " H"]:
        """See `Local`."""
        rows = np.flatnonzero(y)
        interval = smoothed(np.diff(rows, prepend=-1), self.weight)
        level = smoothed(y[rows], self.weight) / interval
        return np.full(self.horizon, level * (1 - self.weight / 2) if self.debiased else level)


@dataclass(kw_only=True)
class TSB(Local):
    """Mean demand times its probability, which falls where none comes; every step alike.

    Teunter, Syntetos & Babai, European Journal of Operational Research 214(3), 2011: for parts that go out of use.

    Parameters
    ----------
    weight, probability_weight
        Of the newest demand; of whether the newest row had any, as they are smoothed.
    """

    weight: float = 0.1
    probability_weight: float = 0.1

    def __post_init__(self) -> None:
        _check(weight=self.weight, probability_weight=self.probability_weight)

    def forecast(self, y: Float[np.ndarray, " L"]) -> Float[np.ndarray, " H"]:
        """See `Local`."""
        level = smoothed(y[y != 0], self.weight) * smoothed(1.0 * (y != 0), self.probability_weight)
        return np.full(self.horizon, level)
