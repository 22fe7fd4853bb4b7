"""Split-conformal calibration: intervals of any model, from rows that nothing was fitted or chosen on."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError, DataError
from tsforecast.quantiles import conformal, intervals
from tsforecast.spread import STATISTICS, Spread, statistics
from tsforecast.windows import Windows

log = logging.getLogger(__name__)

_CELLS = 40_000_000  # residuals kept; more windows than that are thinned out evenly
_POWER, _GAIN = 0.25, 0.005  # powers of a spread grow in such steps, while each makes the loss so much smaller
_FEWEST = 40  # windows that powers are chosen on
_PLACES, _CHOSEN_ON = (6, 32), 40_000  # steps and channels, and errors in all, that powers are chosen on: evenly spaced


@dataclass(frozen=True)
class Errors:
    """Errors of forecasts of rows that nothing was fitted on, beside how their windows moved.

    Attributes
    ----------
    values
        Label less forecast before any calibration, in the units of the model; Q is 1 for a point; NaN where missing.
    statistics
        What `tsforecast.spread.statistics` gives of the windows; NaN where that is not known.
    """

    values: Float[np.ndarray, "B H C Q"]
    statistics: Float[np.ndarray, "B C S"]

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, bundle: Bundle, windows: Windows) -> Errors:
        """Those of a bundle; more than memory should hold are thinned out evenly."""
        values, moved = list[np.ndarray](), list[np.ndarray]()
        cells = windows.horizon * windows.encoded.target.shape[1] * max(1, len(bundle.dims.quantiles))
        kept = windows.subset(_spaced(len(windows), max(1, _CELLS // cells)))
        for index in kept.batches(1024):
            window, label = kept.batch(index)
            forecast = bundle.forecaster.predict(window)
            values.append(label[..., None] - (forecast if bundle.dims.quantiles else forecast[..., None]))
            moved.append(statistics(window, bundle.dims.season).astype(np.float32))
        return cls(np.concatenate(values), np.concatenate(moved))

    @classmethod
    def joined(cls, parts: Iterable[Errors]) -> Errors:
        """All of them, one after another."""
        values, moved = zip(*((part.values, part.statistics) for part in parts), strict=True)
        return cls(np.concatenate(values), np.concatenate(moved))

    def spread(self, season: int, quantiles: tuple[float, ...]) -> Spread | None:
        """What errors grow with: powers that lower the quantile loss of either half with the offsets of the other.

        The one that lowers it most grows by a step, until none does any more; None where none does at all, or of
        fewer than 40 windows: either half has too few to tell a power from chance.
        """
        outer = [level for level in quantiles if level != 0.5]
        steps, channels = (_spaced(size, most) for size, most in zip(self.values.shape[1:3], _PLACES, strict=True))
        rows = _spaced(len(self), max(1, _CHOSEN_ON // (len(steps) * len(channels))))
        level, halves = np.array(outer), np.array_split(np.arange(len(rows)), 2)
        errors, moved = (
            self.values[..., 0][np.ix_(rows, steps, channels)][..., None],
            self.statistics[np.ix_(rows, channels)],
        )
        known = np.ma.masked_invalid(self.statistics)
        typical = np.ma.filled(np.ma.median(known, axis=0).astype(np.float64), np.nan)  # type: ignore[no-untyped-call]
        found = Spread(season, (0.0,) * len(STATISTICS), typical)

        def losses(spread: Spread) -> np.ndarray:
            by = replace(spread, typical=typical[channels]).of(moved)[..., None]
            placed = [errors[a] - by[a] * conformal(errors[b] / by[b], outer) for a, b in (halves, halves[::-1])]
            return np.array([np.nanmean(np.maximum(level * each, (level - 1) * each)) for each in placed])

        least = losses(found) if len(rows) >= _FEWEST and len(outer) else np.zeros(2)
        while least.all():
            steeper = np.add(found.powers, _POWER * np.eye(len(STATISTICS))).tolist()
            grown = [replace(found, powers=tuple(powers)) for powers in steeper]
            tried = [losses(each) for each in grown]
            best = int(np.argmin([each.sum() for each in tried]))
            if not ((tried[best] < least).all() and tried[best].sum() < (1 - _GAIN) * least.sum()):
                break
            found, least = grown[best], tried[best]
        return found if any(found.powers) else None


def _spaced(size: int, most: int) -> Int[np.ndarray, " K"]:
    """At most so many places among `size`."""
    return np.unique(np.linspace(0.0, size - 1.0, min(size, most)).astype(np.int64))


class Calibration(Protocol):
    """What places quantiles around a point forecast, or corrects those that were learned."""

    @property
    def fraction(self) -> float:
        """Share of the validation rows, the last of them, that is kept for calibration."""

    def needed(self, quantiles: tuple[float, ...]) -> int:
        """How many errors of a step and channel the outermost of `quantiles` needs."""

    def check(self, quantiles: tuple[float, ...], *, learned: bool) -> None:
        """Raise a ConfigError, before anything is fitted, when `quantiles` cannot be had of the model."""

    def __call__(self, bundle: Bundle, errors: Errors | None, quantiles: tuple[float, ...]) -> Bundle:
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

    def __call__(self, bundle: Bundle, errors: Errors | None, quantiles: tuple[float, ...]) -> Bundle:
        """The bundle with the quantiles its model learned."""
        return replace(bundle, quantile_levels=bundle.dims.quantiles, offsets=None, spread=None)


@dataclass(frozen=True)
class Conformal:
    """Split-conformal calibration per horizon step and channel; every side of an interval keeps its own coverage.

    Quantiles that there are too few errors for are left out.

    Parameters
    ----------
    fraction
        Share of the validation rows, the last of them, that is kept for calibration.
    local
        Whether intervals of a point forecast are wider after a window that moved more than is usual, as far as its
        errors are larger then: see `tsforecast.spread`.
    floor
        The least that they narrow to, as a share of those after a usual window; less, where calibration has seen
        windows that are calmer.
    """

    fraction: float = 0.5
    local: bool = True
    floor: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            what, allowed = "calibration takes a share of the validation rows", "above 0 and below 1"
            raise ConfigError(what, where="calibration.fraction", got=self.fraction, allowed=allowed)
        if not 0 < self.floor <= 1:
            what, allowed = "intervals narrow to a share of the usual ones", "above 0, and 1 at most"
            raise ConfigError(what, where="calibration.floor", got=self.floor, allowed=allowed)

    def needed(self, quantiles: tuple[float, ...]) -> int:
        """As many as tell the outermost quantile from its neighbours: n values tell apart n + 1 ranks."""
        return max((math.ceil(1 / min(q, 1 - q) - 1e-9) - 1 for q in quantiles), default=0)

    def check(self, quantiles: tuple[float, ...], *, learned: bool) -> None:
        """Any quantiles can be had."""

    def __call__(self, bundle: Bundle, errors: Errors | None, quantiles: tuple[float, ...]) -> Bundle:
        """The bundle with `quantiles`, and the offsets that the errors give; its metadata say of how many windows."""
        learned, spread = bundle.dims.quantiles, None
        if errors is None:
            return replace(bundle, quantile_levels=learned, offsets=None, spread=None)
        values = errors.values
        found = int((~np.isnan(values[..., 0])).sum(axis=(0, 1)).min())
        if few := [q for q in quantiles if self.needed((q,)) > found]:
            log.info("quantiles that are left out, with %d errors: %s", found, few)
            if learned or not intervals(left := [q for q in quantiles if q not in few]):
                return replace(bundle, quantile_levels=learned, offsets=None, spread=None)
            quantiles = tuple(left)
        if self.local and not learned:
            spread = errors.spread(bundle.dims.season, quantiles)
        if spread is not None:
            spread = replace(spread, floor=min(self.floor, float(spread.of(errors.statistics).min())))
            log.info("intervals are as wide as the window moves: %s; at least %.2g of the usual", spread, spread.floor)
            values = values / spread.of(errors.statistics)[..., None]
        offsets = conformal(values, quantiles, fewest=self.needed(quantiles))
        metadata = {**bundle.metadata, "calibration": len(errors)}
        return replace(bundle, quantile_levels=quantiles, offsets=offsets, spread=spread, metadata=metadata)


def check_observed(observed: Bool[np.ndarray, "H C"]) -> None:
    """Raise a DataError when a step and channel has no observed label to take an error from."""
    if not observed.all():
        what, fix = "a channel has no observed value in the calibration rows", "split=..., or calibration=none"
        raise DataError(what, where="calibration", fix=fix)
