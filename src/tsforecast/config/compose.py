"""From files and overrides to a configuration, and from its nodes to objects.

Heavy imports happen inside the commands, after composition, so that `--help` and a misspelt key answer at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.errors import InstantiationException
from omegaconf import DictConfig, open_dict

from tsforecast.config.roots import ROOTS  # which makes the roots and resolvers known to Hydra
from tsforecast.errors import ConfigError, TsforecastError, nearest

_HERE = Path(__file__).resolve().parents[1]
# Shipped inside the wheel as tsforecast/conf; at the top of the repository in a checkout.
CONF_DIR = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parents[1] / "conf"


def folders() -> list[Path]:
    """Where groups are looked for: the package's `conf/`, and the one in the working directory."""
    own = Path.cwd() / "conf"
    return [CONF_DIR, own] if own.is_dir() and own.resolve() != CONF_DIR else [CONF_DIR]


def groups() -> list[str]:
    """The config groups to choose from."""
    return sorted({place.name for root in folders() for place in root.iterdir() if place.is_dir()} - {"hydra"})


def options(group: str) -> list[str]:
    """What can be chosen in a group; a file that begins with `_` is a part of others."""
    return sorted({file.stem for root in folders() for file in root.glob(f"{group}/[!_]*.yaml")})


def composed(command: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """The configuration of a command, and the option chosen in each group, as its command line composes them."""
    before = Singleton.get_state()
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3", job_name="tsforecast"):
            local = [f"hydra.searchpath=[file://{root}]" for root in folders()[1:]]
            cfg = hydra.compose(command, overrides=[*local, *overrides], return_hydra_config=True)
    finally:
        Singleton.set_state(before)
    chosen = {key: str(value) for key, value in cfg.hydra.runtime.choices.items() if not key.startswith("hydra")}
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, chosen


def check_root(cfg: DictConfig, command: str) -> None:
    """Raise a ConfigError for a key that `+` has put beside those that are read."""
    known = [each.name for each in fields(ROOTS[command])]
    if stray := [str(key) for key in cfg if key not in known]:
        near = nearest(stray[0], known)
        raise ConfigError(
            "there is no such key",
            where=f"the command line of {command}",
            got=f"+{stray[0]}",
            fix=f"did you mean {near}=...?" if near else "leave it out",
        )


def build(node: Any, **arguments: Any) -> Any:
    """Instantiate a config node; what its constructor refuses is a ConfigError that names the node.

    Raises
    ------
    ConfigError
        The class cannot be imported, or does not take these parameters; its signature is told.
    """
    from hydra.utils import get_object, instantiate

    try:
        return instantiate(node, **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, TsforecastError):
            raise cause from None
        target = node.get("_target_") if isinstance(node, DictConfig) else None
        where = node._get_full_key(None) if isinstance(node, DictConfig) else None
        what, reason = f"{target or 'this node'} cannot be built", " ".join(str(cause or error).split())
        if isinstance(cause, ImportError) or target is None or not isinstance(cause, Exception):
            raise ConfigError(what, where=where, got=reason) from error
        known = inspect.signature(get_object(target)).parameters
        stray = next((str(key) for key in node if key not in known and not str(key).startswith("_")), None)
        near = nearest(stray, known) if stray else None
        allowed = ", ".join(str(each).replace("'", "") for each in known.values())
        raise ConfigError(
            what, where=where, got=reason, allowed=allowed, fix=near and f"did you mean {where}.{near}?"
        ) from error
