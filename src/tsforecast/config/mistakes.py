"""What a mistake in a configuration is told: Hydra's own words, and the key or option nearest to what was typed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from tsforecast.config.compose import check_root, composed, groups, options
from tsforecast.errors import ConfigError, TsforecastError, nearest

_NEW = {"serving": "publish"}  # what was called otherwise before


def explain(error: Exception, command: str, overrides: Sequence[str]) -> TsforecastError:
    """An error of the composition of `command` with `overrides`, as one of ours."""
    if isinstance(error, TsforecastError):
        return error
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        there = options(group) if group else []
        near, plus = nearest(option, there), "+" * any(each.startswith("+" + group) for each in overrides)
        what, fix = f"there is no {group or 'configuration'} called {option!r}", f"did you mean {plus}{group}={near}?"
        allowed = ", ".join(there) or None
        return ConfigError(what, where=group or command, got=option, allowed=allowed, fix=fix if near else None)
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
        where = f"{mark.name}, line {mark.line + 1}"
        return ConfigError("a configuration file is not YAML", where=where, got=error.problem, fix="mend that line")
    lines = [
        line for line in str(error).strip().splitlines() if not line.strip().startswith(("full_key", "object_type"))
    ]
    cause = None if getattr(error, "full_key", None) else error.__cause__ or error.__context__
    key = next((key for each in (error, cause) if (key := getattr(each, "full_key", None))), "")
    fix = f"python -m tsforecast.{command} --help lists the groups, --cfg job the keys and values"
    if isinstance(error, MissingMandatoryValue):
        fix = f"add {key}=... to the command"
    elif key and key not in (known := list(_keys(command, overrides))) and (near := nearest(_NEW.get(key, key), known)):
        fix = f"did you mean {near}?"
    got = str(cause).splitlines()[0] if cause else None
    what = " ".join(map(str.strip, lines[:1] if got else lines[:3])) or type(error).__name__
    return ConfigError(what, where=key or f"the configuration of {command}", got=got, fix=fix)


def _keys(command: str, overrides: Sequence[str]) -> Iterator[str]:
    """Every key and group of the command, with those groups of `overrides` that compose."""
    chosen = [each for each in overrides if each.lstrip("+").partition("=")[0] in groups() and "," not in each]
    try:
        cfg = composed(command, chosen)[0]
    except (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError):  # it is what is wrong
        cfg = composed(command, ())[0]

    def walk(node: Any, prefix: str) -> Iterator[str]:
        for key in node:
            yield f"{prefix}{key}"
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_missing() and not child._is_none():
                yield from walk(child, f"{prefix}{key}.")

    yield from walk(cfg, "")
    yield from groups()


def compose(command: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """`composed`, and its mistakes told as the command tells them.

    Raises
    ------
    ConfigError
        It does not compose, or has a key that is not read.
    """
    try:
        cfg, chosen = composed(command, overrides)
    except (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError) as error:
        raise explain(error, command, overrides) from error
    check_root(cfg, command)
    return cfg, chosen
