"""Errors out of sample without rows of their own: a series too short for calibration rows is forecast at many cutoffs.

    | = = = = = = = = # # # - - - - - |     each fit sees what lies before its cutoff, and its errors behind it
    | = = = = = = = = = = # # # - - - |     are pooled: cross-conformal (Vovk, Cross-conformal predictors, Annals of
    | = = = = = = = = = = = = # # # - |     Mathematics and Artificial Intelligence 74, 2015), in order of time

Earlier fits know fewer rows than the one that forecasts, so the intervals are rather too wide than too narrow.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

import numpy as np

from tsforecast.data.panel import Panel
from tsforecast.data.splits import Borders
from tsforecast.training.calibrate import Errors
from tsforecast.training.fit import Fitting, fit
from tsforecast.training.prepare import CUTOFFS, Prepared

log = logging.getLogger(__name__)
_FEW = 5  # of many series, where a forecast is dear


def cutoffs(panel: Panel, least: int, horizon: int) -> list[tuple[Panel, Borders]]:
    """At most twenty, evenly spaced in the last third of the median series; none where it has no window before another.

    Beside each the series that are long enough for it and have a value before it: the shortest does not decide for all.
    """
    typical = int(np.median(panel.lengths))
    room, found = min(typical - least - 2 * horizon + 1, typical // 3), []
    for back in np.linspace(0, room - 1, max(0, min(CUTOFFS, room))).astype(np.int64)[::-1]:
        rows = panel.select(panel.lengths >= np.maximum(least + horizon, panel.unseen + 1) + horizon + back)
        cutoff = rows.offsets[1:] - horizon - back
        found += [(rows, Borders(rows.offsets[:-1], cutoff, cutoff, cutoff + horizon))] * (len(rows) > 0)
    return found


def foretell_errors(data: Prepared, needed: int) -> None:
    """Tell that intervals come from earlier cutoffs, and where these have fewer errors than are needed."""
    rows = data.panel.rows(data.borders.begin, data.borders.val_end)
    found = sum(len(panel) for panel, _ in cutoffs(rows, data.dims.least, data.dims.horizon)) * data.dims.horizon
    log.info("few rows: intervals come from the errors at earlier cutoffs, not from calibration rows")
    if found < needed:
        log.warning("too few rows for all quantiles: %d errors, and the outermost needs %d", found, needed)


def cross_errors(model: Any, data: Prepared, rows: Panel, fitting: Fitting) -> Errors:
    """The errors at cutoffs among `rows`; where a forecast is dear of `data.most`, some of the series at each cutoff.

    Parameters
    ----------
    model
        What chooses nothing: `model.refitting(chosen)`.
    data
        What is cut: its sizes and features.
    fitting
        With the time that it may take: of the cutoffs before the last those that fit are used, evenly spaced.
    """
    folds, found = cutoffs(rows, data.dims.least, data.dims.horizon), []
    if data.most is not None:  # whose members may be dear to fit, too
        folds = folds[:: max(1, len(folds) // max(_FEW, -(-data.most // len(rows))))]
    every = sum(len(panel) for panel, _ in folds)
    share = np.arange(every + 1) * (min(1.0, data.most / every) if data.most else 1.0)
    kept = np.diff(np.floor(share + 1e-9)) > 0
    todo, began = list[tuple[Panel, Borders, np.ndarray]](), time.monotonic()
    for k, (panel, borders) in enumerate(folds):
        todo.append((panel, borders, np.roll(kept[: len(panel)], k)))  # other series at each cutoff
        kept = kept[len(panel) :]
    while todo:
        panel, borders, some = todo.pop()
        own = replace(data, loaded=replace(data.loaded, panel=panel)).fitted_on(borders)
        fitted = fit(model, own.windows("train"), own.windows("val"), fitting)
        if len(windows := own.windows("test").subset(some)):
            found.append(Errors.of(own.bundle(fitted.forecaster), windows))
        took = time.monotonic() - began
        more = fitting.left / took * max(1, len(found))
        if found and more < len(todo):
            todo = [todo[i] for i in np.linspace(0, len(todo) - 1, max(0, int(more))).astype(np.int64)]
            log.info(
                "intervals come from %d of %d cutoffs: there is no time for more", len(found) + len(todo), len(folds)
            )
    return Errors.joined(found[::-1])
