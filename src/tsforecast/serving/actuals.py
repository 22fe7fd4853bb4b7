"""What became of forecasts: they are kept until their actuals are posted, and told beside the errors of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.reference import quarters
from tsforecast.bundle.request import Prediction, Request
from tsforecast.data.panel import Panel
from tsforecast.quantiles import ratio

_MOST, _BYTES = 1024, 2**24  # requests whose forecasts are kept, and bytes of them


@dataclass(eq=False)
class Forecasts:
    """Those of one request.

    Attributes
    ----------
    time
        Nanoseconds of every step, [N H].
    actual
        What came true, NaN where that is not known; None as long as nothing is.
    """

    ids: list[str]
    time: Int[np.ndarray, "N H"]
    point: Float[np.ndarray, "N H C"]
    bounds: Float[np.ndarray, "I 2 N H C"]
    actual: Float[np.ndarray, "N H C"] | None = None

    def hold(self, met: Bool[np.ndarray, "N H"], actual: Float[np.ndarray, "R C"]) -> None:
        """What came true of the R steps that were met; what is missing of it stays as it was."""
        known = np.full(self.point.shape, np.nan, np.float32) if self.actual is None else self.actual.copy()
        known[met] = np.where(np.isnan(actual), known[met], actual)
        self.actual = known  # a new one: somebody may be reading the old one
        self.__dict__.pop("sums", None)

    @cached_property
    def sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Over series: of the absolute errors, how many there are, how many were inside; over steps: both [N C]."""
        assert self.actual is not None
        there, off = ~np.isnan(self.actual), np.abs(np.nan_to_num(self.point - self.actual))
        inside = (self.bounds[:, 0] <= self.actual) & (self.actual <= self.bounds[:, 1])
        return off.sum(axis=0), there.sum(axis=0), inside.sum(axis=1), off.sum(axis=1), there.sum(axis=1)

    @property
    def bytes(self) -> int:
        """In memory, once its actuals have come."""
        return self.time.nbytes + 2 * self.point.nbytes + self.bounds.nbytes


class Kept:
    """The forecasts of the last requests to a bundle; the same series and cutoff asked for again is one."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.matched, self.bytes = bundle, 0, 0
        self._forecasts: dict[Any, Forecasts] = {}  # the oldest first

    def add(self, request: Request, found: Prediction) -> None:
        """What the model answered, as many steps as were asked for; series that the fallback forecasts are left out."""
        panel, own, ahead = request.panel, request.series >= 0, slice(0, request.horizon)
        stamps = panel.time.asi8.reshape(len(panel), -1)[own, self.bundle.context :][:, ahead]
        ids = panel.ids[own].tolist()
        key = (*ids, stamps[:, 0].tobytes(), request.horizon)
        if not ids or key in self._forecasts:
            return
        shown: Any = None if found.quantiles is None else found.quantiles[own, ahead]
        point = found.point[own, ahead]
        sides = [*self.bundle.intervals.values()] if shown is not None else []
        bounds = np.empty((len(sides), 2, *point.shape), np.float32)
        for i, (low, high) in enumerate(sides):
            bounds[i] = shown[..., low], shown[..., high]
        made = Forecasts(ids, stamps, point, bounds)
        self._forecasts[key] = made
        self.bytes += made.bytes
        while len(self._forecasts) > _MOST or (self.bytes > _BYTES and len(self._forecasts) > 1):
            self.bytes -= self._forecasts.pop(next(iter(self._forecasts))).bytes

    def match(self, actuals: Panel) -> dict[str, int]:
        """Hold forecasts against what came true: how many values were given, met a forecast, and of how many."""
        moments, rank = np.unique(actuals.time.asi8, return_inverse=True)
        keys = np.repeat(np.arange(len(actuals)), actuals.lengths) * len(moments) + rank  # of a series and a timestamp
        places = {name: i for i, name in enumerate(actuals.ids)}
        used, forecasts, there = np.zeros(len(keys), dtype=bool), 0, ~np.isnan(actuals.target)
        for each in [*self._forecasts.values()]:
            at = np.array([places.get(name, -1) for name in each.ids])[:, None]
            near = np.searchsorted(moments, each.time).clip(max=len(moments) - 1)
            key = at * len(moments) + near
            row = np.searchsorted(keys, key).clip(max=len(keys) - 1)
            met = (at >= 0) & (moments[near] == each.time) & (keys[row] == key) & there[row].any(axis=-1)
            if met.any():
                used[row[met]] = True
                forecasts += int(met.any(axis=1).sum())
                each.hold(met, actuals.target[row[met]])
        matched = int(there[used].sum())
        self.matched += matched
        return {"values": int(there.sum()), "matched": matched, "forecasts": forecasts}

    def errors(self, places: Mapping[str, int]) -> dict[str, Any]:
        """MASE; MAE of channels and coverage of intervals, by quarter of the horizon; beside those of training.

        `places` are those of the series in what training knows of each.
        """
        known, shape = self.bundle.reference, (self.bundle.dims.horizon, len(self.bundle.channels))
        off, count, inside = np.zeros(shape), np.zeros(shape), np.zeros((len(self.bundle.intervals), *shape))
        scale, mase = known.get("mase.scale", np.full((1, shape[1]), np.nan)), [np.empty((0, shape[1]))]
        for each in [*self._forecasts.values()]:
            if each.actual is not None:
                by_step, counts, within, by_series, labels = each.sums
                steps = slice(0, len(by_step))
                off[steps], count[steps] = off[steps] + by_step, count[steps] + counts
                inside[:, steps] += within
                own = scale[[places.get(name, 0) for name in each.ids]] if len(scale) > 1 else scale
                mase.append(ratio(by_series, labels * own))
        per = np.concatenate(mase)
        per = np.nanmean(per[~np.isnan(per).all(axis=1)], axis=1)
        parts = [*zip(quarters(off), quarters(count), quarters(np.moveaxis(inside, 0, 1)), strict=True)]
        mae = np.array([ratio(o.sum(axis=0), c.sum(axis=0)) for o, c, _ in parts])  # quarter C
        covered = np.array([ratio(i.sum(axis=(0, 2)), c.sum()) for _, c, i in parts])  # quarter I
        usual = [part.mean(axis=0) for part in quarters(known["coverage"].T)] if "coverage" in known else None
        least, middle, most = known["mase"].tolist() if "mase" in known else [np.nan] * 3
        return {
            "forecasts": len(per),
            "values": int(count.sum()),
            "mase": {"got": float(per.mean()) if len(per) else np.nan, "usual": middle, "least": least, "most": most},
            "mae": _beside(self.bundle.channels, mae, known.get("mae")),
            "coverage": _beside(self.bundle.intervals, covered, None if usual is None else np.array(usual)),
        }


def _beside(names: Iterable[str], got: np.ndarray, usual: np.ndarray | None) -> dict[str, dict[str, list[float]]]:
    """Figures by quarter of the horizon of each name, beside those of training."""
    usual = np.full(got.shape, np.nan) if usual is None else usual
    return {name: {"got": got[:, j].tolist(), "usual": usual[:, j].tolist()} for j, name in enumerate(names)}
