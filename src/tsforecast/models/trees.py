"""Boosted trees as a forecaster: XGBoost's own prediction, one UBJ file a booster, nothing of the training stack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
import xgboost as xgb
from jaxtyping import Float

from tsforecast.errors import ConfigError
from tsforecast.models import ubj
from tsforecast.models.base import Forecaster
from tsforecast.models.linear import LinearForecaster, design
from tsforecast.types import Window


def seen(window: Window, channels: Sequence[int], steps: Sequence[int], *, recursive: bool) -> Window:
    """What one booster sees of a window: its channels, and the known covariates of the steps it forecasts.

    A recursive booster sees neither past covariates nor window features, which end at the cutoff.
    """
    lookback = window.target.shape[1]
    return replace(
        window,
        target=window.target[..., channels],
        past=window.past[..., :0] if recursive else window.past,
        known=window.known[:, [*range(lookback), *(lookback + step for step in steps)]],
        tabular=window.tabular[:, : 0 if recursive else None, channels],
    )


@dataclass
class TreeForecaster(Forecaster):
    """`forecast = last value + margin + trees`; the margin is what a linear map, if any, adds to it.

    Rows are those of `tsforecast.models.linear.design`, categories as codes. A tree reads one row at a time, so that
    a forecast has the same bits in any batch.

    Parameters
    ----------
    horizon
        H.
    channels
        The channels that share a booster, group by group.
    steps
        The steps that share a booster, group by group; for each group of channels there is one booster per group
        of steps.
    recursive
        Whether the one step there is gets rolled forward, each forecast a value of the next window.
    quantiles
        Q, when a booster forecasts quantiles; 0 for a point forecast.
    linear
        Whether there is a linear map, and the cardinality it one-hot encodes.
    """

    requires: ClassVar[tuple[str, ...]] = (f"xgboost-cpu=={xgb.__version__}",)
    horizon: int
    channels: Sequence[Sequence[int]]
    steps: Sequence[Sequence[int]]
    recursive: bool = False
    quantiles: int = 0
    linear: bool = False
    cardinality: Mapping[str, Sequence[int]] = field(default_factory=dict)
    base: LinearForecaster | None = field(default=None, init=False, repr=False)
    boosters: list[xgb.Booster] = field(default_factory=list, init=False, repr=False)

    def predict(self, window: Window) -> Float[np.ndarray, "B H C *Q"]:
        """Forecasts in scaled units."""
        if not self.recursive:
            return self._direct(window)
        b, lookback, c = window.target.shape
        target = np.concatenate([window.target, np.empty((b, self.horizon, c), np.float32)], axis=1)
        for step in range(self.horizon):
            now = slice(step, step + lookback)
            known = window.known[:, step : step + lookback + 1]
            target[:, lookback + step] = self._direct(replace(window, target=target[:, now], known=known))[:, 0]
        return target[:, lookback:]

    def _direct(self, window: Window) -> Float[np.ndarray, "B H C *Q"]:
        b, _, c = window.target.shape
        out = np.empty((b, sum(map(len, self.steps)), c, max(self.quantiles, 1)), dtype=np.float32)
        margin = self.margin(window)
        boosters = iter(self.boosters)
        for channels in self.channels:
            for i, steps in enumerate(self.steps):
                if i == 0 or window.known.shape[2]:
                    rows, last = design(seen(window, channels, steps, recursive=self.recursive))
                start = None if margin is None else _rows(margin[:, steps][..., channels])
                if start is not None and self.quantiles:
                    start = np.repeat(start, self.quantiles, axis=1)
                trees = next(boosters).inplace_predict(rows, base_margin=start).reshape(len(rows), len(steps), -1)
                forecast = (trees + last[..., None]).reshape(b, len(channels), len(steps), -1)
                out[np.ix_(range(b), steps, channels)] = forecast.swapaxes(1, 2)
        return out if self.quantiles else out[..., 0]

    def margin(self, window: Window) -> Float[np.ndarray, "B H C"] | None:
        """What the linear map adds to the last value."""
        if self.base is None:
            return None
        every = range(window.target.shape[2])
        ahead = (0,) if self.recursive else range(self.horizon)
        forecast = self.base.predict(seen(window, every, ahead, recursive=self.recursive))
        return np.asarray(forecast - window.target[:, -1:])

    def importance(self) -> dict[str, float]:
        """Feature name to the loss that its splits have saved (XGBoost's `total_gain`), over all boosters, falling."""
        total: defaultdict[str, float] = defaultdict(float)
        for booster in self.boosters:
            for name, gain in booster.get_score(importance_type="total_gain").items():
                total[name] += float(np.sum(gain))
        return dict(sorted(total.items(), key=lambda item: -item[1]))

    def contributions(
        self, window: Window, *, step: int = 0, channel: int = 0
    ) -> tuple[tuple[str, ...], Float[np.ndarray, "B *Q F+1"]]:
        """SHAP values (Lundberg et al., Nature Machine Intelligence 2, 2020): what each feature adds, in scaled units.

        Returns
        -------
        names, values
            Of the F features; the last column is what the trees start from, the linear map's part included. The sum
            is the forecast minus the last value of the window.

        Raises
        ------
        ConfigError
            A booster forecasts several steps at once, which XGBoost does not explain, or the step is rolled forward.
        """
        group = next((i for i, channels in enumerate(self.channels) if channel in channels), None)
        if group is None or [step] not in [list(steps) for steps in self.steps]:
            raise ConfigError("no booster forecasts this step and channel alone", where="contributions",
                              got=f"step {step}, channel {channel}", allowed="one booster per step",
                              fix="train with model.strategy=direct; step and channel count from 0")  # fmt: skip
        place = [list(steps) for steps in self.steps].index([step])
        booster = self.boosters[group * len(self.steps) + place]
        margin = self.margin(window)
        start = None if margin is None else np.repeat(margin[:, step, [channel]], max(self.quantiles, 1), axis=1)
        rows, _ = design(seen(window, [channel], [step], recursive=self.recursive))
        matrix = xgb.DMatrix(
            rows, base_margin=start, feature_names=booster.feature_names, feature_types=booster.feature_types,
            enable_categorical=True,
        )  # fmt: skip
        return tuple(booster.feature_names or ()), booster.predict(matrix, pred_contribs=True)

    def state(self) -> dict[str, np.ndarray]:
        """The boosters, each a UBJ file, and the linear map."""
        trees = {
            f"trees-{i:04d}.ubj": np.frombuffer(booster.save_raw("ubj"), dtype=np.uint8)
            for i, booster in enumerate(self.boosters)
        }
        return trees | ({} if self.base is None else {f"base.{k}": v for k, v in self.base.state().items()})

    def restore(self, state: Mapping[str, np.ndarray]) -> Self:
        """Set boosters and linear map; prediction runs on one thread of the processor."""
        count = len(self.channels) * len(self.steps)
        self.boosters = [_booster(state[f"trees-{i:04d}.ubj"]) for i in range(count)]
        if self.linear:
            arrays = {name.removeprefix("base."): value for name, value in state.items() if name.startswith("base.")}
            self.base = LinearForecaster(cardinality=self.cardinality).restore(arrays)
        return self


def _booster(raw: np.ndarray) -> xgb.Booster:
    ubj.check(raw.tobytes())
    booster = xgb.Booster({"nthread": 1}, model_file=bytearray(raw.tobytes()))
    booster.set_param({"device": "cpu"})
    return booster


def _rows(values: Float[np.ndarray, "B H C"]) -> Float[np.ndarray, "B*C H"]:
    """One row per window and channel, as in the design."""
    b, h, c = values.shape
    return np.ascontiguousarray(values.transpose(0, 2, 1)).reshape(b * c, h)
