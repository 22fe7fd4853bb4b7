"""A search from its first trial to the best configuration, trained in full."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from tsforecast.cluster import tasks
from tsforecast.config.compose import build, options
from tsforecast.config.experiment import experiment
from tsforecast.config.job import Job
from tsforecast.data.folds import Folds
from tsforecast.errors import ConfigError, OutputError, count, one_of
from tsforecast.train import listed
from tsforecast.training.results import check_objective, score_names
from tsforecast.tuning import best
from tsforecast.tuning.space import parsed
from tsforecast.tuning.study import Plan, enough, failures, opened, revive, tally, tools
from tsforecast.tuning.trial import score, work, work_apart

log = logging.getLogger("tsforecast.tuning")


def sweep(config: DictConfig, arguments: Sequence[str]) -> list[float]:
    """Run the trials that a study lacks, then the best configuration in full; returns the best scores.

    Raises
    ------
    ConfigError
        The search cannot begin: before its first trial. Or every trial failed.
    OutputError
        The storage, or the directory, cannot be written.
    """
    HydraConfig.instance().set_config(config)
    configure_log(config.hydra.job_logging, config.hydra.verbose)
    plan = planned(config, arguments)
    study = opened(plan)
    there, total = study.get_trials(deepcopy=False), plan.settings.n_trials
    log.info("study %s: %d of %d trials are there; in %s", study.study_name, tally(there), total, plan.folder)
    with build(config.tracking).run(f"{study.study_name}-tuning", best.facts(plan), out=plan.folder) as run:
        run.follow()
        plan = replace(plan, parent=run.uid, begun=len(there))
        complete(plan, study)
        if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
            first = next(iter(failures(study.trials)), None)
            what, where = "no trial came to a score", f"trial {first.number}" if first else f"study {study.study_name}"
            fix = f"see {plan.folder}/{first.number if first else 0}/train.log; failed trials count towards n_trials"
            raise ConfigError(what, where=where, got=first and first.user_attrs["error"], fix=fix)
        return best.keep(plan, study, run)


def planned(config: DictConfig, arguments: Sequence[str]) -> Plan:
    """The plan, checked by drawing a trial that is not run.

    Raises
    ------
    ConfigError
        A key or option that is not there, a score that no run logs, a sampler that cannot search this space, ...
    """
    settings: Any = OmegaConf.create(OmegaConf.to_container(config.hydra.sweeper, resolve=True))
    if (command := config.hydra.job.config_name) not in ("train", "backtest"):
        raise ConfigError("nothing is searched here", where="+hparams_search", got=command, allowed="train, backtest")
    order = [each for each in arguments if each.startswith(("+experiment=", "+hparams_search="))]
    if order != sorted(order):  # the experiment would take back what the search chose, its model above all
        what = "the later of the two decides the model, and that has to be the search"
        raise ConfigError(what, where="+hparams_search", got=" ".join(order), fix=" ".join(sorted(order)))
    if command == "backtest" and (config.backtest.models or config.backtest.dry_run):
        what, fix = "a trial fits one model on every fold", "model=choice(ridge,nlinear) varies the model"
        raise ConfigError(what, where="backtest.models, backtest.dry_run", allowed="neither", fix=fix)
    for name in ("n_trials", "n_jobs"):
        count(f"hydra.sweeper.{name}", settings[name])
    one_of("hydra.sweeper.executor", settings.executor, ["processes", "ray"])
    fixed, space = parsed(OmegaConf.to_container(settings.params), arguments)  # type: ignore[arg-type]
    names, ways = listed(config.objective), listed(settings.direction)
    for way in ways:
        one_of("hydra.sweeper.direction", way, ["minimize", "maximize"])
    if len(ways) not in (1, len(names)):
        what, allowed = "every objective has a direction", f"one, or {len(names)}"
        raise ConfigError(what, where="hydra.sweeper.direction", got=ways, allowed=allowed)
    aims: dict[str, Any] = {"objectives": tuple(names), "directions": tuple((ways * len(names))[: len(names)])}
    folder = Path(config.hydra.sweep.dir).absolute()
    plan = Plan(settings=settings, fixed=fixed, space=space, folder=folder, command=command, **aims)
    _rehearse(plan)
    return plan


def _rehearse(plan: Plan) -> None:
    """Draw a trial and compose it; every option of a group that is varied is composed once."""
    used = tools(plan.settings)
    if len(plan.objectives) > 1 and not isinstance(used["pruner"], optuna.pruners.NopPruner):
        what, got = "trials are pruned by one objective alone", list(plan.objectives)
        raise ConfigError(what, where="pruner", got=got, fix="pruner=none")
    try:
        drawn = plan.drawn(optuna.create_study(directions=list(plan.directions), **used).ask())
    except (ValueError, ImportError) as error:
        fix = "sampler=tpe takes every space"
        raise ConfigError("the sampler cannot search this space", where="sampler", got=error, fix=fix) from error
    for key, dimension in plan.space.items():
        several = dimension.bounds.get("choices") if options(key.lstrip("+")) else None
        for choice in several or [drawn[key]]:
            cfg, chosen, _ = plan.configured({**drawn, key: choice})
    try:
        task = get_method(plan.settings.task)
    except (ImportError, ValueError) as error:
        what, allowed = "there is no such function", "package.module.function, where Python finds it"
        raise ConfigError(what, where="hydra.sweeper.task", got=plan.settings.task, allowed=allowed) from error
    if task is score:
        _check_scores(plan, experiment(Job(cfg, chosen)).quantiles)
        if plan.command == "backtest":
            Folds.of(cfg.backtest)


def _check_scores(plan: Plan, quantiles: tuple[float, ...]) -> None:
    """Whether every run has these scores, and they compare between trials."""
    part = "val" if plan.command == "train" else "backtest"
    scaler = next((key for key in plan.space if key.startswith("scaler")), None)
    for name in plan.objectives:
        if plan.command == "train" and name.startswith("backtest/"):
            what, allowed = "trials of train score validation rows, not folds", "val/..."
            fix = "python -m tsforecast.backtest -m ... scores each trial on folds"
            raise ConfigError(what, where="objective", got=name, allowed=allowed, fix=fix)
        check_objective(name, quantiles, part)
        if scaler and f"{name}_raw" in score_names(quantiles, part):
            what, got = "scores in scaled units do not compare between scalers", f"{name}, and {scaler} varies"
            raise ConfigError(what, where="objective", got=got, fix=f"objective={name}_raw")


def complete(plan: Plan, study: optuna.Study) -> None:
    """Run trials until the study has them all; those of processes that died are run again."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    while True:
        working, trials = revive(study), study.get_trials(deepcopy=False)
        if not enough(trials, plan) and study.user_attrs.get("exhausted") != len(trials):
            try:
                run_all(plan)
            except KeyboardInterrupt:
                revive(study)
                raise
        elif working:
            time.sleep(0.5)  # others are at work: whoever ends last sees them all
        else:
            return


def run_all(plan: Plan) -> None:
    """In this process with one job, else in as many as are asked for, each at its own pace."""
    if plan.settings.executor == "ray":
        jobs = [(plan, Path.cwd())] * (n := plan.settings.n_jobs)  # a smaller cluster runs fewer at a time
        list(tasks(_task, jobs, n, "hydra.sweeper.executor"))
        return
    if plan.settings.n_jobs == 1:
        work(plan)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads can hang
    workers = [context.Process(target=work_apart, args=(plan,)) for _ in range(plan.settings.n_jobs)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.kill()  # as after any other death, its trial is run again
                worker.join()
    if all(worker.exitcode for worker in workers):
        what, got = "the workers ended before the trials", [worker.exitcode for worker in workers]
        raise OutputError(what, where="hydra.sweeper.n_jobs", got=got, fix="hydra.sweeper.n_jobs=1 shows the error")


def _task(plan: Plan, folder: Path) -> None:
    os.chdir(folder)  # relative paths of the configuration begin there
    work(plan)
