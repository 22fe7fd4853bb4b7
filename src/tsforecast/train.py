"""`python -m tsforecast.train`, and `tsf.train(...)` from Python: fit, score, save, track. Try `--help`."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig

from tsforecast.config.closing import next_steps
from tsforecast.config.command import callable_module, called, command
from tsforecast.config.compose import build
from tsforecast.config.job import Job, follows, show
from tsforecast.files import Place

if TYPE_CHECKING:
    from tsforecast.experiment import Experiment
    from tsforecast.result import Result
    from tsforecast.training.prepare import Prepared


def main(cfg: DictConfig, job: Job | None = None) -> float | list[float] | None:
    """Run one experiment; the scores that `objective` names, for a sweeper; a process that follows another has none."""
    result = carry_out(job or Job.started(cfg))
    scores = [result.metrics[name] for name in listed(cfg.objective) if result.parts]
    return scores if len(scores) > 1 else next(iter(scores), None)


def listed(objective: str | ListConfig) -> list[str]:
    """The names of one objective or of several."""
    return list(objective) if isinstance(objective, ListConfig) else [objective]


def carry_out(job: Job) -> Result:
    """Run the experiment of a job; in a directory, keep, track, draw and publish what it finds."""
    with job.at_work():
        return finished(job, *prepared(job))


def prepared(job: Job) -> tuple[Experiment, Prepared]:
    """The experiment and its data: what is wrong with them is told before a run is opened."""
    from tsforecast.config.experiment import experiment
    from tsforecast.config.recorded import check_unchanged
    from tsforecast.training.results import check_objective

    planned = experiment(job)
    for name in listed(job.cfg.objective):
        check_objective(name, planned.quantiles)
    planned, loaded = planned.reading()
    data = planned.prepare(loaded)
    if job.resumed and job.out:
        check_unchanged(job.out, {**planned.origin, "data": data.record})
    return planned, data


def finished(job: Job, planned: Experiment, data: Prepared) -> Result:
    """Fit and score; whatever goes wrong loses neither the weights nor the scores so far."""
    from tsforecast.bundle.provenance import FILE as PROVENANCE
    from tsforecast.experiment import PARTS, run_experiment
    from tsforecast.result import Keep
    from tsforecast.training.results import write_json

    cfg, out = job.cfg, job.out
    if out is None or follows():
        return run_experiment(planned, out, data=data, parts=() if follows() else PARTS)
    report, tracker, publish = build(cfg.report), build(cfg.tracking), build(cfg.publish)
    tags, name = {key: job.choices[key] for key in ("dataset", "model")}, f"{planned.name}{job.number}"
    bundle, parent = out / "bundle", job.parents.get("run", "")
    # for the tags of the run, and one that is killed has it too
    write_json(out / PROVENANCE, {**planned.origin, "data": data.record})
    with tracker.run(name, planned.config, tags, parent, out=out) as run:
        keep, whole = Keep(run), False
        try:
            result = run_experiment(planned, out, on=keep, data=data)
            whole = True
        finally:
            if (found := keep.result) is not None:
                if whole or not bundle.exists():  # of this run, before it was cut off: it may be the whole one
                    found.save(out, replace=job.resumed)
                run.log_metrics(found.metrics)
                run.log_dataset(**data.loaded.record)
        run.log_bundle(bundle)
        report.write(out / "plots", result.parts["test"], result.fitted.insights)
        results = ("metrics.json", "scores.npz", "forecasts.parquet", "interpretation.json")
        for file in ("plots", "config.yaml", PROVENANCE, *results, "train.log"):
            run.log_artifact(out / file)
    tag = publish(bundle) if publish else None  # after the run is closed: what goes wrong loses nothing
    steps = next_steps(result.bundle, out, data.loaded, planned.split, run.next_step, tag=tag)
    show(f"\n{result.table()}\n\nRun directory  {shlex.quote(os.path.relpath(out))}\n\n{steps}")
    return result


def train(*overrides: str, data: Any = None, out: Place | None = None, **dataset: Any) -> Result:
    """Run one experiment from Python: the composition, the numbers and the errors of the command line.

    Parameters
    ----------
    overrides
        As on the command line: `"model=ridge"`, `"horizon=48"`, `"+experiment=etth1"`.
    data
        A frame in memory instead of a file: pandas, or what has the Arrow C stream interface (Polars, DuckDB, pyarrow).
    out
        A directory for what the command writes: the bundle, scores, plots, a tracked run. None: no file is written.
    dataset
        Keys of `dataset`, for `data`: `time="date"`, `target=["load"]`, `id="shop"` for a long frame.

    Returns
    -------
    Result
        `scores` (a table), `bundle` (which forecasts), `plot()`.

    Raises
    ------
    TsforecastError
        As the command would print it.
    """
    return carry_out(called("train", overrides, data, dataset, out))


callable_module(__name__, train)

if __name__ == "__main__":
    command(main, "train")
