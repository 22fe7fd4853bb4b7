"""What is asked of a bundle, checked, and what it predicts: many requests in one vectorised call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tsforecast.data.panel import Panel
from tsforecast.errors import DataError, TsforecastError


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
        Fitted position of each series, [N].
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


Infer = Callable[[Panel, Int[np.ndarray, " N"]], Prediction]


def predict_all(infer: Infer, requests: Sequence[Request]) -> list[Prediction | TsforecastError]:
    """The prediction of each request, all in one call; one that cannot be answered has its error in its place."""
    panels = [request.panel for request in requests]
    if panels and all(panel.categories == panels[0].categories for panel in panels):  # a code has one label
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # told of each below
                found = infer(_back_to_back(panels), np.concatenate([request.series for request in requests]))
        except TsforecastError as error:
            if len(requests) == 1:
                return [error]
        else:
            ends = np.cumsum([0, *map(len, panels)])
            return [_finite(found.at(slice(*ends[i : i + 2]))) for i in range(len(panels))]
    return [each for request in requests for each in predict_all(infer, [request])]


def _finite(found: Prediction) -> Prediction | DataError:
    if all(array is None or np.isfinite(array).all() for array in found):
        return found
    what = "the forecast is not finite: the history holds values far beyond those of training"
    return DataError(what, where="history", fix="look at the units of the data")


def _back_to_back(panels: Sequence[Panel]) -> Panel:
    first = panels[0]
    if len(panels) == 1:
        return first
    names = ("ids", "target", "past", "known", "static")
    rows: dict[str, Any] = {name: np.concatenate([getattr(panel, name) for panel in panels]) for name in names}
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([panel.lengths for panel in panels]))])
    time = pd.DatetimeIndex(first.time.append([panel.time for panel in panels[1:]]))
    return replace(first, offsets=offsets, time=time, **rows)
