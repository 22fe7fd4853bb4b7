"""Errors out of sample without rows of their own: a series too short for calibration rows is forecast at many cutoffs.

    | = = = = = = = = # # # - - - - - |     each fit sees what lies before its cutoff, and its errors behind it
    | = = = = = = = = = = # # # - - - |     are pooled: cross-conformal (Vovk, Cross-conformal predictors, Annals of
    | = = = = = = = = = = = = # # # - |     Mathematics and Artificial Intelligence 74, 2015), in order of time

Earlier fits know fewer rows than the one that forecasts, so the intervals are rather too wide than too narrow.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from tsforecast.data.panel import Panel
from tsforecast.data.splits import Borders
from tsforecast.training.calibrate import Errors
from tsforecast.training.fit import Fitting, fit
from tsforecast.training.prepare import CUTOFFS, Prepared

log = logging.getLogger(__name__)
_FEW = 5  # fits for many series, where a forecast is dear


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
    began, found, done = time.monotonic(), list[Errors](), 0
    todo = [*_planned(data, rows, getattr(model, "refits", None) or CUTOFFS)]
    fits = len(todo)
    while todo:
        (panel, borders, later), done = todo.pop(), done + 1
        own = replace(data, loaded=replace(data.loaded, panel=panel)).fitted_on(borders)
        fitted = fit(model, own.windows("train"), own.windows("val"), fitting)
        bundle = own.bundle(fitted.forecaster)
        for shift, some in later[::-1]:
            ends = (each + shift for each in (borders.train_end, borders.val_end, borders.test_end))
            windows = replace(own, borders=Borders(borders.begin, *ends)).windows("test").subset(some)
            if len(windows):
                found.append(Errors.of(bundle, windows))
        more = fitting.left / (time.monotonic() - began) * done
        if found and more < len(todo):
            todo = [todo[i] for i in np.linspace(0, len(todo) - 1, max(0, int(more))).astype(np.int64)]
            log.info("intervals come from %d of %d earlier fits: there is no time for more", done + len(todo), fits)
    return Errors.joined(found[::-1])


def _planned(
    data: Prepared, rows: Panel, refits: int
) -> Iterator[tuple[Panel, Borders, list[tuple[int, Bool[np.ndarray, " N"]]]]]:
    """The fits, the first cutoff of each, and how many rows behind it which series are forecast, in order of time.

    | = = = = = = # # # - - - - |     where a fit or a forecast is dear, cutoffs share a fit,
    | = = = = = = . # # # - - - |     . which has not seen the rows between
    """
    folds = cutoffs(rows, data.dims.least, data.dims.horizon)
    if data.most is not None:  # whose members may be dear to fit, too
        refits = min(refits, max(_FEW, -(-data.most // len(rows))))
    groups = [[folds[i] for i in each] for each in np.array_split(np.arange(len(folds)), min(refits, len(folds)))]
    every = sum(len(group) * len(group[0][0]) for group in groups)
    share = np.arange(every + 1) * (min(1.0, data.most / every) if data.most else 1.0)
    kept, k = np.diff(np.floor(share + 1e-9)) > 0, 0
    for group in groups:
        panel, borders = group[0]
        behind, later = [int(each.offsets[1] - at.test_end[0]) for each, at in group], []
        for back in behind:
            later.append((behind[0] - back, np.roll(kept[: len(panel)], k)))  # other series at each cutoff
            kept, k = kept[len(panel) :], k + 1
        yield panel, borders, later
