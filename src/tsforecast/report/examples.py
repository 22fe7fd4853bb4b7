"""Windows of a run worth a look: evenly spaced ones, and those that were forecast worst and best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from tsforecast.plotting import Fan, edges
from tsforecast.quantiles import ratio
from tsforecast.training.evaluate import Evaluation
from tsforecast.windows import Windows


def examples(found: Evaluation, count: int) -> dict[str, list[Fan]]:
    """`count` windows each to draw, with the forecast and a baseline's beside the truth.

    `forecast`: evenly spaced ones, the channels in turn. `extremes`: those with the largest and the smallest mean
    absolute error, in scaled units, that do not overlap; of each the channel with the largest or the smallest one.
    """
    if not count:
        return {}
    bundle, rival, panel, windows = found.bundle, found.rivals.get("seasonal_naive"), found.panel, found.windows
    loss = next(iter(found.scores.values())).losses[:, 0]
    spaced = np.unique(np.linspace(0, len(windows) - 1, min(count, len(windows))).astype(int))
    ranked = np.argsort(loss)[: (~np.isnan(loss)).sum()]  # NaN is last
    worst, best = _apart(ranked[::-1], windows, (count + 1) // 2), _apart(ranked, windows, count // 2)
    chosen = windows.subset(np.array([*spaced, *worst, *best], dtype=int))
    every, series = slice(0, len(chosen)), bundle.features.series(panel.ids)[chosen.series]
    scaled = bundle.predict(chosen, every)
    ours = bundle.invert(scaled, series)
    theirs = None if rival is None else rival.invert(rival.predict(chosen, every), series).point
    error = np.abs(scaled.point - chosen.label(every))
    error = ratio(np.nansum(error, axis=1), (~np.isnan(error)).sum(axis=1))  # B C
    last = len(panel.channels) - 1
    picks = [(last - i % (last + 1), "") for i in range(len(spaced))]
    for labelled, label, choose in ((worst, "worst", np.nanargmax), (best, "best", np.nanargmin)):
        picks += [(int(choose(error[len(picks) + i])), label) for i in range(len(labelled))]
    fans = []
    for i, (c, label) in enumerate(picks):
        fan = Fan.at(panel, chosen.series[i], c, chosen.origins[i], ours.point[i, :, c])
        intervals = edges(ours.quantiles, bundle.quantile_levels, i, c)
        baseline, unit = None if theirs is None else theirs[i, :, c], bundle.schema.units.get(fan.channel, "")
        fans.append(replace(fan, baseline=baseline, intervals=intervals, label=label, unit=unit))
    return {"forecast": fans[: len(spaced)], "extremes": fans[len(spaced) :]}


def _apart(ranked: Int[np.ndarray, " B"], windows: Windows, count: int) -> list[int]:
    """The first `count` whose rows to forecast do not overlap."""
    found: list[int] = []
    for window in ranked.tolist():
        if len(found) == count:
            break
        if all(abs(windows.origins[window] - windows.origins[other]) >= windows.horizon for other in found):
            found.append(window)
    return found
