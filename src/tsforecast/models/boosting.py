"""Gradient boosting with XGBoost: boosters per channel and forecast step, fed from batches of windows."""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xgboost as xgb
from jaxtyping import Float
from sklearn.base import BaseEstimator

from tsforecast.errors import ConfigError, DataError
from tsforecast.models.base import Estimator
from tsforecast.models.linear import Ridge, design
from tsforecast.models.trees import TreeForecaster, seen
from tsforecast.types import Dims
from tsforecast.windows import Windows

log = logging.getLogger(__name__)
STRATEGIES = ("direct", "multi_output", "recursive")
_ROWS = 8192  # design rows gathered at a time
_PLAIN = str.maketrans("[]<", "()‹")  # XGBoost refuses these in the name of a feature


class XGBoost(BaseEstimator, Estimator):
    """Boosted trees on the last-value-subtracted window (Chen & Guestrin, XGBoost, KDD 2016).

    The design is the one of ridge regression, one row per window and channel, and is never in memory as a whole: it
    goes batch by batch into XGBoost's quantised matrix, one byte an entry. Trees cannot extrapolate: on raw levels
    they lose to repeating the last value, so the last value is subtracted and the forecast counted from it.
    Windows with a missing label are left out. XGBoost uses OMP_NUM_THREADS threads, which `threads` sets.

    Parameters
    ----------
    strategy
        `direct`: a booster per forecast step, which sees the known covariates of that step. `multi_output`: one
        booster whose trees have a leaf value per step, and which sees the known covariates of all. `recursive`: a
        booster one step ahead, rolled forward; it takes no past covariates or window features, and its errors add up:
        give it a `base`.
    per_channel
        Boosters for each channel; otherwise all channels share them, a row each.
    base
        A ridge regression whose residual is boosted (XGBoost's `base_margin`); None boosts what the last value leaves.
    learns_quantiles
        Whether to learn `dims.quantiles` (pinball loss) in place of the mean; with `direct` only.
    rounds
        Trees per booster, at most; 0 leaves `base` alone.
    patience
        Rounds without a lower validation loss before a booster stops and goes back to its best, which with a `base`
        may be no tree at all; None: all rounds.
    max_depth, learning_rate, min_child_weight, subsample, colsample_bytree, reg_lambda, max_bin
        XGBoost's.
    params
        Any other XGBoost parameter.
    device
        `cpu`, `cuda`, `cuda:1`, or a name of `trainer.accelerator`: `gpu` is `cuda`, `auto` is `cuda` where there is
        a GPU. Forecasts are made on the processor whatever the device was.
    seed
        Of the subsampling.
    """

    def __init__(
        self,
        *,
        strategy: str = "direct",
        per_channel: bool = True,
        base: Ridge | None = None,
        learns_quantiles: bool = False,
        rounds: int = 300,
        patience: int | None = 10,
        max_depth: int = 4,
        learning_rate: float = 0.1,
        min_child_weight: float = 20.0,
        subsample: float = 0.5,
        colsample_bytree: float = 0.5,
        reg_lambda: float = 1.0,
        max_bin: int = 256,
        params: Mapping[str, Any] | None = None,
        device: str = "cpu",
        seed: int = 1,
    ) -> None:
        self.strategy = strategy
        self.per_channel = per_channel
        self.base = base
        self.learns_quantiles = learns_quantiles
        self.rounds = rounds
        self.patience = patience
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.min_child_weight = min_child_weight
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.reg_lambda = reg_lambda
        self.max_bin = max_bin
        self.params = params
        self.device = device
        self.seed = seed

    @property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        """What is known at every step that the strategy forecasts."""
        return frozenset(
            {"known", "static"} if self.strategy == "recursive" else {"past", "known", "static", "tabular"}
        )

    def fit(self, train: Windows, val: Windows, dims: Dims) -> TreeForecaster:
        """Fit every booster, each stopped where its own validation loss is lowest.

        Raises
        ------
        ConfigError
            A parameter is impossible, XGBoost refuses it, or there is no GPU to run on.
        DataError
            No window has a complete label.
        """
        options = self._options(dims)
        recursive = self.strategy == "recursive"
        horizon = dims.horizon
        if recursive:  # one step ahead, with what is known at every step
            train, val = (
                replace(w, horizon=1, encoded=replace(w.encoded, past=w.encoded.past[:, :0], window_features=()))
                for w in (train, val)
            )
            cardinality = {group: sizes for group, sizes in dims.cardinality.items() if group != "past"}
            dims = replace(dims, horizon=1, past=0, tabular=0, cardinality=cardinality)
        every = list(range(dims.horizon))
        forecaster = TreeForecaster(
            horizon=horizon,
            channels=[[c] for c in range(dims.channels)] if self.per_channel else [list(range(dims.channels))],
            steps=[every] if self.strategy == "multi_output" else [[step] for step in every],
            recursive=recursive,
            quantiles=len(dims.quantiles),
            linear=self.base is not None,
            cardinality=dims.cardinality,
        )
        if self.base is not None:
            forecaster.base = self.base.fit(train, val, replace(dims, quantiles=()))
        boosters = []
        for channels in forecaster.channels:
            parts = [_Part.of(w, channels, forecaster, name) for w, name in ((train, "train"), (val, "val"))]
            matrices: list[xgb.QuantileDMatrix] = []
            for i, steps in enumerate(forecaster.steps):
                if i == 0 or dims.known:  # else the boosters differ in their labels alone
                    names, types = _columns(train, dims, channels, steps)
                    matrices = []
                    for part in parts:
                        feed = _Feed(part.rows(forecaster, steps), names, types)
                        ref = matrices[0] if matrices else None
                        matrices.append(
                            xgb.QuantileDMatrix(feed, max_bin=self.max_bin, ref=ref, enable_categorical=True)
                        )
                for matrix, part in zip(matrices, parts, strict=True):
                    matrix.set_info(label=part.label[:, steps])
                    if part.margin is not None:
                        matrix.set_info(
                            base_margin=np.repeat(part.margin[:, steps], max(len(dims.quantiles), 1), axis=1)
                        )
                boosters.append(self._boost(options, *matrices))
        grown = [booster.num_boosted_rounds() for booster in boosters]
        log.info("%d boosters of %d to %d rounds", len(boosters), min(grown), max(grown))
        forecaster.boosters = boosters
        return forecaster.restore(forecaster.state())  # what was fitted predicts as what is loaded

    def _boost(self, options: dict[str, Any], train: xgb.DMatrix, val: xgb.DMatrix) -> xgb.Booster:
        if self.patience is None or not self.rounds:
            return xgb.train(options, train, self.rounds)
        booster = xgb.train(
            options, train, self.rounds, evals=[(val, "val")], early_stopping_rounds=self.patience, verbose_eval=False
        )
        if self.base is not None:  # which no tree may better
            alone = xgb.train(options, train, 0)
            if float(alone.eval(val).rpartition(":")[2]) <= booster.best_score:
                return alone
        return booster[: booster.best_iteration + 1]

    def _options(self, dims: Dims) -> dict[str, Any]:
        """XGBoost's parameters, tried out on two rows."""
        if self.strategy not in STRATEGIES:
            raise ConfigError("there is no such strategy", where="model.strategy", got=self.strategy,
                              allowed=", ".join(STRATEGIES))  # fmt: skip
        if self.learns_quantiles and self.strategy != "direct":
            raise ConfigError("only direct boosters learn quantiles", where="model.learns_quantiles",
                              got=f"strategy {self.strategy}", allowed="strategy direct",
                              fix="model.strategy=direct, or calibration=conformal without learning")  # fmt: skip
        for name, least in (("rounds", 1 if self.base is None else 0), ("patience", 1)):
            value = getattr(self, name)
            if (name, value) != ("patience", None) and (
                isinstance(value, bool) or not isinstance(value, int) or value < least
            ):
                raise ConfigError(f"{name} are counted" if name == "rounds" else "patience counts rounds",
                                  where=f"model.{name}", got=value, allowed=f"{least} or more",
                                  fix=f"model.{name}={max(least, 10)}")  # fmt: skip
        options = {
            "objective": "reg:squarederror",
            "max_depth": self.max_depth,
            "learning_rate": self.learning_rate,
            "min_child_weight": self.min_child_weight,
            "subsample": self.subsample,
            "colsample_bytree": self.colsample_bytree,
            "reg_lambda": self.reg_lambda,
            "max_bin": self.max_bin,
            "seed": self.seed,
            "device": {"gpu": "cuda", "auto": "cuda"}.get(self.device, self.device),
        }
        if dims.quantiles:
            options |= {"objective": "reg:quantileerror", "quantile_alpha": list(dims.quantiles)}
        if self.strategy == "multi_output":
            options["multi_strategy"] = "multi_output_tree"
        options |= self.params or {}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                tiny = xgb.QuantileDMatrix(np.eye(2, dtype=np.float32), label=np.arange(2), max_bin=self.max_bin)
                xgb.train(options, tiny, 1)
            except (xgb.core.XGBoostError, TypeError, ValueError) as error:
                reason = re.sub(r"^\[[\d:]+\] \S+: |\s+", " ", str(error).partition("Stack trace")[0]).strip()
                raise ConfigError("XGBoost refuses a parameter", where="model", got=reason[:300],
                                  fix="compare the model's keys with XGBoost's documentation") from error  # fmt: skip
        complaints = " ".join(str(each.message) for each in said)
        if "are not used" in complaints:
            unknown = complaints.partition("Parameters: {")[2].partition("}")[0].replace('"', "").strip()
            raise ConfigError("XGBoost does not know a parameter", where="model.params", got=unknown,
                              fix="compare the keys with XGBoost's documentation")  # fmt: skip
        if "changed from GPU to CPU" in complaints:
            if self.device != "auto":
                raise ConfigError("XGBoost finds no GPU", where="model.device", got=self.device,
                                  allowed="cpu here; cuda with a GPU and the package xgboost in place of xgboost-cpu",
                                  fix="trainer=cpu, whose accelerator the model takes")  # fmt: skip
            options["device"] = "cpu"
        return options


