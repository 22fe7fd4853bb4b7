"""The baselines every model is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from jaxtyping import Float, Int

from tsforecast.errors import ConfigError
from tsforecast.models.base import Estimator, Forecaster
from tsforecast.types import Dims, Window
from tsforecast.windows import Windows


@dataclass
class SeasonalNaiveForecaster(Forecaster):
    """Repeats the last `season` rows of the window; with `season=1` the last value."""

    season: int
    horizon: int

    def predict(self, window: Window) -> Float[np.ndarray, "B H C"]:
        """`y[h] = x[L - season + h mod season]`."""
        return np.asarray(window.target[:, self.repeats(window.target.shape[1])])

    def repeats(self, lookback: int) -> Int[np.ndarray, " H"]:
        """The rows of the last season, over and over."""
        return lookback - self.season + np.arange(self.horizon) % self.season

    def state(self) -> dict[str, np.ndarray]:
        """Nothing is learned."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> Self:
        """Nothing to set."""
        return self


@dataclass
class SeasonalNaive(Estimator):
    """The seasonal naive method (Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 5.2).

    Parameters
    ----------
    season
        Rows of one season; None takes the one that belongs to the frequency (24 for hourly data).
    """

    season: int | None = None
    uses: ClassVar[None] = None  # a baseline is defined without covariates

    def fit(self, train: Windows, val: Windows, dims: Dims) -> SeasonalNaiveForecaster:
        """Check that one season fits into the lookback.

        Raises
        ------
        ConfigError
            It does not, or the season is not positive.
        """
        season = dims.season if self.season is None else self.season
        if not 1 <= season <= dims.lookback:
            where = "season" if self.season is None else "model.season"
            got, allowed = f"season {season}, lookback {dims.lookback}", f"1 to {dims.lookback}"
            what, fix = "one season does not fit into the lookback", f"set lookback={max(season, 1)} or more"
            raise ConfigError(what, where=where, got=got, allowed=allowed, fix=fix)
        return SeasonalNaiveForecaster(season, dims.horizon)
