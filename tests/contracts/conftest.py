"""One small trained bundle for every dataset x feature x model found in conf/, by the code that train runs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig, ListConfig

from tests.pretrained import small_fracast
from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle
from tsforecast.config.compose import CONF_DIR, build
from tsforecast.config.compose import compose as composed
from tsforecast.data.panel import Panel
from tsforecast.data.sources import Loaded
from tsforecast.data.splits import Borders, FractionSplit
from tsforecast.experiment import Experiment, run_experiment
from tsforecast.features.base import FeatureSet
from tsforecast.training.calibrate import Conformal
from tsforecast.training.prepare import Prepared
from tsforecast.types import Forecast

LOOKBACK, HORIZON, ROWS = 48, 8, 500
LEVELS = (0.05, 0.5, 0.95)


def options(group: str) -> list[str]:
    """Every option of a config group."""
    return sorted(path.stem for path in (CONF_DIR / group).glob("[!_]*.yaml"))


def pairwise(*axes: list[str]) -> list[tuple[str, ...]]:
    """Few combinations in which any two options of two different axes meet: what breaks, breaks where two meet."""
    places = list(combinations(range(len(axes)), 2))
    every = list(product(*axes))
    wanted = {(i, j, row[i], row[j]) for row in every for i, j in places}
    found = []
    while wanted:
        best = max(every, key=lambda row: len({(i, j, row[i], row[j]) for i, j in places} & wanted))
        wanted -= {(i, j, best[i], best[j]) for i, j in places}
        found.append(best)
    return found


@cache
def _composed(name: str, overrides: tuple[str, ...]) -> DictConfig:
    return composed(name, overrides)[0]


def compose(name: str, *overrides: str) -> DictConfig:
    """Compose a command's configuration as the command does; a copy, for what it takes is asked for again and again."""
    return deepcopy(_composed(name, overrides))


@cache
def deep(model: str) -> bool:
    """Whether a model is a network that stays one, or several models: features play no other part than in any other."""
    own = _composed("train", (f"model={model}",)).model
    backbone = own.get("backbone")
    ours = backbone is None or str(backbone._target_).startswith("tsforecast.models.networks.")
    return "members" in own or not ours


@cache
def local(model: str) -> bool:
    """Whether a model is fitted on each window when it forecasts: it reads the target alone, and takes its time."""
    return "most" in _composed("train", (f"model={model}",)).model


def small(node: Any, most: int = 16) -> Any:
    """Every whole number in it capped: hidden sizes, widths, units."""
    if isinstance(node, DictConfig):
        return {key: small(value, most) for key, value in node.items()}
    if isinstance(node, ListConfig):
        return [small(value, most) for value in node]
    return min(node, most) if isinstance(node, int) and not isinstance(node, bool) else node


@dataclass(frozen=True)
class Read:
    """A source that was read before."""

    loaded: Loaded

    def load(self, *, for_training: bool = True) -> Loaded:
        return self.loaded


@dataclass(frozen=True)
class Trained:
    """A bundle and the data it was trained on."""

    bundle: Bundle
    data: Prepared

    @property
    def panel(self) -> Panel:
        return self.data.panel

    @property
    def borders(self) -> Borders:
        return self.data.borders

    def history(self, rows: int | None = None) -> pd.DataFrame:
        """The panel up to the last cutoff that still has a truth, as a frame."""
        end = self.panel.offsets[1:] - HORIZON
        begin = self.panel.offsets[:-1] if rows is None else end - rows
        return golden.frame_of(self.bundle, self.panel.rows(begin, end))

    def future(self) -> pd.DataFrame | None:
        """The known covariates of the rows after that cutoff."""
        end = self.panel.offsets[1:]
        return golden.frame_of(self.bundle, self.panel.rows(end - HORIZON, end)) if self.bundle.schema.known else None

    def forecast(self, bundle: Bundle | None = None, rows: int | None = None) -> Forecast:
        """From the last `rows` rows before that cutoff, or all."""
        return (bundle or self.bundle).forecast(self.history(rows), self.future())

    def saved(self, place: Path) -> Bundle:
        """Written as train writes it, with its golden request."""
        begin, end = self.borders.begin, self.borders.train_end
        return golden.with_golden(self.bundle, self.panel.rows(begin, end)).save(place)


