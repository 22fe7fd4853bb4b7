"""What became of forecasts: they are kept until their actuals are posted, and told beside the errors of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.reference import quarters
from tsforecast.bundle.request import Prediction, Request
from tsforecast.data.panel import Panel
from tsforecast.quantiles import ratio

_MOST, _BYTES = 1024, 2**24  # requests whose forecasts are kept, and bytes of them
FEW = 24  # forecasts that say too little


@dataclass(eq=False)
class Forecasts:
    """Those of one request.

    Attributes
    ----------
    time
        Nanoseconds of every step, [N H].
    error
        Forecast less actual; NaN as long as there is none.
    inside
        Whether the actual was inside each interval, I of them.
    """

    ids: list[str]
    time: Int[np.ndarray, "N H"]
    point: Float[np.ndarray, "N H C"]
    bounds: Float[np.ndarray, "I 2 N H C"]
    error: Float[np.ndarray, "N H C"] = field(init=False)
    inside: Bool[np.ndarray, "I N H C"] = field(init=False)

    def __post_init__(self) -> None:
        self.error = np.full(self.point.shape, np.nan, np.float32)
        self.inside = np.zeros((len(self.bounds), *self.point.shape), dtype=bool)

    def hold(self, i: int, steps: Int[np.ndarray, " R"], actual: Float[np.ndarray, "R C"]) -> None:
        """Some steps of a series beside what came true; what is missing stays as it was."""
        there, (lower, upper) = ~np.isnan(actual), np.moveaxis(self.bounds[:, :, i, steps], 1, 0)
        self.error[i, steps] = np.where(there, self.point[i, steps] - actual, self.error[i, steps])
        inside = (lower <= actual) & (actual <= upper)
        self.inside[:, i, steps] = np.where(there, inside, self.inside[:, i, steps])

    @property
    def bytes(self) -> int:
        """In memory, all of it."""
        return self.time.nbytes + 2 * self.point.nbytes + self.bounds.nbytes + self.inside.nbytes


class Kept:
    """The forecasts of the last requests to a bundle; the same series and cutoff asked for again is one."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.matched, self._bytes = bundle, 0, 0
        self._forecasts: dict[Any, Forecasts] = {}  # the oldest first

    def add(self, request: Request, found: Prediction) -> None:
        """What was answered, as many steps as were asked for."""
        panel, ahead = request.panel, slice(0, request.horizon)
        stamps = panel.time.asi8.reshape(len(panel), -1)[:, self.bundle.context :][:, ahead]
        key = (*panel.ids, stamps[:, 0].tobytes(), request.horizon)
        if key in self._forecasts:
            return
        sides = [] if found.quantiles is None else [*self.bundle.intervals.values()]
        bounds = [np.moveaxis(found.quantiles[:, ahead][..., list(pair)], -1, 0) for pair in sides]  # type: ignore[index]
        shape = (0, 2, *found.point[:, ahead].shape)
        made = Forecasts(
            panel.ids.tolist(),
            stamps.copy(),
            found.point[:, ahead].copy(),
            np.stack(bounds) if bounds else np.empty(shape),
        )
        self._forecasts[key] = made
        self._bytes += made.bytes
        while len(self._forecasts) > _MOST or (self._bytes > _BYTES and len(self._forecasts) > 1):
            self._bytes -= self._forecasts.pop(next(iter(self._forecasts))).bytes

    def match(self, actuals: Panel) -> dict[str, int]:
        """Hold forecasts against what came true: how many values were given, met a forecast, and of how many."""
        given, forecasts, used = {}, 0, np.zeros(len(actuals.time), dtype=bool)
        stamps, there = actuals.time.asi8, ~np.isnan(actuals.target)
        for i, name in enumerate(actuals.ids):
            given[name] = slice(*actuals.offsets[i : i + 2])
        for each in [*self._forecasts.values()]:
            met = False
            for i, rows in ((i, given[name]) for i, name in enumerate(each.ids) if name in given):
                at = np.minimum(rows.start + np.searchsorted(stamps[rows], each.time[i]), rows.stop - 1)
                if len(steps := np.flatnonzero(stamps[at] == each.time[i])):
                    used[at[steps]] = met = True
                    each.hold(i, steps, actuals.target[at[steps]])
            forecasts += met
        matched = int(there[used].sum())
        self.matched += matched
        return {"values": int(there.sum()), "matched": matched, "forecasts": forecasts}

    def errors(self, places: Mapping[str, int]) -> dict[str, Any]:
        """MASE; MAE of channels and coverage of intervals, by quarter of the horizon; beside those of training.

        `places` are those of the series in what training knows of each.
        """
        known, shape = self.bundle.reference, (self.bundle.dims.horizon, len(self.bundle.channels))
        off, count, inside = np.zeros(shape), np.zeros(shape), np.zeros((len(self.bundle.intervals), *shape))
        mase = list[np.ndarray]()
        for each in [*self._forecasts.values()]:
            error, there = np.abs(np.nan_to_num(each.error)), ~np.isnan(each.error)
            if there.any():
                steps = slice(0, error.shape[1])
                off[steps], count[steps] = off[steps] + error.sum(axis=0), count[steps] + there.sum(axis=0)
                inside[:, steps] += each.inside.sum(axis=1)
                scale = known.get("mase.scale", np.full((1, shape[1]), np.nan))
                scale = scale[[places.get(name, 0) for name in each.ids]] if len(scale) > 1 else scale
                mase += [*ratio(error.sum(axis=1), there.sum(axis=1) * scale)]
        per = np.array([each[~np.isnan(each)].mean() for each in mase if not np.isnan(each).all()])
        parts = [*zip(quarters(off), quarters(count), quarters(np.moveaxis(inside, 0, 1)), strict=True)]
        mae = np.array([ratio(o.sum(axis=0), c.sum(axis=0)) for o, c, _ in parts])  # quarter C
        covered = np.array([ratio(i.sum(axis=(0, 2)), c.sum()) for _, c, i in parts])  # quarter I
        usual = [part.mean(axis=0) for part in quarters(known["coverage"].T)] if "coverage" in known else None
        least, middle, most = known["mase"][int(len(per) >= FEW)].tolist() if "mase" in known else [np.nan] * 3
        return {
            "forecasts": len(per),
            "values": int(count.sum()),
            "mase": {"got": per.mean() if len(per) else np.nan, "usual": middle, "least": least, "most": most},
            "mae": _beside(self.bundle.channels, mae, known.get("mae")),
            "coverage": _beside(self.bundle.intervals, covered, None if usual is None else np.array(usual)),
        }


def _beside(names: Iterable[str], got: np.ndarray, usual: np.ndarray | None) -> dict[str, dict[str, list[float]]]:
    """Figures by quarter of the horizon of each name, beside those of training."""
    usual = np.full(got.shape, np.nan) if usual is None else usual
    return {name: {"got": got[:, j].tolist(), "usual": usual[:, j].tolist()} for j, name in enumerate(names)}
