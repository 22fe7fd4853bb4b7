"""Split-conformal calibration: intervals of any model, from rows that nothing was fitted or chosen on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from jaxtyping import Float

from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError, DataError
from tsforecast.quantiles import conformal
from tsforecast.windows import Windows

_CELLS = 40_000_000  # residuals kept; more windows than that are thinned out evenly


class Calibration(Protocol):
    """What places quantiles around a point forecast, or corrects those that were learned."""

    @property
    def fraction(self) -> float:
        """Share of the validation rows, the last of them, that is kept for calibration."""
        ...

    def check(self, windows: Windows, quantiles: tuple[float, ...], *, learned: bool) -> None:
        """Raise a ConfigError or DataError, before anything is fitted, when `quantiles` cannot be had of `windows`."""
        ...

    def __call__(self, bundle: Bundle, windows: Windows, quantiles: tuple[float, ...]) -> Bundle:
        """The bundle that forecasts `quantiles`."""
        ...


@dataclass(frozen=True)
class NoCalibration:
    """Quantiles as the model learned them, if it did."""

    fraction: float = 0.0

    def check(self, windows: Windows, quantiles: tuple[float, ...], *, learned: bool) -> None:
        """Before anything is fitted.

        Raises
        ------
        ConfigError
            Quantiles are asked for that the model will not learn.
        """
        if quantiles and not learned:
            fix = "calibration=conformal, or quantiles=[] for points alone"
            what, got = "this model forecasts a point, and nothing places quantiles around it", list(quantiles)
            raise ConfigError(what, where="quantiles", got=got, fix=fix)

    def __call__(self, bundle: Bundle, windows: Windows, quantiles: tuple[float, ...]) -> Bundle:
        """The bundle with the quantiles its model learned."""
        return replace(bundle, quantile_levels=bundle.dims.quantiles, offsets=None)


@dataclass(frozen=True)
class Conformal:
    """Split-conformal calibration per horizon step and channel; every side of an interval keeps its own coverage.

    Parameters
    ----------
    fraction
        Share of the validation rows, the last of them, that is kept for calibration.
    """

    fraction: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            what, allowed = "calibration takes a share of the validation rows", "above 0 and below 1"
            raise ConfigError(what, where="calibration.fraction", got=self.fraction, allowed=allowed)

    def check(self, windows: Windows, quantiles: tuple[float, ...], *, learned: bool) -> None:
        """Before anything is fitted.

        Raises
        ------
        DataError
            There are fewer calibration windows than the outermost quantile needs: n values tell apart n + 1 ranks. Or
            a step and channel has no observed label in any of them.
        """
        needed = max((math.ceil(1 / min(q, 1 - q) - 1e-9) - 1 for q in quantiles), default=0)
        if len(windows) < needed:
            got, allowed = f"{len(windows)} windows", f"{needed} or more"
            fix = "more rows (split.val=..., calibration.fraction=0.8), quantiles nearer to 0.5, or calibration=none"
            what = "too few windows for these quantiles"
            raise DataError(what, where="calibration", got=got, allowed=allowed, fix=fix)
        if quantiles:
            self._thinned(windows, len(quantiles) if learned else 1)

    @staticmethod
    def _thinned(windows: Windows, forecasts: int) -> Windows:
        most = max(1, _CELLS // (windows.horizon * windows.encoded.target.shape[1] * forecasts))
        kept = windows.subset(np.unique(np.linspace(0, len(windows) - 1, min(len(windows), most)).astype(np.int64)))
        if not kept.observed.all():
            what, fix = "a channel has no observed value in the calibration rows", "split=..., or calibration=none"
            raise DataError(what, where="calibration", fix=fix)
        return kept

    def __call__(self, bundle: Bundle, windows: Windows, quantiles: tuple[float, ...]) -> Bundle:
        """The bundle with `quantiles`, and the offsets that the residuals of `windows` give; raises as `check` does."""
        if not quantiles:
            return replace(bundle, quantile_levels=(), offsets=None)
        kept = self._thinned(windows, max(len(bundle.dims.quantiles), 1))
        return replace(bundle, quantile_levels=quantiles, offsets=conformal(residuals(bundle, kept), quantiles))


def residuals(bundle: Bundle, windows: Windows) -> Float[np.ndarray, "B H C Q"]:
    """Label less forecast before any calibration, in the units of the model; Q is 1 for a point; NaN where missing."""
    found = []
    for index in windows.batches(1024):
        window, label = windows.batch(index)
        forecast = bundle.forecaster.predict(window)
        found.append(label[..., None] - (forecast if bundle.dims.quantiles else forecast[..., None]))
    return np.concatenate(found)
