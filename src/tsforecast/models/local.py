"""Local models: fitted on one series alone, here on each window anew: a forecast stays a function of its window.

Local and global are the words of Montero-Manso & Hyndman, International Journal of Forecasting 37(4), 2021.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
from jaxtyping import Float

from tsforecast.errors import count
from tsforecast.models.base import Estimator, Forecaster
from tsforecast.types import Dims, Window
from tsforecast.windows import Windows

log = logging.getLogger(__name__)
_FEW = 64  # series for which no process is started


@dataclass(kw_only=True)
class Local(Estimator, Forecaster):
    """A model that is fitted on each window and channel by itself when it forecasts: it is its own forecaster.

    Nothing is learned before, so any series can be forecast, and rows before the first observed one are left out. It
    works on values counted from 0 in original units (under `scaler=log1p` on their logarithms).

    Parameters
    ----------
    season
        Rows of one season; None takes the one that belongs to the frequency. A window shorter than two seasons is
        forecast without.
    most
        Windows of the validation, calibration and test rows that are forecast, evenly spaced, and one of each series at
        least; None: all.
    n_jobs
        Processes while it is trained and scored; -1: one a core. A saved bundle forecasts in the process that asks.
    horizon
        H; set by `fit`.
    """

    season: int | None = None
    most: int | None = 200
    n_jobs: int = 1
    horizon: int = 0
    jobs: int = field(default=1, init=False, repr=False)
    uses: ClassVar[None] = None  # it is defined without covariates
    probes: ClassVar[int] = 1
    trains: ClassVar[bool] = False

    @abstractmethod
    def forecast(self, y: Float[np.ndarray, " L"]) -> Float[np.ndarray, " H"]:
        """The H values after `y`, which is not constant and whose mean absolute value is 1."""

    def fit(self, train: Windows, val: Windows, dims: Dims) -> Self:
        """Itself, with the sizes of the problem; no window is read.

        Raises
        ------
        ConfigError
            A number of things is none.
        """
        season = dims.season if self.season is None else self.season
        count("model.season", season)
        for name in ("most", "refined", "candidates"):
            if getattr(self, name, None) is not None:
                count(f"model.{name}", getattr(self, name))
        if season > 1 and dims.lookback < 2 * season:
            what = "lookback %d is shorter than two seasons of %d rows: forecast without a season (lookback=%d has one)"
            log.warning(what, dims.lookback, season, 2 * season)
        fitted = replace(self, season=season, horizon=dims.horizon, n_jobs=1)
        fitted.jobs = self.n_jobs
        return fitted

    def predict(self, window: Window) -> Float[np.ndarray, "B H C"]:
        """Forecasts in scaled units, each from its own window and channel alone."""
        zero = np.zeros((1, 1, 1)) if window.zero is None else window.zero.astype(np.float64)
        rows = (window.target - zero).swapaxes(1, 2)
        b, channels, lookback = rows.shape
        known = np.zeros((b, channels), int) if window.observed is None else window.observed.argmax(axis=1)
        series = [y[k:] for y, k in zip(rows.reshape(-1, lookback), known.ravel(), strict=True)]
        if self.jobs == 1 or len(series) < _FEW:
            found = [self._from(y) for y in series]
        else:
            from joblib import Parallel, delayed

            found = Parallel(self.jobs, batch_size=16)(delayed(self._from)(y) for y in series)
        out = np.reshape(found, (b, channels, self.horizon)).swapaxes(1, 2)
        return np.asarray(out + zero, np.float32)

    def _from(self, y: Float[np.ndarray, " L"]) -> Float[np.ndarray, " H"]:
        """The forecast of one series; a constant goes on."""
        if y.max() == y.min():
            return np.full(self.horizon, y[-1])
        scale = np.abs(y).mean()
        with np.errstate(all="ignore"):  # candidates that fail are not chosen
            return np.asarray(self.forecast(np.ascontiguousarray(y / scale)) * scale)

    def state(self) -> dict[str, np.ndarray]:
        """Nothing is learned."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> Self:
        """Nothing to set."""
        return self
