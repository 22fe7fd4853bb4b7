"""What stands in for a model where a series is too short for it: seasonal naive of its rows, and how far that errs.

| - - - - - - x x x |         fewer rows than a season: the last value
| - x x x x x x x x |         else the last season, over and over

Intervals are split-conformal: windows of training are cut to as few rows, of any number, and forecast likewise. Errors
are divided by the square root of the size of a series, as those of counts grow: on panels of sales, cash and industry
the intervals were as good as with errors by the size itself, and narrower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float

from tsforecast.features.missing import fill_forward
from tsforecast.quantiles import conformal, ordered
from tsforecast.windows import Windows

NAME = "seasonal_naive"
_CELLS = 2**23  # values of the windows that errors are taken from, at most


@dataclass(frozen=True)
class Fallback:
    """Seasonal naive in original units.

    Attributes
    ----------
    usual
        Mean absolute value in training, [C]: the size of a series of zeros.
    offsets
        What is added for each quantile to the last value, and to the last season, once multiplied by the root of the
        size, [2 H C Q].
    """

    season: int
    usual: Float[np.ndarray, " C"]
    offsets: Float[np.ndarray, "2 H C Q"]

    @classmethod
    def of(cls, windows: Windows, season: int, quantile_levels: Sequence[float]) -> Self:
        """With the errors on windows of training."""
        back, ahead, channels = windows.lookback, windows.horizon, windows.encoded.target.shape[1]
        thin = -(-len(windows) * (back + ahead) * channels // _CELLS)
        rows = windows.subset(slice(None, None, thin)).observations()
        offsets = np.zeros((2, ahead, channels, len(quantile_levels)), np.float32)
        usual = np.maximum(_size(rows, (0, 1))[0, 0], 1e-12)
        found = cls(season, usual, offsets)
        for kind, held in enumerate((range(1, min(season, back + 1)), range(season, back + 1))):
            if quantile_levels and held:  # else there are no such series
                first = back - held.start - np.arange(len(rows)) % len(held)
                cut = np.where(np.arange(back)[:, None] >= first[:, None, None], rows[:, :back], np.nan)
                point, root, seasonal = found.point(cut)
                errors = np.where(seasonal == bool(kind), rows[:, back:] - point, np.nan)
                offsets[kind] = conformal((errors / root)[..., None], quantile_levels)
        return found

    def point(
        self, rows: Float[np.ndarray, "B L C"]
    ) -> tuple[Float[np.ndarray, "B H C"], Float[np.ndarray, "B 1 C"], Bool[np.ndarray, "B 1 C"]]:
        """The forecast (NaN where nothing is observed), the root of the size, and whether there is a season of rows."""
        filled, observed = fill_forward(rows)
        back, season = rows.shape[1], min(self.season, rows.shape[1])
        seasonal = back - observed.argmax(axis=1, keepdims=True) >= self.season
        repeated = filled[:, back - season + np.arange(self.offsets.shape[1]) % season]
        point = np.where(seasonal, repeated, filled[:, -1:])
        size = _size(rows, 1)
        root = np.sqrt(np.where(size > 0, size, self.usual)).astype(np.float32)
        return np.where(observed.any(axis=1, keepdims=True), point, np.nan), root, seasonal

    def __call__(
        self, rows: Float[np.ndarray, "B L C"], quantile_levels: Sequence[float]
    ) -> tuple[Float[np.ndarray, "B H C"], Float[np.ndarray, "B H C Q"]]:
        """Point and quantiles after the last of the rows; NaN marks those that are missing, or are none of a series."""
        point, root, seasonal = self.point(rows)
        offsets = np.where(seasonal[..., None], self.offsets[1], self.offsets[0])
        return point, ordered(point[..., None] + root[..., None] * offsets, point, quantile_levels)

    def state(self) -> dict[str, np.ndarray]:
        """All of it, as arrays by name."""
        return {f"fallback.{each.name}": np.asarray(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self | None:
        """What `state()` is of; None where there is none in it."""
        if "fallback.season" not in state:
            return None
        return cls(int(state["fallback.season"]), *(state[f"fallback.{each.name}"] for each in fields(cls)[1:]))


def _size(rows: Float[np.ndarray, "B L C"], axis: Any) -> np.ndarray:
    """Mean absolute value of what is observed, 0 where nothing is."""
    count = np.maximum((~np.isnan(rows)).sum(axis=axis, keepdims=True), 1)
    return np.asarray(np.nansum(np.abs(rows), axis=axis, keepdims=True, dtype=np.float64) / count)
