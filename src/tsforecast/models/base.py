"""What every model is: an estimator that is fitted on windows, and the torch-free forecaster it leaves behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float, Int

from tsforecast.errors import DataError
from tsforecast.types import Dims, Window
from tsforecast.windows import Windows


class Forecaster(ABC):
    """A fitted model: a pure function of one batch of windows, saved as named arrays.

    A forecaster is a dataclass whose fields are plain JSON values; everything learned is in `state()`.

    Attributes
    ----------
    requires
        What has to be installed beside `tsforecast[serve]` to forecast.
    chosen
        What its fit chose on the validation windows, as JSON values for `Estimator.refitting`; not saved.
    solved
        Of a ridge with covariates that chose its penalty: what these can be left out of, a `moments.Solved`; not saved.
    probes
        Drawn histories whose forecasts tell its weights from others; fewer where there is little to tell.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    probes: ClassVar[int] = 512
    chosen: Mapping[str, Any] = MappingProxyType({})
    solved: Any = None

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
    trains
        Whether it learns from train windows: `lookback=auto` leaves it as many as that takes.
    refits
        Fits that intervals from earlier cutoffs take at most, where a fit is dear; None: one before each cutoff.
    """

    uses: ClassVar[frozenset[str] | None] = frozenset()
    learns_quantiles: bool = False
    trains: ClassVar[bool] = True
    refits: ClassVar[int | None] = None

    @abstractmethod
    def fit(self, train: Windows, val: Windows, dims: Dims) -> Forecaster:
        """Fit on the train windows; the validation windows may choose hyperparameters, never coefficients.

        A model that is fitted in rounds may take `on: Callable[[int, float], object] | None = None` too, and call it
        with the number of the round and the validation loss: what it raises, such as a pruned trial, ends the fit.
        """

    def refitting(self, chosen: Mapping[str, Any]) -> Estimator:
        """The model that takes what was `chosen` as given: it chooses nothing and reads no validation windows."""
        return self


def check_labels(complete: int, windows: Windows, part: str) -> None:
    """Raise a DataError when of the windows none is `complete`."""
    if not complete:
        got = f"{len(windows)} windows, all with missing targets" if len(windows) else "no windows"
        fix = "shorten the horizon, or fill the gaps of the data first"
        raise DataError("no window has a complete label", where=f"{part} rows", got=got, fix=fix)
