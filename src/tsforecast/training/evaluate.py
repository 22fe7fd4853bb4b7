"""Scoring: the bundle's own predict path over every window, streamed; a model beside its baselines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Int

from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.request import Prediction
from tsforecast.data.panel import Panel
from tsforecast.errors import ConfigError, DataError
from tsforecast.metrics import Scores
from tsforecast.models.base import Estimator
from tsforecast.training.results import flatten, table
from tsforecast.windows import Windows

if TYPE_CHECKING:
    from tsforecast.training.prepare import Prepared

log = logging.getLogger(__name__)

_CELLS = 200_000  # values of the windows in flight: what they need fits into the processor's cache


@dataclass(frozen=True)
class Evaluation:
    """A model beside its baselines, scored on the same windows.

    Attributes
    ----------
    part
        The rows to forecast: `train`, `val` or `test`.
    bundle, rivals
        The model, and the baselines by name.
    panel, windows
        What they were scored on.
    scores
        By name, the model's first.
    metrics
        All scores by name: `test/mse`, `test/mse/channel/OT`, `baseline/naive/test/mae`, `time/score_seconds`, ...
    """

    part: str
    bundle: Bundle
    rivals: Mapping[str, Bundle]
    panel: Panel
    windows: Windows
    scores: Mapping[str, Scores]
    metrics: Mapping[str, float] = field(default_factory=dict)

    def frame(self) -> pd.DataFrame:
        """The scores as a table: a row for the model and for each baseline, a column a score."""
        return pd.DataFrame({name: each.summary() for name, each in self.scores.items()}).T.rename_axis(self.part)

    def table(self) -> str:
        """The scores as text, and how they compare."""
        return table(self.scores, next(iter(self.scores)), self.part)


def compare(
    bundle: Bundle, rivals: Mapping[str, Bundle], data: Prepared, part: str, *, label: str, detail: bool = True
) -> Evaluation:
    """Score a bundle, called `label`, and its baselines; one that is the model itself is not scored twice.

    With `detail`, the model is scored by channel and by step too, and all by window.

    Raises
    ------
    DataError
        As `evaluate` does.
    """
    panel, windows, scale = data.panel, data.windows(part), data.scale
    began = time.perf_counter()
    scores = {label: evaluate(bundle, panel, windows, scale, keep=detail)}
    metrics = {"time/score_seconds": time.perf_counter() - began, **flatten(scores[label], part, detail=detail)}
    for name, rival in rivals.items():
        if name not in scores:
            scores[name] = evaluate(rival, panel, windows, scale, keep=detail)
        metrics |= flatten(scores[name], f"baseline/{name}/{part}")
    return Evaluation(part, bundle, rivals, panel, windows, scores, metrics)


def evaluate(
    bundle: Bundle,
    panel: Panel,
    windows: Windows,
    scale: tuple[np.ndarray, np.ndarray],
    *,
    keep: bool = False,
    skip: int = 0,
    sink: Callable[[Prediction], object] = lambda _: None,
) -> Scores:
    """Score the bundle on `windows`, in scaled and original units; `scale` is what `seasonal_scale` gives.

    Parameters
    ----------
    keep
        Whether to keep the loss of each window too.
    skip
        Steps ahead that are not scored, the first of them.
    sink
        Is given the forecasts of each batch, in original units.

    Raises
    ------
    DataError
        A forecast is not finite, or nothing in the rows to forecast was observed.
    """
    check_labels(windows)
    dims, ahead = bundle.dims, slice(skip, bundle.dims.horizon)
    steps, fitted = np.arange(dims.horizon)[ahead], bundle.features.series(panel.ids)
    scores = Scores(bundle.channels, len(steps), *scale, quantile_levels=bundle.quantile_levels, keep=keep)
    for index in windows.batches(max(1, _CELLS // (dims.channels * (dims.lookback + dims.horizon)))):
        began = time.perf_counter()
        scaled = bundle.predict(windows, index)
        if not np.isfinite(scaled.point).all():
            what, fix = "a forecast is not a number", "check the parameters; a network wants a lower learning rate"
            raise DataError(what, where="model", got=type(bundle.forecaster).__name__, fix=fix)
        series, label = fitted[windows.series[index]], windows.label(index)[:, ahead]
        raw = panel.target[windows.origins[index][:, None] + steps]
        found = bundle.invert(scaled, series)
        scaled = _scaled(bundle, found, series) if bundle.schema.bounds else scaled
        scores.seconds += time.perf_counter() - began
        scores.update(label, scaled.point[:, ahead], raw, found.point[:, ahead], windows.series[index])
        if scores.quantiles is not None and scaled.quantiles is not None and found.quantiles is not None:
            scores.quantiles.update(label, scaled.quantiles[:, ahead], raw, found.quantiles[:, ahead])
        sink(found)
    return scores


def _scaled(bundle: Bundle, found: Prediction, series: Int[np.ndarray, " B"]) -> Prediction:
    """Forecasts in original units in those of the model again: bounds hold in both."""
    scale, quantiles = bundle.features.scaler.transform, found.quantiles
    if quantiles is not None:
        quantiles = np.moveaxis(scale(np.moveaxis(quantiles, 3, 1), series), 1, 3)
    return Prediction(scale(found.point, series), quantiles)


def check_labels(windows: Windows) -> None:
    """Raise a DataError when nothing in the rows to forecast was observed; also before there is a model to score."""
    if not windows.observed.any():
        what, fix = "no row to forecast has an observed value", "choose borders behind which values were observed"
        raise DataError(f"{what}, so there is nothing to score", where="split", fix=fix)


def baselines(bundle: Bundle, estimators: Mapping[str, Estimator], windows: Windows) -> dict[str, Bundle]:
    """The bundle with each baseline in the forecaster's place, so that all are scored by the same code.

    One whose season does not fit into the lookback is left out, with a warning.
    """
    found, dims = {}, replace(bundle.dims, quantiles=())
    for name, estimator in estimators.items():
        try:
            forecaster = estimator.fit(windows, windows, bundle.dims)
            found[name] = replace(
                bundle, forecaster=forecaster, dims=dims, quantile_levels=(), offsets=None, spread=None
            )
        except ConfigError as error:
            log.warning("Baseline %s is not scored: %s", name, error)
    return found
