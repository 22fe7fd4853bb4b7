"""Split-conformal calibration: intervals of any model, from rows that nothing was fitted or chosen on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float

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

    def needed(self, quantiles: tuple[float, ...]) -> int:
        """How many errors of a step and channel the outermost of `quantiles` needs."""

    def check(self, quantiles: tuple[float, ...], *, learned: bool) -> None:
        """Raise a ConfigError, before anything is fitted, when `quantiles` cannot be had of the model."""

    def __call__(
        self, bundle: Bundle, errors: Float[np.ndarray, "B H C Q"] | None, quantiles: tuple[float, ...]
    ) -> Bundle:
        """The bundle that forecasts `quantiles`, from errors out of sample; None where none are needed."""


@dataclass(frozen=True)
class NoCalibration:
    """Quantiles as the model learned them, if it did."""

    fraction: float = 0.0

    def needed(self, quantiles: tuple[float, ...]) -> int:
        """None."""
        return 0

    def check(self, quantiles: tuple[float, ...], *, learned: bool) -> None:
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

    def __call__(
        self, bundle: Bundle, errors: Float[np.ndarray, "B H C Q"] | None, quantiles: tuple[float, ...]
    ) -> Bundle:
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

    def needed(self, quantiles: tuple[float, ...]) -> int:
        """As many as tell the outermost quantile from its neighbours: n values tell apart n + 1 ranks."""
        return max((math.ceil(1 / min(q, 1 - q) - 1e-9) - 1 for q in quantiles), default=0)

    def check(self, quantiles: tuple[float, ...], *, learned: bool) -> None:
        """Any quantiles can be had."""

    def __call__(
        self, bundle: Bundle, errors: Float[np.ndarray, "B H C Q"] | None, quantiles: tuple[float, ...]
    ) -> Bundle:
        """The bundle with `quantiles`, and the offsets that the errors give; its metadata say of how many windows."""
        if errors is None:
            return replace(bundle, quantile_levels=(), offsets=None)
        offsets = conformal(errors, quantiles, fewest=self.needed(quantiles))
        metadata = {**bundle.metadata, "calibration": len(errors)}
        return replace(bundle, quantile_levels=quantiles, offsets=offsets, metadata=metadata)


def residuals(bundle: Bundle, windows: Windows) -> Float[np.ndarray, "B H C Q"]:
    """Label less forecast before any calibration, in the units of the model; Q is 1 for a point; NaN where missing.

    More than memory should hold are thinned out evenly.
    """
    found, cells = [], windows.horizon * windows.encoded.target.shape[1] * max(1, len(bundle.dims.quantiles))
    most = min(len(windows), max(1, _CELLS // cells))
    kept = windows.subset(np.unique(np.linspace(0, len(windows) - 1, most).astype(np.int64)))
    for index in kept.batches(1024):
        window, label = kept.batch(index)
        forecast = bundle.forecaster.predict(window)
        found.append(label[..., None] - (forecast if bundle.dims.quantiles else forecast[..., None]))
    return np.concatenate(found)


def check_observed(observed: Bool[np.ndarray, "H C"]) -> None:
    """Raise a DataError when a step and channel has no observed label to take an error from."""
    if not observed.all():
        what, fix = "a channel has no observed value in the calibration rows", "split=..., or calibration=none"
        raise DataError(what, where="calibration", fix=fix)
