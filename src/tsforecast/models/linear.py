"""Linear forecasting: the map every linear model ends as, and ridge regression, which solves for it exactly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float

from tsforecast.errors import ConfigError
from tsforecast.models.base import Estimator, Forecaster
from tsforecast.models.design import design
from tsforecast.models.moments import Moments, Solved
from tsforecast.types import Dims, Window
from tsforecast.windows import Windows

log = logging.getLogger(__name__)


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
    exponent = np.maximum(np.frexp(np.abs(rows).max(axis=1))[1], -100)
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
        sound = [isinstance(each, int | float) and 0 <= each < np.inf for each in self.lambdas or ()]
        if self.lambdas is not None and not (sound and all(sound)):
            what, fix = "ridge penalties are non-negative, finite numbers", "model.lambdas=null takes the default grid"
            raise ConfigError(what, where="model.lambdas", got=list(self.lambdas), allowed="one or more", fix=fix)

    def fit(self, train: Windows, val: Windows, dims: Dims) -> LinearForecaster:
        """Solve for every lambda, keep the one with the lowest validation MSE, and tell which.

        Raises
        ------
        DataError
            No window has a complete label.
        """
        forecaster, error = self.solve(train, val, dims)
        if error is not None:
            log.info("ridge lambda %.3g chosen on validation, MSE %.4f", forecaster.chosen["lambda"], error)
        return forecaster

    def solve(self, train: Windows, val: Windows, dims: Dims) -> tuple[LinearForecaster, float | None]:
        """As `fit`, and the validation MSE where a lambda was chosen; nothing is told."""
        moments = Moments.of(train, dims, "training")
        mean_x, mean_y = moments.x / moments.n, moments.y / moments.n
        moments = moments.about(mean_x, mean_y)
        spectrum, basis = np.linalg.eigh(moments.xx)
        # Directions without any variance stay at zero: a small penalty would make large weights of their rounding.
        varies = spectrum > moments.rounding * spectrum[-1]
        spectrum, basis = spectrum[varies], basis[:, varies]
        xy = basis.T @ moments.xy
        judge = mse = None
        if self.lambdas is not None and len(self.lambdas) == 1:
            penalty = float(self.lambdas[0])
        else:
            judge = Moments.of(val, dims, "validation").about(mean_x, mean_y)
            val_xx, val_xy = basis.T @ judge.xx @ basis, basis.T @ judge.xy

            def judged(penalty: float) -> float:
                weight = xy / (spectrum + penalty * moments.n)[:, None]
                return float(judge.yy - 2 * np.sum(weight * val_xy) + np.sum(weight * (val_xx @ weight)))

            penalty, error = self._chosen(judged)
            mse = error / judge.n / dims.horizon
        weight = basis @ (xy / (spectrum + penalty * moments.n)[:, None])
        weight, bias = np.ascontiguousarray(weight, dtype=np.float32), (mean_y - mean_x @ weight).astype(np.float32)
        forecaster = LinearForecaster(cardinality=dims.cardinality, weight=weight, bias=bias)
        forecaster.chosen = {"lambda": penalty}
        if judge is not None and len(weight) > dims.lookback + dims.tabular:
            inverse = (basis / (spectrum + penalty * moments.n)) @ basis.T
            forecaster.solved = Solved(inverse, inverse @ moments.xy, judge)
        return forecaster, mse

    def refitting(self, chosen: Mapping[str, Any]) -> Ridge:
        """With the `lambda` that was chosen."""
        return Ridge([chosen["lambda"]])

    def _chosen(self, judged: Callable[[float], float]) -> tuple[float, float]:
        """The lambda with the lowest validation error, and that error."""
        grid = sorted(np.logspace(-6, 6, 49).tolist() if self.lambdas is None else map(float, self.lambdas))
        errors = [judged(penalty) for penalty in grid]
        while self.lambdas is None and grid[0] > 1e-12 and _falls(errors):  # below 1e-12 there is no penalty left
            grid.insert(0, grid[0] / 10**0.25)
            errors.insert(0, judged(grid[0]))
        best = int(np.argmin(errors))
        if _falls(errors) or _falls(errors[::-1]):
            log.warning("the best ridge lambda %.3g lies at the edge of the grid: widen model.lambdas", grid[best])
        return grid[best], errors[best]


def _falls(errors: Sequence[float]) -> bool:
    """Whether the first is the lowest, by more than rounding."""
    return errors[0] < (1 - 1e-5) * min(errors[1:])
