"""A search drawn: how the best score fell, what mattered, and the score over each key of the space."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import optuna

from tsforecast.plotting import INK, MODEL, MUTED, draw, png
from tsforecast.tuning.study import Plan, Trials


def pictures(study: optuna.Study, plan: Plan) -> dict[str, bytes]:
    """`history`, `slices`, with two trials and more `importance`, with several objectives `pareto`: as PNG."""
    title, first, several = study.study_name, plan.objectives[0], range(len(plan.objectives))
    trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    columns = next(columns for columns in (3, 2, 1) if len(plan.space) % columns == 0)
    slices = [partial(_slice, trials, plan, key) for key in plan.space]
    figures = {
        "history": draw([partial(_history, trials, plan, i) for i in several], title, "By trial, and the best so far"),
        "slices": draw(slices, title, f"{first} over what was drawn", columns=columns),
    }
    if len(trials) > 1:
        bars = [partial(_importance, study, plan, i) for i in several]
        figures["importance"] = draw(bars, title, "What the better trials have in common (PED-ANOVA)", height=2.4)
    if len(several) > 1:
        pairs = [partial(_pareto, trials, study.best_trials, plan, i) for i in several[1:]]
        figures["pareto"] = draw(pairs, title, "Trials, and those that no other one betters in all", height=3.4)
    return {name: png(figure) for name, figure in figures.items()}


def _history(trials: Trials, plan: Plan, i: int, axes: Any) -> None:
    numbers, scores = [each.number for each in trials], [each.values[i] for each in trials]
    best = np.minimum if plan.directions[i] == "minimize" else np.maximum
    axes.plot(numbers, scores, "o", color=MUTED, ms=4, label="trial")
    axes.plot(numbers, best.accumulate(scores), color=MODEL, lw=2, drawstyle="steps-post", label="best so far")
    axes.set_title(plan.objectives[i])
    axes.xaxis.get_major_locator().set_params(integer=True)


def _slice(trials: Trials, plan: Plan, key: str, axes: Any) -> None:
    drawn, dimension = [each.params[key] for each in trials], plan.space[key]
    if choices := dimension.bounds.get("choices"):
        drawn = [choices.index(each) for each in drawn]
        axes.set_xticks(range(len(choices)), choices)
    axes.plot(drawn, [each.values[0] for each in trials], "o", color=INK, ms=4)
    if dimension.bounds.get("log"):
        axes.set_xscale("log")
        axes.minorticks_off()
        ticks = np.geomspace(dimension.bounds["low"], dimension.bounds["high"], 4)
        axes.set_xticks(ticks, [f"{each:.2g}" for each in ticks])
    axes.set_title(key)


def _importance(study: optuna.Study, plan: Plan, i: int, axes: Any) -> None:
    sign = 1 if plan.directions[i] == "minimize" else -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that low values are taken for better, as they are, and that trials are few
        found = optuna.importance.get_param_importances(study, target=lambda trial: sign * trial.values[i])
    axes.barh(list(found)[::-1], list(found.values())[::-1], color=MODEL, height=0.6)
    axes.set_title(plan.objectives[i])


def _pareto(trials: Trials, front: Trials, plan: Plan, i: int, axes: Any) -> None:
    for label, group, colour in (("trial", trials, MUTED), ("front", front, MODEL)):
        x, y = ([each.values[column] for each in group] for column in (0, i))
        axes.plot(x, y, "o", color=colour, label=label)
    axes.set_xlabel(plan.objectives[0])
    axes.set_title(plan.objectives[i])
