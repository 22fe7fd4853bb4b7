"""One way for every command to start, to help and to fail: a message, a non-zero exit, no traceback."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Set
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from tsforecast.config import CONF_DIR, ROOTS, register, show
from tsforecast.errors import ConfigError, TsforecastError, nearest

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
        for file in root.glob("*/[!_]*.yaml"):
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
    # Options first, in the order given: argparse reads key=value up to the next option and not after it.
    sys.argv[1:] = sorted((each for each in sys.argv[1:] if each != "--trace"), key=_is_override)
    local = Path.cwd() / "conf"
    if (
        local.is_dir()
        and local.resolve() != CONF_DIR
        and not any(a.startswith(("--config-dir", "-cd")) for a in sys.argv)
    ):
        sys.argv.append(f"--config-dir={local}")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions to us instead of printing and exiting
    signal.signal(signal.SIGTERM, _interrupt)

    def checked(cfg: DictConfig) -> Any:
        _check_root(cfg, config_name)
        return task(cfg)

    try:
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(checked)()
    except KeyboardInterrupt:
        _say("Interrupted.")
        raise SystemExit(130) from None
    except (TsforecastError, HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
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
        if str(error).startswith("Config group override"):
            _say(f"Error: {_no_option()}")
            raise SystemExit(1) from None
        _say(f"Error: {type(error).__name__}: {error}\n  fix:     run again with --trace to see where it comes from")
        raise SystemExit(1) from None


def _is_override(argument: str) -> bool:
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


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
    if text.startswith("In '"):  # a file of conf/
        _, file, *rest = text.split("'")
        reason = "'".join(rest).partition("\n")[2].partition("\n")[0]
        stray = reason.split("'")[1] if reason.startswith("Key '") else None
        close = nearest(stray, _keys(config_name, {"+experiment", "+debug"})) if stray else None
        what = "there is no such key" if stray else "a value of a configuration file cannot be used"
        return ConfigError(what, where=f"{file}.yaml", got=stray or reason, fix=close and f"did you mean {close}?")
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
        return ConfigError("a configuration file is not YAML", where=f"{mark.name}, line {mark.line + 1}",
                           got=error.problem, fix="mend that line")  # fmt: skip
    lines = [line.strip() for line in f"{text}\n{error.__cause__ or ''}".splitlines() if line.strip()]
    return ConfigError(lines[0] if lines else type(error).__name__, got="; ".join(lines[1:3]) or None)


def _check_root(cfg: DictConfig, config_name: str) -> None:
    """Raise a ConfigError for a key that `+` has put beside those that are read."""
    known = [each.name for each in fields(ROOTS[config_name])]
    if stray := [str(key) for key in cfg if key not in known]:
        near = nearest(stray[0], known)
        raise ConfigError("there is no such key", where=f"the command line of {config_name}", got=f"+{stray[0]}",
                          fix=f"did you mean {near}=...?" if near else "leave it out")  # fmt: skip


def _no_option() -> ConfigError:
    """What is said of `model=null`."""
    pairs = [argument.partition("=")[::2] for argument in sys.argv[1:]]
    group, given = next(pair for pair in pairs if pair[1] not in (options := _options(pair[0])) and options)
    return ConfigError("a group takes one of its options", where=group, got=given, allowed=", ".join(_options(group)),
                       fix=f"{group}=none" if "none" in _options(group) else f"{group}={_options(group)[0]}, say",
                       )  # fmt: skip


def _options(group: str) -> list[str]:
    return sorted({file.stem for root in (CONF_DIR, Path.cwd() / "conf") for file in root.glob(f"{group}/[!_]*.yaml")})


def _keys(config_name: str, without: Set[str] = frozenset()) -> Iterator[str]:
    """Every key and group of the command as it composes with the groups chosen on the command line."""
    groups = {folder.name for folder in CONF_DIR.iterdir() if folder.is_dir()}
    if config_name != "train":
        defaults = (CONF_DIR / f"{config_name}.yaml").read_text(encoding="utf-8")
        groups = {group for group in groups if f"- {group}:" in defaults}
    replaced = {*groups - {"experiment", "debug"}, "+experiment", "+debug"} - without
    chosen = [a for a in sys.argv[1:] if a.partition("=")[0] in replaced and "," not in a]
    if (local := Path.cwd() / "conf").is_dir():
        chosen.append(f"hydra.searchpath=[file://{local}]")
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
