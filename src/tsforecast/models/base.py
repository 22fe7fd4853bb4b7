"""What every model is: an estimator that is fitted on windows, and the torch-free forecaster it leaves behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
from jaxtyping import Float, Int

from tsforecast.types import Dims, Window
from tsforecast.windows import Windows


class Forecaster(ABC):
    """A fitted model: a pure function of one batch of windows, saved as named arrays.

    A forecaster is a dataclass whose fields are plain JSON values; everything learned is in `state()`.

    Attributes
    ----------
    requires
        What has to be installed beside `tsforecast[serve]` to forecast.
    """

    requires: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def predict(self, window: Window) -> Float[np.ndarray, "B H C *Q"]:
        """Forecasts in scaled units: a point, or the quantiles the model learned.

        A window's forecast does not depend on the others in the batch, to the bit.
        """

    def repeats(self, lookback: int) -> Int[np.ndarray, " H"] | None:
        """Rows of the window that the forecast is, where it is nothing else: in original units too, to the bit."""
        return None

    def importance(self) -> dict[str, float]:
        """How much each input counts, by name, falling; empty where a model cannot say."""
        return {}

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """What was learned, by name."""

    @abstractmethod
    def restore(self, state: Mapping[str, np.ndarray]) -> Self:
        """Set what `state()` gave. Returns itself."""


class Estimator(ABC):
    """A model that is fitted without a trainer.

    Attributes
    ----------
    uses
        Which of `past`, `known`, `static`, `tabular` the model reads besides the target; None for a baseline, which
        is defined without covariates.
    learns_quantiles
        Whether it learns `dims.quantiles`. A model that does not forecasts a point, around which calibration may
        place quantiles.
    """

    uses: ClassVar[frozenset[str] | None] = frozenset()
    learns_quantiles: bool = False

    @abstractmethod
    def fit(self, train: Windows, val: Windows, dims: Dims) -> Forecaster:
        """Fit on the train windows; the validation windows may choose hyperparameters, never coefficients."""
