"""From a panel to what models are fitted, calibrated and scored on: one place, whoever asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from jaxtyping import Float

from tsforecast.bundle import Bundle
from tsforecast.data.splits import Borders
from tsforecast.features.base import FeatureSet
from tsforecast.metrics import seasonal_scale
from tsforecast.models.base import Forecaster
from tsforecast.panel import Panel, seasonality
from tsforecast.schema import Schema
from tsforecast.types import Dims
from tsforecast.windows import Encoded, Windows

PARTS = ("train", "val", "cal", "test")


class Split(Protocol):
    """Where the parts of each series begin and end."""

    def __call__(self, panel: Panel, lookback: int, horizon: int) -> Borders:
        """The borders of a panel."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A panel with borders, features fitted on its train rows alone, and windows over each part.

    Attributes
    ----------
    panel
        Without the series that the split leaves out.
    stride
        Rows from one test origin to the next; the other parts have every window.
    """

    panel: Panel
    schema: Schema
    borders: Borders
    features: FeatureSet
    encoded: Encoded
    dims: Dims
    stride: int = 1

    def windows(self, part: str) -> Windows:
        """The windows whose targets lie in the `train`, `val`, `cal` or `test` rows."""
        begin, end = self.borders.rows(part)
        return Windows.over(
            self.encoded,
            lookback=self.dims.lookback,
            horizon=self.dims.horizon,
            begin=begin,
            end=end,
            stride=self.stride if part == "test" else 1,
        )

    @cached_property
    def scale(self) -> tuple[Float[np.ndarray, "N C"], Float[np.ndarray, "N C"]]:
        """What MASE and RMSSE divide by: the errors of the seasonal naive on the train rows."""
        panel, borders = self.panel, self.borders
        return seasonal_scale(panel.target, panel.offsets, borders.begin, borders.train_end, self.dims.season)

    def bundle(self, forecaster: Forecaster) -> Bundle:
        """The fitted forecaster with all it needs to read a frame; points alone until it is calibrated."""
        panel = self.panel
        return Bundle(
            features=self.features, forecaster=forecaster, dims=self.dims, channels=panel.channels,
            past_names=panel.past_names, known_names=panel.known_names, static_names=panel.static_names,
            freq=panel.freq, schema=self.schema.resolved(panel),
        )  # fmt: skip


def prepare(
    panel: Panel,
    schema: Schema,
    split: Split,
    features: FeatureSet,
    *,
    lookback: int,
    horizon: int,
    season: int | None = None,
    levels: Sequence[float] = (),
    calibration: float = 0.0,
    stride: int = 1,
) -> Prepared:
    """Split, fit the features on the train rows, encode.

    Parameters
    ----------
    season
        None: that of the frequency.
    levels
        Quantiles the model is to learn.
    calibration
        Share of the validation rows, the last of them, that is kept for calibration.

    Raises
    ------
    DataError
        A part has too few rows, or the features cannot be fitted.
    """
    panel, borders = split(panel, lookback, horizon).kept(panel)
    borders = replace(borders, calibration=calibration)
    features = features.fit(panel.rows(borders.begin, borders.train_end))
    encoded = features.encode(panel)
    dims = encoded.dims(lookback, horizon, season=season or seasonality(panel.freq), quantiles=levels)
    return Prepared(panel, schema, borders, features, encoded, dims, stride)
