"""From what a run says of itself to a job that may be done here: a record is data, and not trusted."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf, open_dict

from tsforecast.bundle import directory
from tsforecast.bundle.provenance import FILE, PLACES, differences
from tsforecast.config.compose import check_keys, compose, composing, folders
from tsforecast.config.job import HOW, MARK, Job, ended, follows
from tsforecast.errors import BundleError, ConfigError, DataError
from tsforecast.training.prepare import stated

log = logging.getLogger("tsforecast")
LOCAL = ("tracking", "report", "publish", "paths", "name")  # as they are here, whatever a record says of them
_WRITES = ("logger", "default_root_dir", "profiler")  # of a trainer: files, at a place that a record may not choose
_LOOKED_UP = re.compile(r"\$\{[^}]*\}?")


def asked(arguments: Sequence[str], *more: str) -> Path | None:
    """The directory that `resume=` names.

    Raises
    ------
    ConfigError
        Something else is asked for too, here or as `more`. What Lightning adds for further processes is not.
    """
    runs = [each.partition("=")[2] for each in arguments if each.startswith("resume=")]
    if not runs:
        return None
    more = (*[each for each in arguments if not each.startswith(("resume=", *["hydra."] * follows()))], *more)
    if more or len(runs) > 1:
        what, fix = "a run goes on with what it was asked for", "to change it: ckpt_path=RUN/checkpoints/last.ckpt"
        raise ConfigError(what, where="resume", got=more or runs, allowed="resume=RUN alone", fix=fix)
    return Path(runs[0]).resolve()


def going_on(run: Path) -> Job:
    """The run of `train` that was cut off in this directory: nothing is composed again.

    Raises
    ------
    TsforecastError
        There is none, it was started in another working directory, or names what it may not.
    """
    if not (mark := run / MARK).is_file():
        raise _no_run(run)
    about = directory.parse_json(content := mark.read_bytes(), mark)
    if (here := Path(about["cwd"])) != Path.cwd() and here.is_dir():  # relative paths, and the tracking database
        what, fix = "this run was started in another directory", f"cd {here} && {HOW.format(shlex.quote(str(run)))}"
        raise ConfigError(what, where="resume", got=Path.cwd(), allowed=here, fix=fix)
    own = re.findall(r"\$\{[\w.]+\}", content.decode())  # keys of itself
    _check(about["config"], MARK, {*own, *(each for text in _texts() for each in _LOOKED_UP.findall(text))})
    cfg = OmegaConf.create(about["config"], flags={"struct": True})
    return Job(cfg, about["choices"], about["overrides"], run, None, about["parents"], about["number"], resumed=True)


def _no_run(run: Path) -> Exception:
    """Why nothing goes on in this directory."""
    if (known := run / ".hydra" / "hydra.yaml").is_file():
        own = OmegaConf.load(known).hydra
        if (command := own.job.config_name) != "train" and command != "rerun":
            what, again = f"this is a run of {command}", shlex.join([*own.overrides.task, f"hydra.run.dir={run}"])
            return ConfigError(what, where="resume", got=run, fix=f"python -m tsforecast.{command} {again}")
    if (run / "bundle").exists():
        return ended(run)
    above = next((each for each in run.parents if (each / ".hydra").is_dir()), None)
    what, allowed = "there is no run to go on with", f"the directory of a run that was cut off, with its {MARK}"
    fix = f"resume={above}" if above else f"what was ended before it had written {MARK} is to be started again"
    return ConfigError(what, where="resume", got=run, allowed=allowed, fix=fix)


def introduce(job: Job) -> None:
    """Let Hydra know a job that it has not started: the log as it is here, and what the configuration may look up."""
    with composing() as composed:
        whole = composed("train", ())
    own = whole.hydra
    with open_dict(own):
        own.runtime.choices.update(job.choices)
        own.runtime.output_dir, own.overrides.task = str(job.out), [*job.overrides]
    HydraConfig.instance().set_config(whole)
    configure_log(own.job_logging, own.verbose)
    os.environ.update(own.job.env_set)


def differing(then: Mapping[str, Any], now: Mapping[str, Any], run: str | Path) -> dict[str, tuple[str, str]]:
    """What is not as it was for a run, by the provenance of then and of now; it is told before a fit."""
    found = differences(then, now)
    lines = [f"\n  {name}: {before} -> {here}" for name, (before, here) in found.items()]
    if lines:
        log.warning("What is not as it was for %s: scores and weights may differ.%s", run, "".join(lines))
    return found


def check_unchanged(run: Path, now: Mapping[str, Any]) -> None:
    """Say what is not as it was when the run began that is to go on.

    Raises
    ------
    DataError
        The data is not: weights that were learned from one would go on with the other.
    """
    if not (made := run / FILE).is_file():  # it was ended before
        return
    changed = differing(directory.parse_json(made.read_bytes(), made), now, run.name)
    if data := changed.get("data"):
        (then, other), fix = (f"sha256 {each}..." for each in data), "bring back the rows, or start a run anew"
        raise DataError("the data is not that of this run", where="resume", got=other, allowed=then, fix=fix)


def recompose(
    origin: Mapping[str, Any], bundle: Path, given: Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[DictConfig, dict[str, str]]:
    """The configuration of `train` that a record holds, and the option chosen in each group.

    Parameters
    ----------
    origin, bundle
        The provenance of a run, and where its bundle lies.
    given
        The keys of `dataset` that are others now, or a `dataset` of its own.
    overrides
        Arguments; those are heeded that are about what is local.

    Raises
    ------
    BundleError
        The record is none of `train`, or names a class, a value or a place that it may not.
    """
    config = origin.get("config") or {}
    if "dataset" not in config or "backtest" in config:
        what, words = "this is no run of train, so it is not repeated", [*origin.get("overrides", ())]
        fix = f"python -m tsforecast.backtest {' '.join(words)}" if "backtest" in config else None
        raise BundleError(what, where=bundle, got="a backtest" if fix else "no configuration", fix=fix)
    kinds = {"config": Mapping, "overrides": list, "choices": Mapping, "data": Mapping, "host": Mapping}
    broken = [key for key, kind in kinds.items() if not isinstance(origin.get(key), kind)]
    if broken or not isinstance(origin.get("git"), Mapping | None):
        fix = "copy the whole bundle again from where it was trained"
        raise BundleError("the record of the run is damaged", where=FILE, got=broken or ["git"], fix=fix)
    local = re.compile(rf"[+~]*({'|'.join(LOCAL)})\b")
    cfg, chosen = compose("train", [each for each in overrides if local.match(each)])
    kept = {key: value for key, value in config.items() if key not in LOCAL}
    if isinstance(trainer := kept.get("trainer"), Mapping):
        own = {key: value for key, value in cfg.trainer.items() if key in _WRITES}
        kept["trainer"] = {key: value for key, value in trainer.items() if key not in _WRITES} | own
    if strange := kept.keys() - cfg.keys():
        what, fix = "the run has keys that this version does not know", "install the version that wrote it"
        raise BundleError(what, where=FILE, got=sorted(strange), fix=fix)
    _check(kept, FILE, PLACES)
    if "_target_" not in given:
        url = config["dataset"].get("url")
        named = url and any(str(url) in text for text in _texts())  # a public one, known here too
        known = {"url": url} if named and not given.keys() & {"path", "sha256"} else {}
        given = stated(origin, bundle, "dataset", known | dict(given), cfg.paths.data_dir)
    here: Any = OmegaConf.to_container(cfg)
    cfg = OmegaConf.create({**here, **kept, "dataset": dict(given), "ckpt_path": None}, flags={"struct": True})
    check_keys(cfg, "train")
    return cfg, chosen | origin.get("choices", {})


def _texts() -> list[str]:
    """The files of the caller's `conf/` and the package's."""
    return [file.read_text("utf-8", "replace") for root in folders() for file in root.rglob("*.yaml") if file.is_file()]


def _check(config: Mapping[str, Any], record: str, looked_up: Collection[str]) -> None:
    """Raise a BundleError for a class that no file of the caller names, and for what may not be looked up."""
    named = {target for text in _texts() for target in re.findall(r"_target_:\s*[\"']?([\w.]+)", text)}
    for key, text in _strings(config):
        package = text.partition(".")[0]
        if key.endswith("._target_") and text not in named and package not in directory.allowed()[1:]:
            what, allowed = "the run names a class that no file in conf/ names", directory.allowed()[1:] or None
            fix = f"if you trust it, and it is not tsforecast's own: TSFORECAST_ALLOW={package}"
            raise BundleError(what, where=f"{record}: {key}", got=text, allowed=allowed, fix=fix)
        if {*_LOOKED_UP.findall(text)} - {*looked_up}:
            what, fix = "the run names something to look up", "do not trust it"
            fix = "if it is yours: have it in a file of conf/ too" if record == MARK else fix
            raise BundleError(what, where=f"{record}: {key}", got=text, allowed=PLACES, fix=fix)


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, each in items:
        yield from _strings(each, f"{key}.{name}")
