"""What a search leaves: the best configuration as an experiment and as a trained run, the trials as a table."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf

from tsforecast.config.compose import compose
from tsforecast.config.job import log_to, show
from tsforecast.errors import without_password
from tsforecast.files import atomic
from tsforecast.tracking.runs import Run
from tsforecast.train import carry_out
from tsforecast.tuning.study import APART, Plan

log = logging.getLogger("tsforecast.tuning")
SEARCH = ("experiment", "hparams_search", "debug", "local", "sampler", "pruner")  # have left their values in the rest


def facts(plan: Plan) -> dict[str, Any]:
    """What a search is recorded as."""
    space = {key: f"{each.kind} {dict(each.bounds)}" for key, each in plan.space.items()}
    return {"objective": plan.objectives, "direction": plan.directions, "arguments": shlex.join(plan.fixed), **space}


def keep(plan: Plan, study: optuna.Study, run: Run) -> list[float]:
    """Write the table of trials and the best experiment, and train that in full."""
    winner = min(study.best_trials, key=lambda each: _rank(each.values[0], plan.directions[0]))
    found = ", ".join(f"{name} {score:.6g}" for name, score in zip(plan.objectives, winner.values, strict=True))
    cfg, chosen, arguments = plan.configured(winner.params)
    file = plan.folder / f"{study.study_name}.yaml"
    note = f"Trial {winner.number} of study {study.study_name}: {found}"
    text = experiment_file(cfg, chosen, study.study_name, note)
    write(file, text)
    if name := plan.settings.save_as:
        write(Path("conf/experiment") / f"{name}.yaml", text.replace(f"={study.study_name}\n", f"={name}\n"))
    show(f"\nBest of {len(study.trials)} trials: {winner.number}, {found}\n  {file}")
    if plan.settings.refit:
        refit(cfg, chosen, arguments, plan.folder / "best")
    return list(winner.values)


def _rank(score: float, direction: str) -> float:
    return -score if direction == "maximize" else score


def write(file: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with atomic(file) as scratch:
        scratch.write_text(without_password(text), encoding="utf-8")


def refit(cfg: DictConfig, chosen: Mapping[str, str], arguments: list[str], out: Path) -> None:
    """The whole of `train`, with validation and test scores; what an earlier best left is kept beside it."""
    first, file = f"# {shlex.join(arguments)}", out / "config.yaml"
    if (out / "bundle").exists():
        if file.read_text(encoding="utf-8").partition("\n")[0] == first:
            return
        out.rename(next(each for i in range(1, 10**6) if not (each := out.with_name(f"best-{i}")).exists()))
    out.mkdir(parents=True, exist_ok=True)
    log_to(out / "train.log")
    write(file, f"{first}\n{OmegaConf.to_yaml(cfg, resolve=True)}")
    carry_out(cfg, chosen, out, overrides=arguments)


def experiment_file(cfg: DictConfig, chosen: Mapping[str, str], name: str, note: str) -> str:
    """The YAML of an experiment that composes to `cfg`: the options and the values that are not the defaults."""
    base, standard = compose("train", ())
    picked: list[Any] = []
    groups = {key: option for key, option in chosen.items() if key not in (*SEARCH, *APART)}
    for nested in (False, True):  # a group inside a model is there once the model is chosen
        differing = [key for key in groups if ("/" in key) is nested and groups[key] != standard.get(key)]
        picked += [{f"override /{key}": groups[key]} for key in differing]
        overrides = [f"{key[len('override /') :]}={option}" for each in picked for key, option in each.items()]
        base, standard = compose("train", overrides)
    several = [key for key in ("feature",) if _raw(cfg)[key] != _raw(base)[key]]
    for key in several:  # lists of options: their values stand below
        picked.append({f"override /{key}": []})
        base[key] = {}
    body = {"defaults": picked, **_difference(_raw(cfg), _raw(base))}
    body = {key: each for key, each in body.items() if key not in APART}
    return f"# @package _global_\n# python -m tsforecast.train +experiment={name}\n# {note}\n{OmegaConf.to_yaml(body)}"


def _raw(cfg: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(cfg)  # type: ignore[return-value]


def _difference(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, each in mine.items():
        other = theirs.get(key)
        if isinstance(each, Mapping) and isinstance(other, Mapping):
            if inner := _difference(each, other):
                found[key] = inner
        elif each != other or key not in theirs:
            found[key] = each
    return found
