"""`python -m tsforecast.promote model=NAME`, and `tsf.promote(...)`: a candidate becomes champion. Try `--help`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from tsforecast.config.closing import model, serving
from tsforecast.config.command import callable_module, called, command
from tsforecast.config.compose import build, build_or_trained
from tsforecast.config.job import Job, show
from tsforecast.errors import ConfigError, count, one_of

if TYPE_CHECKING:
    from tsforecast.bundle.bundle import Bundle
    from tsforecast.promotion.comparison import Comparison
    from tsforecast.promotion.decision import Decision


def main(cfg: DictConfig) -> None:
    """Decide, show why, and end with an error where it is refused."""
    decision = _decided(cfg, Job.started(cfg).overrides)
    show(str(decision))
    if not decision.done:
        raise decision.refusal
    alias = decision.record["alias"]
    back = f"python -m tsforecast.promote rollback {model(cfg.name)}"
    back += f" to={alias}" * (alias != "champion")
    steps = [serving(shlex.quote(f"models:/{cfg.name}@{alias}")), back if decision.versions[1] else None]
    show("\n  ".join(["\nNext", *filter(None, steps)]))


def promote(*words: str, data: Any = None, **dataset: Any) -> Decision:
    """Compare a candidate with the champion on the same windows; if the gate lets it through it takes the place.

    Parameters
    ----------
    words
        Overrides of the command line: `"model=load"`, `"gate=strict"`, `"from=4"`; `"action=rollback"`.
    data
        A frame in memory to compare on; None: the data that the candidate was trained on.
    dataset
        Keys of `dataset` that say what the columns of the frame are; none: each bundle reads those that it was
        trained on.

    Returns
    -------
    Decision
        `done`, `record`, and `refusal`, the error that the command ends with where it is not done.

    Raises
    ------
    TsforecastError
        There is nothing to decide: no such model, version or data.
    """
    job = called("promote", words, data, dataset)
    stated = dataset or any("dataset" in word.partition("=")[0] for word in words)
    return _decided(job.cfg, job.overrides, job.source, trained=not stated)


def _decided(cfg: DictConfig, asked: Sequence[str], source: Any = None, *, trained: bool = False) -> Decision:
    one_of("action", cfg.action, ("promote", "rollback"))
    one_of("part", cfg.part, ("train", "val", "test"))
    count("stride", cfg.stride)
    if cfg.force and not cfg.reason:
        raise ConfigError("what is forced needs a reason, which stays beside the version", fix="--force reason='...'")
    from tsforecast.promotion.comparison import compared
    from tsforecast.promotion.pointing import Pointing
    from tsforecast.registry import Registry, meant

    to = meant("to", cfg.to) or "champion"
    command = f"python -m tsforecast.promote {shlex.join(asked)}"
    alias = Pointing(Registry(cfg.uri), cfg.name, to, Path(cfg.out), command, cfg.reason)
    if cfg.action == "rollback":
        return alias.rollback()

    def compare(candidate: Bundle, champion: Bundle | None) -> Comparison:
        own = replace(source, schema=candidate.schema) if source and trained else source
        rows, split = own or build_or_trained(cfg, "dataset", candidate), build_or_trained(cfg, "split", candidate)
        return compared(candidate, champion, rows, split, part=cfg.part, stride=cfg.stride)

    return alias.promote(str(cfg["from"]), build(cfg.gate), compare, force=cfg.force)


callable_module(__name__, promote)

if __name__ == "__main__":
    command(main, "promote")
