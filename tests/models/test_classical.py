"""Classical models against published forecasts, textbook recursions and statsmodels' own fits."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from statsmodels.tsa import stattools
from statsmodels.tsa.exponential_smoothing.ets import ETSModel
from statsmodels.tsa.statespace.sarimax import SARIMAX
from tests.errors import refused

import tsforecast as tsf
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError
from tsforecast.features.base import FeatureSet
from tsforecast.features.scaling import NoScaler, StandardScaler
from tsforecast.models.arima import ARIMA, Sums, kpss
from tsforecast.models.classical import ETS, MSTL, Theta
from tsforecast.models.intermittent import TSB, Croston
from tsforecast.models.local import Local
from tsforecast.types import Dims, Window

# Oil production of Saudi Arabia, 1996 to 2007, and passengers of airlines, 1949 to 1960 (Box & Jenkins).
OIL = [
    446.6565,
    454.4733,
    455.663,
    423.6322,
    456.2713,
    440.5881,
    425.3325,
    485.1494,
    506.0482,
    526.792,
    514.2689,
    494.211,
]
AIR = """
112 118 132 129 121 135 148 148 136 119 104 118 115 126 141 135 125 149 170 170 158 133 114 140
145 150 178 163 172 178 199 199 184 162 146 166 171 180 193 181 183 218 230 242 209 191 172 194
196 196 236 235 229 243 264 272 237 211 180 201 204 188 235 227 234 264 302 293 259 229 203 229
242 233 267 269 270 315 364 347 312 274 237 278 284 277 317 313 318 374 413 405 355 306 271 306
315 301 356 348 355 422 465 467 404 347 305 336 340 318 362 348 363 435 491 505 404 359 310 337
360 342 406 396 420 472 548 559 463 407 362 405 417 391 419 461 472 535 622 606 508 461 390 432
"""
PASSENGERS = np.array(AIR.split(), float)
EVERY = [ETS(), Theta(), ARIMA(), MSTL(), Croston(), TSB()]


def names(model: Local) -> str:
    return type(model).__name__


def fitted(model: Local, rows: int, horizon: int, season: int = 1) -> Any:
    return model.fit(None, None, Dims(rows, horizon, 1, season=season))  # type: ignore[arg-type]


def forecast(model: Local, y: Any, horizon: int, season: int = 1) -> np.ndarray:
    y = np.asarray(y, np.float32)
    none = np.zeros((1, len(y), 0), np.float32)
    window = Window(y[None, :, None], none, none, none[:, 0], none)
    return np.asarray(fitted(model, len(y), horizon, season).predict(window)[0, :, 0], np.float64)


def demand(rows: int = 120, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(3, rows) * (rng.random(rows) < 0.3).astype(float)


def test_simple_exponential_smoothing_of_oil_is_the_published_forecast() -> None:
    """Hyndman & Athanasopoulos, Forecasting: Principles and Practice, first edition, table 7.1."""
    np.testing.assert_allclose(forecast(ETS(family="ANN"), OIL, 3), 496.5, atol=0.05)


def test_the_family_chosen_for_airline_passengers_forecasts_as_that_of_r_does() -> None:
    """R's `forecast(ets(AirPassengers))`, ETS(M,Ad,M)."""
    found = forecast(ETS(), PASSENGERS, 3, season=12)
    np.testing.assert_allclose(found, [441.8018, 434.1186, 496.6300], rtol=0.01)


def test_the_family_that_forecasts_has_the_lowest_aicc_of_all_that_statsmodels_fits() -> None:
    y, found = PASSENGERS[:60] / PASSENGERS[:60].mean(), {}
    model = replace(ETS(refined=99), season=12, horizon=6)
    for error, trend, damped, season in model._families(y):
        how: dict[str, Any] = {"N": None, "A": "add", "M": "mul"}
        period = 12 if season != "N" else None
        each = ETSModel(y, error=how[error], trend=how[trend], damped_trend=damped, seasonal=how[season],
                        seasonal_periods=period).fit(disp=False, maxiter=200)  # fmt: skip
        states = 1 + (trend == "A") + (11 if period else 0)
        k = 1 + (trend == "A") + damped + (season != "N") + states + 1
        found[error, trend, damped, season] = (-2 * each.llf + 2 * k + 2 * k * (k + 1) / (60 - k - 1), each)
    assert len(found) == 15
    _, best = min(found.values(), key=lambda pair: pair[0])
    np.testing.assert_allclose(model.forecast(y), best.forecast(6), rtol=1e-9)


@pytest.mark.parametrize(("low", "letters", "count"), [(1.0, {"A", "M"}, 15), (-1.0, {"A"}, 6)])
def test_multiplicative_families_are_for_values_above_0_alone(low: float, letters: set[str], count: int) -> None:
    families = list(replace(ETS(), season=12)._families(np.linspace(low, 9, 60)))
    assert {error for error, *_ in families} == letters
    assert len(families) == len(set(families)) == count


