"""`python -m tsforecast.backtest`, and `tsf.backtest(...)` from Python: cross-validation over time. Try `--help`."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from tsforecast.config.closing import next_steps
from tsforecast.config.command import callable_module, called, command
from tsforecast.config.compose import build, compose
from tsforecast.config.job import Job, quiet_console, show
from tsforecast.errors import ConfigError
from tsforecast.files import Place

if TYPE_CHECKING:
    from tsforecast.backtesting.backtest import Backtest
    from tsforecast.backtesting.fits import Scored
    from tsforecast.experiment import Experiment
    from tsforecast.tracking.runs import Run

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> float | None:
    """Backtest the models; the pooled score that `objective` names, for a sweeper."""
    found = carry_out(Job.started(cfg))
    return None if found is None else float(found.scores[cfg.objective.partition("/")[2]].iloc[0])


def carry_out(job: Job) -> Backtest | None:
    """Draw the folds, then fit and score; with a directory, keep, track and draw what is found."""
    if job.cfg.backtest.dry_run:
        job = replace(job, out=None)
    with job.at_work("backtest"):
        return _carried_out(job)


def _carried_out(job: Job) -> Backtest | None:
    from tsforecast.backtesting.backtest import backtest, plan
    from tsforecast.bundle.provenance import FILE as PROVENANCE
    from tsforecast.bundle.provenance import tags as about
    from tsforecast.data.folds import Folds, diagram
    from tsforecast.training.results import write_json

    cfg, out = job.cfg, job.out
    folds, dry = Folds.of(cfg.backtest), cfg.backtest.dry_run
    jobs = {name: cfg.backtest[name] for name in ("n_jobs", "executor")}
    planned = _experiments(job, cfg.backtest.models)
    first = next(iter(planned.values()))
    score = _score(cfg.objective, first, len(planned))
    planned, loaded, cutoffs = plan(planned, folds)
    if out is not None or dry:
        title = f"{loaded.name}: {len(cutoffs)} folds, {folds.train or 'all'} train rows, refit {folds.refit}"
        show(diagram(loaded.panel, cutoffs, folds.gap, title))
    if dry:
        return None
    if out is None:
        return backtest(planned, folds, loaded=loaded, **jobs)
    report, tracker = build(cfg.report), build(cfg.tracking)
    name, sweep = f"{first.name} backtest{job.number}", job.parents.get("run", "")
    tags = {"dataset": job.choices["dataset"], "model": ",".join(planned)}
    origin = {**first.origin, "data": loaded.record}
    write_json(out / PROVENANCE, origin)
    with tracker.run(name, first.config, tags, sweep, out=out) as run:
        run.follow()
        total = len(cutoffs) * (len(planned) + len(first.baselines))
        began = time.perf_counter()
        with _kept(out), quiet_console(), _progress(total, cfg.objective) as seen:
            found = backtest(planned, folds, out, loaded=loaded, **jobs, on=seen)
        origin["seconds"] = {"folds": time.perf_counter() - began}
        write_json(out / PROVENANCE, origin)
        kept = None
        if first.refit == "all":
            best = min(planned, key=lambda model: found.scores[score][model])
            kept = found.bundle(best).save(out / "bundle")
            run.log_bundle(out / "bundle")
        found.save(out)
        report.write_folds(out / "plots", found)
        run.log_dataset(**loaded.record)
        run.log_metrics(found.metrics(first.label))
        results = (PROVENANCE, "scores.csv", "folds.csv", "scores.npz", "forecasts.parquet")
        for path in ("plots", "config.yaml", *results, "backtest.log"):
            run.log_artifact(out / path)
        _track(found, tracker, run, name, about(origin) | tags, asdict(folds), out)
    show(f"\n{found.table()}\n\nRun directory  {shlex.quote(os.path.relpath(out))}")
    if kept is not None:
        place, until = shlex.quote(os.path.relpath(out / "bundle")), kept.metadata["chosen_until"]
        show(f"Bundle         {place}, {kept.metadata['name']} on all rows up to {until}")
        show(f"\n{next_steps(kept, out, loaded, first.split, run.next_step)}")
    elif run.next_step:
        show(f"\nNext\n  {run.next_step}")
    return found


def _score(objective: str, first: Experiment, models: int) -> str:
    """The name of the score that judges the models; a ConfigError where there is none, or none to choose one by."""
    from tsforecast.training.results import check_objective

    check_objective(objective, first.quantiles, "backtest")
    score = objective.partition("/")[2]
    if first.refit == "all" and models > 1 and score.startswith(("r2", "coverage", "windows", "mase_skipped")):
        what, allowed = "the bundle is that of the model with the lowest objective", "an error, a loss or a width"
        raise ConfigError(what, where="objective", got=objective, allowed=allowed, fix="objective=backtest/mae")
    return score


def _track(found: Backtest, tracker: Any, run: Run, name: str, tags: dict[str, str], keys: Any, out: Path) -> None:
    """A run within the run for each model; its scores by fold are its steps."""
    for model in found.scored if run.uid else ():
        about = {"model": model, "backtest": keys}
        own = tags | {"model": model}
        with tracker.run(f"{name} {model}", about, own, parent=run.uid, out=out / "folds" / model) as child:
            child.log_metrics(found.metrics(model))
            for each in found.scored[model]:
                scores = {f"fold/{key}": value for key, value in each.scores.summary().items()}
                child.log_metrics(scores, step=each.fold)


def _experiments(job: Job, models: Sequence[str]) -> dict[str, Experiment]:
    """The experiment of each model by its name."""
    from tsforecast.config.experiment import experiment

    if not models:
        return {job.choices["model"]: experiment(job)}
    found = {}
    for model in models:
        asked = [*(each for each in job.overrides if not each.startswith("model=")), f"model={model}"]
        try:
            own, names = compose("backtest", asked)
            own.dataset = job.cfg.dataset
            found[model] = experiment(replace(job, cfg=own, choices=names, overrides=asked))
        except ConfigError as error:
            error.where = f"{error.where or 'the configuration'}, for {model} of backtest.models"
            error.fix = error.fix or "leave out the model, or what is said of model: it is said of all of these"
            raise
    return found


@contextmanager
def _kept(out: Path) -> Iterator[None]:
    """Say how to go on, when a backtest ends early and something is finished."""
    try:
        yield
    except BaseException:
        if done := len([*out.glob("folds/*/*/result.json")]):
            again = f"hydra.run.dir={shlex.quote(os.path.relpath(out))}"
            log.warning("%d finished results are kept: the same command with %s goes on from there", done, again)
        raise


@contextmanager
def _progress(total: int, objective: str) -> Iterator[Any]:
    """A bar of what is done, the best so far and the time left; none where nobody looks at a terminal."""
    from tqdm import tqdm

    score, errors = objective.partition("/")[2], dict[str, list[float]]()
    with tqdm(total=total, unit="fold", disable=None, leave=False) as bar:

        def seen(scored: Scored) -> None:
            errors.setdefault(scored.model, []).append(scored.scores.summary()[score])
            means = {model: sum(each) / len(each) for model, each in errors.items()}
            best = min(means, key=means.__getitem__)
            bar.set_postfix_str(f"best {score} {means[best]:.4g}, {best}")
            bar.update()

        yield seen


def backtest(*overrides: str, data: Any = None, out: Place | None = None, **dataset: Any) -> Backtest | None:
    """Cross-validate over time from Python: the composition, the numbers and the errors of the command line.

    Parameters
    ----------
    overrides
        As on the command line: `"model=ridge"`, `"backtest.windows=8"`, `"backtest.models=[ridge,nlinear]"`.
    data, out, dataset
        As for `tsf.train`.

    Returns
    -------
    Backtest
        `scores` (pooled, with standard errors), `by_fold`, `frame` (all forecasts, with Nixtla's columns), `plot()`.
        None with `"backtest.dry_run=true"`, which prints the folds.

    Raises
    ------
    TsforecastError
        As the command would print it.
    """
    return carry_out(called("backtest", overrides, data, dataset, out))


callable_module(__name__, backtest)

if __name__ == "__main__":
    command(main, "backtest")
