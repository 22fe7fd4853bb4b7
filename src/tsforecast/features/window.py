"""Lags, differences and rolling statistics: functions of the window alone.

Nothing outside the window is read, so that serving needs no more than the lookback and training sees no more.
(pandas' rolling sums carry old values along, hence would differ between a window and the whole series.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from tsforecast.errors import ConfigError

STATISTICS: dict[str, Callable[..., np.ndarray]] = {
    "mean": np.mean,
    "std": np.std,
    "min": np.min,
    "max": np.max,
    "median": np.median,
}


def _fit(name: str, rows: int, lookback: int) -> None:
    if rows > lookback:
        raise ConfigError("a window feature reaches back further than the window", where=f"feature.{name}",
                          got=f"{rows} rows, lookback {lookback}", allowed=f"1 to {lookback} rows",
                          fix=f"set lookback={rows} or more")  # fmt: skip


def _positive(name: str, steps: Sequence[int]) -> tuple[int, ...]:
    if not steps or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in steps):
        raise ConfigError("steps count rows back", where=f"feature.{name}", got=list(steps), allowed="1, 2, ...")
    return tuple(steps)


@dataclass(frozen=True)
class Lags:
    """The values `steps` rows before the first forecast row; lag 1 is the last row of the window."""

    steps: Sequence[int] = (1, 24)
    window_local: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", _positive("lags.steps", self.steps))

    def names(self, lookback: int) -> tuple[str, ...]:
        """`lag 24`, ..."""
        _fit("lags", max(self.steps), lookback)
        return tuple(f"lag {step}" for step in self.steps)

    def transform(self, target: Float[np.ndarray, "B L C"]) -> Float[np.ndarray, "B F C"]:
        """Features of each window and channel."""
        return np.asarray(target[:, [target.shape[1] - step for step in self.steps]])


@dataclass(frozen=True)
class Differences:
    """The last value minus the one `steps` rows before it."""

    steps: Sequence[int] = (1, 24)
    window_local: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", _positive("differences.steps", self.steps))

    def names(self, lookback: int) -> tuple[str, ...]:
        """`difference 24`, ..."""
        _fit("differences", max(self.steps) + 1, lookback)
        return tuple(f"difference {step}" for step in self.steps)

    def transform(self, target: Float[np.ndarray, "B L C"]) -> Float[np.ndarray, "B F C"]:
        """Features of each window and channel."""
        return np.asarray(target[:, -1:] - target[:, [target.shape[1] - 1 - step for step in self.steps]])


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
        _positive("rolling.window", (self.window,))
        if unknown := [name for name in self.stats if name not in STATISTICS]:
            raise ConfigError("there is no such statistic", where="feature.rolling.stats", got=", ".join(unknown),
                              allowed=", ".join(STATISTICS))  # fmt: skip

    def names(self, lookback: int) -> tuple[str, ...]:
        """`mean of 24`, ..."""
        _fit("rolling", self.window, lookback)
        return tuple(f"{name} of {self.window}" for name in self.stats)

    def transform(self, target: Float[np.ndarray, "B L C"]) -> Float[np.ndarray, "B F C"]:
        """Features of each window and channel."""
        # One window and channel after the other in memory: numpy's order of summation depends on the layout.
        rows = np.ascontiguousarray(target[:, -self.window :].transpose(0, 2, 1))
        return np.stack([STATISTICS[name](rows, axis=2) for name in self.stats], axis=1)
