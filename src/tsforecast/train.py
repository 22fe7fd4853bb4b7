"""`python -m tsforecast.train`, and `tsf.train(...)` from Python: fit, score, save, track. Try `--help`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig

from tsforecast.config import job
from tsforecast.config.call import callable_module, called
from tsforecast.config.closing import next_steps
from tsforecast.config.command import command
from tsforecast.config.compose import build
from tsforecast.config.job import follows, free, show
from tsforecast.config.resume import check_unchanged, unfinished

if TYPE_CHECKING:
    from tsforecast.data.sources import Source
    from tsforecast.result import Result


def main(cfg: DictConfig, *, resumed: bool = False) -> float | list[float] | None:
    """Run one experiment; the scores that `objective` names, for a sweeper; a process that follows another has none."""
    out = job.start(cfg, "bundle", "train.log", resumed=resumed)
    with unfinished(out, resumed, cfg.ckpt_path):
        result = carry_out(cfg, job.choices(), out, overrides=job.overrides(), resumed=resumed)
    scores = [result.metrics[name] for name in listed(cfg.objective) if result.parts]
    return scores if len(scores) > 1 else next(iter(scores), None)


def listed(objective: str | ListConfig) -> list[str]:
    """The names of one objective or of several."""
    return list(objective) if isinstance(objective, ListConfig) else [objective]


def carry_out(
    cfg: DictConfig,
    chosen: Mapping[str, str],
    out: Path | None,
    source: Source | None = None,
    overrides: Sequence[str] = (),
    parent: str = "",
    *,
    resumed: bool = False,
    repeats: str = "",
    told: Callable[[Mapping[str, Any]], object] = lambda _: None,
) -> Result:
    """Run the experiment that a configuration describes; with `out`, keep, track, draw and publish what it finds.

    One that is `resumed` goes on from the checkpoint in `out`, if there is one, and replaces a bundle there; `repeats`
    is the run that it repeats. `told` is given its provenance before the fit.
    """
    from tsforecast.bundle.provenance import FILE as PROVENANCE
    from tsforecast.config.experiment import experiment
    from tsforecast.experiment import PARTS, Keep, run_experiment
    from tsforecast.training.results import check_objective, write_json

    number, sweep = job.tracked_as("")
    parents = {key: each for key, each in {"run": parent or sweep, "rerun": repeats}.items() if each}
    planned = experiment(cfg, chosen, source, overrides, parents)
    if resumed and out and (last := out / "checkpoints" / "last.ckpt").is_file():
        planned = replace(planned, ckpt_path=str(last))
    for name in listed(cfg.objective):
        check_objective(name, planned.quantiles)
    data = planned.prepare()  # before a run is opened: what is wrong with the data is told at once
    origin = {**planned.origin, "data": data.record}
    told(origin)
    if resumed and out:
        check_unchanged(out, origin)
    if out is None or follows():
        return run_experiment(planned, out, data=data, parts=() if follows() else PARTS)
    report, tracker, publish = build(cfg.report), build(cfg.tracking), build(cfg.publish)
    tags = {key: chosen[key] for key in ("dataset", "model")}
    name = f"{planned.name}{number}"
    write_json(out / PROVENANCE, origin)  # for the tags of the run, and one that is killed has it too
    with tracker.run(name, planned.config, tags, parents.get("run", ""), out=out) as run:
        keep = Keep(run)
        try:
            result = run_experiment(planned, out, on=keep, data=data)
        finally:  # whatever goes wrong loses neither the weights nor the scores so far
            if (found := keep.result) is not None:
                found.save(out, replace=resumed)
                run.log_metrics(found.metrics)
                run.log_dataset(**data.loaded.record)
        run.log_bundle(out / "bundle")
        report.write(out / "plots", result.parts["test"], result.fitted.insights)
        results = ("metrics.json", "scores.npz", "forecasts.parquet", "interpretation.json")
        for file in ("plots", "config.yaml", PROVENANCE, *results, "train.log"):
            run.log_artifact(out / file)
    tag = publish(out / "bundle") if publish else None  # after the run is closed: what goes wrong loses nothing
    steps = next_steps(result.bundle, out, data.loaded, planned.split, run.next_step, tag=tag)
    show(f"\n{result.table()}\n\nRun directory  {shlex.quote(os.path.relpath(out))}\n\n{steps}")
    return result


def train(*overrides: str, data: Any = None, out: str | os.PathLike[str] | None = None, **dataset: Any) -> Result:
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
    cfg, chosen, source, overrides = called("train", overrides, data, dataset)
    return carry_out(cfg, chosen, None if out is None else free(Path(out), "bundle", "out"), source, overrides)


callable_module(__name__, train)

if __name__ == "__main__":
    command(main, "train")
