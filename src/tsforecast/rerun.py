"""`python -m tsforecast.rerun RUN`, and `tsf.rerun(...)` from Python: a run once more, and whether it agrees."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.config.command import callable_module, called, command
from tsforecast.config.job import Job, follows, limit_threads, show
from tsforecast.errors import BundleError, DataError
from tsforecast.files import Place

if TYPE_CHECKING:
    import pandas as pd

    from tsforecast.registry import Located
    from tsforecast.result import Result

log = logging.getLogger("tsforecast")


@dataclass(frozen=True, repr=False)
class Rerun:
    """A run beside the one that it repeats.

    Attributes
    ----------
    result
        What it has found.
    differences
        What was not as it was when it began, by name: then and now.
    scores
        Those of validation and test, in columns `then`, `now` and `difference`.
    weights
        The digests of what was learned, then and now.
    """

    result: Result
    differences: Mapping[str, tuple[Any, Any]]
    scores: pd.DataFrame
    weights: tuple[str, str]

    @classmethod
    def of(cls, result: Result, differences: Mapping[str, Any], then: Mapping[str, float], bundle: Path) -> Rerun:
        """Beside the scores of then, and the bundle that was saved."""
        import pandas as pd

        from tsforecast.bundle.directory import weights_digest

        now = result.bundle.metadata["scores"]
        scores = pd.DataFrame({"then": pd.Series(then, dtype=float), "now": pd.Series(now, dtype=float)})
        scores["difference"] = scores["now"] - scores["then"]
        with tempfile.TemporaryDirectory() as folder:
            result.bundle.save(made := Path(folder, "bundle"))
            return cls(result, differences, scores, (weights_digest(bundle), weights_digest(made)))

    @property
    def agrees(self) -> bool:
        """Whether scores and weights are the same, bit for bit."""
        return self.weights[0] == self.weights[1] and self.scores["then"].equals(self.scores["now"])

    def __repr__(self) -> str:
        then, now = (each[:12] for each in self.weights)
        weights = f"the same, bit for bit ({now})" if then == now else f"differ: {then} then, {now} now"
        apart = self.scores[~(self.scores["then"].eq(self.scores["now"]) | self.scores.isna().all(axis=1))]
        scores = f"differ\n{apart.to_string()}" if len(apart) else f"the same, bit for bit ({len(self.scores)} of them)"
        return f"Weights  {weights}\nScores   {scores}"


def main(cfg: DictConfig) -> None:
    """Run it again in a directory of its own; 1 to the shell where it does not agree."""
    found = carry_out(Job.started(cfg))
    if found is not None:
        show(f"\n{found}")
        if not found.agrees:
            raise SystemExit(1)


def carry_out(asked: Job, data: Any = None, **dataset: Any) -> Rerun | None:
    """Find the run, say what differs, repeat it, compare; nothing of a process that follows another."""
    from tsforecast.bundle import directory, provenance
    from tsforecast.config.compose import build
    from tsforecast.config.recorded import differing, recompose
    from tsforecast.data.sources import FrameSource
    from tsforecast.train import finished, prepared

    keys: Any = OmegaConf.to_container(asked.cfg, resolve=True)
    located = _located(keys["run"], keys["tracking"].get("uri"))
    files, _ = directory.read(located.path, ("metadata.json", provenance.FILE))
    about = directory.parse_json(files["metadata.json"], located.path)
    origin = directory.parse_json(files[provenance.FILE], located.path)
    given = {"path": "memory"} if data is not None else {**(keys["dataset"] or {}), **dataset}
    cfg, chosen = recompose(origin, located.path, given, asked.overrides)
    cfg.threads = keys["threads"] or cfg.threads
    limit_threads(cfg.threads)
    source = None if data is None else FrameSource(data, build(cfg.dataset).schema)
    job = Job(cfg, chosen, origin["overrides"], asked.out, source, {"rerun": located.exact}, hydra=asked.hydra)
    with job.at_work():
        try:
            planned, read = prepared(job)
        except DataError as error:
            error.fix = f"if the rows lie elsewhere: +dataset.path=FILE; {error.fix}"
            raise
        differences = differing(origin, {**planned.origin, "data": read.record}, located.exact)
        if not differences:
            log.info("Data, packages, code and host are those of %s", located.exact)
        result = finished(job, planned, read)
    return None if follows() else Rerun.of(result, differences, about.get("scores", {}), located.path)


def _located(run: str, uri: str | None) -> Located:
    from tsforecast.registry import Registry

    inside = Path(run, "bundle")
    if Path(run, "config.yaml").is_file() and not inside.is_dir():
        what = "this run has no bundle, so there is nothing to compare another with"
        fix = f"one that was cut off: python -m tsforecast.train resume={run}; a backtest: its own command again"
        raise BundleError(what, where=run, fix=fix)
    return Registry(uri).resolve(inside if inside.is_dir() else run)


def rerun(run: Place, *overrides: str, data: Any = None, out: Place | None = None, **dataset: Any) -> Rerun:
    """Repeat a run of `train` from what it says of itself, and compare.

    Parameters
    ----------
    run
        A run directory, a bundle, `runs:/<id>`, `models:/load@champion`.
    overrides
        Of `tracking`, `report`, `publish`, `paths`, `name` and `threads`; all else is as it was.
    data
        The frame, of a run that was trained on one in memory.
    out
        A directory for what the command writes; None: no file is written.
    dataset
        Keys of `dataset` that are others now: `path="elsewhere.csv"`.

    Returns
    -------
    Rerun
        `agrees`, `weights`, `scores`, `differences`, `result`.

    Raises
    ------
    TsforecastError
        As the command would print it.
    """
    found = carry_out(called("rerun", [f"run={os.fspath(run)!r}", *overrides], None, {}, out), data, **dataset)
    assert found is not None  # nobody leads a process that calls this
    return found


callable_module(__name__, rerun)

if __name__ == "__main__":
    command(main, "rerun")
