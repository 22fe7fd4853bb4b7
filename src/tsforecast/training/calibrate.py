"""Split-conformal calibration: intervals of any model, from rows that nothing was fitted or chosen on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError, DataError
from tsforecast.quantiles import conformal
from tsforecast.windows import Windows

_CELLS = 40_000_000  # residuals kept; more windows than that are thinned out evenly


@dataclass(frozen=True)
class NoCalibration:
    """Quantiles as the model learned them, if it did."""

    fraction: float = 0.0

    def check(self, windows: Windows, quantiles: tuple[float, ...], *, learned: bool) -> None:
        """Before anything is fitted.

        Raises
        ------
        ConfigError
            Levels are asked for that the model will not learn.
        """
        if quantiles and not learned:
            raise ConfigError("this model forecasts a point, and nothing places quantiles around it",
                              where="quantiles", got=", ".join(map(str, quantiles)),
                              fix="calibration=conformal, or quantiles=[] for points alone")  # fmt: skip

    def __call__(self, bundle: Bundle, windows: Windows, quantiles: tuple[float, ...]) -> Bundle:
        """The bundle with the quantile levels its model learned."""
        return replace(bundle, quantile_levels=bundle.dims.quantiles, offsets=None)


@dataclass(frozen=True)
class Conformal:
    """Split-conformal calibration per horizon step and channel; every side of an interval keeps its own coverage.

    Parameters
    ----------
    fraction
        Share of the validation rows, the last of them, that is kept for calibration.
    """

    fraction: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ConfigError("calibration takes a share of the validation rows", got=self.fraction,
                              where="calibration.fraction", allowed="above 0 and below 1",
                              fix="calibration.fraction=0.5")  # fmt: skip

    def check(self, windows: Windows, quantiles: tuple[float, ...], *, learned: bool) -> None:
        """Before anything is fitted.

        Raises
        ------
        DataError
            There are fewer calibration windows than the outermost level needs: n values tell apart n + 1 ranks. Or
            a step and channel has no observed label in any of them.
        """
        needed = max((math.ceil(1 / min(q, 1 - q) - 1e-9) - 1 for q in quantiles), default=0)
        if len(windows) < needed:
            raise DataError("too few windows fit into the calibration rows for the quantile levels asked for",
                            where="calibration", got=f"{len(windows)} windows", allowed=f"{needed} or more",
                            fix="more validation rows (split.val=...), calibration.fraction=0.8, levels nearer to 0.5 "
                            "(quantiles=...), or calibration=none quantiles=[]")  # fmt: skip
        if quantiles:
            self._chosen(windows, len(quantiles) if learned else 1)

    @staticmethod
    def _chosen(windows: Windows, forecasts: int) -> Windows:
        most = max(1, _CELLS // (windows.horizon * windows.encoded.target.shape[1] * forecasts))
        chosen = windows.subset(np.unique(np.linspace(0, len(windows) - 1, min(len(windows), most)).astype(np.int64)))
        if not chosen.observed.all():
            raise DataError("a channel has no observed value in the calibration rows", where="calibration",
                            fix="more validation rows (split=...), or calibration=none")  # fmt: skip
        return chosen

    def __call__(self, bundle: Bundle, windows: Windows, quantiles: tuple[float, ...]) -> Bundle:
        """The bundle with `quantiles`, and the offsets that the residuals of `windows` give; raises as `check` does."""
        if not quantiles:
            return replace(bundle, quantile_levels=(), offsets=None)
        dims, found = bundle.dims, []
        chosen = self._chosen(windows, max(len(dims.quantiles), 1))
        for index in chosen.batches(1024):
            window, label = chosen.batch(index)
            forecast = bundle.forecaster.predict(window)
            found.append(label[..., None] - (forecast if dims.quantiles else forecast[..., None]))
        return replace(bundle, quantile_levels=quantiles, offsets=conformal(np.concatenate(found), quantiles))
