"""Scaling of every channel by statistics of the train rows: fitted once, stored with the model, inverted exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tsforecast.errors import DataError, listed, one_of

Statistics = tuple[np.ndarray, np.ndarray]  # center and scale, [N C] float64


_UNFITTED = np.empty((0, 0))


@dataclass(frozen=True)
class Scaler:
    """`(x - center) / scale` per series and channel; the subclasses choose the two statistics.

    Statistics are float64, ignore NaN, and leave a channel that is constant or never observed at scale 1.
    Every value is scaled by itself: the same row gives the same bits whatever other rows are asked for.

    Parameters
    ----------
    scope
        `series` fits each series by itself, `global` all rows together, `window` too, and then every window is scaled
        by the mean and standard deviation of its own target, where that is observed. Under the last two, unseen series
        can be forecast.

    Attributes
    ----------
    center, scale
        [N C]; one row unless `scope="series"`, or when there is one series.
    filled
        Whether the missing rows of a window count, as they are filled: of bundles that do not say.
    """

    scope: Literal["series", "global", "window"] = "series"
    center: Float[np.ndarray, "N C"] = field(repr=False, compare=False, default_factory=lambda: _UNFITTED)
    scale: Float[np.ndarray, "N C"] = field(repr=False, compare=False, default_factory=lambda: _UNFITTED)
    filled: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        one_of("scaler.scope", self.scope, ("series", "global", "window"))

    def fit(self, values: Float[np.ndarray, "T C"], offsets: Int[np.ndarray, " N+1"]) -> Self:
        """Take the statistics of series i from rows `offsets[i]:offsets[i+1]`; a scaler with them."""
        if self.scope != "series":
            offsets = np.array([0, len(values)])
        center, scale = self._statistics(self._bend(values), np.asarray(offsets))
        center = np.where(np.isfinite(center), center, 0.0)
        # A constant's standard deviation is rounding noise, not 0: anything this far below the level is constant.
        return replace(self, center=center, scale=np.where(scale > 1e-10 * np.abs(center), scale, 1.0))

    def transform(
        self, values: Float[np.ndarray, "T C"], series: Int[np.ndarray, " T"] | None = None
    ) -> Float[np.ndarray, "T C"]:
        """Scaled float32 rows; `series` is the fitted position of each row's series (None: there is one)."""
        center, scale = self._of(series, values.ndim)
        scaled = self._bend(values) - center
        scaled /= scale
        return scaled.astype(np.float32)

    def inverse(
        self, values: Float[np.ndarray, "B H C"], series: Int[np.ndarray, " B"] | None = None
    ) -> Float[np.ndarray, "B H C"]:
        """Original units, float32; `series` is the fitted position of each entry of the first axis."""
        center, scale = self._of(series, values.ndim)
        raw = values * scale
        raw += center
        return self._unbend(raw).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Fitted arrays, by name."""
        observed = {"observed": np.array(True)} if self.scope == "window" and not self.filled else {}
        return {"center": self.center, "scale": self.scale, **observed}

    def restore(self, state: Mapping[str, np.ndarray]) -> Self:
        """The scaler that `state()` is of."""
        center, scale = (np.asarray(state[key], dtype=np.float64) for key in ("center", "scale"))
        restored = replace(self, center=center, scale=scale)
        object.__setattr__(restored, "filled", self.scope == "window" and "observed" not in state)
        return restored

    def _statistics(self, values: Float[np.ndarray, "T C"], offsets: Int[np.ndarray, " N+1"]) -> Statistics:
        """Center and scale of each series and channel, here 0 and 1; not finite where nothing was observed."""
        shape = (len(offsets) - 1, values.shape[1])
        return np.zeros(shape), np.ones(shape)

    def _bend(self, values: np.ndarray) -> np.ndarray:
        return values

    def _unbend(self, values: np.ndarray) -> np.ndarray:
        return values

    def _of(self, series: np.ndarray | None, ndim: int) -> Statistics:
        if series is None or len(self.center) == 1:
            return self.center, self.scale
        between = (len(series), *(1,) * (ndim - 2), self.center.shape[1])
        return self.center[series].reshape(between), self.scale[series].reshape(between)


@dataclass(frozen=True)
class StandardScaler(Scaler):
    """Mean and standard deviation (ddof 0), as in the LTSF protocol (Zeng et al., 2023)."""

    def _statistics(self, values: np.ndarray, offsets: np.ndarray) -> Statistics:
        observed = ~np.isnan(values)
        count = by_offsets(np.add, observed.astype(np.float64), offsets)
        with np.errstate(invalid="ignore"):  # 0 / 0: never observed
            mean = by_offsets(np.add, np.where(observed, values, 0.0).astype(np.float64), offsets) / count
            deviation = values - np.repeat(mean, np.diff(offsets), axis=0)
            deviation *= deviation
            deviation[~observed] = 0.0
            return mean, np.sqrt(by_offsets(np.add, deviation, offsets) / count)


@dataclass(frozen=True)
class MinMaxScaler(Scaler):
    """Smallest value and range: train rows fall into [0, 1]."""

    def _statistics(self, values: np.ndarray, offsets: np.ndarray) -> Statistics:
        exact = values.astype(np.float64)
        low, high = (by_offsets(reduce, exact, offsets, np.nan) for reduce in (np.fmin, np.fmax))
        return low, high - low


@dataclass(frozen=True)
class RobustScaler(Scaler):
    """Median and interquartile range, which outliers do not move; a channel whose range is 0 keeps scale 1."""

    def _statistics(self, values: np.ndarray, offsets: np.ndarray) -> Statistics:
        series = np.arange(len(offsets) - 1)
        by_series = pd.DataFrame(values.astype(np.float64)).groupby(np.repeat(series, np.diff(offsets)))
        low, median, high = (by_series.quantile(q).reindex(series).to_numpy() for q in (0.25, 0.5, 0.75))
        return median, high - low


@dataclass(frozen=True)
class LogScaler(StandardScaler):
    """`log1p`, then mean and standard deviation: for counts and sales, whose spread grows with their level."""

    def _bend(self, values: np.ndarray) -> np.ndarray:
        if (negative := values < 0).any():
            columns = listed(np.flatnonzero(negative.any(axis=0)) + 1)
            what, where = f"log1p scaling of {negative.sum()} negative values", f"target columns {columns} (from 1)"
            got, allowed = f"{values[negative].min():g} and others", "values of 0 and above"
            raise DataError(what, where=where, got=got, allowed=allowed, fix="scaler=standard")
        return np.log1p(values.astype(np.float64))

    def _unbend(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(np.expm1(values))


@dataclass(frozen=True)
class NoScaler(Scaler):
    """Original units throughout."""

    scope: Literal["series", "global", "window"] = "global"


def by_offsets(reduce: np.ufunc, values: np.ndarray, offsets: np.ndarray, empty: float = 0.0) -> np.ndarray:
    """`reduce` over the rows of each series, [N C]; `empty` where a series has none."""
    out = np.full((len(offsets) - 1, values.shape[1]), empty)
    filled = np.diff(offsets) > 0
    if filled.any():  # reduceat would give an empty series the first row of the next one
        out[filled] = reduce.reduceat(values, offsets[:-1][filled], axis=0)
    return out
