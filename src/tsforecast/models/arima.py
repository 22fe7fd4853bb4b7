"""Seasonal ARIMA: least squares choose the orders, maximum likelihood fits the ones chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.signal import lfilter
from statsmodels.tsa.seasonal import STL
from statsmodels.tsa.statespace.sarimax import SARIMAX

from tsforecast.models.classical import Statistical

Orders = tuple[int, ...]  # p, P, q, Q, and 1 with a mean
_RESOLUTION = 1e-6  # of float32, in which rows are kept; their mean absolute value is 1
_MOVES = [(1, 0, 0, 0, 0), (0, 0, 1, 0, 0), (1, 0, 1, 0, 0), (0, 1, 0, 0, 0), (0, 0, 0, 1, 0), (0, 1, 0, 1, 0)]


def kpss(w: Float[np.ndarray, " n"]) -> float:
    """The statistic of Kwiatkowski, Phillips, Schmidt & Shin (Journal of Econometrics 54, 1992), about a level."""
    e, lags = w - w.mean(), int(3 * np.sqrt(len(w)) / 13)
    variance = sum((2 - (i == 0)) * (1 - i / (lags + 1)) * np.sum(e[i:] * e[: len(e) - i]) for i in range(lags + 1))
    return float(np.sum(np.cumsum(e) ** 2) / len(w) / variance)


@dataclass(frozen=True)
class Sums:
    """ARMA models of a stationary series, by conditional least squares."""

    w: Float[np.ndarray, " n"]
    season: int

    def fitted(self, orders: Orders) -> tuple[float, Float[np.ndarray, " k"]]:
        """AICc and parameters in the order of `Orders`; infinite where a root is next to the unit circle."""
        n, k = len(self.w), sum(orders) + 1
        spare, params = n - k - 1 - max(orders[1], orders[3]) * self.season, np.zeros(k - 1)
        if spare <= 0:
            return np.inf, params
        if k > 1:
            params = least_squares(self.errors, params, args=(orders,), method="lm", max_nfev=40 * k).x
        parts = zip(np.split(params, np.cumsum(orders)[:4]), (-1, -1, 1, 1), strict=False)
        stable = all((np.abs(np.roots(np.r_[1, sign * part])) < 1 / 1.01).all() for part, sign in parts)
        squares = float(np.sum(self.errors(params, orders) ** 2)) / n
        return n * np.log(squares) + 2 * k + 2 * k * (k + 1) / (n - k - 1) if stable else np.inf, params

    def errors(self, params: Float[np.ndarray, " k"], orders: Orders) -> Float[np.ndarray, " n"]:
        """Of each row, forecast from those before; what is before the first is taken for the mean."""
        p, seasonal_p, q, seasonal_q, mean = np.split(params, np.cumsum(orders)[:-1])
        sides = [np.convolve(np.r_[1, own], self._spread(far)) for own, far in ((-p, -seasonal_p), (q, seasonal_q))]
        errors = np.nan_to_num(lfilter(*sides, self.w - mean.sum()), nan=1e6)
        return np.asarray(np.clip(errors, -1e6, 1e6))  # of a model that cannot be inverted

    def _spread(self, coefficients: Float[np.ndarray, " o"]) -> Float[np.ndarray, " r"]:
        out = np.zeros(len(coefficients) * self.season + 1)
        out[0], out[self.season :: self.season] = 1, coefficients
        return out


@dataclass(kw_only=True)
class ARIMA(Statistical):
    """Seasonal ARIMA, chosen stepwise by AICc (Hyndman & Khandakar, Journal of Statistical Software 27(3), 2008).

    It is differenced as the strength of the season (above 0.64) and the KPSS test (5 %) ask for. A season of more than
    24 rows is not modelled.

    Parameters
    ----------
    candidates
        Orders that are tried, at most.
    iterations
        Of the last fit, at most; 0 takes the parameters of least squares.
    """

    candidates: int = 60
    iterations: int = 50

    def _forecast(self, y: Float[np.ndarray, " L"]) -> Float[np.ndarray, " H"]:
        season, seasonal, differences, w = self.modelled(len(y)), 0, 0, y
        if season > 1:
            found = STL(y, period=season, seasonal_deg=0).fit()
            seasonal = int(1 - np.var(found.resid) / np.var(found.resid + found.seasonal) > 0.64)
            w = y[season:] - y[:-season] if seasonal else y
        while differences < 2 and np.ptp(w) > _RESOLUTION and kpss(w) > 0.463:
            w, differences = np.diff(w), differences + 1
        w = w if np.ptp(w) > _RESOLUTION else np.full(len(w), w.mean())
        orders, params = self._chosen(Sums(w, season), season > 1, seasonal + differences < 2)
        p, seasonal_p, q, seasonal_q, constant = orders
        far = (seasonal_p, seasonal, seasonal_q, season) if season > 1 else (0, 0, 0, 0)
        how = {"trend": "c" if constant else None, "concentrate_scale": True}
        model = SARIMAX(y, order=(p, differences, q), seasonal_order=far, **how)
        ar, far_ar, ma, far_ma, mean = np.split(params, np.cumsum(orders)[:-1])
        start = np.r_[mean * (1 - ar.sum()) * (1 - far_ar.sum()), ar, ma, far_ar, far_ma]
        if self.iterations and len(start):
            start = model.fit(start, maxiter=self.iterations, disp=False, return_params=True, warn_convergence=False)
        return np.asarray(model.filter(start).forecast(self.horizon))

    def _chosen(self, sums: Sums, seasonal: bool, constant: bool) -> tuple[Orders, Float[np.ndarray, " k"]]:
        """The orders with the lowest AICc among neighbours, and their parameters."""
        most = (5, 2 * seasonal, 5, 2 * seasonal, int(constant))
        seen: dict[Orders, tuple[float, np.ndarray]] = {}

        def tried(steps: Iterator[Orders]) -> Orders:
            for orders in steps:
                inside = all(0 <= a <= b for a, b in zip(orders, most, strict=True))
                if inside and orders not in seen and len(seen) < self.candidates:
                    seen[orders] = sums.fitted(orders)
            return min(seen, key=lambda orders: seen[orders][0])

        starts = [(0, 0, 0, 0), (2, seasonal, 2, seasonal), (1, seasonal, 0, 0), (0, 0, 1, seasonal)]
        best, before = tried((*each, int(constant)) for each in starts), None
        while best != before:
            before, signed = best, [tuple(s * a for a in move) for move in _MOVES for s in (1, -1)]
            moves = [*signed, (0, 0, 0, 0, 1 - 2 * best[4])]
            best = tried(tuple(a + b for a, b in zip(best, move, strict=True)) for move in moves)
        return best, seen[best][1]
