"""A baseline repeats what was observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tsforecast.bundle.bundle import Bundle
from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.features.base import FeatureSet
from tsforecast.features.scaling import LogScaler, MinMaxScaler, RobustScaler, Scaler, StandardScaler
from tsforecast.models.naive import SeasonalNaive
from tsforecast.training.evaluate import evaluate
from tsforecast.windows import Windows

L, H, ROWS = 12, 5, 40


@pytest.mark.parametrize("kind", [StandardScaler, RobustScaler, MinMaxScaler, LogScaler])
@pytest.mark.parametrize("scope", ["series", "global", "window"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(values=arrays.arrays(np.float32, (2, ROWS), elements=st.floats(0, 2**20, width=32) | st.just(0.0)), holes=...)
def test_a_naive_forecast_is_the_very_rows_it_repeats(
    kind: type[Scaler], scope: Literal["series", "global", "window"], values: np.ndarray, holes: bool
) -> None:
    values[:, ::7] = np.nan if holes else 0.0
    time = pd.date_range("2024-01-01", periods=ROWS, freq="h")
    frame = pd.concat(
        [pd.DataFrame({"unique_id": f"s{i}", "ds": time, "y": each}) for i, each in enumerate(values)],
        ignore_index=True,
    )
    panel = to_panel(frame, Schema(id="unique_id", freq="h"), for_training=False)
    features = FeatureSet((), kind(scope)).fit(panel)
    encoded = features.encode(panel)
    windows = Windows.over(encoded, lookback=L, horizon=H, begin=panel.offsets[:-1], end=panel.offsets[1:])
    dims = encoded.dims(L, H, 1)
    forecaster = SeasonalNaive(4).fit(windows, windows, dims)
    levels, offsets = (0.1, 0.5, 0.9), np.zeros((H, 1, 3), np.float32)
    fitted = Bundle(schema=Schema(id="unique_id", freq="h"), dims=dims, features=features, forecaster=forecaster)
    bundle = replace(fitted, quantile_levels=levels, offsets=offsets)
    found = bundle.forecast(panel)
    filled = pd.DataFrame(values[:, -L:]).ffill(axis=1).bfill(axis=1).to_numpy()
    np.testing.assert_array_equal(found.values[:, :, 0], filled[:, [-4, -3, -2, -1, -4]])
    assert found.quantiles is not None
    assert (found.quantiles[..., 0] <= found.values).all()
    assert (found.quantiles[..., 2] >= found.values).all()


def test_repeated_zeros_are_no_error_of_intermittent_demand() -> None:
    demand = np.where(np.random.default_rng(0).random(ROWS) < 0.3, 7.0, 0.0)
    frame = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=ROWS, freq="h"), "y": demand})
    panel = to_panel(frame, Schema(freq="h"))
    features = FeatureSet().fit(panel)
    encoded = features.encode(panel)
    windows = Windows.over(encoded, lookback=L, horizon=H, begin=panel.offsets[:-1], end=panel.offsets[1:])
    dims = encoded.dims(L, H, 1)
    forecaster = SeasonalNaive().fit(windows, windows, dims)
    bundle = Bundle(schema=Schema(freq="h").resolved(panel), dims=dims, features=features, forecaster=forecaster)
    smape = evaluate(bundle, panel, windows, (np.ones((1, 1)), np.ones((1, 1)))).summary()["smape"]
    truth = np.stack([demand[o : o + H] for o in windows.origins])
    last = demand[windows.origins - 1][:, None]
    assert smape == pytest.approx(np.mean(2 * np.abs(truth - last) / np.where(truth + last, truth + last, 1)))
