"""Scoring: the bundle's own predict path over every window, streamed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tsforecast.bundle.bundle import Bundle
from tsforecast.data.panel import Panel
from tsforecast.errors import ConfigError, DataError
from tsforecast.metrics import Scores
from tsforecast.models.base import Estimator
from tsforecast.windows import Windows

log = logging.getLogger(__name__)

_CELLS = 200_000  # values of the windows in flight: what they need fits into the processor's cache


def evaluate(
    bundle: Bundle, panel: Panel, windows: Windows, scale: tuple[np.ndarray, np.ndarray], *, keep: bool = False
) -> Scores:
    """Score the bundle on `windows`, in scaled and original units; `scale` is what `seasonal_scale` gives.

    With `keep`, the loss of each window is kept too.

    Raises
    ------
    DataError
        A forecast is not finite, or nothing in the rows to forecast was observed.
    """
    check_labels(windows)
    scores = Scores(bundle.channels, bundle.dims.horizon, *scale, quantile_levels=bundle.quantile_levels, keep=keep)
    fitted = bundle.features.series(panel.ids)
    steps = np.arange(bundle.dims.horizon)
    dims = bundle.dims
    for index in windows.batches(max(1, _CELLS // (dims.channels * (dims.lookback + dims.horizon)))):
        scaled = bundle.predict(windows, index)
        if not np.isfinite(scaled.point).all():
            raise DataError("a forecast is not a number, so there is nothing to score", where="model",
                            got=type(bundle.forecaster).__name__,
                            fix="check the model's parameters; a network wants a lower learning rate")  # fmt: skip
        series, label = fitted[windows.series[index]], windows.label(index)
        raw = panel.target[windows.origins[index][:, None] + steps]
        point, quantiles, _ = bundle.invert(scaled, series)
        scores.update(label, scaled.point, raw, point, windows.series[index])
        if scores.quantiles is not None and scaled.quantiles is not None and quantiles is not None:
            scores.quantiles.update(label, scaled.quantiles, raw, quantiles)
    return scores


def check_labels(windows: Windows) -> None:
    """Raise a DataError when nothing in the rows to forecast was observed; also before there is a model to score."""
    if not windows.observed.any():
        raise DataError(
            "no row to forecast has an observed value, so there is nothing to score",
            where="split",
            fix="choose borders behind which values were observed",
        )


def baselines(bundle: Bundle, estimators: Mapping[str, Estimator], windows: Windows) -> dict[str, Bundle]:
    """The bundle with each baseline in the forecaster's place, so that all are scored by the same code.

    One whose season does not fit into the lookback is left out, with a warning.
    """
    found, dims = {}, replace(bundle.dims, quantiles=())
    for name, estimator in estimators.items():
        try:
            forecaster = estimator.fit(windows, windows, bundle.dims)
            found[name] = replace(bundle, forecaster=forecaster, dims=dims, quantile_levels=(), offsets=None)
        except ConfigError as error:
            log.warning("Baseline %s is not scored: %s", name, error)
    return found