def test_theta_without_a_season_is_smoothing_with_half_the_slope_as_drift() -> None:
    """Hyndman & Billah, Unmasking the Theta method, International Journal of Forecasting 19(2), 2003."""
    y = np.cumsum(np.random.default_rng(3).standard_normal(80) + 0.4) + 20

    def level(weight: float) -> tuple[float, float]:
        at, errors = y[0], 0.0
        for value in y:
            errors += (value - at) ** 2
            at += weight * (value - at)
        return at, errors

    weight = minimize_scalar(lambda a: level(a)[1], bounds=(1e-3, 1), method="bounded").x
    slope = np.polyfit(np.arange(80), y, 1)[0] / 2
    expected = level(weight)[0] + slope * (np.arange(5) + (1 - (1 - weight) ** 80) / weight)
    np.testing.assert_allclose(forecast(Theta(), y, 5), expected, rtol=2e-3)


def test_mstl_repeats_seasons_and_goes_on_with_the_line_below_them() -> None:
    t = np.arange(24 * 21 + 12)
    y = 50 + 0.1 * t + 5 * np.sin(2 * np.pi * t / 24) + 3 * np.cos(2 * np.pi * t / 168)
    found = forecast(MSTL(seasons=[24, 168]), y[:-12], 12)
    np.testing.assert_allclose(found, y[-12:], atol=0.3)
    assert np.abs(forecast(ETS(), y[:-12], 12) - y[-12:]).max() > 3  # which is told of no season


def test_arima_of_logarithms_of_airline_passengers_is_the_airline_model() -> None:
    """ARIMA(0,1,1)(0,1,1), which Box & Jenkins found and R's `auto.arima` chooses; statsmodels fits it here."""
    y = np.log(PASSENGERS)
    expected = SARIMAX(y, order=(0, 1, 1), seasonal_order=(0, 1, 1, 12)).fit(disp=False).forecast(6)
    np.testing.assert_allclose(forecast(ARIMA(), y, 6, season=12), expected, atol=2e-4)


def test_least_squares_of_a_seasonal_arma_model_are_those_of_its_recursion() -> None:
    """(1 - .5 B)(1 - .3 B^4)(w - 2) = (1 + .4 B)(1 - .2 B^4) e, multiplied out."""
    w, e = np.random.default_rng(0).standard_normal(60) + 2, np.zeros(60)
    for t in range(60):

        def back(x: np.ndarray, lag: int) -> float:
            return x[t - lag] if t >= lag else 0.0  # noqa: B023 - called at once

        e[t] = w[t] - 2 - 0.5 * back(w - 2, 1) - 0.3 * back(w - 2, 4) + 0.15 * back(w - 2, 5)
        e[t] -= 0.4 * back(e, 1) - 0.2 * back(e, 4) - 0.08 * back(e, 5)
    found = Sums(w, 4).errors(np.array([0.5, 0.3, 0.4, -0.2, 2.0]), (1, 1, 1, 1, 1))
    np.testing.assert_allclose(found, e, atol=1e-12)


@pytest.mark.parametrize("rows", [30, 200])
def test_the_statistic_that_asks_for_differences_is_that_of_statsmodels(rows: int) -> None:
    y = np.random.default_rng(1).standard_normal(rows).cumsum()
    with pytest.warns(UserWarning, match="p-value") if rows == 200 else nullcontext():
        expected = stattools.kpss(y, nlags=int(3 * np.sqrt(rows) / 13), result_object=False)[0]
    assert kpss(y) == pytest.approx(expected)


@pytest.mark.parametrize("debiased", [False, True])
def test_croston_is_mean_demand_over_mean_interval(debiased: bool) -> None:
    y, size, every, since = demand(), None, None, 1
    for value in y:
        if value:
            size = value if size is None else 0.9 * size + 0.1 * value
            every = since if every is None else 0.9 * every + 0.1 * since
            since = 0
        since += 1
    np.testing.assert_allclose(
        forecast(Croston(debiased=debiased), y, 2), size / every * (0.95 if debiased else 1), rtol=1e-6
    )


def test_tsb_is_mean_demand_times_its_probability_which_falls_where_none_comes() -> None:
    y, size, chance = demand(), None, None
    for value in y:
        if value:
            size = value if size is None else 0.8 * size + 0.2 * value
        chance = float(value > 0) if chance is None else 0.9 * chance + 0.1 * (value > 0)
    np.testing.assert_allclose(forecast(TSB(weight=0.2), y, 2), size * chance, rtol=1e-6)
    ended = [forecast(TSB(), [*y, *[0] * rows], 1)[0] for rows in (0, 10, 20)]
    assert all(later == pytest.approx(earlier * 0.9**10, rel=1e-5) for earlier, later in pairwise(ended))


