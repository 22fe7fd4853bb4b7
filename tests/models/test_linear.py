"""The linear map and ridge, against numpy's and scikit-learn's own solutions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from tests.errors import has, refused

from tsforecast.errors import ConfigError, DataError
from tsforecast.models.design import design
from tsforecast.models.linear import LinearForecaster, Ridge, matmul, round_weight
from tsforecast.models.moments import Moments
from tsforecast.types import Encoded
from tsforecast.windows import Windows


def encoded(rows: int = 400, channels: int = 2, past: int = 0, known: int = 0, seed: int = 0) -> Encoded:
    rng = np.random.default_rng(seed)

    def walk(columns: int) -> np.ndarray:
        return rng.standard_normal((rows, columns)).cumsum(axis=0).astype(np.float32) * 0.1

    return Encoded(np.array([0, rows]), walk(channels), walk(past), walk(known), np.zeros((1, 0), np.float32))


def windows(e: Encoded, begin: int, end: int, lookback: int = 12, horizon: int = 4) -> Windows:
    return Windows.over(e, lookback=lookback, horizon=horizon, begin=np.array([begin]), end=np.array([end]))


@pytest.mark.parametrize(("past", "known"), [(0, 0), (2, 3)])
def test_ridge_is_scikit_learns_ridge(past: int, known: int) -> None:
    e = encoded(past=past, known=known)
    train, val, penalty = windows(e, 0, 300), windows(e, 300, 400), 0.01
    fitted = Ridge(lambdas=[penalty]).fit(train, val, e.dims(12, 4, 1))
    rows, last = design(train.window(slice(None)))
    labels = train.label(slice(None)).transpose(0, 2, 1).reshape(len(rows), 4) - last
    reference = SklearnRidge(alpha=penalty * len(rows)).fit(rows.astype(np.float64), labels)
    np.testing.assert_allclose(fitted.weight, reference.coef_.T, atol=2e-5)
    np.testing.assert_allclose(fitted.bias, reference.intercept_, atol=2e-5)


def test_the_lambda_chosen_has_the_lowest_validation_error_of_the_grid() -> None:
    e = encoded(seed=3)
    train, val, dims, grid = windows(e, 0, 150), windows(e, 150, 400), e.dims(12, 4, 1), [1e-4, 1e-2, 1.0, 100.0]

    def error(lambdas: list[float]) -> float:
        forecast = Ridge(lambdas).fit(train, val, dims).predict(val.window(slice(None)))
        return float(np.mean((forecast - val.label(slice(None))) ** 2))

    assert error(grid) == pytest.approx(min(error([value]) for value in grid), rel=1e-6)


def test_a_refit_with_the_lambda_that_was_chosen_reads_no_validation_windows() -> None:
    e = encoded(seed=3)
    fitted = Ridge().fit(windows(e, 0, 150), windows(e, 150, 400), e.dims(12, 4, 1))
    refitted = Ridge().refitting(fitted.chosen).fit(windows(e, 0, 150), windows(e, 0, 0), e.dims(12, 4, 1))
    np.testing.assert_array_equal(refitted.weight, fitted.weight)
    assert refitted.chosen == fitted.chosen


@pytest.mark.parametrize("lambdas", [[1e-1, 1.0, 10.0], [10.0, 1.0, 1e-1], [1e-8, 1e3], None], ids=str)
@pytest.mark.parametrize(("exact", "best"), [(True, 1e-12), (False, 1.0)])
def test_the_edge_of_the_grid_is_never_taken_without_a_word(
    exact: bool, best: float, lambdas: list[float] | None, caplog: pytest.LogCaptureFixture
) -> None:
    e = encoded(channels=1)
    if exact:  # two waves and next to no noise: the best penalty is none
        waves = np.sin(np.arange(400)[:, None] / np.array([5.0, 7.3])).sum(axis=1, keepdims=True)
        e = replace(e, target=(waves + 1e-4 * e.target).astype(np.float32))
    train, val, dims = windows(e, 0, 60), windows(e, 60, 400), e.dims(12, 4, 1)

    def error(grid: list[float] | None) -> float:
        forecast = Ridge(grid).fit(train, val, dims).predict(val.window(slice(None)))
        return float(np.mean((forecast - val.label(slice(None))) ** 2))

    found = error(lambdas)
    told = "edge of the grid" in caplog.text
    if lambdas is None:
        assert not told
        assert found < error([1e-6]) * (0.9 if exact else 1.0)
    else:
        assert told == (len(lambdas) == 2 or not min(lambdas) < best < max(lambdas))


def test_the_validation_error_it_chooses_by_is_that_of_its_forecasts_where_covariates_say_the_same_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    t = np.arange(1500)[:, None]
    waves = [shape(2 * np.pi * t / period) for period in (7, 365.25) for shape in (np.sin, np.cos)]
    known = np.hstack([*waves, *waves, np.ones_like(t)]).astype(np.float32)
    target = 3 * waves[0] + waves[3] + np.random.default_rng(0).normal(0, 0.1, t.shape)
    none = np.zeros((1500, 0), np.float32)
    e = Encoded(np.array([0, 1500]), target.astype(np.float32), none, known, np.zeros((1, 0), np.float32))
    val = windows(e, 1200, 1300, lookback=3, horizon=28)
    with caplog.at_level("INFO"):
        fitted = Ridge([1e-11, 1e-10]).fit(windows(e, 0, 1200, lookback=3, horizon=28), val, e.dims(3, 28, 1))
    error = np.mean((fitted.predict(val.window(slice(None))) - val.label(slice(None))) ** 2)
    assert float(caplog.text.rpartition("MSE ")[2]) == pytest.approx(error, abs=1e-4)
    assert np.abs(fitted.weight).max() < 10


def test_moments_from_the_series_are_the_moments_of_the_windows() -> None:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((90, 3)).astype(np.float32)
    e = Encoded(np.array([0, 40, 90]), rows, rows[:, :0], rows[:, :0], np.zeros((2, 0), np.float32))
    w = Windows.over(e, lookback=7, horizon=5, begin=np.array([0, 50]), end=np.array([40, 90]))
    short, slow = (way(w, e.dims(7, 5, 1)) for way in (Moments.sliding, Moments.gathered))
    for name in ("n", "xx", "xy", "yy", "x", "y"):
        np.testing.assert_allclose(getattr(short, name), getattr(slow, name), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [1, 7, 48, 336, 1488])
def test_a_rows_product_is_the_same_bits_at_every_place_in_every_batch(size: int) -> None:
    rng = np.random.default_rng(size)
    rows = (rng.standard_normal((131, size)) * 10.0 ** rng.integers(-6, 6, (131, 1))).astype(np.float32)
    weight = rng.standard_normal((size, 24))
    whole = matmul(rows, round_weight(weight))
    for i in (0, 1, 6, 7, 63, 64, 130):
        assert np.array_equal(matmul(rows[i : i + 1], round_weight(weight))[0], whole[i])
    assert np.array_equal(matmul(rows[::-1].copy(), round_weight(weight))[::-1], whole)
    exact = rows.astype(np.float64) @ weight
    scale = np.abs(rows).max(axis=1, keepdims=True) * np.abs(weight).max() * np.sqrt(size)
    assert np.max(np.abs(whole - exact) / scale) < 1e-6


def test_windows_with_a_missing_label_are_left_out_of_the_fit() -> None:
    e = encoded(channels=1)
    holed = Encoded(e.offsets, e.target.copy(), e.past, e.known, e.static)
    holed.target[100] = np.nan
    fitted = Ridge([0.1]).fit(windows(holed, 0, 300), windows(holed, 300, 400), e.dims(12, 4, 1))
    assert np.isfinite(fitted.weight).all()
    holed.target[:] = np.nan
    with refused(DataError, where="training rows", got=has("285 windows")):
        Ridge([0.1]).fit(windows(holed, 0, 300), windows(holed, 300, 400), e.dims(12, 4, 1))


def test_a_negative_lambda_is_refused() -> None:
    with refused(ConfigError, where="model.lambdas", got=[-1.0], allowed="one or more"):
        Ridge(lambdas=[-1.0])


def test_a_constant_series_is_forecast_as_itself() -> None:
    e = Encoded(np.array([0, 60]), np.full((60, 1), 3.5, np.float32), *(np.zeros((60, 0), np.float32),) * 2,
                np.zeros((1, 0), np.float32))  # fmt: skip
    forecaster = Ridge().fit(windows(e, 0, 40), windows(e, 40, 60), e.dims(12, 4, 1))
    assert isinstance(forecaster, LinearForecaster)
    np.testing.assert_array_equal(forecaster.predict(windows(e, 40, 60).window(slice(None))), 3.5)
