"""What a search leaves: the best configuration as an experiment and as a run, the trials as a table and as pictures."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from omegaconf import DictConfig, OmegaConf, open_dict

from tsforecast import files
from tsforecast.config.job import Job, show, write
from tsforecast.plotting import INK, MODEL, MUTED, draw, png
from tsforecast.tracking.runs import Run
from tsforecast.train import carry_out
from tsforecast.tuning.study import APART, Plan, Trials, composed

log = logging.getLogger("tsforecast.tuning")
SEARCH = ("experiment", "hparams_search", "debug", "local", "sampler", "pruner")  # have left their values in the rest


def facts(plan: Plan) -> dict[str, Any]:
    """What a search is recorded as."""
    space = {key: f"{each.kind} {dict(each.bounds)}" for key, each in plan.space.items()}
    return {"objective": plan.objectives, "direction": plan.directions, "arguments": shlex.join(plan.fixed), **space}


def keep(plan: Plan, study: optuna.Study, run: Run) -> list[float]:
    """Write the tables, the plots and the best experiment, and train that in full.

    With several objectives the best is the one of the front with the best first score.
    """
    front = sorted(study.best_trials, key=lambda each: each.values[0], reverse=plan.directions[0] == "maximize")
    winner = front[0]
    found = ", ".join(f"{name} {score:.6g}" for name, score in zip(plan.objectives, winner.values, strict=True))
    cfg, chosen, arguments = plan.configured({key: winner.params[key] for key in plan.space})
    if plan.command == "backtest":  # what it found is trained as any other experiment
        with open_dict(cfg):
            del cfg["backtest"]
        cfg.objective = plan.objectives[0].replace("backtest/", "val/")
    name, file = study.study_name, plan.folder / f"{study.study_name}.yaml"
    content = experiment_file(cfg, chosen, name, f"Trial {winner.number} of study {name}: {found}")
    write(file, content)
    if named := plan.settings.save_as:
        write(Path("conf/experiment") / f"{named}.yaml", content.replace(f"+experiment={name}", f"+experiment={named}"))
    trials = [each for each in study.get_trials(deepcopy=False) if each.params]  # else not begun: there were enough
    table(plan, trials, plan.folder / "trials.csv")
    if len(plan.objectives) > 1:
        table(plan, front, plan.folder / "pareto.csv")
    drawn = {} if chosen["report"] == "none" else pictures(study, plan)
    for figure, picture in drawn.items():
        files.write(plan.folder / "plots" / f"{figure}.png", picture)
    run.log_metrics({f"best/{name}": score for name, score in zip(plan.objectives, winner.values, strict=True)})
    for each in (file, plan.folder / "trials.csv", *[plan.folder / "plots"] * bool(drawn)):
        run.log_artifact(each)
    show(f"\nBest of {len(trials)} trials: {winner.number}, {found}\n  {file}")
    if plan.settings.refit:
        refit(cfg, chosen, arguments, plan)
    return list(winner.values)


def table(plan: Plan, trials: Sequence[optuna.trial.FrozenTrial], file: Path) -> None:
    """A row for each trial: its number, how it ended, its scores and what it drew."""
    scores = [dict(zip(plan.objectives, each.values or (), strict=False)) for each in trials]
    rows = [{"trial": t.number, "state": t.state.name, **s, **t.params} for t, s in zip(trials, scores, strict=True)]
    write(file, pd.DataFrame(rows).to_csv(index=False))


def refit(cfg: DictConfig, chosen: Mapping[str, str], arguments: list[str], plan: Plan) -> None:
    """The whole of `train`, with validation and test scores; what an earlier best left is kept beside it."""
    out = plan.folder / "best"
    if (out / "bundle").exists():
        if (out / "config.yaml").read_text(encoding="utf-8").startswith(f"# {shlex.join(arguments)}\n"):
            return
        out.rename(next(each for i in range(1, 10**6) if not (each := out.with_name(f"best-{i}")).exists()))
    # MLflow's experiment stays that of the search, also where it is called as the run: this one has a name of its own.
    cfg.tracking = OmegaConf.to_container(cfg.tracking, resolve=True)
    cfg.name = cfg.name or f"{plan.settings.study}-best"
    try:
        carry_out(Job(cfg, chosen, arguments, out, parents={"run": plan.parent} if plan.parent else {}))
    except files.BusyError:
        log.info("another process of this search trains the best one, in %s", out)


def experiment_file(cfg: DictConfig, chosen: Mapping[str, str], name: str, note: str) -> str:
    """The YAML of an experiment that composes to `cfg`: the options and the values that are not the defaults."""
    base, standard = composed("train")
    groups = {key: option for key, option in chosen.items() if key not in (*SEARCH, *APART)}
    picked: dict[str, Any] = {key: option for key, option in groups.items() if option != standard.get(key)}
    if cfg.feature != base.feature:  # a list of options: their values stand below
        picked["feature"] = []
    base, _ = composed("train", *(f"{key}={option}" for key, option in picked.items()))
    defaults = [{f"override /{key}": option} for key, option in picked.items()]
    values = difference(OmegaConf.to_container(cfg), OmegaConf.to_container(base))
    body = {"defaults": defaults, **{key: each for key, each in values.items() if key not in APART}}
    return f"# @package _global_\n# python -m tsforecast.train +experiment={name}\n# {note}\n{OmegaConf.to_yaml(body)}"


def difference(mine: Any, base: Any) -> Any:
    """The part of a tree of keys that is to be laid over `base` to have it all."""
    if not (isinstance(mine, dict) and isinstance(base, dict)):
        return mine
    others = [key for key in mine if key not in base or mine[key] != base[key]]
    return {key: difference(mine[key], base.get(key)) for key in others}


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
