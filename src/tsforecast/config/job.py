"""What is to be run and where, as one noun; and what a process knows of its place in a sweep or among processes."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tsforecast import files
from tsforecast.config import compose
from tsforecast.errors import ConfigError, OutputError, count, without_password
from tsforecast.files import BusyError, lock

if TYPE_CHECKING:
    from tsforecast.data.sources import Source

log = logging.getLogger("tsforecast")
SWEEP = "TSFORECAST_SWEEP"  # of the environment: the tracked run that the runs of a sweep are part of
RESULTS = {"train": "bundle", "backtest": "scores.csv", "evaluate": "metrics.json"}  # what a finished run has
MARK = ".unfinished"  # in the directory of a run of `train` until it has ended well: what was asked for, as JSON
SCRAP = re.compile(r"\.(bundle-\w+|[a-z]+-\d+\.[a-z]+)")  # as `bundle.directory` and `files.atomic` name theirs
HOW = "python -m tsforecast.train resume={}"


@dataclass(frozen=True)
class Job:
    """What is to be run: a command line, a call, the end of a search, a run that goes on or is repeated come to one.

    Attributes
    ----------
    cfg, choices, overrides
        The composed configuration, the option chosen in each group, and the arguments.
    out
        The directory of the run; None: no file is written.
    source
        In place of the one that `dataset` describes.
    parents
        The tracked run that it is part of (`run`), and what it repeats (`rerun`).
    number
        What its name ends in, of a run of a sweep: `-3`.
    resumed
        Whether it goes on with what it has left in `out`.
    hydra
        Hydra's own configuration, where Hydra has started it.
    """

    cfg: DictConfig
    choices: Mapping[str, str]
    overrides: Sequence[str] = ()
    out: Path | None = None
    source: Source | None = None
    parents: Mapping[str, str] = field(default_factory=dict)
    number: str = ""
    resumed: bool = False
    hydra: DictConfig | None = None

    @classmethod
    def started(cls, cfg: DictConfig) -> Job:
        """The one that Hydra has composed and started."""
        own, about = HydraConfig.get(), dict[str, Any]()
        if sweeping() and not OmegaConf.is_missing(own.job, "num"):
            sweep = os.environ.get(SWEEP)
            about = {"number": f"-{own.job.num}", "parents": {"run": sweep} if sweep else {}}
        words, out = list(own.overrides.task), Path(own.runtime.output_dir)
        return cls(cfg, compose.choices(own), words, out, hydra=HydraConfig.instance().cfg, **about)

    @property
    def checkpoint(self) -> str | None:
        """Where a fit goes on from."""
        last = self.resumed and self.out and self.out / "checkpoints" / "last.ckpt"
        return str(last) if last and last.is_file() else self.cfg.ckpt_path

    @contextmanager
    def at_work(self, command: str = "train") -> Iterator[None]:
        """Around the run, as the only one in its directory, which gets what is asked for, and a log.

        A run of `train` can be gone on with until it has ended well, and says how when it ends early. A process that
        follows another writes nothing.

        Raises
        ------
        OutputError
            The directory holds the result of another run, another is at work in it, or it cannot be written.
        """
        if self.out is None or follows():
            if self.out is not None:
                log_to(None).root.setLevel(logging.ERROR)
            yield
            return
        where = "out" if self.hydra is None else "hydra.run.dir"
        if not self.resumed:
            free(self.out, RESULTS[command], where)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            log_to(self.out / f"{command}.log")
        except OSError as error:
            what, fix = f"the directory of the run cannot be written: {error.strerror}", "name another one"
            raise OutputError(what, where=where, got=self.out, fix=fix) from error
        try:
            if command == "train":
                self._clear(self.out)
            if not self.resumed:
                self._record(self.out, command)
            with _unfinished(self.out) if command == "train" else nullcontext():
                yield
        finally:
            log_to(None)

    def _clear(self, out: Path) -> None:
        """Remove what a run that was killed has left half-written, and what one of another would go on with."""
        mark, kept, path, stale = out / MARK, out / "checkpoints", self.cfg.ckpt_path, list[Path]()
        if mark.exists():  # what else is here is not ours
            stale += [each for folder in (out, kept) for each in folder.glob(".*-*") if SCRAP.fullmatch(each.name)]
        elif self.resumed:
            raise ended(out)
        if not self.resumed:
            own = path and Path(path).resolve().is_relative_to(out.resolve())
            stale += [*out.glob(MARK), *out.glob("provenance.json"), *([] if own else kept.glob("last.ckpt"))]
        for each in stale:
            shutil.rmtree(each) if each.is_dir() else each.unlink()

    def _record(self, out: Path, command: str) -> None:
        """`config.yaml` and `.hydra/`, which Hydra would write before a run knows that its directory is not taken."""
        write_config(out / "config.yaml", self.cfg, self.overrides)
        nodes: dict[str, Any] = {"config": self.cfg, "overrides": [*self.overrides]}
        nodes |= {} if self.hydra is None else {"hydra": self.hydra}
        for name, node in nodes.items():
            write(out / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(node))
        if command == "train":  # last of all: with it a run is one that `resume=` can go on with
            about: dict[str, Any] = {"choices": self.choices, "overrides": [*self.overrides], "parents": self.parents}
            about |= {"config": OmegaConf.to_container(self.cfg), "number": self.number, "cwd": str(Path.cwd())}
            write(out / MARK, json.dumps(about))


@contextmanager
def _unfinished(out: Path) -> Iterator[None]:
    """Around a run of `train`: what ends it early says how to go on, once there is something to go on with."""
    try:
        yield
    except BaseException as error:
        left = (out / "bundle").exists() or (out / "checkpoints" / "last.ckpt").exists()
        if isinstance(error, KeyboardInterrupt) or left:
            log.warning("To go on from here: %s", HOW.format(shlex.quote(os.path.relpath(out))))
        raise
    (out / MARK).unlink()


def ended(out: Path) -> OutputError:
    """What is said of a run that has ended well, and is to go on."""
    fix = f"its scores are in {out / 'metrics.json'}, its bundle is {out / 'bundle'}"
    return OutputError("this run has ended well: there is nothing left to do", where="resume", got=out, fix=fix)


def free(out: Path, result: str, where: str) -> Path:
    """The directory itself.

    Raises
    ------
    OutputError
        It holds the `result` of another run.
    """
    if (out / result).exists():
        what = f"this directory holds the {result} of another run"
        raise OutputError(what, where=where, got=out, fix="name another one, or delete it")
    return out


def sweeping() -> bool:
    """Whether this run is one of a sweep."""
    return HydraConfig.initialized() and bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def follows() -> bool:
    """Whether another process leads: Lightning starts this very command once more for each further device."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK") if "LOCAL_RANK" in os.environ else ("NODE_RANK",)
    return any(os.environ.get(name, "0") != "0" for name in ranks)


