"""What one process does: draw, fit, score, report, until the study has as many trials as it is to have."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from tsforecast.backtesting.fits import Scored
from tsforecast.bundle.provenance import FILE, provenance
from tsforecast.config.compose import build
from tsforecast.config.experiment import experiment, portable_config
from tsforecast.config.job import Job, free, log_to, quiet_console, write_config
from tsforecast.data.folds import Fold, Folds
from tsforecast.data.splits import Borders
from tsforecast.errors import ConfigError
from tsforecast.experiment import Experiment, run_experiment
from tsforecast.result import Result
from tsforecast.tracking.runs import Run
from tsforecast.training.prepare import Prepared
from tsforecast.training.results import write_json
from tsforecast.tuning.study import Plan, enough, reaching, storage, tally, tools

log = logging.getLogger("tsforecast.tuning")
READ = ("dataset", "split", "feature", "scaler", "lookback", "horizon", "season", "quantiles", "calibration")
_prepared: dict[str, Prepared] = {}


@dataclass(frozen=True)
class Listener:
    """Hears of each epoch or booster, records it with the trial, and ends the trial that its pruner gives up."""

    trial: optuna.Trial
    plan: Plan
    run: Run

    def epoch(self, record: Mapping[str, float]) -> None:
        """After an epoch: see `tsforecast.training.fit.Events`."""
        self.run.epoch(record)
        self.step(int(record["epoch"]), record["val/loss"])

    def step(self, step: int, loss: float) -> None:
        """After an epoch, a boosting round or a booster, whose `loss` is to be low whatever the objective is."""
        self.report(step, -loss if self.plan.directions[0] == "maximize" else loss)

    def fold(self, scored: Scored) -> None:
        """After a fold of a backtest: its own score is reported."""
        scores = scored.scores.summary()
        self.run.log_metrics({f"fold/{name}": each for name, each in scores.items()}, step=scored.fold)
        self.report(scored.fold, scores[self.plan.objectives[0].partition("/")[2]])

    def report(self, step: int, score: float) -> None:
        """Record a score on the way, in the direction of the objective.

        Raises
        ------
        optuna.TrialPruned
            The trial is not worth its time.
        """
        if len(self.plan.objectives) == 1:  # Optuna prunes by one alone
            self.trial.report(score, step)
            if self.trial.should_prune():
                raise optuna.TrialPruned(f"at step {step}")

    def update(self, result: Result) -> None:
        """Nothing to do: see `tsforecast.result.Events`."""


def score(cfg: DictConfig, chosen: Mapping[str, str], listener: Any) -> Mapping[str, float]:
    """Fit, and score the validation rows alone, or with the keys of `backtest` the folds; nothing is written."""
    if "enable_progress_bar" in cfg.trainer:
        cfg.trainer.enable_progress_bar = False
    planned = experiment(Job(cfg, chosen))
    if "backtest" in cfg:
        return _backtested(planned, cfg.backtest, listener)
    return run_experiment(planned, parts=("val",), on=listener, data=_data(planned)).metrics


def _backtested(planned: Experiment, keys: Any, listener: Any) -> Mapping[str, float]:
    """The scores over folds of the train and the validation rows, as though the test rows were yet to come."""
    from tsforecast.backtesting.backtest import backtest

    planned, loaded = planned.reading()
    panel, borders = planned.split(loaded.panel, planned.least, planned.horizon).kept(loaded.panel)
    known = panel.rows(borders.begin, borders.val_end)
    first, end = known.offsets[:-1], known.offsets[1:]
    until = Borders(first, end - (borders.val_end - borders.train_end), end, end)  # as many rows validate
    split = Fold(0, 0, until, short=planned.split.short)
    trial = {planned.label: replace(planned, split=split, baselines={})}
    jobs = {name: keys[name] for name in ("n_jobs", "executor")}
    found = backtest(trial, Folds.of(keys), loaded=replace(loaded, panel=known), **jobs, on=listener.fold)
    return found.metrics(planned.label)


def _data(planned: Experiment) -> Prepared:
    """What the trial before read, where this one reads the same."""
    model = planned.learned, planned.model.trains  # of it, what the rows that are read and windows depend on
    key = json.dumps([[planned.config[name] for name in READ], planned.stride, *model], default=str)
    data = planned.prepare(like=_prepared.get(key))
    _prepared.clear()  # a panel can be large: one is kept
    _prepared[key] = data
    return data


class Objective:
    """What Optuna calls for each trial, and after it."""

    def __init__(self, plan: Plan, study: optuna.Study) -> None:
        self.plan, self.study, self.enough, self.total = plan, study, False, plan.settings.n_trials

    def __call__(self, trial: optuna.Trial) -> tuple[float, ...]:
        """Run one trial in its folder.

        Raises
        ------
        optuna.TrialPruned
            The pruner ended it.
        TsforecastError
            It failed; the first words of the error are kept with the trial.
        """
        earlier = self.study.get_trials(deepcopy=False)[: trial.number]
        if tally(earlier, TrialState.RUNNING, TrialState.WAITING) >= self.total:
            raise optuna.exceptions.OptunaError("the study has all its trials")  # another process drew the last one
        out = self.plan.folder / str(trial.number)
        with quiet_console():
            try:
                free(out, "config.yaml", "hydra.sweep.dir").mkdir(parents=True, exist_ok=True)
                log_to(out / "train.log")
                trial.set_user_attr("place", f"{socket.gethostname()}:{out}")
                return self._scored(trial, out)
            except Exception as error:
                if not isinstance(error, optuna.TrialPruned):
                    trial.set_user_attr("error", str(error)[:2000])
                    log.info("the trial failed", exc_info=True)
                raise

    def _scored(self, trial: optuna.Trial, out: Path) -> tuple[float, ...]:
        cfg, chosen, arguments = self.plan.configured(drawn := self.plan.drawn(trial))
        write_config(out / "config.yaml", cfg, arguments)
        parents = {"run": self.plan.parent} if self.plan.parent else {}
        write_json(out / FILE, provenance(portable_config(cfg), arguments, chosen, parents))
        tags = {"tuning.study": self.study.study_name, "tuning.trial": trial.number}
        name, scores = f"{self.study.study_name}-trial-{trial.number}", None
        tracked = build(cfg.tracking).run(name, drawn, tags, parent=self.plan.parent, out=out)
        with tracked as run, suppress(optuna.TrialPruned):  # which is no failure of the run
            scores = get_method(self.plan.settings.task)(cfg, chosen, Listener(trial, self.plan, run))
            run.log_metrics(scores)
            write_json(out / "metrics.json", scores)
        if scores is None:
            raise optuna.TrialPruned
        for name in self.plan.objectives:
            if not math.isfinite(scores.get(name, math.nan)):
                what, got = "a trial has no such score", scores.get(name, "none")
                raise ConfigError(what, where=f"objective {name}", got=got, allowed=", ".join(scores))
        return tuple(float(scores[name]) for name in self.plan.objectives)

    def finished(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Say how the trial ended, and stop when there are enough."""
        trials = study.get_trials(deepcopy=False)
        self.enough = enough(trials, self.plan)
        if self.enough:
            study.stop()
        if trial.state == TrialState.COMPLETE:
            ended = ", ".join(f"{n} {v:.6g}" for n, v in zip(self.plan.objectives, trial.values, strict=True))
        elif trial.state == TrialState.PRUNED:
            ended = f"pruned after step {trial.last_step}"
        elif "error" in trial.user_attrs:
            ended = "failed: " + trial.user_attrs["error"].partition("\n")[0]
        else:
            return  # not needed
        drawn = " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items())
        log.info("trial %d (%d of %d): %s  %s", trial.number, tally(trials), self.total, ended, drawn)


def work(plan: Plan) -> None:
    """Run trials until the study has all of them, or its sampler has no other."""
    if not HydraConfig.initialized():  # in a process of its own, which is one of a sweep
        logging.basicConfig(format="%(message)s", level=logging.INFO)
        HydraConfig.instance().cfg = OmegaConf.create({"hydra": {"mode": RunMode.MULTIRUN}})
    _prepared.clear()  # of another search, whose files may have changed since
    used = tools(plan.settings)
    with reaching(address := plan.settings.storage):
        study = optuna.load_study(study_name=plan.settings.study, storage=storage(address), **used)
        objective = Objective(plan, study)
        try:
            study.optimize(objective, callbacks=[objective.finished], catch=(Exception,))
        except (AssertionError, UnboundLocalError) as error:  # Optuna's own, of a trial that could not be written
            behind = error.__context__ or error
            raise behind from behind.__cause__
    if not objective.enough:
        study.set_user_attr("exhausted", len(study.trials))


def work_apart(plan: Plan) -> None:
    """`work` in a process of its own, which ends with the one that started it."""
    from multiprocessing import parent_process

    def follow() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the one that started this ends it
    work(plan)
