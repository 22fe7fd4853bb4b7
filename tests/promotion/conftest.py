"""Ridge on ETTh1, and the same a little off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tsforecast as tsf
from tsforecast.bundle.bundle import Bundle
from tsforecast.result import Result

SMALL = ("+experiment=etth1", "model=ridge", "lookback=48", "horizon=24", "tracking=none", "report=none")

Trained = Callable[..., Result]


@pytest.fixture(scope="session")
def trained(ett_dir: Path) -> Trained:
    """`trained(*words)`: a run of ridge on ETTh1."""
    return lambda *words: tsf.train(*SMALL, f"paths.data_dir={ett_dir}", *words)


@pytest.fixture(scope="session")
def ridge(trained: Trained) -> Result:
    return trained("quantiles=[0.05,0.5,0.95]", "calibration=conformal")


def biased(bundle: Bundle, by: float, tilt: float = 0.0) -> Bundle:
    """The bundle with every forecast `by` higher, in scaled units; with `tilt`, more so at one end of the steps."""
    forecaster: Any = bundle.forecaster
    bias = forecaster.bias + np.float32(by) + np.linspace(-tilt, tilt, len(forecaster.bias), dtype=np.float32)
    return replace(bundle, forecaster=replace(forecaster, bias=bias))