def check_processes(nodes: int = 1, devices: int = 1) -> None:
    """Raise a ConfigError in a sweep of several processes, or where the environment counts more than there will be."""
    if sweeping() and nodes * devices > 1:
        what = "a sweep cannot train in several processes: each would run the whole sweep"
        raise ConfigError(what, where="trainer.devices", got=nodes * devices, fix="trainer.devices=1")
    for name, most in (("NODE_RANK", nodes), ("LOCAL_RANK", devices), ("RANK", nodes * devices)):
        if (rank := os.environ.get(name, "0")) not in map(str, range(most)):
            what = "the environment says that another process leads this one, and the trainer has none"
            raise ConfigError(what, where=name, got=rank, allowed=f"0 to {most - 1}", fix=f"unset {name}")


def without_trainer(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Those arguments that are about the trainer or its callbacks, which a model without one does not read."""
    model = OmegaConf.to_yaml(cfg.model)  # which may refer to it: xgboost's device is the trainer's accelerator
    keys = [argument.partition("=")[0].lstrip("+~") for argument in overrides]
    about = [key for key in keys if f"{key}.".replace("/", ".").startswith(("trainer.", "callbacks."))]
    return [key for key in about if f"${{{key}" not in model]


def write_config(file: Path, cfg: DictConfig, arguments: Sequence[str]) -> None:
    """The resolved configuration under the arguments that it was composed with."""
    write(file, f"# {shlex.join(arguments)}\n{OmegaConf.to_yaml(cfg, resolve=True)}")


def write(file: Path, text: str) -> None:
    """A text file without passwords, whole or not at all."""
    files.write(file, without_password(text))


def log_to(file: Path | None) -> logging.Logger:
    """Log to `file` too, beside what `hydra.job_logging` says; returns the logger of the commands.

    The file's lock keeps other processes out of a run's directory.

    Raises
    ------
    BusyError
        Another process has it.
    """
    root = logging.getLogger()
    for handler in [each for each in root.handlers if each.name == "run"]:  # of the run before, in a sweep
        root.removeHandler(handler)
        handler.close()
    if file is not None:
        record = logging.FileHandler(file, encoding="utf-8")
        if lock(record.stream) is False:
            record.close()
            what, fix = "another run is at work in this directory", "name another one, or wait"
            raise BusyError(what, where="hydra.run.dir", got=file.parent, fix=fix)
        record.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        console: logging.Handler = logging.StreamHandler()  # Python shows warnings where there is no handler at all
        console.setLevel(logging.WARNING)
        for made in (record, *[console] * (not root.handlers)):
            made.name = "run"
            root.addHandler(made)
    return log


@contextmanager
def quiet_console() -> Iterator[None]:
    """Inside, what is shown beside a progress bar are warnings; a run's log file has the rest."""
    handlers = [each for each in logging.getLogger().handlers if each.name != "run"]
    before = [each.level for each in handlers]
    for each in handlers:
        each.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for each, level in zip(handlers, before, strict=True):
            each.setLevel(level)


def show(text: str) -> None:
    """Print a command's result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def limit_threads(threads: int | None) -> None:
    """Let numpy and torch use `threads` threads; a variable the user has set wins. None: it is not known yet.

    BLAS reads its number of threads once, when it is loaded; where numpy is there already, as in a notebook, it is
    told.
    The number decides the last bits of a sum: a run from Python gives those of the command.

    Raises
    ------
    ConfigError
        It is not a positive number.
    """
    if threads is None:
        return
    count("threads", threads)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    if "numpy" in sys.modules:
        import threadpoolctl

        threadpoolctl.threadpool_limits(int(os.environ["OMP_NUM_THREADS"].partition(",")[0]))
