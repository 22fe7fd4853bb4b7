"""What stands in for a model where a series is too short for it: seasonal naive of its rows, and how far that errs.

| - - - - - - x x x |         fewer rows than a season: the last value
| - x x x x x x x x |         else the last season, over and over

Intervals are split-conformal: windows of training are cut to as few rows, of any number, and forecast likewise. Errors
grow with the size of a series, so they are divided by a power of it, the one that lowers the quantile loss.
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
_POWERS = (0.0, 0.5, 1.0)
_CELLS = 2**23  # values of the windows that errors are taken from, at most
_LEAST = 1e-3  # of a usual size


@dataclass(frozen=True)
class Fallback:
    """Seasonal naive in original units.

    Attributes
    ----------
    left_out
        Names of the series that were too short to be trained on.
    size
        Mean absolute value of a usual series, [C], in original units as all of it.
    powers, offsets
        Where the last value is repeated and where the last season is: of the size, [2], and what is added to the point
        for each quantile, [2 H C Q], once multiplied by it. Without quantiles Q is 0.
    """

    season: int
    left_out: np.ndarray
    size: Float[np.ndarray, " C"]
    powers: Float[np.ndarray, " 2"]
    offsets: Float[np.ndarray, "2 H C Q"]

    @classmethod
    def of(cls, windows: Windows, season: int, left_out: Sequence[str], quantile_levels: Sequence[float]) -> Self:
        """With the errors on windows of training."""
        back, ahead, channels = windows.lookback, windows.horizon, windows.encoded.target.shape[1]
        thin = -(-len(windows) * (back + ahead) * channels // _CELLS)
        rows = windows.subset(slice(None, None, thin)).observations()
        past, label = rows[:, :back], rows[:, back:]
        offsets = np.zeros((2, ahead, channels, len(quantile_levels)), np.float32)
        names = np.array(left_out, dtype=np.str_)
        found = cls(season, names, np.maximum(_size(past, (0, 1))[0, 0], 1e-12), np.zeros(2), offsets)
        for kind, (least, most) in enumerate(((1, min(season, back + 1)), (season, back + 1))):
            if quantile_levels and least < most:  # else there are no such series
                held = least + np.arange(len(past))[:, None, None] % (most - least)
                cut = np.where(np.arange(back)[:, None] >= back - held, past, np.nan)
                point, size, seasonal = found.point(cut)
                errors = np.where(seasonal == bool(kind), label - point, np.nan)
                found.powers[kind], offsets[kind] = _placed(errors[..., None], size[..., None], quantile_levels)
        return found

    def point(
        self, rows: Float[np.ndarray, "B L C"]
    ) -> tuple[Float[np.ndarray, "B H C"], Float[np.ndarray, "B 1 C"], Bool[np.ndarray, "B 1 C"]]:
        """The forecast, how large a series is against a usual one, and whether a season of it is there."""
        filled, observed = fill_forward(rows)
        back, season = rows.shape[1], min(self.season, rows.shape[1])
        seasonal = back - observed.argmax(axis=1, keepdims=True) >= self.season
        repeated = filled[:, back - season + np.arange(self.offsets.shape[1]) % season]
        size = _size(rows, 1) / self.size
        return np.where(seasonal, repeated, filled[:, -1:]), np.where(size > _LEAST, size, 1.0), seasonal

    def __call__(
        self, rows: Float[np.ndarray, "B L C"], quantile_levels: Sequence[float]
    ) -> tuple[Float[np.ndarray, "B H C"], Float[np.ndarray, "B H C Q"]]:
        """Point and quantiles after the last of the rows; NaN marks those that are missing, or are none of a series."""
        point, size, seasonal = self.point(rows)
        kind = seasonal[..., None]
        by = (size[..., None] ** np.where(kind, self.powers[1], self.powers[0])).astype(np.float32)
        quantiles = point[..., None] + by * np.where(kind, self.offsets[1], self.offsets[0])
        return point, ordered(quantiles, point, quantile_levels)

    def state(self) -> dict[str, np.ndarray]:
        """All of it, as arrays by name."""
        return {f"fallback.{each.name}": np.asarray(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self | None:
        """What `state()` is of; None where there is none in it."""
        if "fallback.season" not in state:
            return None
        return cls(int(state["fallback.season"]), *(state[f"fallback.{each.name}"] for each in fields(cls)[1:]))


def _placed(
    errors: Float[np.ndarray, "B H C 1"], size: Float[np.ndarray, "B 1 C 1"], quantile_levels: Sequence[float]
) -> tuple[float, Float[np.ndarray, "H C Q"]]:
    """The power of the size that errors are best divided by, and the offsets that they give then."""
    level, tried = np.array(quantile_levels), []
    for power in _POWERS:
        offsets = conformal(errors / size**power, quantile_levels)
        off = errors - size**power * offsets
        tried.append((float(np.nanmean(np.maximum(level * off, (level - 1) * off))), power, offsets))
    _, power, offsets = min(tried, key=lambda each: each[0])
    return power, offsets


def _size(rows: Float[np.ndarray, "B L C"], axis: Any) -> np.ndarray:
    """Mean absolute value of what is observed, 0 where nothing is."""
    count = np.maximum((~np.isnan(rows)).sum(axis=axis, keepdims=True), 1)
    return np.asarray(np.nansum(np.abs(rows), axis=axis, keepdims=True, dtype=np.float64) / count)
