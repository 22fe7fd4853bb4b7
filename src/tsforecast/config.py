"""Where Hydra ends: typed roots, what a run knows of its configuration, and the objects that are built from it.

Only this module, `command` and the commands import hydra and omegaconf. Heavy imports happen inside the commands, after
composition, so that `--help` and a misspelt key answer at once.
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    InstantiationException,
)
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from tsforecast.errors import ConfigError, OutputError, TsforecastError
from tsforecast.files import whole

_HERE = Path(__file__).resolve().parent
# Shipped inside the wheel as tsforecast/conf; at the top of the repository in a checkout.
CONF_DIR = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parents[1] / "conf"


@dataclass
class TrainConfig:
    """Root of `train`. Groups are checked by the constructors they name."""

    dataset: Any = MISSING
    split: Any = MISSING
    feature: Any = field(default_factory=dict)
    scaler: Any = MISSING
    model: Any = MISSING
    trainer: Any = MISSING
    calibration: Any = MISSING
    evaluation: Any = MISSING
    tracking: Any = MISSING
    report: Any = MISSING
    serving: Any = MISSING
    paths: Any = MISSING
    name: str | None = None  # null: <dataset>-<model>
    lookback: int = 336
    horizon: int = 96
    season: int | None = None  # null: the one of the frequency
    quantiles: list[float] = field(default_factory=list)
    unused_covariates: str = "error"
    seed: int = 1
    threads: int = 1
    ckpt_path: str | None = None
    objective: str = "val/mae"


@dataclass
class EvaluateConfig:
    """Root of `evaluate`."""

    bundle: str = MISSING
    dataset: Any = None  # null: as the bundle was trained
    split: Any = None
    evaluation: Any = MISSING
    report: Any = MISSING
    paths: Any = MISSING
    part: str = "test"
    threads: int = 1


@dataclass
class PredictConfig:
    """Root of `predict`."""

    bundle: str = MISSING
    input: str = MISSING
    output: str = MISSING
    known_future: str | None = None
    static: str | None = None
    format: str | None = None
    horizon: int | None = None
    levels: Any = None
    stale: str = "warn"
    short: str = "error"
    sep: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    date_format: str | None = None
    localize: str | None = None
    unsorted: str | None = None
    gaps: str | None = None
    duplicates: str | None = None
    paths: Any = MISSING
    threads: int = 1


ROOTS: dict[str, type] = {"train": TrainConfig, "evaluate": EvaluateConfig, "predict": PredictConfig}


def register() -> None:
    """Make the typed roots and resolvers known to Hydra."""
    store = ConfigStore.instance()
    for name, root in ROOTS.items():
        store.store(name=f"{name}_root", node=root)
    OmegaConf.register_new_resolver("unique", lambda: secrets.token_hex(3), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("cwd", lambda: str(Path.cwd()), replace=True)


def choices() -> dict[str, str]:
    """The option chosen in each config group."""
    return {key: str(value) for key, value in HydraConfig.get().runtime.choices.items() if not key.startswith("hydra")}


def run_dir(result: str) -> Path:
    """Directory of this run, which holds no `result` of another.

    Raises
    ------
    OutputError
        It does.
    """
    out = Path(HydraConfig.get().runtime.output_dir)
    if (out / result).exists():
        raise OutputError(f"this directory holds the {result} of another run", where="hydra.run.dir", got=out,
                          fix="name another one, or delete it")  # fmt: skip
    return out


def sweeping() -> bool:
    """Whether this run is one of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def helps() -> bool:
    """Whether another process leads: Lightning starts this very command once more for each further device."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK") if "LOCAL_RANK" in os.environ else ("NODE_RANK",)
    return any(os.environ.get(name, "0") != "0" for name in ranks)


def check_processes(nodes: int = 1, devices: int = 1) -> None:
    """Raise a ConfigError in a sweep of several processes, or where the environment counts more than there will be."""
    if sweeping() and nodes * devices > 1:
        what = "a sweep cannot train in several processes: each would run the whole sweep"
        raise ConfigError(what, where="trainer.devices", got=nodes * devices, fix="trainer.devices=1")
    for name, count in (("NODE_RANK", nodes), ("LOCAL_RANK", devices), ("RANK", nodes * devices)):
        if (rank := os.environ.get(name, "0")) not in map(str, range(count)):
            what = "the environment says that another process leads this one, and the trainer has none"
            raise ConfigError(what, where=name, got=rank, allowed=f"0 to {count - 1}", fix=f"unset {name}")


def without_trainer(cfg: DictConfig) -> list[str]:
    """Arguments of this run that set the trainer, or choose it, which a model without one does not read."""
    model = OmegaConf.to_yaml(cfg.model)  # which may refer to it: xgboost's device is the trainer's accelerator
    keys = [argument.partition("=")[0].lstrip("+~") for argument in HydraConfig.get().overrides.task]
    return [key for key in keys if f"{key}.".startswith("trainer.") and f"${{{key}" not in model]


def record(cfg: DictConfig, out: Path) -> None:
    """Write `config.yaml`, the resolved configuration under the arguments it was composed with, and `.hydra/`.

    Hydra would write the latter before a run knows that its directory is not taken.
    """
    overrides = HydraConfig.get().overrides.task
    with whole(out / "config.yaml") as scratch:
        scratch.write_text(f"# {shlex.join(overrides)}\n{OmegaConf.to_yaml(cfg, resolve=True)}", encoding="utf-8")
    for name, node in (("config", cfg), ("hydra", HydraConfig.instance().cfg), ("overrides", overrides)):
        with whole(out / ".hydra" / f"{name}.yaml") as scratch:
            OmegaConf.save(node, scratch)


def log_to(file: Path | None, *, silent: bool = False) -> logging.Logger:
    """Log to `file` too, beside what `hydra.job_logging` says; returns the logger of the commands.

    The file's lock keeps other processes out of a run's directory. `silent` leaves errors alone, and no file.
    """
    root = logging.getLogger()
    for handler in [each for each in root.handlers if each.name == "run"]:  # of the run before, in a sweep
        root.removeHandler(handler)
        handler.close()
    if silent:
        root.setLevel(logging.ERROR)
    elif file is not None:
        record = logging.FileHandler(file, encoding="utf-8")
        record.name = "run"
        record.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        root.addHandler(record)
        _claim(record.stream, file)
    return logging.getLogger("tsforecast")


def _claim(log: Any, file: Path) -> None:
    """Keep other processes out of a run's directory: the lock on its log ends with this one, however it ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise OutputError("another run is at work in this directory", where="hydra.run.dir", got=file.parent,
                          fix="name another one, or wait") from None  # fmt: skip


