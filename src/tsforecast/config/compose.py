"""From files and overrides to a configuration, from its nodes to objects, and what a mistake in either is told.

Heavy imports happen inside the commands, after composition, so that `--help` and a misspelt key answer at once.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError

from tsforecast.config.roots import BY_CHANNEL, CONF_DIR, OWNERS, SPELLED, keys_of
from tsforecast.errors import ConfigError, TsforecastError, each_of, nearest

if TYPE_CHECKING:
    from tsforecast.bundle.bundle import Bundle

log = logging.getLogger(__name__)
RENAMED = {"serving": "publish"}  # what was called otherwise before


def folders() -> list[Path]:
    """Where groups are looked for: the package's `conf/`, and the one in the working directory."""
    own = Path.cwd() / "conf"
    return [CONF_DIR, own] if own.is_dir() and own.resolve() != CONF_DIR else [CONF_DIR]


def groups() -> list[str]:
    """The config groups to choose from."""
    return sorted({place.name for root in folders() for place in root.iterdir() if place.is_dir()} - {"hydra"})


def options(group: str) -> list[str]:
    """What can be chosen in a group; a file that begins with `_` is a part of others."""
    return sorted({file.stem for root in folders() for file in (root / group).glob("[!_]*.yaml")})


def compose(command: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """The configuration of a command, and the option chosen in each group, as its command line composes them.

    Raises
    ------
    ConfigError
        It does not compose, or has a key that is not read.
    """
    with composing() as composed:
        cfg = composed(command, overrides)
    chosen = choices(cfg.hydra)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, chosen


@contextmanager
def composing() -> Iterator[Callable[[str, Sequence[str]], DictConfig]]:
    """Gives what composes one command after another, each with Hydra's own node; to start Hydra is a third of the time.

    What it gives raises as `compose` does.
    """
    local = [f"hydra.searchpath=[file://{root}]" for root in folders()[1:]]

    def composed(command: str, overrides: Sequence[str]) -> DictConfig:
        try:
            keys_of(command)
            asked = [*local, *spelled(command, overrides)]
            cfg: DictConfig = hydra.compose(command, overrides=asked, return_hydra_config=True)
            check_keys(OmegaConf.masked_copy(cfg, [key for key in map(str, cfg) if key != "hydra"]), command)
        except Exception as error:
            raise explain(error, command, overrides) from error
        return cfg

    before = Singleton.get_state()
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3", job_name="tsforecast"):
            yield composed
    finally:
        Singleton.set_state(before)


def spelled(command: str, words: Sequence[str]) -> list[str]:
    """The words as Hydra has them: a key that is called as a config group is, of which it would take it, by its own.

    What has a key for each channel is added to: Hydra would take only keys that are there.
    """
    own, cut = SPELLED.get(command, {}), [word.partition("=") for word in words]
    plus = ["+" * (key in BY_CHANNEL and value.startswith("{")) for key, _, value in cut]
    return [more + own.get(key, key) + equals + value for more, (key, equals, value) in zip(plus, cut, strict=True)]


@cache
def _model(words: str, place: Path) -> Any:
    """What a file of `conf/model` has, with its references to keys beside it; `place` is where `conf/` may lie too."""
    return OmegaConf.to_container(compose("train", f"model={words}".split())[0].model)


def models(names: Sequence[str], *, _parent_: Any) -> DictConfig:
    """The models of these names, for an ensemble: `${models:${.members}}`. They refer to other keys as alone.

    Behind a name may stand what its file is to be changed by, as on the command line: `xgboost model.max_depth=6`.
    """
    each_of("model.members", [(name.split() or [""])[0] for name in names], options("model"))
    found = {name: _model(name, Path.cwd()) for name in names}
    if _parent_.get("budget") is not None:
        lazy = {"_target_": f"{__name__}.{available.__name__}", "_recursive_": False}
        found = {name: {**lazy, "name": name, "model": model} for name, model in found.items()}
    return DictConfig(found, key="models", parent=_parent_)


def available(name: str, model: Any) -> Any:
    """The model, or None where a package that it needs is absent: what is tried in a given time is what can be."""
    try:
        return build(OmegaConf.create(model))
    except ConfigError as error:
        cause = error.__cause__ and error.__cause__.__cause__
        if not isinstance(cause, ImportError):
            raise
        log.warning("%s is left out: %s", name, cause)
        return None


OmegaConf.register_new_resolver("models", models, replace=True)


def choices(hydra_cfg: DictConfig) -> dict[str, str]:
    """The option chosen in each config group."""
    return {key: str(value) for key, value in hydra_cfg.runtime.choices.items() if not key.startswith("hydra")}


def check_keys(cfg: DictConfig, command: str) -> None:
    """Raise OmegaConf's ConfigKeyError for a key that `+` has put beside those that are read."""

    def without_objects(node: Any) -> Any:  # whose keys their constructors check
        if not isinstance(node, dict):
            return node
        return {} if "_target_" in node else {key: without_objects(value) for key, value in node.items()}

    OmegaConf.merge(keys_of(command), without_objects(OmegaConf.to_container(cfg)))
    OmegaConf.select(cfg, "model.models")  # whose names are files


def explain(error: Exception, command: str, overrides: Sequence[str]) -> TsforecastError:
    """Any error as one of ours: those of a composition in Hydra's words, with the nearest key or option."""
    own: BaseException | None = error
    while isinstance(own, InterpolationResolutionError):  # of the models of an ensemble
        own = own.__cause__ or own.__context__
    if isinstance(own, TsforecastError):
        return own
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        there, plus = options(group), "+" * any(each.startswith("+" + group) for each in overrides)
        near, where = nearest(option, there), group or "--config-name"
        meant = near and f"did you mean {plus}{where}={near}?"
        if group == "dataset" and "." in option:
            meant = f"a file of your own is dataset=wide dataset.path={option}"
        return ConfigError(f"there is no such {where}", where=where, got=option, allowed=there, fix=meant)
    if isinstance(error, OSError):
        fix = "check the path, its permissions and the free space"
        return TsforecastError(error.strerror or str(error), where=error.filename, fix=fix)
    if isinstance(error, MemoryError):
        fix = "a shorter lookback or horizon, fewer series, a smaller model"
        return TsforecastError(f"memory runs out: {error}", fix=fix)
    fix = "--help lists the groups, --cfg job shows the keys, --trace where an error comes from"
    if not isinstance(error, HydraException | OmegaConfBaseException | MarkedYAMLError):
        return TsforecastError(str(error), got=type(error).__name__, fix=fix)
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__ or error
    key = getattr(cause, "full_key", None) or ""
    last, parent = key.rpartition(".")[2], getattr(cause, "parent_node", None) or {}
    known = [str(each) for each in parent]
    what, got = (" ".join(str(each).partition("\n    full_key")[0].split()) for each in (error, cause))
    if isinstance(cause, MissingMandatoryValue):
        said = {own: word for word, own in SPELLED.get(command, {}).items()}
        fix = f"add {said.get(key, key)}=... to the command"
    elif key and last not in known:
        inside = {each: OmegaConf.select(parent, each) for each in known if isinstance(parent, DictConfig)}
        parts = [each for each, node in inside.items() if isinstance(node, DictConfig) and last in [*node]]
        near = f"{parts[0]}.{last}" if parts else nearest(RENAMED.get(last, last), known)
        what = what.partition(" To append")[0] if near or "." not in key else what
        fix = f"did you mean {key.removesuffix(last)}{near}?" if near else fix
    if f"+{key}" in what and (owner := OWNERS.get(key)):
        what, fix = what.partition(" To append")[0], f"it is a key of {owner}"
    if key.startswith("model.") and any(each.startswith("backtest.models=") for each in overrides):
        fix = "what is said of model is said of model=NAME, the first of them, and of all of backtest.models"
    where = key or f"the configuration of {command}"
    return ConfigError(what, where=where, got=None if got in what else got, fix=fix)


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
        if isinstance(cause := error.__cause__, TsforecastError):
            raise cause from None
        message, _, where = str(error).partition("\nfull_key: ")
        got = message.partition(":\n")[2]  # nothing where the class is not found
        faulty = OmegaConf.select(node._get_root(), where) if where else node
        known = inspect.signature(get_object(faulty["_target_"])).parameters if got else {}
        allowed = ", ".join(str(each).replace("'", "") for each in known.values())
        near = next((nearest(key, known) for key in faulty if key not in known and key[0] != "_"), None)
        what, fix, got = f"{faulty['_target_']} cannot be built", near and f"did you mean {where}.{near}?", got or cause
        raise ConfigError(what, where=where or None, got=got, allowed=allowed or None, fix=fix) from error


def build_or_trained(cfg: DictConfig, group: str, bundle: Bundle) -> Any:
    """The `dataset` or `split` that is chosen, else the one that the bundle was trained on, with the keys given.

    Raises
    ------
    TsforecastError
        As `build`, and `trained_on`.
    """
    from tsforecast.training.prepare import trained_on

    given: Any = OmegaConf.to_container(cfg, resolve=True)
    keys = given[group] or {}
    return build(cfg[group]) if "_target_" in keys else trained_on(bundle, group, keys, cfg.paths.data_dir)