@dataclass(frozen=True)
class _Part:
    """The rows of some channels with a complete label; labels and margins are counted from the last value."""

    windows: Windows  # of these channels alone: else time and memory would grow with the square of their number
    label: Float[np.ndarray, "R H"]
    margin: Float[np.ndarray, "R H"] | None
    kept: Sequence[np.ndarray]  # of each batch, the rows with a complete label

    @classmethod
    def of(cls, windows: Windows, channels: Sequence[int], forecaster: TreeForecaster, name: str) -> _Part:
        """One pass over the windows."""
        windows = replace(windows, encoded=replace(windows.encoded, target=windows.encoded.target[:, channels]))
        labels, margins, kept = [], [], []
        for index in _batches(windows):
            window, label = windows.batch(index)
            margin = forecaster.margin(window)
            label = (label - window.target[:, -1:]).transpose(0, 2, 1).reshape(-1, windows.horizon)
            kept.append(~np.isnan(label).any(axis=1))
            labels.append(label[kept[-1]])
            if margin is not None:
                margins.append(margin.transpose(0, 2, 1).reshape(-1, windows.horizon)[kept[-1]])
        if not sum(map(len, labels)):
            raise DataError("no window has a complete label", where=f"{name} rows",
                            got=f"{len(windows)} windows, all with missing targets",
                            fix="shorten the horizon, or fill the gaps of the data first")  # fmt: skip
        return cls(windows, np.concatenate(labels), np.concatenate(margins) if margins else None, kept)

    def rows(self, forecaster: TreeForecaster, steps: Sequence[int]) -> Callable[[], Iterator[np.ndarray]]:
        """The design for boosters of `steps`, batch by batch, as often as it is asked for."""

        def batches() -> Iterator[np.ndarray]:
            every = range(self.windows.encoded.target.shape[1])
            for index, kept in zip(_batches(self.windows), self.kept, strict=True):
                window = seen(self.windows.window(index), every, steps, recursive=forecaster.recursive)
                yield design(window)[0][kept]

        return batches


