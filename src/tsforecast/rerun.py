"""`python -m tsforecast.rerun RUN`, and `tsf.rerun(...)` from Python: a run once more, and whether it agrees."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.config import job
from tsforecast.config.call import callable_module, called
from tsforecast.config.command import command
from tsforecast.config.job import follows, free, limit_threads, show
from tsforecast.errors import BundleError, DataError

if TYPE_CHECKING:
    import pandas as pd

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
    keys: Any = OmegaConf.to_container(cfg, resolve=True)
    found = carry_out(cfg.run, keys, job.overrides(), lambda train: job.start(train, "bundle", "train.log"))
    if found is not None:
        show(f"\n{found}")
        if not found.agrees:
            raise SystemExit(1)


def carry_out(
    run: str | os.PathLike[str],
    keys: Mapping[str, Any],
    overrides: Sequence[str],
    place: Callable[[DictConfig], Path | None],
    data: Any = None,
) -> Rerun | None:
    """Find the run, say what differs, repeat it, compare; nothing of a process that follows another."""
    import pandas as pd

    from tsforecast.bundle import directory, provenance
    from tsforecast.config.compose import build
    from tsforecast.config.recorded import recompose
    from tsforecast.data.sources import FrameSource
    from tsforecast.registry import Registry
    from tsforecast.train import carry_out as trained

    inside = Path(run, "bundle")
    if Path(run, "config.yaml").is_file() and not inside.is_dir():
        what = "this run has no bundle, so there is nothing to compare another with"
        fix = f"one that was cut off: python -m tsforecast.train resume={run}; a backtest: its own command again"
        raise BundleError(what, where=run, fix=fix)
    located = Registry(keys["tracking"].get("uri")).resolve(inside if inside.is_dir() else run)
    files, _ = directory.read(located.path, ("metadata.json", provenance.FILE))
    about = directory.parse_json(files["metadata.json"], located.path)
    origin = directory.parse_json(files[provenance.FILE], located.path)
    given = {"path": "memory"} if data is not None else keys.get("dataset") or {}
    cfg, chosen = recompose(origin, located.path, given, overrides)
    if keys.get("threads"):
        cfg.threads = keys["threads"]
    limit_threads(cfg.threads)
    source = None if data is None else FrameSource(data, build(cfg.dataset).schema)
    differences: dict[str, tuple[Any, Any]] | None = None

    def tell(now: Mapping[str, Any]) -> None:
        nonlocal differences
        differences = provenance.differences(origin, now)
        lines = [f"\n  {name}: {then} -> {now}" for name, (then, now) in differences.items()]
        if lines:
            log.warning("What is not as it was for %s: scores and weights may differ.%s", located.exact, "".join(lines))
        else:
            log.info("Data, packages, code and host are those of %s", located.exact)

    out = place(cfg)
    try:
        result = trained(cfg, chosen, out, source, origin["overrides"], repeats=located.exact, told=tell)
    except DataError as error:
        if differences is None:  # it was not read
            error.fix = f"if the rows lie elsewhere: +dataset.path=FILE; {error.fix}"
        raise
    if differences is None or follows():
        return None
    then, now = about.get("scores", {}), result.bundle.metadata["scores"]
    scores = pd.DataFrame({"then": pd.Series(then, dtype=float), "now": pd.Series(now, dtype=float)})
    scores["difference"] = scores["now"] - scores["then"]
    with tempfile.TemporaryDirectory() as folder:
        made = result.bundle.save(Path(folder, "bundle")).path if out is None else out / "bundle"
        digests = directory.weights_digest(located.path), directory.weights_digest(Path(str(made)))
    return Rerun(result, differences, scores, digests)


def rerun(
    run: str | os.PathLike[str],
    *overrides: str,
    data: Any = None,
    out: str | os.PathLike[str] | None = None,
    **dataset: Any,
) -> Rerun:
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
    cfg, *_ = called("rerun", [f"run={os.fspath(run)!r}", *overrides], None, {})
    keys: Any = OmegaConf.to_container(cfg, resolve=True)
    keys["dataset"] = {**(keys["dataset"] or {}), **dataset}
    place = None if out is None else free(Path(out), "bundle", "out")
    found = carry_out(run, keys, overrides, lambda _: place, data)
    assert found is not None  # nobody leads a process that calls this
    return found


callable_module(__name__, rerun)

if __name__ == "__main__":
    command(main, "rerun")