def show(text: str) -> None:
    """Print a command's result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def limit_threads(threads: int) -> None:
    """Let numpy and torch use `threads` threads; a variable the user has set wins.

    BLAS reads its number of threads once, when it is loaded: call this before numpy is imported.

    Raises
    ------
    ConfigError
        It is not a positive number.
    """
    if threads < 1:
        raise ConfigError("threads are counted", where="threads", got=threads, allowed="1, 2, ...", fix="threads=1")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))


def build(node: Any, **arguments: Any) -> Any:
    """Instantiate a config node; what its constructor refuses is a ConfigError that names the node.

    Raises
    ------
    ConfigError
        The class cannot be imported, or does not take these parameters.
    """
    from hydra.utils import instantiate

    _check_kinds(node)
    try:
        return instantiate(node, **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, TsforecastError):
            raise cause from None
        target = node.get("_target_") if isinstance(node, DictConfig) else None
        raise ConfigError(
            f"{target or 'this part of the configuration'} cannot be built",
            where=node._get_full_key(None) if isinstance(node, DictConfig) else None,
            got=cause or str(error).splitlines()[0],
            fix="compare the keys with the class's signature: --cfg job shows the composed configuration",
        ) from error


_LIST, _KEYS = ("a list", (ListConfig,)), ("keys and values", (DictConfig,))
_KINDS: dict[Any, tuple[str, tuple[type, ...]]] = {  # a type hint to what a configuration holds for it
    int: ("a whole number", (int,)), float: ("a number", (float, int)), str: ("text", (str,)),
    bool: ("true or false", (bool,)), type(None): ("null", (type(None),)),
    Sequence: _LIST, list: _LIST, tuple: _LIST, Mapping: _KEYS, dict: _KEYS,
}  # fmt: skip


def _check_kinds(node: Any) -> None:
    """Raise a ConfigError when a value has another kind than its constructor says, such as text for a number."""
    from hydra.utils import get_object

    if not isinstance(node, DictConfig) or "_target_" not in node:
        return
    try:
        target = get_object(node["_target_"])
        plain = isinstance(target, type) and not is_dataclass(target)  # the fields of a dataclass may be its base's
        hints = get_type_hints(target.__init__ if plain else target)
    except Exception:  # what cannot be imported is told by `instantiate`; what has no hints is not checked
        return
    for key, value in node.items():
        _check_kinds(value)
        hint = hints.get(str(key))
        union = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        kinds = [_KINDS.get(get_origin(each) or each) for each in union]
        if None not in kinds and not any(type(value) in types for _, types in filter(None, kinds)):
            raise ConfigError("this key takes another kind of value", where=node._get_full_key(str(key)), got=value,
                              allowed=" or ".join(name for name, _ in filter(None, kinds)),
                              fix="--cfg job shows the value it has without this argument")  # fmt: skip