@pytest.mark.parametrize("model", [ETS(), Theta(), Croston()], ids=names)
@pytest.mark.parametrize("scaler", [StandardScaler(), StandardScaler("window"), StandardScaler("global")])
def test_whatever_the_scaler_a_model_works_on_values_in_original_units(model: Local, scaler: StandardScaler) -> None:
    y = demand(60) if isinstance(model, Croston) else PASSENGERS[:60]
    frame = pd.DataFrame({"ds": pd.date_range("2020", periods=60, freq="MS"), "y": y})
    found = {}
    for name, each in (("none", NoScaler()), ("scaled", scaler)):
        found[name] = bundle(model, frame, each).forecast(frame).values[0, :, 0]
    np.testing.assert_allclose(found["scaled"], found["none"], rtol=1e-3)


def bundle(model: Local, frame: pd.DataFrame, scaler: Any) -> Bundle:
    from tsforecast.data.frames import to_panel
    from tsforecast.data.schema import Schema

    schema = Schema(time="ds", target=("y",), freq="MS")
    panel, dims = to_panel(frame, schema), Dims(len(frame), 6, 1, season=12)
    features = FeatureSet(scaler=scaler).fit(panel)
    return Bundle(schema=schema.resolved(panel), dims=dims, features=features, forecaster=model.fit(None, None, dims))  # type: ignore[arg-type]


@pytest.mark.parametrize("model", EVERY, ids=names)
def test_empty_rows_before_a_series_begins_change_nothing(model: Local) -> None:
    frame = pd.DataFrame({"ds": pd.date_range("2015", periods=96, freq="MS"), "y": [*[np.nan] * 36, *PASSENGERS[:60]]})
    alone = bundle(model, frame.tail(60), NoScaler()).forecast(frame.tail(60))
    behind = bundle(model, frame, NoScaler()).forecast(frame)
    np.testing.assert_array_equal(behind.values, alone.values)


@pytest.mark.parametrize("model", EVERY, ids=names)
@pytest.mark.parametrize("y", [[0.0] * 30, [7.5] * 30, [1.0, 2.0], [5.0], [0.0] * 29 + [3.0], list(range(30))], ids=str)
def test_the_dullest_windows_are_forecast_by_finite_numbers_near_their_values(model: Local, y: list[float]) -> None:
    found = forecast(model, y, 4, season=7)
    assert np.isfinite(found).all()
    assert (found >= min(y) - 1e-3).all()
    assert (found <= max(y) + 5).all()


def test_processes_give_the_bits_that_one_gives() -> None:
    y = np.random.default_rng(0).standard_normal((70, 30, 1)).astype(np.float32)
    none = np.zeros((70, 30, 0), np.float32)
    window = Window(y, none, none, none[:, 0], none)
    one, two = (fitted(ETS(family="ANN", n_jobs=n), 30, 3).predict(window) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_a_dear_model_is_scored_on_some_windows_and_says_so_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    t = np.arange(500)
    frame = pd.DataFrame({"date": pd.date_range("2024", periods=500, freq="h"), "y": 9 + np.sin(t * 2 * np.pi / 24)})
    frame["y"] += 0.1 * np.random.default_rng(0).standard_normal(500)
    sizes = ["lookback=72", "horizon=4", "model.most=20", "model.family=ANA", "model.refined=1"]
    with caplog.at_level(logging.INFO):
        result = tsf.train("model=ets", "tracking=none", "report=none", *sizes, data=frame)
    assert result.data.stride == 5  # of 97 windows
    assert len(result.parts["test"].windows) == 20
    assert len(result.data.windows("cal")) <= 20
    assert "20 of 97 test windows are scored, one in 5 rows of a series; model.most=null takes all" in caplog.text
    assert "forecasts take at most about" in caplog.text
    assert result.bundle.metadata["evaluation"]["stride"] == 5
    assert result.metrics["test/mae"] < 0.2


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: ETS(family="XYZ"), "model.family"),
        (lambda: Croston(weight=0.0), "model.weight"),
        (lambda: TSB(probability_weight=2.0), "model.probability_weight"),
        (lambda: fitted(Theta(season=0), 30, 3), "model.season"),
        (lambda: fitted(Theta(most=0), 30, 3), "model.most"),
        (lambda: fitted(ETS(refined=0), 30, 3), "model.refined"),
        (lambda: fitted(ARIMA(candidates=0), 30, 3), "model.candidates"),
    ],
)
def test_a_parameter_that_is_none_is_named(make: Any, where: str) -> None:
    with refused(ConfigError, where=where):
        make()


def test_intervals_from_earlier_cutoffs_take_no_more_forecasts_than_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    time = pd.date_range("2015", periods=80, freq="MS")
    frames = [pd.DataFrame({"unique_id": f"s{i}", "ds": time, "y": 9 + rng.standard_normal(80)}) for i in range(7)]
    sizes = ["lookback=24", "horizon=6", "split=tail", "split.val=6", "split.test=6", "model.most=30", "feature=[]"]
    of = {"data": pd.concat(frames), "id": "unique_id", "time": "ds"}
    result = tsf.train("dataset=long", "model=tsb", "tracking=none", "report=none", *sizes, **of)
    assert 21 <= result.bundle.metadata["calibration"] <= 30  # of 7 series at 20 cutoffs
    assert result.bundle.offsets is not None
