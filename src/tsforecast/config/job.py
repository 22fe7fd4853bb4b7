"""What a running command knows of its job: its directory, its log, its place in a sweep or among processes."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from tsforecast import files
from tsforecast.config import compose
from tsforecast.errors import ConfigError, OutputError, count, without_password
from tsforecast.files import lock

SWEEP = "TSFORECAST_SWEEP"  # of the environment: the tracked run that the runs of a sweep are part of


def choices() -> dict[str, str]:
    """The option chosen in each config group."""
    return compose.choices(HydraConfig.get())


def start(cfg: DictConfig, result: str, log: str, *, resumed: bool = False) -> Path:
    """The directory of this run, which holds no `result` of another; from here on its `log` is written.

    What was asked for is there too. A process that follows another writes neither. One that is resumed has both.
    """
    out = Path(HydraConfig.get().runtime.output_dir)
    if not resumed:
        free(out, result, "hydra.run.dir")
    log_to(None if follows() else out / log)
    if follows():
        logging.getLogger().setLevel(logging.ERROR)
    elif not resumed:
        record(cfg, out)
    return out


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


def tracked_as(name: str) -> tuple[str, str]:
    """What a run is called where runs are tracked, and the run that it is part of: in a sweep it has a number."""
    if not sweeping() or OmegaConf.is_missing(HydraConfig.get().job, "num"):
        return name, ""
    return f"{name}-{HydraConfig.get().job.num}", os.environ.get(SWEEP, "")


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


def overrides() -> list[str]:
    """The arguments of this run."""
    return list(HydraConfig.get().overrides.task)


def without_trainer(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """Those arguments that are about the trainer or its callbacks, which a model without one does not read."""
    model = OmegaConf.to_yaml(cfg.model)  # which may refer to it: xgboost's device is the trainer's accelerator
    keys = [argument.partition("=")[0].lstrip("+~") for argument in overrides]
    about = [key for key in keys if f"{key}.".replace("/", ".").startswith(("trainer.", "callbacks."))]
    return [key for key in about if f"${{{key}" not in model]


def record(cfg: DictConfig, out: Path) -> None:
    """Write `config.yaml`, the resolved configuration under the arguments it was composed with, and `.hydra/`.

    Hydra would write the latter before a run knows that its directory is not taken.
    """
    write_config(out / "config.yaml", cfg, overrides())
    own = HydraConfig.instance().cfg  # written last: with it a run is one that `resume=` can go on with
    for name, node in (("config", cfg), ("overrides", overrides()), ("hydra", own)):
        write(out / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(node))


def write_config(file: Path, cfg: DictConfig, arguments: Sequence[str]) -> None:
    """The resolved configuration under the arguments that it was composed with."""
    write(file, f"# {shlex.join(arguments)}\n{OmegaConf.to_yaml(cfg, resolve=True)}")


def write(file: Path, text: str) -> None:
    """A text file without passwords, whole or not at all."""
    files.write(file, without_password(text))


def log_to(file: Path | None) -> logging.Logger:
    """Log to `file` too, beside what `hydra.job_logging` says; returns the logger of the commands.

    The file's lock keeps other processes out of a run's directory.
    """
    root = logging.getLogger()
    for handler in [each for each in root.handlers if each.name == "run"]:  # of the run before, in a sweep
        root.removeHandler(handler)
        handler.close()
    if file is not None:
        record = logging.FileHandler(file, encoding="utf-8")
        record.name = "run"
        record.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        root.addHandler(record)
        if lock(record.stream) is False:
            what, fix = "another run is at work in this directory", "name another one, or wait"
            raise OutputError(what, where="hydra.run.dir", got=file.parent, fix=fix)
    return logging.getLogger("tsforecast")


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
