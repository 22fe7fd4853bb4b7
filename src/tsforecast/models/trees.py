"""Boosted trees as a forecaster: XGBoost's own prediction, its JSON for each booster, nothing of the training stack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import xgboost as xgb
from jaxtyping import Float, Int

from tsforecast.models import tree_json
from tsforecast.models.base import Forecaster
from tsforecast.models.design import by_row, design, step_rows
from tsforecast.models.linear import LinearForecaster
from tsforecast.types import Window


def seen(window: Window, channel: int, step: int) -> Window:
    """What a booster of its own sees of a window: its channel, and the known covariates of the step it forecasts."""
    rows = [*range(lookback := window.target.shape[1]), lookback + step]
    target, tabular = window.target[..., [channel]], window.tabular[..., [channel]]
    return replace(window, target=target, known=window.known[:, rows], tabular=tabular)


def alone(of: Any) -> Any:
    """A window, or encoded rows, without covariates."""
    return replace(of, **{name: getattr(of, name)[..., :0] for name in ("past", "known", "static")})


@dataclass
class TreeForecaster(Forecaster):
    """`forecast = last value + margin + trees`; the margin is what a linear map, if any, adds to it.

    With a `floor`, `forecast = level * exp(trees)`; the level is the mean of the window.

    A tree reads one row at a time, so that a forecast has the same bits in any batch.

    Parameters
    ----------
    channels
        C.
    season
        Rows of one season where one booster forecasts all channels and steps from rows of
        `tsforecast.models.design.step_rows`, whose linear map knows the window alone. 0: there is a booster for each
        channel and step, whose rows are those of `tsforecast.models.design.design`, categories as codes.
    quantiles
        Q, when a booster forecasts quantiles; 0 for a point forecast.
    floor
        Of the level, where forecasts are a multiple of it; 0: they are counted from the last value.
    linear
        Whether there is a linear map, and the cardinality it one-hot encodes.
    """

    requires: ClassVar[tuple[str, ...]] = (f"xgboost-cpu=={xgb.__version__}",)
    horizon: int
    channels: int
    season: int = 0
    quantiles: int = 0
    floor: float = 0.0
    linear: bool = False
    cardinality: Mapping[str, Sequence[int]] = field(default_factory=dict)
    base: LinearForecaster | None = field(default=None, init=False, repr=False)
    boosters: list[xgb.Booster] = field(default_factory=list, init=False, repr=False)

    @property
    def count(self) -> int:
        """Boosters."""
        return 1 if self.season else self.channels * self.horizon

    def predict(self, window: Window) -> Float[np.ndarray, "B H C *Q"]:
        """Forecasts in scaled units."""
        b, _, c = window.target.shape
        out = np.empty((b, self.horizon, c, max(self.quantiles, 1)), dtype=np.float32)
        margin = self.margin(window)
        for booster, (rows, channels, steps) in zip(self.boosters, self._rows(window), strict=True):
            start = margin if margin is None else self.start(by_row(margin[:, steps][..., channels]).reshape(-1))
            trees = booster.inplace_predict(rows, base_margin=start).reshape(b, len(channels), len(steps), -1)
            out[np.ix_(range(b), steps, channels)] = trees.swapaxes(1, 2)
        if not self.floor:
            out += window.target[:, -1:, :, None]
        return out if self.quantiles else out[..., 0]

    def _rows(self, window: Window) -> Iterator[tuple[np.ndarray, Sequence[int], Sequence[int]]]:
        """What each booster reads, and the channels and steps that it forecasts."""
        b, _, c = window.target.shape
        if self.season:
            every = np.broadcast_to(np.arange(self.horizon), (b, c, self.horizon))
            yield self.shared_rows(window, every), range(c), range(self.horizon)
            return
        for channel in range(c):
            for step in range(self.horizon):
                if step == 0 or window.known.shape[2]:
                    rows, _ = design(seen(window, channel, step))
                yield rows, [channel], [step]

    def shared_rows(self, window: Window, steps: Int[np.ndarray, "B C S"]) -> Float[np.ndarray, "B*C*S D"]:
        """What the one booster of all channels and steps reads."""
        return step_rows(window, steps, self.season, self._level(window).swapaxes(1, 2) if self.floor else 1.0)

    def margin(self, window: Window) -> Float[np.ndarray, "B H C"] | None:
        """What the trees start from."""
        if self.floor:
            return np.repeat(np.log(self._level(window)), self.horizon, axis=1)
        if self.base is None:
            return None
        return np.asarray(self.base.predict(alone(window) if self.season else window) - window.target[:, -1:])

    def label(self, window: Window, label: Float[np.ndarray, "B H C"]) -> Float[np.ndarray, "B H C"]:
        """What the trees forecast."""
        return label if self.floor else label - window.target[:, -1:]

    def start(self, margin: np.ndarray) -> np.ndarray:
        """The margin of each row as XGBoost takes it."""
        return np.repeat(margin[:, None], self.quantiles, axis=1) if self.quantiles else margin

    def _level(self, window: Window) -> Float[np.ndarray, "B 1 C"]:
        target = np.ascontiguousarray(window.target.swapaxes(1, 2))  # one order of summation
        return np.asarray(np.maximum(target.mean(axis=2), np.float32(self.floor))[:, None])

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
        self.boosters = [_booster(state[f"trees-{i:04d}"]) for i in range(self.count)]
        if self.linear:
            arrays = {name.removeprefix("base."): value for name, value in state.items() if name.startswith("base.")}
            self.base = LinearForecaster(cardinality={} if self.season else self.cardinality).restore(arrays)
        return self


def _booster(raw: np.ndarray) -> xgb.Booster:
    tree_json.check(raw.tobytes())
    booster = xgb.Booster({"nthread": 1}, model_file=bytearray(raw.tobytes()))
    booster.set_param({"device": "cpu"})
    return booster
