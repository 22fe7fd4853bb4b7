"""Calendar, Fourier, holidays and window features, against pandas and slow loops."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
from tests.errors import has, refused

from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.errors import ConfigError
from tsforecast.features.base import FeatureSet
from tsforecast.features.calendar import Calendar, Fourier, Holidays
from tsforecast.features.missing import fill_forward
from tsforecast.features.window import Differences, Lags, Rolling

TIME = pd.date_range("2024-12-20", periods=600, freq="h")
WINDOW = np.random.default_rng(0).standard_normal((4, 30, 2)).astype(np.float32)


def test_cyclical_fields_are_the_sine_and_cosine_of_their_cycle() -> None:
    found = Calendar(["hour", "month"]).transform(TIME, "h")
    np.testing.assert_allclose(found[:, 0], np.sin(2 * np.pi * TIME.hour / 24), atol=1e-6)
    np.testing.assert_allclose(found[:, 3], np.cos(2 * np.pi * (TIME.month - 1) / 12), atol=1e-6)


@pytest.mark.parametrize("feature", [Calendar(encoding="scaled"), Fourier("7D", 2), Holidays("DE")])
def test_a_rows_feature_is_the_same_bits_whatever_other_rows_are_asked_for(feature: Calendar) -> None:
    whole = feature.transform(TIME, "h")
    assert whole.shape == (600, len(feature.names()))
    np.testing.assert_array_equal(feature.transform(TIME[100:110], "h"), whole[100:110])
    repeated = feature.transform(TIME.append(TIME), "h")
    np.testing.assert_array_equal(repeated, np.concatenate([whole, whole]))


@pytest.mark.parametrize("freq", ["h", "D", "B", "W-MON", "MS", "QE-DEC"])
def test_automatic_fields_tell_the_rows_of_a_year_apart_and_none_is_constant(freq: str) -> None:
    stamps = pd.date_range("2023-01-02", periods=400, freq=freq)
    panel = to_panel(pd.DataFrame({"date": stamps, "y": np.arange(400.0)}), Schema())
    (calendar,) = FeatureSet((Calendar("auto"),)).fit(panel).rows
    found = calendar.transform(panel.time, panel.freq)
    assert found.shape == (400, len(calendar.names()))
    if freq != "h":  # of which 400 are not a year
        assert (np.ptp(found, axis=0) > 0).all()
    if freq in ("D", "W-MON", "MS"):
        year = panel.time.year == panel.time.year[0]
        assert len(np.unique(found[year], axis=0)) == year.sum()


def test_fields_are_of_local_time() -> None:
    local = TIME.tz_localize("UTC").tz_convert("Europe/Berlin")
    found = Calendar(["hour"], encoding="scaled").transform(local, "h")
    np.testing.assert_allclose(found[:, 0], local.hour / 23 - 0.5, atol=1e-6)


def test_a_fourier_term_comes_back_after_its_period() -> None:
    found = Fourier("7D", 3).transform(TIME, "h")
    np.testing.assert_allclose(found[:-168], found[168:], atol=1e-5)


def test_christmas_is_a_holiday_in_germany() -> None:
    found = Holidays("DE").transform(TIME, "h")[:, 0]
    christmas = np.isin(
        TIME.date, [datetime.date(2024, 12, 25), datetime.date(2024, 12, 26), datetime.date(2025, 1, 1)]
    )
    np.testing.assert_array_equal(found, christmas.astype(np.float32))


def test_window_features_are_what_a_loop_finds() -> None:
    lags, changes = Lags([1, 7]).transform(WINDOW), Differences([3]).transform(WINDOW)
    rolling = Rolling(5, ["mean", "std", "max"]).transform(WINDOW)
    for b in range(4):
        for c in range(2):
            series = WINDOW[b, :, c]
            assert lags[b, :, c].tolist() == [series[-1], series[-7]]
            assert changes[b, 0, c] == series[-1] - series[-4]
            last = series[-5:]
            np.testing.assert_allclose(rolling[b, :, c], [last.mean(), last.std(), last.max()], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "where", "said"),
    [
        (lambda: Calendar(["hourr"]), "calendar.fields", {"got": "hourr", "fix": "did you mean hour?"}),
        (lambda: Calendar(encoding="no"), "calendar.encoding", {"got": "no", "allowed": ["cyclical", "scaled"]}),  # type: ignore[arg-type]
        (lambda: Fourier("x"), "fourier.period", {"got": "x", "allowed": has("7D")}),
        (lambda: Fourier("-1D"), "fourier.period", {"got": "-1D", "allowed": has("7D")}),
        (lambda: Fourier("7D", 0), "fourier.order", {"got": 0, "allowed": "1, 2, ..."}),
        (lambda: Holidays("XX"), "holidays", {"got": "XX"}),
        (lambda: Lags([0]), "lags.steps", {"got": 0, "allowed": "1, 2, ..."}),
        (lambda: Lags([]), "lags.steps", {"allowed": "1, 2, ..."}),
        (lambda: Rolling(0), "rolling.window", {"got": 0, "allowed": "1, 2, ..."}),
        (lambda: Rolling(5, ["meen"]), "rolling.stats", {"got": "meen", "fix": "did you mean mean?"}),
        (lambda: Lags([31]).names(30), "lags", {"got": "31 rows, lookback 30", "fix": has("lookback=31")}),
        (lambda: Differences([30]).names(30), "differences", {"allowed": "1 to 30 rows", "fix": has("lookback=31")}),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(make: object, where: str, said: dict) -> None:
    with refused(ConfigError, where=f"feature.{where}", **said):
        make()  # type: ignore[operator]


def test_the_fill_is_a_slow_loops_and_torchs() -> None:
    import torch

    rng = np.random.default_rng(1)
    values = rng.standard_normal((20, 9, 3)).astype(np.float32)
    values[rng.random(values.shape) < 0.4] = np.nan
    values[0] = np.nan
    expected = values.copy()
    for b, c in np.ndindex(20, 3):
        series = pd.Series(values[b, :, c]).ffill().bfill().fillna(0.0)
        expected[b, :, c] = series
    filled, observed = fill_forward(values)
    np.testing.assert_array_equal(filled, expected)
    np.testing.assert_array_equal(observed, ~np.isnan(values))
    theirs, seen = fill_forward(torch.from_numpy(values.copy()))
    np.testing.assert_array_equal(theirs.numpy(), expected)
    np.testing.assert_array_equal(seen.numpy(), observed)