def _batches(windows: Windows) -> Iterator[slice]:
    return windows.batches(max(1, _ROWS // windows.encoded.target.shape[1]))


class _Feed(xgb.DataIter):
    """Batches of rows for XGBoost, which passes over them several times."""

    def __init__(self, batches: Callable[[], Iterator[np.ndarray]], names: list[str], types: list[str]) -> None:
        self.batches, self.names, self.types = batches, names, types
        self.pending = batches()
        super().__init__()

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over one batch."""
        rows = next(self.pending, None)
        if rows is not None:
            input_data(data=rows, feature_names=self.names, feature_types=self.types)
        return rows is not None

    def reset(self) -> None:
        """From the first batch on again."""
        self.pending = self.batches()


def _columns(
    windows: Windows, dims: Dims, channels: Sequence[int], steps: Sequence[int]
) -> tuple[list[str], list[str]]:
    """A name (`HUFL lag 24`) and a type (`c` for a category, `q` for a number) for each column of the design."""
    named = windows.encoded.names
    groups = {
        group: named.get(group) or [f"{group} {j}" for j in range(size)]
        for group, size in (
            ("target", dims.channels),
            ("past", dims.past),
            ("known", dims.known),
            ("static", dims.static),
        )
    }
    kinds = {group: ["c" if size else "q" for size in sizes] for group, sizes in dims.cardinality.items()}
    lags = [f"lag {lag}" for lag in range(dims.lookback, 0, -1)]
    owner = f"{groups['target'][channels[0]]} " if len(channels) == 1 else ""
    names = [f"{owner}{lag}" for lag in lags]
    types = ["q"] * len(lags)
    for group, suffixes in (
        ("past", [f" {lag}" for lag in lags] if dims.past else []),
        ("known", [""] if len(steps) == 1 else [f" step {step + 1}" for step in steps]),
        ("static", [""]),
    ):
        columns = groups[group] if getattr(dims, group) else []
        names += [f"{column}{suffix}" for suffix in suffixes for column in columns]
        types += [kind for _ in suffixes for kind in kinds.get(group, ["q"] * len(columns))]
    features = [n for f in windows.encoded.window_features for n in f.names(dims.lookback)]
    names += features
    types += ["q"] * len(features)
    seen_before: Counter[str] = Counter()
    unique = []
    for name in (name.translate(_PLAIN) for name in names):
        seen_before[name] += 1
        unique.append(name if seen_before[name] == 1 else f"{name} ({seen_before[name]})")
    return unique, types
