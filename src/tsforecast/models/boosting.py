"""Gradient boosting with XGBoost: a booster per channel and forecast step, or one for all of them."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import xgboost as xgb
from sklearn.base import BaseEstimator

from tsforecast.errors import ConfigError, count, one_of
from tsforecast.models import feed
from tsforecast.models.base import Estimator
from tsforecast.models.feed import columns
from tsforecast.models.linear import LinearForecaster, Ridge
from tsforecast.models.trees import TreeForecaster, alone
from tsforecast.types import Dims
from tsforecast.windows import Windows

log = logging.getLogger(__name__)
STRATEGIES = ("auto", "direct", "shared")
OBJECTIVES = {"squarederror": "reg:squarederror", "absoluteerror": "reg:absoluteerror"}
OBJECTIVES |= {"quantile": "reg:quantileerror", "tweedie": "reg:tweedie", "poisson": "count:poisson"}
LOGARITHMIC = ("tweedie", "poisson")
MOST_CHANNELS, MOST_BOOSTERS = 16, 500  # series and channels, boosters: beyond them one booster is shared
LONG = 15.0  # minutes, of which a word is said before


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

    Trees cannot extrapolate: on raw levels they lose to repeating the last value, so the last value is subtracted and
    the forecast counted from it. Windows with a missing label are left out, and no design is in memory as floats
    while XGBoost boosts: its quantised matrix has two bytes an entry. XGBoost uses OMP_NUM_THREADS threads, which
    `threads` sets.

    Parameters
    ----------
    strategy
        `direct`: a booster per channel and step, whose rows are those of ridge regression: the whole window, past
        covariates, the known covariates of that step. `shared`: one booster, to which channel and step are features
        beside lags, means, lags at the season and the covariates of these rows and of the row to be forecast.
        `auto`: shared beyond 16 series and channels or 500 boosters, else direct.
    objective
        `squarederror`, `absoluteerror`, or `quantile`: the quantiles of `dims` in place of the mean, the median where
        there are none. `tweedie` and `poisson` are for targets of 0 and more, many of them 0: a forecast is a multiple
        of the window's mean, never negative, and `base` is not used.
    rows
        Rows that a shared booster reads at most, drawn at random where there are more; `all` of them.
    memory
        GB of rows, as floats, that are held in memory. What is larger lies quantised in a temporary folder (of TMPDIR)
        until the fit ends, and is read from there once for each level of a tree; on a GPU all are held. Labels,
        margins and gradients, 40 bytes a row, are held in any case.
    base
        A ridge regression whose residual is boosted (XGBoost's `base_margin`), fitted on the window without covariates
        where boosters are shared; None boosts what the last value leaves.
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
        Of the rows that are drawn, and of the subsampling.
    """

    strategy: str = "auto"
    objective: str = "squarederror"
    rows: int | str = 300_000
    memory: float = 1.0
    base: Ridge | None = None
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
    uses: ClassVar[frozenset[str]] = frozenset({"past", "known", "static", "tabular"})
    refits: ClassVar[int] = 5

    @property
    def learns_quantiles(self) -> bool:  # type: ignore[override]
        """With the objective `quantile`."""
        return self.objective == "quantile"

    def refitting(self, chosen: Mapping[str, Any]) -> XGBoost:
        """With the `strategy`, `rounds` for each booster, and the `base` that was chosen."""
        base = self.base and self.base.refitting(chosen["base"]) if "base" in chosen else None
        return replace(self, strategy=chosen["strategy"], rounds=list(chosen["rounds"]), patience=None, base=base)

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
            A parameter is impossible, XGBoost refuses it, there is no GPU to run on, or the objective does not
            take a target.
        DataError
            No window has a complete label.
        """
        options = self._options(dims)
        shared = self._shared(train, dims)
        floor = self._floor(train) if self.objective in LOGARITHMIC else 0.0
        base = None if floor else self.base
        forecaster = TreeForecaster(
            horizon=dims.horizon,
            channels=dims.channels,
            season=dims.season if shared else 0,
            quantiles=len(dims.quantiles),
            floor=floor,
            linear=base is not None,
            cardinality=dims.cardinality,
        )
        if base is not None:
            forecaster.base = _base(base, train, val, dims, shared)
            forecaster.chosen = {"base": forecaster.base.chosen}
        rounds = self._rounds(forecaster.count)
        progress = [Progress(on, len(rounds))] if on else []
        read = {"training": train} if self.patience is None else {"training": train, "validation": val}
        width = len(columns(train, dims, forecaster)["feature_names"])
        most = sys.maxsize if self.rows == "all" else int(self.rows)
        rows = [min(len(each) * dims.channels * dims.horizon, most) if shared else len(each) for each in read.values()]
        self._tell(width, rows[0], rounds, shared=shared)
        fed = partial(feed.shared, most=most, seed=self.seed) if shared else feed.direct
        # a GPU reads no files of rows that came from here
        memory = self.memory if options["device"] == "cpu" else math.inf
        with feed.Store.of(sum(rows) * width, memory, self.max_bin) as store:
            forecaster.boosters = [
                self._boost(options, trees, *designs, progress=progress)
                for trees, designs in zip(rounds, fed(read, dims, forecaster, store), strict=True)
            ]
        grown = [booster.num_boosted_rounds() for booster in forecaster.boosters]
        strategy = "shared" if shared else "direct"
        level = logging.DEBUG if self.patience is None else logging.INFO  # rounds that were stated, or chosen before
        told = "model.strategy=%s: %d boosters of %d to %d rounds"
        log.log(level, told, strategy, len(grown), min(grown), max(grown))
        forecaster.chosen = {**forecaster.chosen, "strategy": strategy, "rounds": grown}
        return forecaster.restore(forecaster.state())  # what was fitted predicts as what is loaded

    def _shared(self, train: Windows, dims: Dims) -> bool:
        wide = len(np.unique(train.series)) * dims.channels > MOST_CHANNELS
        large = wide or dims.channels * dims.horizon > MOST_BOOSTERS
        return self.strategy == "shared" or (self.strategy == "auto" and large)

    def _floor(self, train: Windows) -> float:
        """A hundredth of the mean target: what a level is at least."""
        lowest, total, n = math.inf, 0.0, 0
        for index in train.batches(8192):
            _, label = train.batch(index)
            seen = label[~np.isnan(label)]
            lowest, total, n = min(lowest, seen.min(initial=math.inf)), total + float(seen.sum()), n + len(seen)
        if lowest < 0:
            what, got = "this objective needs targets >= 0", f"{self.objective}, with {lowest:.4g} in the model's units"
            fix = "scaler=none scaler.scope=global, if no target is negative; or model.objective=squarederror"
            raise ConfigError(what, where="model.objective", got=got, allowed="targets of 0 and more", fix=fix)
        return max(total / max(n, 1) / 100, 1e-6)

    def _tell(self, width: int, rows: int, rounds: Sequence[int], *, shared: bool) -> None:
        """A word before a fit that may take long."""
        trees, fewer = sum(rounds), "a smaller model.rows" if shared else "model.strategy=shared"
        # measured on one thread: an entry of the matrix takes a level of a tree 1 ns, 2 from a file, a tree itself 1 ms
        pace = 1e-9 if 4e-9 * rows * width <= self.memory else 2e-9
        minutes = trees * (1e-3 + pace * rows * width * self.colsample_bytree * self.max_depth) / 60
        if minutes > LONG:
            what = "%d boosters of %d rows and %d columns may take up to %.0f minutes and %.1f GB: %s takes less"
            log.warning(what, len(rounds), rows, width, minutes, trees * 2**self.max_depth * 2e-7, fewer)

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
        if self.base is not None and self.objective not in LOGARITHMIC:  # which no tree may better
            alone = xgb.train(options, train, 0)
            if float(alone.eval(val).rpartition(":")[2]) <= booster.best_score:
                return alone
        return booster[: booster.best_iteration + 1]

    def _options(self, dims: Dims) -> dict[str, Any]:
        """XGBoost's parameters, tried out on two rows."""
        one_of("model.strategy", self.strategy, STRATEGIES)
        one_of("model.objective", self.objective, OBJECTIVES)
        if self.rows != "all":
            count("model.rows", self.rows)
        if not (isinstance(self.memory, int | float) and self.memory >= 0):
            raise ConfigError("these are no GB", where="model.memory", got=self.memory, allowed="0, 0.5, 1, 16, ...")
        for rounds in [self.rounds] if isinstance(self.rounds, int | float) else self.rounds:
            count("model.rounds", rounds, 1 if self.base is None else 0)
        if self.patience is not None:
            count("model.patience", self.patience)
        own = ("max_depth", "learning_rate", "min_child_weight", "subsample", "colsample_bytree", "reg_lambda")
        options = {name: getattr(self, name) for name in (*own, "max_bin", "seed")}
        options["device"] = {"gpu": "cuda", "auto": "cuda"}.get(self.device, self.device)
        options["objective"] = OBJECTIVES[self.objective]
        if self.learns_quantiles:
            options["quantile_alpha"] = list(dims.quantiles or (0.5,))
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


def _base(model: Ridge, train: Windows, val: Windows, dims: Dims, shared: bool) -> LinearForecaster:
    """The linear map below the trees, which where they are shared leaves the covariates to them."""
    if shared:
        train, val = (replace(each, encoded=alone(each.encoded)) for each in (train, val))
        dims = replace(dims, past=0, known=0, static=0, cardinality={})
    forecaster, error = model.solve(train, val, replace(dims, quantiles=()))
    if error is not None:
        chosen = forecaster.chosen["lambda"]
        log.info("trees boost what a ridge leaves over: lambda %.3g chosen on validation, MSE %.4f", chosen, error)
    return forecaster


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
