"""Classical statistical models by statsmodels, each with an automatic choice by AICc within a bound of work.

The bound is one of candidates and iterations, not of the clock: the same window gives the same forecast, bit for bit.
"""

from __future__ import annotations

import importlib.metadata
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from statsmodels.tsa import seasonal
from statsmodels.tsa.exponential_smoothing.ets import ETSModel
from statsmodels.tsa.forecasting.theta import ThetaModel

from tsforecast.errors import one_of
from tsforecast.models.local import Local

_LONGEST = 24  # rows of a season that has a state for each; as in R's forecast
_FEWEST = 10  # rows that statsmodels wants to start from
_KINDS = {"N": None, "A": "add", "M": "mul"}
Family = tuple[str, str, bool, str]  # error, trend, whether it is damped, season


@dataclass(kw_only=True)
class Statistical(Local):
    """A local model of statsmodels; a window of fewer than ten rows is forecast by the last of them."""

    requires: ClassVar[tuple[str, ...]] = (f"statsmodels=={importlib.metadata.version('statsmodels')}",)

    def seasonal(self, rows: int) -> bool:
        """Whether that many rows are enough to see the season."""
        season = self.season or 1
        return season > 1 and rows >= max(2 * season, _FEWEST + 2 * (season // 2))

    def modelled(self, rows: int) -> int:
        """Rows of the season where it is seen, and short enough to have a state for each; else 1."""
        season = self.season or 1
        return season if self.seasonal(rows) and season <= _LONGEST else 1

    def forecast(self, y: Float[np.ndarray, " L"]) -> Float[np.ndarray, " H"]:
        """See `Local`."""
        return self._forecast(y) if len(y) >= _FEWEST else np.full(self.horizon, y[-1])

    @abstractmethod
    def _forecast(self, y: Float[np.ndarray, " L"]) -> Float[np.ndarray, " H"]:
        """Of ten rows and more."""


@dataclass(kw_only=True)
class ETS(Statistical):
    """Exponential smoothing in state space form (Hyndman, Koehler, Ord & Snyder, Springer 2008), chosen by AICc.

    All families are fitted from heuristic initial states; the best `refined` once more, with the initial states
    estimated, and of these the one with the lowest AICc forecasts. A season of more than 24 rows is left to `MSTL`.

    Parameters
    ----------
    family
        Error, trend and season, as in R's forecast: N, A, M, or Z to choose: A or M; N or A; N, A or M. Multiplicative
        ones are for windows that are above 0 throughout: elsewhere M is A. An additive error with a multiplicative
        season is left out, as unstable.
    damped
        Whether a trend is damped; None: choose.
    refined
        Families whose initial states are estimated.
    iterations
        Of each fit, at most.
    """

    family: str = "ZZZ"
    damped: bool | None = None
    refined: int = 3
    iterations: int = 200

    def __post_init__(self) -> None:
        one_of("model.family", self.family, tuple(map("".join, product("AMZ", "NAZ", "NAMZ"))))

    def _forecast(self, y: Float[np.ndarray, " L"]) -> Float[np.ndarray, " H"]:
        found = sorted(self._fitted(y, family, i, "heuristic") for i, family in enumerate(self._families(y)))
        families = list(self._families(y))
        best = min(self._fitted(y, families[i], i, "estimated") for _, i, _ in found[: self.refined])
        return np.asarray(best[2]())

    def _families(self, y: Float[np.ndarray, " L"]) -> Iterator[Family]:
        """Those to choose from, the simplest first."""
        seasons = {"Z": "NAM"}.get(self.family[2], self.family[2])
        if self.modelled(len(y)) == 1:
            seasons = "N"
        errors, trends = ({"Z": each}.get(c, c) for c, each in zip(self.family, ("AM", "NA"), strict=False))
        if y.min() <= 0:
            errors, seasons = "A", "".join(dict.fromkeys(seasons.replace("M", "A")))
        dampings = (False, True) if self.damped is None else (self.damped,)
        for season, error, trend in product(seasons, errors, trends):
            for damped in dampings if trend == "A" else (False,):
                if (error, season) != ("A", "M"):
                    yield error, trend, damped, season

    def _fitted(self, y: Float[np.ndarray, " L"], family: Family, i: int, start: str) -> tuple[float, int, Any]:
        """AICc, `i`, and what forecasts."""
        error, trend, damped, season = family
        period = self.season if season != "N" else None
        how: dict[str, Any] = {"error": _KINDS[error], "trend": _KINDS[trend], "damped_trend": damped}
        how |= {"seasonal": _KINDS[season], "seasonal_periods": period, "initialization_method": start}
        model = ETSModel(y, **how)
        params = model.fit(maxiter=self.iterations, disp=False, return_params=True, warn_convergence=False)
        k = 3 + 2 * (trend == "A") + damped + (period or 0)  # smoothing, initial states less one of a season, variance
        spare = len(y) - k - 1
        aicc = -2 * model.loglike(params) + 2 * k + 2 * k * (k + 1) / spare if spare > 0 else np.inf
        return np.nan_to_num(aicc, nan=np.inf, neginf=-np.inf), i, lambda: model.smooth(params).forecast(self.horizon)


@dataclass(kw_only=True)
class Theta(Statistical):
    """The theta method (Assimakopoulos & Nikolopoulos, International Journal of Forecasting 16(4), 2000).

    Half the slope of a linear trend beside simple exponential smoothing, on values without their season where the
    autocorrelation at a season's distance says that there is one: divided out where all values are above 0.
    """

    def _forecast(self, y: Float[np.ndarray, " L"]) -> Float[np.ndarray, " H"]:
        model = ThetaModel(y, period=self.season, deseasonalize=self.seasonal(len(y)))
        return np.asarray(model.fit().forecast(self.horizon))


@dataclass(kw_only=True)
class MSTL(ETS):
    """Seasons by LOESS (Bandara, Hyndman & Bergmeir, arXiv:2107.13462), repeated; ETS on the rest, as in `ETS`.

    Parameters
    ----------
    seasons
        Rows of each season, such as 24 and 168; empty: `season` alone. Those that are not seen twice are left out.
    """

    family: str = "ZZN"
    seasons: Sequence[int] = ()

    def _forecast(self, y: Float[np.ndarray, " L"]) -> Float[np.ndarray, " H"]:
        periods = [p for p in sorted(self.seasons or [self.season or 1]) if 1 < p < len(y) / 2]
        if not periods:
            return super()._forecast(y)
        flat = {"seasonal_deg": 0}  # as in R: a season that is seen two or three times has no slope of its own
        found = seasonal.MSTL(y, periods=periods, stl_kwargs=flat).fit()
        seasons = np.reshape(found.seasonal, (len(y), -1))
        ahead = sum(each[-p:][np.arange(self.horizon) % p] for p, each in zip(periods, seasons.T, strict=True))
        return np.asarray(super()._forecast(y - seasons.sum(axis=1)) + ahead)
