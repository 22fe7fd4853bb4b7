"""Gradient boosting with XGBoost: boosters per channel and forecast step, fed from batches of windows."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xgboost as xgb
from sklearn.base import BaseEstimator

from tsforecast.errors import ConfigError, count, one_of
from tsforecast.models.base import Estimator
from tsforecast.models.feed import Part, matrices
from tsforecast.models.linear import Ridge
from tsforecast.models.trees import TreeForecaster
from tsforecast.types import Dims
from tsforecast.windows import Windows

log = logging.getLogger(__name__)
STRATEGIES = ("direct", "multi_output", "recursive")


class Progress(xgb.callback.TrainingCallback):
    """Tells the validation losses of boosters as they grow."""

    def __init__(self, on: Callable[[int, float], object], boosters: int) -> None:
        self.on, self.boosters, self.best = on, boosters, [math.inf]

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """After a round, which goes on but where `on` raises."""
        (losses,) = evals_log["val"].values()
        self.best[-1] = min(self.best[-1], float(losses[-1]))
        if self.boosters == 1:
            self.on(epoch, self.best[-1])
        return False

    def after_training(self, model: Any) -> Any:
        """After a booster."""
        if self.boosters > 1:
            self.on(len(self.best), float(np.mean(self.best)))
        self.best.append(math.inf)
        return model


@dataclass(eq=False, repr=False, kw_only=True)
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
        Trees per booster, at most; 0 leaves `base` alone. A sequence has a number for each booster.
    patience
        Rounds without a lower validation loss before a booster stops and goes back to its best, which with a `base`
        may be no tree at all; None: all rounds, and the validation windows are not read.
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

    strategy: str = "direct"
    per_channel: bool = True
    base: Ridge | None = None
    learns_quantiles: bool = False
    rounds: int | Sequence[int] = 300
    patience: int | None = 10
    max_depth: int = 4
    learning_rate: float = 0.1
    min_child_weight: float = 20.0
    subsample: float = 0.5
    colsample_bytree: float = 0.5
    reg_lambda: float = 1.0
    max_bin: int = 256
    params: Mapping[str, Any] | None = None
    device: str = "cpu"
    seed: int = 1

    @property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        """What is known at every step that the strategy forecasts."""
        known = frozenset({"known", "static"})
        return known if self.strategy == "recursive" else known | {"past", "tabular"}

    def refitting(self, chosen: Mapping[str, Any]) -> XGBoost:
        """With `rounds` for each booster, and the `base` that was chosen."""
        base = self.base and self.base.refitting(chosen["base"])
        return replace(self, rounds=list(chosen["rounds"]), patience=None, base=base)

    def fit(
        self, train: Windows, val: Windows, dims: Dims, on: Callable[[int, float], object] | None = None
    ) -> TreeForecaster:
        """Fit every booster, each stopped where its own validation loss is lowest.

        Parameters
        ----------
        on
            Is told the lowest validation loss so far: after each round where there is one booster, else after each
            booster the mean of those that are ready. What it raises ends the fit.

        Raises
        ------
        ConfigError
            A parameter is impossible, XGBoost refuses it, or there is no GPU to run on.
        DataError
            No window has a complete label.
        """
        options = self._options(dims)
        horizon, recursive = dims.horizon, self.strategy == "recursive"
        if recursive:  # one step ahead, with what is known at every step
            train, val = (
                replace(w, horizon=1, encoded=replace(w.encoded, past=w.encoded.past[:, :0], window_features=()))
                for w in (train, val)
            )
            cardinality = {group: sizes for group, sizes in dims.cardinality.items() if group != "past"}
            dims = replace(dims, horizon=1, past=0, tabular=0, cardinality=cardinality)
        every, channels = list(range(dims.horizon)), list(range(dims.channels))
        forecaster = TreeForecaster(
            horizon=horizon,
            channels=[[channel] for channel in channels] if self.per_channel else [channels],
            steps=[every] if self.strategy == "multi_output" else [[step] for step in every],
            recursive=recursive,
            quantiles=len(dims.quantiles),
            linear=self.base is not None,
            cardinality=dims.cardinality,
        )
        if self.base is not None:
            forecaster.base = self.base.fit(train, val, replace(dims, quantiles=()))
            forecaster.chosen = {"base": forecaster.base.chosen}
        boosters = forecaster.boosters
        rounds = self._rounds(len(forecaster.channels) * len(forecaster.steps))
        progress = [Progress(on, len(rounds))] if on else []
        read = {"training": train} if self.patience is None else {"training": train, "validation": val}
        for group in forecaster.channels:
            parts = [Part.of(windows, group, forecaster, name) for name, windows in read.items()]
            for i, steps in enumerate(forecaster.steps):
                if i == 0 or dims.known:  # else the boosters differ in their labels alone
                    designs = matrices(parts, dims, group, steps, self.max_bin)
                for matrix, part in zip(designs, parts, strict=True):
                    matrix.set_info(label=part.label[:, steps])
                    if part.margin is not None:
                        margin = np.repeat(part.margin[:, steps], max(len(dims.quantiles), 1), axis=1)
                        matrix.set_info(base_margin=margin)
                boosters.append(self._boost(options, rounds[len(boosters)], *designs, progress=progress))
        grown = [booster.num_boosted_rounds() for booster in boosters]
        log.info("%d boosters of %d to %d rounds", len(boosters), min(grown), max(grown))
        forecaster.chosen = {**forecaster.chosen, "rounds": grown}
        return forecaster.restore(forecaster.state())  # what was fitted predicts as what is loaded

    def _rounds(self, boosters: int) -> Sequence[int]:
        """Of each booster."""
        rounds = [self.rounds] * boosters if isinstance(self.rounds, int) else self.rounds
        if len(rounds) != boosters:
            got, allowed = f"{len(rounds)} numbers", f"one number, or one for each of {boosters} boosters"
            raise ConfigError("these are the rounds of other boosters", where="model.rounds", got=got, allowed=allowed)
        return rounds

    def _boost(
        self,
        options: dict[str, Any],
        rounds: int,
        train: xgb.DMatrix,
        val: xgb.DMatrix | None = None,
        *,
        progress: Sequence[Progress] = (),
    ) -> xgb.Booster:
        if val is None or not rounds:
            return xgb.train(options, train, rounds)
        evals = {"evals": [(val, "val")], "early_stopping_rounds": self.patience, "verbose_eval": False}
        evals["callbacks"] = list(progress)
        booster = xgb.train(options, train, rounds, **evals)
        if self.base is not None:  # which no tree may better
            alone = xgb.train(options, train, 0)
            if float(alone.eval(val).rpartition(":")[2]) <= booster.best_score:
                return alone
        return booster[: booster.best_iteration + 1]

    def _options(self, dims: Dims) -> dict[str, Any]:
        """XGBoost's parameters, tried out on two rows."""
        one_of("model.strategy", self.strategy, STRATEGIES)
        if self.learns_quantiles and self.strategy != "direct":
            what, fix = "only direct boosters learn quantiles", "model.strategy=direct, or calibration=conformal alone"
            got, allowed = f"strategy {self.strategy}", "strategy direct"
            raise ConfigError(what, where="model.learns_quantiles", got=got, allowed=allowed, fix=fix)
        for rounds in [self.rounds] if isinstance(self.rounds, int | float) else self.rounds:
            count("model.rounds", rounds, 1 if self.base is None else 0)
        if self.patience is not None:
            count("model.patience", self.patience)
        own = ("max_depth", "learning_rate", "min_child_weight", "subsample", "colsample_bytree", "reg_lambda")
        options = {name: getattr(self, name) for name in (*own, "max_bin", "seed")}
        options["device"] = {"gpu": "cuda", "auto": "cuda"}.get(self.device, self.device)
        options["objective"] = "reg:squarederror"
        if dims.quantiles:
            options |= {"objective": "reg:quantileerror", "quantile_alpha": list(dims.quantiles)}
        if self.strategy == "multi_output":
            options["multi_strategy"] = "multi_output_tree"
        options |= self.params or {}
        if (refusal := _refusal(options)) is None:
            return options
        if _refusal(on_cpu := options | {"device": "cpu"}) is not None:
            fix = "compare the model's keys with XGBoost's documentation"
            raise ConfigError("XGBoost refuses a parameter", where="model", got=refusal, fix=fix)
        if self.device == "auto":
            return on_cpu
        allowed = "cpu here; cuda with a GPU and the package xgboost in place of xgboost-cpu"
        what, fix = "XGBoost does not run on this device", "trainer=cpu, whose accelerator the model takes"
        raise ConfigError(what, where="model.device", got=f"{self.device}: {refusal}", allowed=allowed, fix=fix)


def _refusal(options: Mapping[str, Any]) -> str | None:
    """What XGBoost has to say against parameters: an error, or a warning that it goes on without them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tiny = xgb.QuantileDMatrix(np.eye(2, dtype=np.float32), label=np.arange(2), max_bin=options["max_bin"])
            xgb.train(dict(options), tiny, 1)
        except (xgb.core.XGBoostError, TypeError, ValueError) as error:
            return str(error).partition("Stack trace")[0].strip()[:300]
    return next((str(each.message).strip() for each in caught if each.category is UserWarning), None)
