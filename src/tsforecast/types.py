"""The axis letters and the arrays that travel between stages.

N series, T rows, B windows in a batch, L lookback, H horizon, C channels (targets), P past covariates,
K known covariates, S static covariates, F window features, Q quantile levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Dims:
    """Sizes of one forecasting problem, measured from the data and handed to `build(dims)`."""

    lookback: int
    horizon: int
    channels: int
    past: int = 0
    known: int = 0
    static: int = 0
    tabular: int = 0
    season: int = 1


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


@dataclass(frozen=True)
class Forecast:
    """Forecasts in original units, one cutoff per series.

    Attributes
    ----------
    ids
        Series names, [N].
    cutoff
        Timestamp of the last row used, [N].
    time
        Forecast timestamps, row i belongs to series i, [N H].
    channels
        Target names, C of them.
    values
        Point forecasts in original units, [N H C].
    """

    ids: np.ndarray
    cutoff: pd.DatetimeIndex
    time: tuple[pd.DatetimeIndex, ...]
    channels: tuple[str, ...]
    values: Float[np.ndarray, "N H C"]

    def to_frame(self) -> pd.DataFrame:
        """The long frame `unique_id, ds, cutoff, channel, y_hat`: one row per series, channel and step."""
        n, h, c = self.values.shape
        stamps = self.time[0].append(list(self.time[1:])) if n else pd.DatetimeIndex([])
        rows = np.repeat(np.arange(n * h).reshape(n, 1, h), c, axis=1).reshape(-1)
        return pd.DataFrame(
            {
                "unique_id": np.repeat(np.asarray(self.ids), h * c),
                "ds": stamps[rows],
                "cutoff": self.cutoff.repeat(h * c),
                "channel": np.tile(np.repeat(np.asarray(self.channels, dtype=object), h), n),
                "y_hat": self.values.transpose(0, 2, 1).reshape(-1),
            }
        )

    def to_wide(self, time: str = "date") -> pd.DataFrame:
        """`unique_id, <time>, one column per channel`; without `unique_id` when there is one series."""
        n, h, c = self.values.shape
        stamps = self.time[0].append(list(self.time[1:])) if n else pd.DatetimeIndex([])
        frame = pd.DataFrame(self.values.reshape(n * h, c), columns=list(self.channels))
        frame.insert(0, time, stamps)
        if n != 1:
            frame.insert(0, "unique_id", np.repeat(np.asarray(self.ids), h))
        return frame
