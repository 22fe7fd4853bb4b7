"""Linear forecasting: the map every linear model ends as, and ridge regression, which solves for it exactly."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from jaxtyping import Float

from tsforecast.errors import ConfigError, DataError
from tsforecast.features.categorical import one_hot
from tsforecast.models.base import Estimator, Forecaster
from tsforecast.types import Dims, Window
from tsforecast.windows import Windows

log = logging.getLogger(__name__)


def design(
    window: Window, cardinality: Mapping[str, Sequence[int]] | None = None
) -> tuple[Float[np.ndarray, "B*C D"], Float[np.ndarray, "B*C 1"]]:
    """One row per window and channel, and the last value that was subtracted.

    Columns: target minus its last value (L), past covariates (L*P, row by row), known covariates of the
    forecast rows (H*K, row by row), static covariates (S), window features (F). The past covariates are
    relative to nothing: they are standardised already. Categories stand one-hot.
    """
    covariates = {"past": window.past, "known": window.known[:, window.target.shape[1] :], "static": window.static}
    for group, sizes in (cardinality or {}).items():
        covariates[group] = one_hot(covariates[group], sizes)
    b, lookback, channels = window.target.shape
    series = window.target.transpose(0, 2, 1).reshape(b * channels, lookback)
    last = series[:, -1:]
    series = series - last
    parts = [series]
    shared = [part.reshape(b, -1) for part in covariates.values()]
    parts += [np.repeat(part, channels, axis=0) for part in shared if part.shape[1]]
    if window.tabular.shape[1]:
        parts.append(window.tabular.transpose(0, 2, 1).reshape(b * channels, -1))
    return (series if len(parts) == 1 else np.concatenate(parts, axis=1)), last


def design_size(dims: Dims) -> int:
    """Columns of the design."""
    past, known, static = (
        int(getattr(dims, group)) + sum(max(size - 1, 0) for size in dims.cardinality.get(group, ()))
        for group in ("past", "known", "static")
    )
    return dims.lookback * (1 + past) + dims.horizon * known + static + dims.tabular


def exact_bits(size: int) -> tuple[int, int]:
    """Significant bits a row and a weight may keep so that a sum of `size` products is exact in float64."""
    total = 53 - int(size - 1).bit_length()
    return min(22, total // 2), total - min(22, total // 2)


def round_weight(weight: Float[np.ndarray, "D H"]) -> Float[np.ndarray, "D H"]:
    """Each column rounded to a grid of its own, about 22 bits below its largest entry; float64."""
    grid = np.ldexp(1.0, exact_bits(len(weight))[1] - np.frexp(np.abs(weight).max(axis=0))[1])
    return np.asarray(np.rint(weight * grid) / grid)


def matmul(rows: Float[np.ndarray, "R D"], weight: Float[np.ndarray, "D H"]) -> Float[np.ndarray, "R H"]:
    """`rows @ weight` without any rounding in the sum: the same bits in every batch, order and thread count.

    BLAS sums in another order for another number of rows, and even for another position of a row in the
    batch. So the factors are rounded first, each row to about 22 bits below its largest entry, and then every
    partial sum is a whole multiple of one grid that fits into float64: no order can change the result (the
    idea of Ozaki et al., Numerical Algorithms 59, 2012). The rounding costs about 1e-7 of the largest entry,
    as float32 products would.

    Parameters
    ----------
    rows
        float32.
    weight
        As `round_weight` gives it.
    """
    bits = exact_bits(rows.shape[1])[0]
    exponent = np.maximum(np.frexp(np.maximum(rows.max(axis=1), -rows.min(axis=1)))[1], -100)
    # Adding 1.5 * 2^k and taking it away again rounds a float32 to multiples of 2^(k - 23).
    shift = np.ldexp(np.float32(1.5), exponent + 23 - bits)[:, None].astype(np.float32)
    rounded = rows + shift
    rounded -= shift
    return np.asarray(rounded.astype(np.float64) @ weight)


@dataclass
class LinearForecaster(Forecaster):
    """`forecast = level * last value + design @ weight + bias`, one map for all series and channels.

    Ridge, NLinear (`level` 1) and DLinear all are this function once fitted (Zeng et al., Are Transformers
    Effective for Time Series Forecasting?, AAAI 2023).

    Parameters
    ----------
    quantiles
        Q, when the columns of the map are the Q quantiles of each step; 0 for a point forecast.
    cardinality
        As in `Dims`.
    """

    quantiles: int = 0
    cardinality: Mapping[str, Sequence[int]] = field(default_factory=dict)
    weight: Float[np.ndarray, "D H"] = field(default_factory=lambda: np.zeros((0, 0), np.float32), repr=False)
    bias: Float[np.ndarray, " H"] = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)
    level: Float[np.ndarray, " H"] = field(default_factory=lambda: np.ones(1, np.float32), repr=False)

    def __post_init__(self) -> None:
        self._rounded = round_weight(self.weight) if self.weight.size else self.weight

    def predict(self, window: Window) -> Float[np.ndarray, "B H C *Q"]:
        """Forecasts in scaled units."""
        rows, last = design(window, self.cardinality)
        out = matmul(rows, self._rounded).astype(np.float32)
        out += self.bias
        out += last * self.level
        b, _, channels = window.target.shape
        if self.quantiles:
            return out.reshape(b, channels, -1, self.quantiles).swapaxes(1, 2)
        return out.reshape(b, channels, -1).transpose(0, 2, 1)

    def state(self) -> dict[str, np.ndarray]:
        """The map."""
        return {"weight": self.weight, "bias": self.bias, "level": self.level}

    def restore(self, state: Mapping[str, np.ndarray]) -> Self:
        """Set the map."""
        for name in ("weight", "bias", "level"):
            setattr(self, name, np.ascontiguousarray(state[name], dtype=np.float32))
        self.__post_init__()
        return self


def _is_penalty(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < np.inf


@dataclass(frozen=True)
class _Moments:
    """Sums over the rows of a design X and its labels Y, all that least squares needs to know of the data."""

    n: int
    xx: Float[np.ndarray, "D D"]
    xy: Float[np.ndarray, "D H"]
    yy: float
    x: Float[np.ndarray, " D"]
    y: Float[np.ndarray, " H"]

    @classmethod
    def of(cls, windows: Windows, dims: Dims) -> _Moments:
        """By the shorter way where there is one."""
        plain = design_size(dims) == dims.lookback and not windows.missing and not windows.encoded.local
        return cls.sliding(windows, dims) if plain and windows.consecutive else cls.gathered(windows, dims)

    @classmethod
    def sliding(cls, windows: Windows, dims: Dims) -> _Moments:
        """Of overlapping windows, from the series itself: O(T L + L^2) instead of O(T L^2).

        Entry (i+1, j+1) of a sum over consecutive windows is entry (i, j) without its first product and with
        one more at the end, so that the first row and the two ends of every series give the whole matrix.
        """
        m, lookback = dims.lookback + dims.horizon, dims.lookback
        _, firsts, counts = np.unique(windows.series, return_index=True, return_counts=True)
        target = windows.encoded.target
        first, heads, tails = np.zeros(m), [], []
        total = 0.0
        for begin, n in zip(windows.origins[firsts] - lookback, counts, strict=True):
            for series in target[begin : begin + n + m - 1].T:
                series = np.ascontiguousarray(series, dtype=np.float64)
                first += np.lib.stride_tricks.sliding_window_view(series, n) @ series[:n]
                total += series[:n].sum()
                heads.append(series[: m - 1])
                tails.append(series[n:])
        head, tail = np.array(heads), np.array(tails)
        change = tail.T @ tail - head.T @ head
        moment = np.empty((m, m))
        moment[0] = first
        for i in range(1, m):
            moment[i, i:] = moment[i - 1, i - 1 : -1] + change[i - 1, i - 1 :]
        moment = np.triu(moment) + np.triu(moment, 1).T
        sums = total + np.concatenate([[0.0], np.cumsum(tail.sum(axis=0) - head.sum(axis=0))])
        # The last value of the window is subtracted from all of it: z - z[L-1].
        last = moment[lookback - 1].copy()
        moment = moment - last - last[:, None] + last[lookback - 1]
        sums = sums - sums[lookback - 1]
        x, y = slice(0, lookback), slice(lookback, m)
        n = len(windows) * dims.channels
        return cls(n, moment[x, x], moment[x, y], float(np.trace(moment[y, y])), sums[x], sums[y])

    @classmethod
    def gathered(cls, windows: Windows, dims: Dims, *, rows: int = 8192) -> _Moments:
        """Accumulate in float64 over float32 products, `rows` design rows at a time."""
        d, h = design_size(dims), dims.horizon
        n, xx, xy, yy, x, y = 0, np.zeros((d, d)), np.zeros((d, h)), 0.0, np.zeros(d), np.zeros(h)
        for batch in windows.batches(max(1, rows // dims.channels)):
            window, label = windows.batch(batch)
            design_rows, last = design(window, dims.cardinality)
            label = label.transpose(0, 2, 1).reshape(len(design_rows), h) - last
            if windows.missing:
                whole = ~np.isnan(label).any(axis=1)
                design_rows, label = design_rows[whole], label[whole]
            n += len(label)
            xx += design_rows.T @ design_rows
            xy += design_rows.T @ label
            yy += float(np.einsum("rh,rh->", label, label, dtype=np.float64))
            x += design_rows.sum(axis=0, dtype=np.float64)
            y += label.sum(axis=0, dtype=np.float64)
        return cls(n, xx, xy, yy, x, y)

    def about(self, x: Float[np.ndarray, " D"], y: Float[np.ndarray, " H"]) -> _Moments:
        """The moments of X - x and Y - y."""
        return _Moments(
            self.n,
            self.xx - np.outer(self.x, x) - np.outer(x, self.x) + self.n * np.outer(x, x),
            self.xy - np.outer(self.x, y) - np.outer(x, self.y) + self.n * np.outer(x, y),
            self.yy - 2 * float(self.y @ y) + self.n * float(y @ y),
            self.x - self.n * x,
            self.y - self.n * y,
        )


@dataclass
class Ridge(Estimator):
    """Closed-form ridge regression over the last-value-subtracted window: NLinear's map, solved exactly.

    The normal equations are accumulated once over the train windows and once over the validation windows;
    every lambda is then judged from those sums, without another pass over the data. Windows with a missing
    label are left out.

    Parameters
    ----------
    lambdas
        Candidate penalties, relative to the number of design rows, so that one grid suits any data length.
        None takes 49 values from 1e-6 to 1e6, and smaller ones as long as they are better, down to 1e-12.
    """

    lambdas: Sequence[float] | None = None
    uses: ClassVar[frozenset[str]] = frozenset({"past", "known", "static", "tabular"})

    def __post_init__(self) -> None:
        if self.lambdas is not None and not (self.lambdas and all(map(_is_penalty, self.lambdas))):
            what, fix = "ridge penalties are non-negative, finite numbers", "model.lambdas=null takes the default grid"
            raise ConfigError(what, where="model.lambdas", got=list(self.lambdas), allowed="one or more", fix=fix)

    def fit(self, train: Windows, val: Windows, dims: Dims) -> LinearForecaster:
        """Solve for every lambda, keep the one with the lowest validation MSE.

        Raises
        ------
        DataError
            No window has a complete label.
        """
        moments, judge = (_Moments.of(windows, dims) for windows in (train, val))
        if not moments.n or not judge.n:
            where = "validation rows" if moments.n else "training rows"
            got = f"{len(train)} train and {len(val)} validation windows, all with missing targets"
            fix = "shorten the horizon, or fill the gaps of the data first"
            raise DataError("no window has a complete label", where=where, got=got, fix=fix)
        mean_x, mean_y = moments.x / moments.n, moments.y / moments.n
        moments, judge = moments.about(mean_x, mean_y), judge.about(mean_x, mean_y)
        spectrum, basis = np.linalg.eigh(moments.xx)
        spectrum, xy = np.maximum(spectrum, 0.0), basis.T @ moments.xy
        val_xx, val_xy = basis.T @ judge.xx @ basis, basis.T @ judge.xy

        def judged(penalty: float) -> float:
            weight = _solve(spectrum, xy, penalty * moments.n)
            return float(judge.yy - 2 * np.sum(weight * val_xy) + np.sum(weight * (val_xx @ weight)))

        grid = sorted(np.logspace(-6, 6, 49) if self.lambdas is None else map(float, self.lambdas))
        errors = [judged(penalty) for penalty in grid]
        while self.lambdas is None and grid[0] > 1e-12 and _falls(errors):  # below 1e-12 there is no penalty left
            grid.insert(0, grid[0] / 10**0.25)
            errors.insert(0, judged(grid[0]))
        best = int(np.argmin(errors))
        log.info("ridge lambda %.3g chosen on validation, MSE %.4f", grid[best], errors[best] / judge.n / dims.horizon)
        if _falls(errors) or _falls(errors[::-1]):
            log.warning("the best ridge lambda %.3g lies at the edge of the grid: widen model.lambdas", grid[best])
        weight = basis @ _solve(spectrum, xy, grid[best] * moments.n)
        return LinearForecaster(
            cardinality=dims.cardinality,
            weight=np.ascontiguousarray(weight, dtype=np.float32),
            bias=(mean_y - mean_x @ weight).astype(np.float32),
        )


def _falls(errors: Sequence[float]) -> bool:
    """Whether the first is the lowest, by more than rounding."""
    return len(errors) > 1 and errors[0] < (1 - 1e-5) * min(errors[1:])


def _solve(spectrum: np.ndarray, xy: np.ndarray, penalty: float) -> np.ndarray:
    # Directions without any variance stay at zero, also with penalty 0: the minimum-norm solution.
    size = spectrum + penalty
    inverse = np.where(size > 1e-12 * spectrum[-1], 1.0 / np.where(size > 0, size, 1.0), 0.0)
    return np.asarray(inverse[:, None] * xy)
