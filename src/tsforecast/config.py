"""Where Hydra ends: typed roots, the search path, and one way for every command to fail.

Only this module and the commands import hydra and omegaconf. Heavy imports happen inside the commands, after
composition, so that `--help` and a misspelt key answer at once.
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from tsforecast.errors import ConfigError, OutputError, TsforecastError, nearest
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
    paths: Any = MISSING
    threads: int = 1


def register() -> None:
    """Make the typed roots and resolvers known to Hydra."""
    store = ConfigStore.instance()
    for name, root in (("train", TrainConfig), ("evaluate", EvaluateConfig), ("predict", PredictConfig)):
        store.store(name=f"{name}_root", node=root)
    OmegaConf.register_new_resolver("unique", lambda: secrets.token_hex(3), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("cwd", lambda: str(Path.cwd()), replace=True)


def choices() -> dict[str, str]:
    """The option chosen in each config group."""
    return {key: str(value) for key, value in HydraConfig.get().runtime.choices.items() if not key.startswith("hydra")}


def run_dir() -> Path:
    """Directory of this run."""
    return Path(HydraConfig.get().runtime.output_dir)


def sweeping() -> bool:
    """Whether this run is one of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def helps() -> bool:
    """Whether another process leads: Lightning starts this very command once more for each further device."""
    return any(int(os.environ.get(name, 0)) for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def record(cfg: DictConfig, out: Path) -> None:
    """Write `config.yaml`: the resolved configuration under the arguments it was composed with."""
    arguments = shlex.join(HydraConfig.get().overrides.task)
    with whole(out / "config.yaml") as scratch:
        scratch.write_text(f"# {arguments}\n{OmegaConf.to_yaml(cfg, resolve=True)}", encoding="utf-8")


def log_to(file: Path | None) -> logging.Logger:
    """Log to the terminal and to `file`, if any; returns the logger of the commands. A process that helps is silent."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    root.addHandler(terminal)
    if file is not None and not helps():
        record = logging.FileHandler(file, encoding="utf-8")
        record.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        root.addHandler(record)
        _claim(record.stream, file)
    root.setLevel(logging.ERROR if helps() else logging.INFO)
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
        hints = get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
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


EXAMPLES = """\
Examples
  python -m tsforecast.train                                  the demo, on bundled data
  python -m tsforecast.train +experiment=etth1                NLinear on ETTh1
  python -m tsforecast.train +experiment=etth1 model=ridge horizon=720
  python -m tsforecast.train -m +experiment=etth1 model=ridge,nlinear horizon=96,192
  python -m tsforecast.train dataset=csv dataset.path=my.csv  your own file
  python -m tsforecast.evaluate bundle=RUN/bundle dataset=etth2 split=ltsf
  python -m tsforecast.predict bundle=RUN/bundle input=x.csv output=y.csv

--cfg job shows the composed configuration, --info the search path and defaults, --hydra-help Hydra's own options,
--trace the traceback of an error."""


def help_text(config_name: str) -> str:
    """Groups, keys and examples; read from the files, a third of the time of composing them."""
    keys = (CONF_DIR / f"{config_name}.yaml").read_text(encoding="utf-8").partition("defaults:\n")[2]
    groups: dict[str, set[str]] = {}
    for root in (CONF_DIR, Path.cwd() / "conf"):
        for file in root.glob("*/*.yaml"):
            if file.parent.name != "hydra" and (config_name == "train" or f"- {file.parent.name}:" in keys):
                groups.setdefault(file.parent.name, set()).add(file.stem)
    listing = "\n".join(
        textwrap.fill(f"  {group + ':':<13}{', '.join(sorted(groups[group]))}", 118, subsequent_indent=" " * 15)
        for group in sorted(groups)
    )
    examples = "\n".join(
        line for line in EXAMPLES.splitlines() if "tsforecast." not in line or f".{config_name} " in line
    )
    return (
        f"tsforecast {config_name}: key=value changes a key, group=option picks one of a group\n\n"
        f"Groups (feature takes a list: feature=[calendar,lags]; experiment and debug are added: +experiment=etth1)\n"
        f"{listing}\n\nDefaults, and the keys beside the groups\n{textwrap.indent(keys.rstrip(), '  ')}\n\n{examples}"
    )


def command(task: Callable[[DictConfig], Any], config_name: str) -> None:
    """Run a command under Hydra; errors become one message and a non-zero exit.

    `--trace` or `HYDRA_FULL_ERROR=1` shows the traceback. Exit codes: 1 an error, 2 a usage error, 130 interrupted.
    """
    if {"--help", "-h"} & set(sys.argv[1:]):
        show(help_text(config_name))
        return
    register()
    trace = "--trace" in sys.argv or os.environ.get("HYDRA_FULL_ERROR") == "1"
    sys.argv = [argument for argument in sys.argv if argument != "--trace"]
    local = Path.cwd() / "conf"
    if (
        local.is_dir()
        and local.resolve() != CONF_DIR
        and not any(a.startswith(("--config-dir", "-cd")) for a in sys.argv)
    ):
        sys.argv.append(f"--config-dir={local}")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions to us instead of printing and exiting
    signal.signal(signal.SIGTERM, _interrupt)
    failures: list[Exception] = []

    def guarded(cfg: DictConfig) -> Any:
        try:
            return task(cfg)
        except Exception as error:
            if sweeping():
                raise  # a sweep has to know
            failures.append(error)  # Hydra would print a line of its own above the message

    try:
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(guarded)()
        if failures:
            raise failures[0]
    except KeyboardInterrupt:
        _say("Interrupted.")
        raise SystemExit(130) from None
    except (TsforecastError, HydraException, OmegaConfBaseException) as error:
        if trace:
            raise
        mended = error if isinstance(error, TsforecastError) else _explain(error, config_name)
        _say(f"Error: {mended}")
        raise SystemExit(1) from None
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        if trace:
            raise
        _say(f"Error: {error.strerror or error}\n  where:   {error.filename or 'unknown'}\n"
             "  fix:     check the path, its permissions and the free space")  # fmt: skip
        raise SystemExit(1) from None
    except Exception as error:
        if trace:
            raise
        _say(f"Error: {type(error).__name__}: {error}\n  fix:     run again with --trace to see where it comes from")
        raise SystemExit(1) from None


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")


def _explain(error: Exception, config_name: str) -> ConfigError:
    """A Hydra or OmegaConf error in our words, with the nearest valid name."""
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = list(error.options or (_options(group) if group.strip("/") else []))
        near = nearest(option, options)
        return ConfigError(
            f"there is no {group or 'config'} called {option!r}",
            where=group or config_name,
            got=option,
            allowed=", ".join(options) or None,
            fix=f"did you mean {group}={near}?" if near else None,
        )
    if isinstance(error, MissingMandatoryValue):
        key = text.splitlines()[0].rpartition(": ")[2]
        return ConfigError("a value is needed", where=key, got="nothing", fix=f"add {key}=... to the command")
    if isinstance(error, OverrideParseException):
        return ConfigError(
            "an argument cannot be read", got=error.override, fix="write key=value, quoted for the shell"
        )
    if isinstance(error, ConfigCompositionException) and text.startswith("Could not override '"):
        key = text.split("'")[1]
        known = list(_keys(config_name))
        if key in ("experiment", "debug"):
            fix: str | None = f"{key} is added with a plus: +{key}=..."
        else:
            near = nearest(key, known)
            fix = f"did you mean {near}?" if near else "--cfg job shows the keys there are"
        return ConfigError("there is no such key", where=f"the command line of {config_name}", got=key, fix=fix)
    if text.startswith("Error merging override "):
        key, _, value = text.partition("override ")[2].partition("=")
        reason = str(error.__cause__).splitlines()[0]
        kind = reason.partition(" converted to ")[2] or reason.partition(" is not a ")[2]
        return ConfigError("this key takes another kind of value", where=key, got=value, allowed=kind or reason,
                           fix="--cfg job shows the value it has without this argument")  # fmt: skip
    lines = [line.strip() for line in f"{text}\n{error.__cause__ or ''}".splitlines() if line.strip()]
    return ConfigError(lines[0] if lines else type(error).__name__, got="; ".join(lines[1:3]) or None)


def _options(group: str) -> list[str]:
    return sorted({file.stem for root in (CONF_DIR, Path.cwd() / "conf") for file in root.glob(f"{group}/*.yaml")})


def _keys(config_name: str) -> Iterator[str]:
    """Every key and group of the command as it composes with the groups chosen on the command line."""
    groups = {folder.name for folder in CONF_DIR.iterdir() if folder.is_dir()}
    if config_name != "train":
        defaults = (CONF_DIR / f"{config_name}.yaml").read_text(encoding="utf-8")
        groups = {group for group in groups if f"- {group}:" in defaults}
    replaced = {*groups - {"experiment", "debug"}, "+experiment", "+debug"}
    chosen = [a for a in sys.argv[1:] if a.partition("=")[0] in replaced and "," not in a]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = hydra.compose(config_name, overrides=chosen)

    def walk(node: Any, prefix: str) -> Iterator[str]:
        for key in node:
            yield f"{prefix}{key}"
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_missing() and not child._is_none():
                yield from walk(child, f"{prefix}{key}.")

    yield from walk(composed, "")
    yield from sorted(groups)