def check(bundle: Bundle, asked: dict[str, Any], answered: bytes) -> None:
    """The answer's numbers are those of `Bundle.forecast`, to the bit."""
    expected = bundle.forecast(**{name: pd.DataFrame(columns) for name, columns in asked.items()})
    for i, one in enumerate(json.loads(answered)["forecasts"]):
        found = np.array([one["point"][name] for name in bundle.channels], np.float32).T
        np.testing.assert_array_equal(found, expected.values[i])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """`trained(dataset, feature, model, *overrides, least=0)`."""
    root = tmp_path_factory.mktemp("contracts")

    @cache
    def loaded(dataset: str) -> Loaded:
        found = build(compose("train", f"dataset={dataset}", *_files(dataset, root)).dataset).load()
        lengths = found.panel.lengths
        few = np.isin(lengths, np.unique(lengths[lengths >= ROWS - 60])[:4])  # about four series, of several lengths
        return replace(found, panel=found.panel.select(few).tail(ROWS))

    @cache
    def train(dataset: str, feature: str, model: str, *overrides: str, least: int = 0) -> Trained:
        quick = ("trainer.enable_progress_bar=false", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
        cfg = compose("train", f"model={model}", *quick, *overrides)
        made = build(compose("train", f"feature=[{feature}]").feature)
        if "rounds" in cfg.model:
            cfg.model.rounds = 3
        if local(model):
            cfg.model.most = None  # the windows that are compared are in no stride
        if "weights" in cfg.model.get("backbone", {}):
            cfg.model.backbone.weights = str(small_fracast(root / "weights"))
        if "family" in cfg.model:
            cfg.model.family, cfg.model.refined = "AZN", 1
        if "candidates" in cfg.model:
            cfg.model.candidates, cfg.model.iterations = 1, 0
        if "members" in cfg.model:
            cfg.model.members = ["ridge", "seasonal_naive"]
        elif deep(model):
            cfg.model.backbone = small(cfg.model.backbone)
        experiment = Experiment(
            source=Read(loaded(dataset)),
            split=FractionSplit(),
            features=FeatureSet(tuple(made.values()), build(cfg.scaler)),
            model=build(cfg.model),
            trainer=build(cfg.trainer),
            calibration=Conformal(0.6),  # 19 windows and more tell the outermost level apart
            lookback=LOOKBACK,
            horizon=HORIZON,
            least=least,
            season=24,
            quantiles=LEVELS,
            unused_covariates="ignore",
        )
        result = run_experiment(experiment, parts=())
        return Trained(result.bundle, result.data)

    return train


def _files(dataset: str, root: Path) -> list[str]:
    """Overrides for the datasets that name no file."""
    if dataset not in ("wide", "long", "sql"):
        return []
    rng = np.random.default_rng(0)
    time = pd.date_range("2024-01-01", periods=ROWS, freq="h")
    wave = np.sin(np.arange(ROWS) / 24 * 2 * np.pi)[:, None]
    file = root / f"{dataset}.csv"
    values = wave + rng.standard_normal((ROWS, 2))
    wide = pd.DataFrame({"date": time, "a": values[:, 0], "b": values[:, 1]})
    if dataset == "sql":
        with closing(sqlite3.connect(root / "x.db")) as database:
            wide.to_sql("power", database, index=False)
        return [f"dataset.address=sqlite:///{root}/x.db", "dataset.query='select * from power order by date'"]
    if dataset == "wide":
        wide.to_csv(file, index=False)
    else:
        series = [pd.DataFrame({"unique_id": f"s{i}", "ds": time, "y": wave[:, 0] * i + rng.standard_normal(ROWS)})
                  for i in range(1, 4)]  # fmt: skip
        pd.concat(series).to_csv(file, index=False)
    return [f"dataset.path={file}"]


def changed(panel: Panel, row: np.ndarray) -> Panel:
    """The panel with every target and past covariate from the absolute rows `row[i]` of series i on replaced."""
    target, past = panel.target.copy(), panel.past.copy()
    for begin, end in zip(row, panel.offsets[1:], strict=True):
        target[begin:end] = 1e3
        past[begin:end] = -1e3
    return replace(panel, target=target, past=past)
