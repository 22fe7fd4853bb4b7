"""Errors out of sample without rows of their own: a series too short for calibration rows is forecast at many cutoffs.

    | = = = = = = = = # # # - - - - - |     each fit sees what lies before its cutoff, and its errors behind it
    | = = = = = = = = = = # # # - - - |     are pooled: cross-conformal (Vovk, Cross-conformal predictors, Annals of
    | = = = = = = = = = = = = # # # - |     Mathematics and Artificial Intelligence 74, 2015), in order of time

Earlier fits know fewer rows than the one that forecasts, so the intervals are rather too wide than too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tsforecast.data.folds import Fold, Folds
from tsforecast.data.panel import Panel
from tsforecast.training.calibrate import Errors
from tsforecast.training.fit import Fitting, fit
from tsforecast.training.prepare import Prepared

MOST = 20  # cutoffs
_FEW = 5  # of many series, where a forecast is dear


def cutoffs(panel: Panel, lookback: int, horizon: int) -> list[Fold]:
    """At most twenty, evenly spaced in the last third of the series; none where it holds no window before another."""
    shortest = int(panel.lengths.min())
    room = min(shortest - lookback - 2 * horizon + 1, shortest // 3)
    if room < 1:
        return []
    folds = Folds(windows=min(MOST, room), step=max(1, room // MOST))
    return folds(panel, np.zeros(len(panel), dtype=np.int64), lookback, horizon)


def cross_errors(model: Any, data: Prepared, rows: Panel, trainer: Callable[..., Any], seed: int) -> Errors:
    """The errors at cutoffs among `rows`; where a forecast is dear of `data.most`, some of the series at each cutoff.

    Parameters
    ----------
    model
        What chooses nothing: `model.refitting(chosen)`.
    data
        What is cut: its sizes and features.
    """
    loaded, found = replace(data.loaded, panel=rows), []
    folds = cutoffs(rows, data.dims.least, data.dims.horizon)
    if data.most is not None:  # whose members may be dear to fit, too
        folds = folds[:: max(1, len(folds) // max(_FEW, -(-data.most // len(rows))))]
    every = len(rows) * len(folds)
    share = np.arange(every + 1) * (min(1.0, data.most / every) if data.most else 1.0)
    kept = np.diff(np.floor(share + 1e-9)).reshape(len(folds), -1) > 0
    for k, fold in enumerate(folds):
        own = replace(data, loaded=loaded).fitted_on(fold.borders)
        fitted = fit(model, own.windows("train"), own.windows("val"), Fitting(own.dims, trainer, seed))
        if len(windows := own.windows("test").subset(np.roll(kept[k], k))):  # other series at each cutoff
            found.append(Errors.of(own.bundle(fitted.forecaster), windows))
    return Errors.joined(found)
