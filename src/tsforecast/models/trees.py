"""Boosted trees as a forecaster: XGBoost's own prediction, its JSON for each booster, nothing of the training stack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
import xgboost as xgb
from jaxtyping import Float

from tsforecast.models import tree_json
from tsforecast.models.base import Forecaster
from tsforecast.models.design import by_row, design
from tsforecast.models.linear import LinearForecaster
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

    Rows are those of `tsforecast.models.design.design`, categories as codes. A tree reads one row at a time, so that
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
                start = None if margin is None else by_row(margin[:, steps][..., channels])
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

    def state(self) -> dict[str, np.ndarray]:
        """The boosters, each as XGBoost's JSON, and the linear map."""
        trees = {
            f"trees-{i:04d}": np.frombuffer(booster.save_raw("json"), dtype=np.uint8)
            for i, booster in enumerate(self.boosters)
        }
        return trees | ({} if self.base is None else {f"base.{k}": v for k, v in self.base.state().items()})

    def restore(self, state: Mapping[str, np.ndarray]) -> Self:
        """Set boosters and linear map; prediction runs on one thread of the processor."""
        count = len(self.channels) * len(self.steps)
        self.boosters = [_booster(state[f"trees-{i:04d}"]) for i in range(count)]
        if self.linear:
            arrays = {name.removeprefix("base."): value for name, value in state.items() if name.startswith("base.")}
            self.base = LinearForecaster(cardinality=self.cardinality).restore(arrays)
        return self


def _booster(raw: np.ndarray) -> xgb.Booster:
    tree_json.check(raw.tobytes())
    booster = xgb.Booster({"nthread": 1}, model_file=bytearray(raw.tobytes()))
    booster.set_param({"device": "cpu"})
    return booster
