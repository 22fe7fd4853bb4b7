"""Scalers: statistics against scikit-learn, exact inverse, nothing learned from missing values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import preprocessing

from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.errors import DataError
from tsforecast.features.base import FeatureSet
from tsforecast.features.scaling import LogScaler, MinMaxScaler, NoScaler, RobustScaler, Scaler, StandardScaler

SCALERS = [StandardScaler, RobustScaler, MinMaxScaler, LogScaler, NoScaler]
VALUES = np.random.default_rng(0).gamma(2.0, 5.0, (80, 3)).astype(np.float32)
OFFSETS, OF_ROW = np.array([0, 30, 80]), np.repeat([0, 1], [30, 50])


@pytest.mark.parametrize("kind", SCALERS)
@pytest.mark.parametrize("scope", ["series", "global"])
def test_the_inverse_gives_back_what_was_scaled(kind: type[Scaler], scope: str) -> None:
    scaler = kind(scope=scope).fit(VALUES, OFFSETS)  # type: ignore[arg-type]
    series = OF_ROW if scope == "series" else np.zeros(80, dtype=int)
    scaled = scaler.transform(VALUES, series)
    back = scaler.inverse(scaled[:, None, :], series)[:, 0]
    np.testing.assert_allclose(back, VALUES, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        (StandardScaler, preprocessing.StandardScaler()),
        (MinMaxScaler, preprocessing.MinMaxScaler()),
        (RobustScaler, preprocessing.RobustScaler()),
    ],
)
def test_scaled_values_are_scikit_learns(kind: type[Scaler], reference: object) -> None:
    scaled = kind().fit(VALUES, OFFSETS).transform(VALUES, OF_ROW)
    for begin, end in ((0, 30), (30, 80)):
        expected = reference.fit_transform(VALUES[begin:end].astype(np.float64))  # type: ignore[attr-defined]
        np.testing.assert_allclose(scaled[begin:end], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", SCALERS)
def test_a_restored_scaler_scales_to_the_same_bits(kind: type[Scaler]) -> None:
    scaler = kind().fit(VALUES, OFFSETS)
    again = kind().restore(scaler.state())
    np.testing.assert_array_equal(scaler.transform(VALUES, OF_ROW), again.transform(VALUES, OF_ROW))


@pytest.mark.parametrize("kind", SCALERS)
def test_missing_values_stay_missing_and_teach_nothing(kind: type[Scaler]) -> None:
    holed = np.concatenate([VALUES[:30], np.full((5, 3), np.nan, np.float32), VALUES[30:]])
    offsets = np.array([0, 35, 85])
    whole, with_holes = kind().fit(VALUES, OFFSETS).state(), kind().fit(holed, offsets).state()
    for key, value in whole.items():
        np.testing.assert_allclose(value, with_holes[key], rtol=1e-6)
    assert np.isnan(kind().fit(holed, offsets).transform(holed, np.repeat([0, 1], [35, 50]))[30:35]).all()


def test_a_constant_channel_is_not_divided_by_zero() -> None:
    scaled = (
        StandardScaler()
        .fit(np.full((9, 1), 0.1, np.float32), np.array([0, 9]))
        .transform(np.full((9, 1), 0.1, np.float32), np.zeros(9, dtype=int))
    )
    np.testing.assert_allclose(scaled, 0.0, atol=1e-6)


def test_the_logarithm_refuses_negative_values() -> None:
    with pytest.raises(DataError):
        LogScaler().fit(-VALUES - 2, OFFSETS)


@pytest.mark.parametrize("kind", SCALERS)
def test_fitting_leaves_the_scaler_that_was_fitted_as_it_was(kind: type[Scaler]) -> None:
    scaler = kind()
    first = scaler.fit(VALUES, OFFSETS)
    before = first.state()["center"].copy()
    again = scaler.fit(VALUES[:40] + 5, np.array([0, 40]))
    assert scaler.center.size == 0
    assert again is not first
    np.testing.assert_array_equal(first.state()["center"], before)


def test_a_bundle_that_does_not_say_scales_windows_by_filled_rows_too_and_is_saved_as_it_was() -> None:
    frame = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=80, freq="D"), "y": VALUES[:, 0]})
    panel = to_panel(frame, Schema(time="date", target=("y",)))
    features = FeatureSet(scaler=StandardScaler("window")).fit(panel)
    state = features.state()
    assert not features.restore(state).encode(panel).filled
    before = {name: each for name, each in state.items() if name != "scaler.observed"}
    assert len(before) == len(state) - 1
    restored = features.restore(before)
    assert restored.encode(panel).filled
    assert restored.state().keys() == before.keys()
    assert "scaler.observed" not in FeatureSet(scaler=StandardScaler("global")).fit(panel).state()
