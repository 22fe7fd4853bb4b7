"""Charts of a run: errors and coverage by step, what a model leans on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

from tsforecast.plotting import BASELINE, BASELINES, MODEL, Draw, line

BARS = 20  # of a chart: the longest
DASHES = ("--", ":", "-.")
TITLES = {name: f"{name.capitalize()} variables" for name in ("past", "known", "static")}
ByStep = Mapping[str, Mapping[str, Sequence[float]]]
Insights = Mapping[str, Mapping[str, float] | Sequence[float]]


def error_charts(by_step: ByStep) -> list[Draw]:
    """Mean absolute and mean squared error by step, the model (the first) in front."""
    model, *baselines = by_step
    baselines.sort(key=lambda name: name.replace("_", " ") != BASELINE)  # its colour is the one beside the forecasts

    def draw(metric: str, title: str, axes: Any) -> None:
        errors = {name: list(by_step[name][metric]) for name in (model, *baselines)}
        lines = {name: (range(1, len(values) + 1), values) for name, values in errors.items()}
        _compare(axes, lines, title=title, xlabel="steps ahead")
        axes.xaxis.get_major_locator().set_params(integer=True)

    return [partial(draw, "mae", "Mean absolute error"), partial(draw, "mse", "Mean squared error")]


def fold_chart(errors: Mapping[Any, float]) -> Draw:
    """The error of each fold by (model, fold), the model (the first) in front."""
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for (name, fold), error in errors.items():
        folds, values = lines.setdefault(name, ([], []))
        folds.append(fold)
        values.append(error)
    ticks = next(iter(lines.values()))[0]
    return partial(_compare, lines=lines, title="Mean absolute error", xlabel="fold", xticks=ticks)


def _compare(axes: Any, lines: Mapping[str, tuple[Sequence[int], Sequence[float]]], **labels: Any) -> None:
    """Errors by name, the first in front of the others."""
    model, *others = lines
    for name, colour, dash in zip(others, cycle(BASELINES), cycle(DASHES), strict=False):
        line(axes, name.replace("_", " "), *lines[name], colour, dash, 1.6)
    line(axes, model.replace("_", " "), *lines[model], MODEL)
    axes.set_ylim(bottom=0)
    axes.set(**labels)


def coverage_charts(by_step: ByStep) -> list[Draw]:
    """Coverage of the model's intervals by step, each beside its nominal share."""
    model = next(iter(by_step.values()))
    shares = sorted((float(key.split("-")[1]) for key in model if key.startswith("coverage-")), reverse=True)

    def draw(axes: Any) -> None:
        for share, colour in zip(shares, cycle((MODEL, *BASELINES)), strict=False):
            covered = 100 * np.asarray(model[f"coverage-{share:g}"])
            axes.axhline(share, color=colour, ls="--", lw=1.2)
            line(axes, f"{share:g} % interval", range(1, len(covered) + 1), covered, colour)
        axes.set(title="Coverage, %", xlabel="steps ahead")
        axes.xaxis.get_major_locator().set_params(integer=True)

    return [draw] if shares else []


def insight_charts(insights: Insights, lookback: int) -> list[Draw]:
    """Bars by name, longest first, or a line over the rows, 0 the last one seen."""

    def draw(title: str, weights: Mapping[str, float] | Sequence[float], axes: Any) -> None:
        if not isinstance(weights, Mapping):
            line(axes, "weight", range(1 - lookback, 1 - lookback + len(weights)), weights, MODEL, width=1.5)
            axes.set_ylim(bottom=0)
            axes.set(title=title, xlabel="rows from the cutoff")
            return
        largest = dict(sorted(weights.items(), key=lambda item: -abs(item[1]))[:BARS])
        axes.barh(range(len(largest)), largest.values(), color=BASELINES[0], height=0.7)
        axes.set_yticks(range(len(largest)), largest)
        axes.invert_yaxis()
        few = f", the first {BARS} of {len(weights)}" * (len(weights) > BARS)
        axes.set(title=title, xlabel=f"weight{few}")

    return [partial(draw, TITLES.get(name, name.capitalize()), weights) for name, weights in insights.items()]
