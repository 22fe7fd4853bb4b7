"""What is asked of a bundle, checked, and what it predicts: many requests in one vectorised call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tsforecast.data.panel import Panel
from tsforecast.errors import DataError, RequestError, TsforecastError, listed
from tsforecast.types import Forecast

if TYPE_CHECKING:
    from tsforecast.bundle.bundle import Bundle


class Prediction(NamedTuple):
    """Forecasts: the point, quantiles where the bundle has some, and of a model that repeats rows these as read."""

    point: Float[np.ndarray, "B H C"]
    quantiles: Float[np.ndarray, "B H C Q"] | None = None
    rows: Float[np.ndarray, "B H C"] | None = None  # in original units; NaN where a window holds nothing

    def at(self, index: slice) -> Prediction:
        """Point and quantiles of the windows at `index`."""
        return Prediction(self.point[index], None if self.quantiles is None else self.quantiles[index])


@dataclass(frozen=True)
class Request:
    """What one caller asks for, checked by `Bundle.request`.

    Attributes
    ----------
    panel
        `context` rows a series with the horizon's rows behind them, as `Bundle.with_future` gives it.
    series
        Fitted position of each series, [N]; -1: the fallback forecasts it, too short for the model or unknown.
    horizon
        Steps to answer with, at most the trained ones.
    levels
        Names of the central intervals to answer with: `90`; None are all.
    warnings
        What is stale in the history, and what is far from the rows of training.
    """

    panel: Panel
    series: Int[np.ndarray, " N"]
    horizon: int
    levels: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()

    def answer(self, bundle: Bundle, found: Prediction) -> Forecast:
        """The steps and intervals of a prediction that were asked for."""
        panel, kept = self.panel, list(range(len(bundle.quantile_levels)))
        begin, steps = panel.offsets[:-1] + bundle.context, slice(0, self.horizon)
        if self.levels is not None:
            kept = sorted({i for name in self.levels for i in bundle.intervals[name]})
        return Forecast(
            ids=panel.ids,
            cutoff=panel.time[begin - 1],
            time=panel.time[(begin[:, None] + np.arange(self.horizon)).ravel()],
            channels=bundle.channels,
            values=found.point[:, steps],
            history=panel if panel.padding is None else panel.rows(panel.first, panel.offsets[1:]),
            quantile_levels=tuple(bundle.quantile_levels[i] for i in kept),
            quantiles=found.quantiles[:, steps, :, kept] if found.quantiles is not None and kept else None,
            units=bundle.schema.units,
            warnings=self.warnings,
            fallback=self.series < 0,
        )


def asked(horizon: Any, levels: Any, most: int, intervals: tuple[str, ...]) -> tuple[int, tuple[str, ...] | None]:
    """How many steps of at most so many, and which of the `intervals` by name, a caller asks for; None are all.

    Raises
    ------
    RequestError
        There is no such horizon, or no such interval.
    """
    if horizon is not None and (type(horizon) is not int or not 1 <= horizon <= most):
        what, allowed = "the horizon is the number of steps to forecast", f"1 to {most}, the trained one"
        raise RequestError(what, where="horizon", got=horizon, allowed=allowed)
    if levels is None:
        return horizon or most, None
    by_percent = {float(name): name for name in intervals}
    cells = levels[: len(by_percent) + 1] if isinstance(levels, list | tuple) else [None]
    names = tuple(by_percent[q] for q in cells if type(q) in (int, float) and q in by_percent)
    if len(set(names)) < len(cells):
        what, allowed = "levels are the central intervals to answer with, in percent", listed(intervals)
        allowed = f"a list of some of {allowed}" if allowed else "none: it has no intervals"
        raise RequestError(what, where="levels", got=levels, allowed=allowed)
    return horizon or most, names


Infer = Callable[[Panel, Int[np.ndarray, " N"]], Prediction]


def predict_all(infer: Infer, requests: Sequence[Request]) -> list[Prediction | TsforecastError]:
    """The prediction of each request, all in one call; one that cannot be answered has its error in its place."""
    panels = [request.panel for request in requests]
    if panels and all(panel.categories == panels[0].categories for panel in panels):  # a code has one label
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # told of each below
                found = infer(Panel.joined(panels), np.concatenate([request.series for request in requests]))
        except TsforecastError as error:
            if len(requests) == 1:
                return [error]
        else:
            ends = pairwise(accumulate(map(len, panels), initial=0))
            return [_finite(found.at(slice(begin, end))) for begin, end in ends]
    return [each for request in requests for each in predict_all(infer, [request])]


def _finite(found: Prediction) -> Prediction | DataError:
    if all(array is None or np.isfinite(array).all() for array in found):
        return found
    what = "the forecast is not finite: the history holds values far beyond those of training"
    return DataError(what, where="history", fix="look at the units of the data")
