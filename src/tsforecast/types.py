"""The axis letters and the arrays that travel between stages.

N series, T rows, B windows in a batch, L lookback, H horizon, C channels (targets), P past covariates,
K known covariates, S static covariates, F window features, Q quantile levels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    from tsforecast.data.panel import Panel


@dataclass(frozen=True)
class Dims:
    """Sizes of one forecasting problem, measured from the data and handed to `build(dims)`.

    Attributes
    ----------
    quantiles
        The quantile levels a model is to learn, ascending and with 0.5 among them; none: a point forecast.
    cardinality
        `past`, `known` or `static` to the number of categories of each of its columns, 0 for a column of numbers;
        a group without categorical columns is not there. A categorical column holds codes 0, 1, ...
    least
        Rows of its series that a window holds at least, at most `lookback` (which 0 stands for); those before the first
        row of the series are missing rows.
    """

    lookback: int
    horizon: int
    channels: int
    past: int = 0
    known: int = 0
    static: int = 0
    tabular: int = 0
    season: int = 1
    quantiles: tuple[float, ...] = ()
    cardinality: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    least: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "least", self.least or self.lookback)
        object.__setattr__(self, "quantiles", tuple(self.quantiles))
        object.__setattr__(self, "cardinality", {name: tuple(sizes) for name, sizes in self.cardinality.items()})


class WindowFeature(Protocol):
    """A function of the window alone, so that serving needs no more than the lookback."""

    def names(self, lookback: int) -> tuple[str, ...]:
        """F readable names."""

    def transform(self, target: Float[np.ndarray, "B L C"]) -> Float[np.ndarray, "B F C"]:
        """Features of each window and channel."""


@dataclass(frozen=True)
class Encoded:
    """A panel in model space: scaled, with every row feature in place; rows back to back as in the panel.

    `static` is per series, [N S]; NaN marks missing. A categorical column holds codes 0, 1, ...

    Attributes
    ----------
    names
        Of the columns of `target`, `past`, `known` and `static`, as a person reads them.
    cardinality
        As in `Dims`.
    local
        Whether each window is scaled by the mean and standard deviation of its own target.
    filled
        Whether rows that are missing, and so filled, count in these, as they do in bundles that do not say.
    raw
        The target in original units.
    zero
        What 0 in original units is in model space, by series.
    pad
        Missing rows in front of each series, which `offsets` do not count: windows reach back into them.
    """

    offsets: Int[np.ndarray, " N+1"]
    target: Float[np.ndarray, "T C"]
    past: Float[np.ndarray, "T P"]
    known: Float[np.ndarray, "T K"]
    static: Float[np.ndarray, "N S"]
    window_features: tuple[WindowFeature, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cardinality: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    local: bool = False
    filled: bool = False
    raw: Float[np.ndarray, "T C"] | None = None
    zero: Float[np.ndarray, "N C"] | None = None
    pad: int = 0

    def dims(self, lookback: int, horizon: int, season: int, quantiles: Sequence[float] = ()) -> Dims:
        """Sizes as measured."""
        channels, past, known, static = (a.shape[1] for a in (self.target, self.past, self.known, self.static))
        tabular = sum(len(feature.names(lookback)) for feature in self.window_features)
        sizes = (lookback, horizon, channels, past, known, static, tabular, season, tuple(quantiles))
        return Dims(*sizes, self.cardinality, least=lookback - self.pad)


@dataclass(frozen=True)
class Window:
    """One model input batch in scaled units. The label is never inside it.

    `| x x x x x x . y y y |`  `target`, `past` and `observed` cover x; `known` covers x and y.

    The arrays are numpy on the inference path and torch tensors on a training device; the code that gathers
    them (`tsforecast.windows`) is the same.
    """

    target: Float[np.ndarray, "B L C"]
    past: Float[np.ndarray, "B L P"]
    known: Float[np.ndarray, "B L+H K"]
    static: Float[np.ndarray, "B S"]
    tabular: Float[np.ndarray, "B F C"]
    observed: Bool[np.ndarray, "B L C"] | None = None  # None: nothing was missing
    center: Float[np.ndarray, "B 1 C"] | None = None  # of a window scaled by its own mean and standard deviation
    scale: Float[np.ndarray, "B 1 C"] | None = None
    zero: Float[np.ndarray, "B 1 C"] | None = None  # what 0 in original units is here; None: 0


def quantile_names(quantiles: Sequence[float]) -> list[str]:
    """`lo-90` for the quantile 0.05, `hi-90` for 0.95, `median` for 0.5, as NeuralForecast names them."""
    percents = [round(100 - 200 * q, 6) for q in quantiles]
    return [f"{'lo' if each > 0 else 'hi'}-{abs(each):g}" if each else "median" for each in percents]


@dataclass(frozen=True, repr=False)
class Forecast:
    """Forecasts in original units, one cutoff per series.

    Attributes
    ----------
    ids
        Series names, [N].
    cutoff
        Timestamp of the last row used, [N].
    time
        Forecast timestamps, those of the series back to back, [N*H].
    channels
        Target names, C of them.
    values
        Point forecasts in original units, [N H C].
    history
        The rows it was made from, and those ahead of them without targets.
    quantile_levels
        Ascending; none where the bundle forecasts points alone.
    quantiles
        Quantiles in original units, [N H C Q]; they never cross, and the point lies between those below and those
        above 0.5.
    warnings
        What is stale in the history, and what is far from the rows of training.
    units
        Unit of each channel that has one, as the dataset states them.
    fallback
        Which series were too short for the model and are forecast by seasonal naive, [N]; None: none.
    """

    ids: np.ndarray
    cutoff: pd.DatetimeIndex
    time: pd.DatetimeIndex
    channels: tuple[str, ...]
    values: Float[np.ndarray, "N H C"]
    history: Panel
    quantile_levels: tuple[float, ...] = ()
    quantiles: Float[np.ndarray, "N H C Q"] | None = None
    warnings: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    fallback: Bool[np.ndarray, " N"] | None = None

    def __repr__(self) -> str:
        notes = "".join(f"\n{each}" for each in self.warnings)
        return f"{self.values.shape[1]} steps ahead of {len(self.ids)} series\n{self.to_frame()}{notes}"

    def plot(self, series: Sequence[str] = (), channels: Sequence[str] = ()) -> Any:
        """A matplotlib figure: history, forecast and intervals, a chart for each series and channel.

        Parameters
        ----------
        series, channels
            Which to draw; all when empty, but no more than twelve charts.

        Raises
        ------
        RequestError
            There is no such series or channel.
        """
        from tsforecast.plotting import forecast_figure  # matplotlib comes with the `train` extra

        return forecast_figure(self, series, channels)

    def _columns(self) -> dict[str, np.ndarray]:
        """Suffix of a column to its values, [N H C]: the point, then every quantile but the median."""
        named = {"": self.values}
        if self.quantiles is not None:
            named |= {f"-{name}": self.quantiles[..., q] for q, name in enumerate(quantile_names(self.quantile_levels))}
            named.pop("-median", None)
        return named

    def _flagged(self, rows: int) -> dict[str, np.ndarray]:
        """Column `fallback` of so many rows a series: how it is forecast where it was too short; where any is."""
        if self.fallback is None or not self.fallback.any():
            return {}
        return {"fallback": np.repeat(np.array([None, "seasonal_naive"], dtype=object)[self.fallback * 1], rows)}

    def to_frame(self) -> pd.DataFrame:
        """The long frame `unique_id, ds, cutoff, channel, y_hat, y_hat-lo-90, ...`: a row per series, channel, step.

        Where a series was too short for the model a column `fallback` says `seasonal_naive` of it.
        """
        n, h, c = self.values.shape
        rows = np.repeat(np.arange(n * h).reshape(n, 1, h), c, axis=1).reshape(-1)
        return pd.DataFrame(
            {
                "unique_id": np.repeat(np.asarray(self.ids), h * c),
                "ds": self.time[rows],
                "cutoff": self.cutoff.repeat(h * c),
                "channel": np.tile(np.repeat(np.asarray(self.channels, dtype=object), h), n),
                **{f"y_hat{key}": value.transpose(0, 2, 1).reshape(-1) for key, value in self._columns().items()},
                **self._flagged(h * c),
            }
        )

    def to_wide(self, time: str = "date") -> pd.DataFrame:
        """`unique_id, <time>, OT, OT-lo-90, ...`; without `unique_id` when there is one series."""
        n, h, _ = self.values.shape
        cells: dict[str, Any] = {} if n == 1 else {"unique_id": np.repeat(np.asarray(self.ids), h)}
        cells[time] = self.time
        for (j, channel), (key, value) in itertools.product(enumerate(self.channels), self._columns().items()):
            cells[f"{channel}{key}"] = value[..., j].reshape(-1)
        return pd.DataFrame(cells | self._flagged(h))
