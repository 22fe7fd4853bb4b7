"""Lags, differences and rolling statistics: functions of the window alone.

Nothing outside the window is read, so that serving needs no more than the lookback and training sees no more.
(pandas' rolling sums carry old values along, hence would differ between a window and the whole series.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from tsforecast.errors import ConfigError, count, each_of

STATISTICS = ("mean", "std", "min", "max", "median")  # functions of numpy


def _check_reach(name: str, rows: int, lookback: int) -> None:
    if rows > lookback:
        what, got = "a window feature reaches back further than the window", f"{rows} rows, lookback {lookback}"
        allowed, fix = f"1 to {lookback} rows", f"set lookback={rows} or more"
        raise ConfigError(what, where=f"feature.{name}", got=got, allowed=allowed, fix=fix)


@dataclass(frozen=True)
class Lags:
    """The values `steps` rows before the first forecast row; lag 1 is the last row of the window."""

    steps: Sequence[int] = (1, 24)
    window_local: ClassVar[bool] = True
    _name: ClassVar[str] = "lag"
    _before: ClassVar[int] = 0  # rows that are read before the earliest step

    def __post_init__(self) -> None:
        if not self.steps:
            raise ConfigError("there are no steps", where=f"feature.{self._name}s.steps", allowed="1, 2, ...")
        for step in self.steps:
            count(f"feature.{self._name}s.steps", step)
        object.__setattr__(self, "steps", tuple(self.steps))

    def names(self, lookback: int) -> tuple[str, ...]:
        """`lag 24`, ...

        Raises
        ------
        ConfigError
            A step lies before the window.
        """
        _check_reach(f"{self._name}s", max(self.steps) + self._before, lookback)
        return tuple(f"{self._name} {step}" for step in self.steps)

    def transform(self, target: Float[np.ndarray, "B L C"]) -> Float[np.ndarray, "B F C"]:
        """Features of each window and channel."""
        return np.asarray(target[:, [-step for step in self.steps]])


@dataclass(frozen=True)
class Differences(Lags):
    """The last value minus the one `steps` rows before it."""

    _name: ClassVar[str] = "difference"
    _before: ClassVar[int] = 1

    def transform(self, target: Float[np.ndarray, "B L C"]) -> Float[np.ndarray, "B F C"]:
        """Features of each window and channel."""
        return np.asarray(target[:, -1:] - target[:, [-1 - step for step in self.steps]])


@dataclass(frozen=True)
class Rolling:
    """Statistics of the last `window` rows.

    Parameters
    ----------
    window
        Rows.
    stats
        Of `mean, std, min, max, median`.
    """

    window: int = 24
    stats: Sequence[str] = ("mean", "std")
    window_local: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "stats", tuple(self.stats))
        count("feature.rolling.window", self.window)
        each_of("feature.rolling.stats", self.stats, STATISTICS)

    def names(self, lookback: int) -> tuple[str, ...]:
        """`mean of 24`, ..."""
        _check_reach("rolling", self.window, lookback)
        return tuple(f"{name} of {self.window}" for name in self.stats)

    def transform(self, target: Float[np.ndarray, "B L C"]) -> Float[np.ndarray, "B F C"]:
        """Features of each window and channel."""
        # One window and channel after the other in memory: numpy's order of summation depends on the layout.
        rows = np.ascontiguousarray(target[:, -self.window :].transpose(0, 2, 1))
        return np.stack([getattr(np, name)(rows, axis=2) for name in self.stats], axis=1)
