"""The keys of each command and their kinds; their values are in conf/. Known to Hydra wherever this is imported.

A bare word on the command line is the value of the key that its root calls `word`; `spelled` has other words for keys.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf


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
class TrainConfig:
    """Root of `train`. Groups are checked by the constructors they name."""

    spelled: ClassVar = {"members": "model.members", "budget": "model.budget", "weights": "model.backbone.weights"}
    dataset: Any = MISSING
    split: Any = MISSING
    feature: dict[str, Any] = field(default_factory=dict)
    scaler: Any = MISSING
    model: Any = MISSING
    trainer: Any = MISSING
    callbacks: dict[str, Any] = field(default_factory=dict)
    calibration: Any = MISSING
    evaluation: Evaluation = MISSING
    tracking: Any = MISSING
    report: Any = MISSING
    publish: Any = MISSING
    paths: Paths = MISSING
    name: str | None = MISSING
    lookback: Any = MISSING
    horizon: Any = MISSING
    season: int | None = MISSING
    quantiles: list[float] = MISSING
    refit: str = MISSING
    unused_covariates: str = MISSING
    seed: int = MISSING
    threads: int = MISSING
    ckpt_path: str | None = MISSING
    objective: Any = MISSING


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


@dataclass
class BacktestConfig(TrainConfig):
    """Root of `backtest`."""

    backtest: FoldKeys = field(default_factory=FoldKeys)


@dataclass
class DoctorConfig(TrainConfig):
    """Root of `doctor`."""

    json: bool = MISSING


@dataclass
class EvaluateConfig:
    """Root of `evaluate`."""

    word: ClassVar = "bundle"
    bundle: str = MISSING
    dataset: Any = None
    split: Any = None
    evaluation: Evaluation = MISSING
    report: Any = MISSING
    paths: Paths = MISSING
    part: str = MISSING
    threads: int = MISSING


@dataclass
class PredictConfig:
    """Root of `predict`; where `input=` is said, the bare word is the bundle."""

    word: ClassVar = "input"
    second: ClassVar = "bundle"
    bundle: str = MISSING
    input: str = MISSING
    output: str = MISSING
    plot: str | None = MISSING
    known_future: str | None = MISSING
    static: str | None = MISSING
    format: str | None = MISSING
    horizon: int | None = MISSING
    levels: Any = MISSING
    stale: str = MISSING
    short: str | None = MISSING
    sep: str | None = MISSING
    decimal: str | None = MISSING
    thousands: str | None = MISSING
    date_format: str | None = MISSING
    localize: str | None = MISSING
    unsorted: str | None = MISSING
    gaps: str | None = MISSING
    duplicates: str | None = MISSING
    paths: Paths = MISSING
    threads: int = MISSING


@dataclass
class PublishConfig:
    """Root of `publish`."""

    word: ClassVar = "bundle"
    bundle: str = MISSING
    to: str = MISSING
    name: str | None = MISSING
    alias: str | None = MISSING
    paths: Paths = MISSING


@dataclass(init=False, repr=False, eq=False)  # which would be code that says `from`
class PromoteConfig:
    """Root of `promote`; its key `from`, a word of Python, is added below."""

    word: ClassVar = "action"
    spelled: ClassVar = {"model": "name"}
    action: str = MISSING
    name: str = MISSING
    to: str = MISSING
    dataset: Any = None
    split: Any = None
    gate: Any = MISSING
    part: str = MISSING
    stride: int = MISSING
    force: bool = MISSING
    reason: str | None = MISSING
    uri: str = MISSING
    out: str = MISSING
    paths: Paths = MISSING
    threads: int = MISSING
    __annotations__["from"] = str


@dataclass
class RerunConfig:
    """Root of `rerun`."""

    word: ClassVar = "run"
    run: str = MISSING
    dataset: Any = None
    tracking: Any = MISSING
    report: Any = MISSING
    publish: Any = MISSING
    paths: Paths = MISSING
    name: str | None = MISSING
    threads: int | None = MISSING


@dataclass
class LeaderboardConfig:
    """Root of `leaderboard`."""

    runs: Any = MISSING
    out: str | None = MISSING
    score: str = MISSING
    uri: str = MISSING
    paths: Paths = MISSING


@dataclass
class CheckConfig:
    """Root of `check`."""

    word: ClassVar = "input"
    input: str = MISSING
    dataset: Any = MISSING
    paths: Paths = MISSING
    threads: int = MISSING


@dataclass
class SyncConfig:
    """Root of `sync`."""

    word: ClassVar = "runs"
    runs: str = MISSING
    uri: str | None = MISSING
    paths: Paths = MISSING


ROOTS = {
    "check": CheckConfig,
    "doctor": DoctorConfig,
    "train": TrainConfig,
    "backtest": BacktestConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "leaderboard": LeaderboardConfig,
    "publish": PublishConfig,
    "sync": SyncConfig,
    "promote": PromoteConfig,
    "rerun": RerunConfig,
}

for _name, _root in ROOTS.items():
    ConfigStore.instance().store(name=f"{_name}_root", node=_root)
OmegaConf.register_new_resolver("unique", lambda: secrets.token_hex(3), use_cache=True, replace=True)
OmegaConf.register_new_resolver("cwd", lambda: str(Path.cwd()), replace=True)
