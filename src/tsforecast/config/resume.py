"""A run that was cut off, named by its directory: what it was asked for is read there, nothing is composed again."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf, open_dict

from tsforecast.config.job import SWEEP, follows
from tsforecast.errors import ConfigError, DataError, OutputError

log = logging.getLogger("tsforecast")
MARK = ".unfinished"  # in the directory of a run, from its beginning until it has ended well
SCRAP = re.compile(r"\.(bundle-\w+|[a-z]+-\d+\.[a-z]+)")  # as `bundle.directory` and `files.atomic` name theirs
HOW = "python -m tsforecast.train resume={}"


def asked(arguments: Sequence[str]) -> Path | None:
    """The directory that `resume=` names.

    Raises
    ------
    ConfigError
        Something else is asked for too. What Lightning adds for further processes is not.
    """
    runs = [each.partition("=")[2] for each in arguments if each.startswith("resume=")]
    if not runs:
        return None
    more = [each for each in arguments if not each.startswith(("resume=", *["hydra."] * follows()))]
    if more or len(runs) > 1:
        what, fix = "a run goes on with what it was asked for", "to change it: ckpt_path=RUN/checkpoints/last.ckpt"
        raise ConfigError(what, where="resume", got=more or runs, allowed="resume=RUN alone", fix=fix)
    return Path(runs[0]).resolve()


def recorded(run: Path) -> DictConfig:
    """The configuration of a run of `train`, as it was composed, and Hydra's own for this process.

    Raises
    ------
    ConfigError
        It is no run of `train`, or was started in another working directory.
    """
    place = run / ".hydra"
    if not (place / "hydra.yaml").is_file():
        above = next((each for each in run.parents if (each / ".hydra" / "hydra.yaml").is_file()), None)
        what, allowed = "there is no run to go on with", "the directory of a run, such as outputs/..., with its .hydra/"
        fix = f"resume={above}" if above else "what was ended before it had written .hydra/ is to be started again"
        raise ConfigError(what, where="resume", got=run, allowed=allowed, fix=fix)
    base = OmegaConf.create({"hydra": HydraConf})
    OmegaConf.set_struct(base.hydra, False)  # which has groups of its own
    whole: Any = OmegaConf.merge(base, *(OmegaConf.load(place / f"{name}.yaml") for name in ("hydra", "config")))
    known = whole.hydra
    command, here = known.job.config_name, Path(known.runtime.cwd)
    if command != "train":
        what, again = f"this is a run of {command}", shlex.join([*known.overrides.task, f"hydra.run.dir={run}"])
        raise ConfigError(what, where="resume", got=run, fix=f"python -m tsforecast.{command} {again}")
    if here != Path.cwd() and here.is_dir():  # relative paths, and the tracking database, are there
        what, fix = "this run was started in another directory", f"cd {here} && {HOW.format(shlex.quote(str(run)))}"
        raise ConfigError(what, where="resume", got=Path.cwd(), allowed=here, fix=fix)
    with open_dict(known):
        known.run.dir = known.runtime.output_dir = str(run)
    HydraConfig.instance().set_config(whole)
    configure_log(known.job_logging, known.verbose)
    os.environ.update(known.job.env_set)
    if (made := run / "provenance.json").is_file():  # in a sweep the run that this one is part of
        os.environ[SWEEP] = json.loads(made.read_text(encoding="utf-8"))["parents"].get("run", "")
    cfg: DictConfig = whole.copy()
    del cfg["hydra"]
    return cfg


def check_unchanged(run: Path, now: Mapping[str, Any]) -> None:
    """Say what is not as it was when the run began, by the provenance of then and of now.

    Raises
    ------
    DataError
        The data is not: weights that were learned from one would go on with the other.
    """
    from tsforecast.bundle import provenance

    if not (made := run / provenance.FILE).is_file():  # it was ended before
        return
    changed = provenance.differences(json.loads(made.read_text(encoding="utf-8")), now)
    if then_and_now := changed.pop("data", None):
        (then, other), fix = (f"sha256 {each}..." for each in then_and_now), "bring back the rows, or start a run anew"
        raise DataError("the data is not that of this run", where="resume", got=other, allowed=then, fix=fix)
    if changed:
        lines = [f"\n  {name}: {then} -> {now}" for name, (then, now) in changed.items()]
        log.warning("What is not as it was when this run began: its weights may differ.%s", "".join(lines))


@contextmanager
def unfinished(out: Path, resumed: bool, ckpt_path: str | None = None) -> Iterator[None]:
    """Around a run, whose directory is locked: marked until it has ended well; what ends it early says how to go on.

    Raises
    ------
    OutputError
        It is `resumed` and has ended well.
    """
    if follows():
        yield
        return
    mark, bundle, kept = out / MARK, out / "bundle", out / "checkpoints"
    if resumed and bundle.exists() and not mark.exists():
        fix = f"its scores are in {out / 'metrics.json'}, its bundle is {bundle}"
        raise OutputError("this run has ended well: there is nothing left to do", where="resume", got=out, fix=fix)
    anew = not resumed and not (ckpt_path and Path(ckpt_path).resolve().is_relative_to(out))
    stale = [*kept.glob("last.ckpt")] * anew  # of another run, which `resume=` is not to take for this one's
    if mark.exists():  # half-written by the process that was killed; what else is here is not ours
        stale += [each for folder in (out, kept) for each in folder.glob(".*-*") if SCRAP.fullmatch(each.name)]
    for each in stale:
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    mark.touch()
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or bundle.exists() or (kept / "last.ckpt").exists():
            log.warning("To go on from here: %s", HOW.format(shlex.quote(os.path.relpath(out))))
        raise
    mark.unlink()
