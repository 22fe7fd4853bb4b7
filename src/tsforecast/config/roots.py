"""The keys of each command and their kinds; their values are in conf/. Known to Hydra once they are asked for."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

_HERE = Path(__file__).resolve().parents[1]
# Shipped inside the wheel as tsforecast/conf; at the top of the repository in a checkout.
CONF_DIR = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parents[1] / "conf"


@dataclass
class Evaluation:
    """How test rows are scored."""

    stride: int = MISSING
    covariates: bool = MISSING
    baselines: dict[str, Any] = MISSING


@dataclass
class Paths:
    """Where things lie."""

    root_dir: str = MISSING
    data_dir: str = MISSING
    output_dir: str = MISSING


@dataclass
class FoldKeys:
    """Of `backtest`: `tsforecast.data.folds.Folds`, and what is beside it."""

    windows: int = MISSING
    step: int | None = MISSING
    gap: int = MISSING
    train: int | None = MISSING
    val: int | None = MISSING
    refit: Any = MISSING
    models: list[str] = MISSING
    n_jobs: int = MISSING
    executor: str = MISSING
    dry_run: bool = MISSING


EXPERIMENTS = ("train", "backtest", "doctor")
COMMANDS = sorted(file.stem for file in CONF_DIR.glob("*.yaml"))
KINDS: dict[str, Any] = {  # of groups, and of keys whose default does not tell it
    "paths": Paths,
    "evaluation": Evaluation,
    "backtest.backtest": FoldKeys,
    "backtest.objective": Any,  # one or several
    "train.objective": Any,
    "train.lookback": Any,  # rows, or auto
    "train.horizon": Any,
    "train.season": Any,
    "train.quantiles": list[float],
    "predict.horizon": int | None,
    "predict.levels": Any,
    "leaderboard.runs": Any,
    "rerun.threads": int | None,
    "publish.alias": str | None,
}
# The key of which a bare word on the command line is the value; where it is said, that of the one behind it.
WORDS = {"check": ["input"], "evaluate": ["bundle"], "predict": ["input", "bundle"], "publish": ["bundle"]}
WORDS |= {"sync": ["runs"], "promote": ["action"], "rerun": ["run"]}
_BRIEF = {"members": "model.members", "budget": "model.budget", "weights": "model.backbone.weights"}
OWNERS = {"model.members": "model=ensemble and model=auto", "model.budget": "model=auto"}
OWNERS |= {"model.backbone": "networks, as is weights= of model=pretrained"}
BY_CHANNEL = {"dataset.bounds", "dataset.units"}
SPELLED = dict.fromkeys(EXPERIMENTS, _BRIEF) | {"promote": {"model": "name"}}  # other words for keys


def keys_of(command: str) -> Any:
    """The keys of a command and their kinds, which Hydra knows from now on, also where its store was put back."""
    for each in {"train", command} if command in EXPERIMENTS else {command}:
        ConfigStore.instance().store(name=f"{each}_root", node=_keys_of(each))
    return _keys_of(command)


def __getattr__(name: str) -> Any:
    """`TrainConfig`, ...: where a pickled configuration looks for the class of its keys."""
    if (command := name.removesuffix("Config").lower()) not in COMMANDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _keys_of(command)


@cache
def _keys_of(command: str) -> Any:
    """Those that its file in `conf/` has: each of the kind of its default, text where that is null or `???`.

    What is chosen from a group may be anything: its constructor checks it.
    """
    file = yaml.safe_load((CONF_DIR / f"{command}.yaml").read_text(encoding="utf-8"))
    defaults = file.pop("defaults")
    groups = {name: option for each in defaults if isinstance(each, dict) for name, option in each.items()}
    groups = {name: option for name, option in groups.items() if name.isidentifier() and name != "hydra"}
    kinds = {name: dict[str, Any] if isinstance(option, list) else Any for name, option in groups.items()}
    kinds |= {name: KINDS[name] for name in groups if name in KINDS}
    for key, default in file.items():
        kind = str | None if default is None else type(default)
        kinds[key] = KINDS.get(f"{command}.{key}", Any if kind is dict else kind)
    kinds.pop("hydra", None)
    body = {key: None if groups.get(key, "") is None else MISSING for key in kinds}
    body |= {key: field(default_factory=dict) for key, option in groups.items() if isinstance(option, list)}
    bases = tuple(_keys_of(each) for each in defaults if each in COMMANDS)
    made = type(f"{command.title()}Config", bases, {**body, "__annotations__": kinds})
    return dataclass(init=False, repr=False, eq=False)(made)  # which would be code, and one key is called `from`


OmegaConf.register_new_resolver("unique", lambda: secrets.token_hex(3), use_cache=True, replace=True)
OmegaConf.register_new_resolver("cwd", lambda: str(Path.cwd()), replace=True)
