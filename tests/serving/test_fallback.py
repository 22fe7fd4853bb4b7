"""Series too short for the model: forecast all the same, told in every answer; no other forecast is touched."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pytest

from tests.errors import has, refused
from tests.serving.conftest import Client
from tsforecast import load_bundle, train
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError, DataError

L, H, SEASON = 48, 12, 24
WORDS = ("dataset=long", "model=ridge", f"lookback={L}", f"horizon={H}", "feature=[calendar]")
WORDS += ("+dataset.bounds.y=[0,null]",)


def series(ett_dir: Path, rows: dict[str, int]) -> pd.DataFrame:
    """The first so many hours of channels of ETTh1, as series of their own, less the least of each."""
    wide = pd.read_csv(ett_dir / "ETTh1.csv", parse_dates=["date"])
    parts = [
        pd.DataFrame({"unique_id": name, "ds": wide["date"][:n], "y": (wide[name] - wide[name].min())[:n]})
        for name, n in rows.items()
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def data(ett_dir: Path) -> pd.DataFrame:
    return series(ett_dir, {"HUFL": 900, "MUFL": 900, "LUFL": 900, "OT": 900, "HULL": 60, "MULL": 30, "LULL": 1})


@pytest.fixture(scope="module")
def bundle(data: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = tmp_path_factory.mktemp("short") / "bundle"
    return load_bundle(train(*WORDS, "split.short=naive", data=data).bundle.save(place).path)


def repeated(y: np.ndarray) -> np.ndarray:
    """The last season over and over, or the last value."""
    last = y[-SEASON:] if len(y) >= SEASON else y[-1:]
    return np.array([last[h % len(last)] for h in range(H)], dtype=np.float32)


def ends(data: pd.DataFrame) -> pd.DataFrame:
    return data.groupby("unique_id").tail(L)


def test_short_series_are_left_out_of_training_named_and_forecast_by_what_they_repeat(
    data: pd.DataFrame, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train(*WORDS, "split.short=naive", data=data)
    said = "3 of 7 series are too short and left out: HULL, MULL, LULL, and will be forecast by seasonal naive"
    assert said in caplog.text
    assert list(bundle.features.ids) == ["HUFL", "MUFL", "LUFL", "OT"]
    found = bundle.forecast(data)
    frame = found.to_frame()
    assert set(frame.loc[frame["fallback"] == "seasonal_naive", "unique_id"]) == {"HULL", "MULL", "LULL"}
    assert frame["fallback"].notna().sum() == 3 * H
    told = has("seasonal_naive: HULL (not trained on), MULL (30 rows), LULL (1 rows)")
    assert any(told == warning for warning in found.warnings)
    for name in ("HULL", "MULL", "LULL"):
        y = data.loc[data["unique_id"] == name, "y"].to_numpy()
        np.testing.assert_array_equal(found.values[list(found.ids).index(name), :, 0], repeated(y))
    assert np.isfinite(found.quantiles).all()
    assert (found.quantiles >= 0).all()
    assert (np.diff(found.quantiles, axis=-1) >= 0).all()


def test_the_forecasts_of_other_series_are_the_same_to_the_bit(data: pd.DataFrame, bundle: Bundle) -> None:
    long = data[data.groupby("unique_id")["y"].transform("size") > L + H * 5]
    alone, among = bundle.forecast(long), bundle.forecast(data)
    assert "fallback" not in alone.to_frame()
    others = ~among.fallback
    assert list(alone.ids) == list(among.ids[others])
    np.testing.assert_array_equal(alone.values, among.values[others])
    np.testing.assert_array_equal(alone.quantiles, among.quantiles[others])
    by_drop = bundle.forecast(data, short="drop")
    np.testing.assert_array_equal(by_drop.quantiles, alone.quantiles)
    only = bundle.forecast(data[~data["unique_id"].isin(long["unique_id"])])
    np.testing.assert_array_equal(only.quantiles, among.quantiles[among.fallback])


def test_a_series_of_training_that_is_short_in_a_request_is_forecast_likewise(
    data: pd.DataFrame, bundle: Bundle
) -> None:
    few = data[data["unique_id"] == "OT"].tail(L - 1)
    found = bundle.forecast(few)
    np.testing.assert_array_equal(found.values[0, :, 0], repeated(few["y"].to_numpy()))
    assert list(found.time) == list(pd.date_range(few["ds"].iloc[-1], periods=H + 1, freq="h")[1:])
    holes = few.assign(y=few["y"].where(np.arange(len(few)) % 9 > 0))  # the last but one of them is missing, too
    np.testing.assert_array_equal(bundle.forecast(holes).values[0, :, 0], repeated(holes["y"].ffill().to_numpy()))
    with refused(DataError, where="history", what=has("no observed value")):
        bundle.forecast(few.assign(y=np.nan))
    with refused(DataError, what=has("1 series cannot be forecast"), fix=has("give more history")):
        bundle.forecast(few, short="error")


def test_without_it_short_series_are_refused_with_the_word_that_forecasts_them(data: pd.DataFrame) -> None:
    with refused(DataError, what=has("too few rows"), fix=has("split.short=drop", "=naive")):
        train(*WORDS, data=data)
    plain = train(*WORDS, "split.short=drop", data=data).bundle
    with refused(DataError, got=has("MULL (30 rows)"), fix=has("split.short=naive")):
        plain.forecast(data)
    with refused(ConfigError, where="short", got="naive", allowed=["error", "drop"]):
        plain.forecast(data, short="naive")


def test_all_channels_give_the_same_forecasts_and_flag_the_same_series(
    data: pd.DataFrame, bundle: Bundle, serve: Callable[..., Client]
) -> None:
    expected = bundle.forecast(data)
    client = serve(bundle)
    cells = ends(data).assign(ds=lambda f: f["ds"].astype(str)).to_dict("list")
    answer = client("POST", "/forecast", {"history": cells}, {"content-type": "application/json"})
    assert answer.status == 200, answer.body
    assert answer.json["warnings"] == list(expected.warnings)
    flagged = {each["series"]: each.get("fallback") for each in answer.json["forecasts"]}
    assert flagged == dict(zip(expected.ids, np.where(expected.fallback, "seasonal_naive", None), strict=True))
    points = np.array([each["point"]["y"] for each in answer.json["forecasts"]], dtype=np.float32)
    np.testing.assert_allclose(points, expected.values[..., 0], rtol=1e-6)
    csv = client("POST", "/forecast_csv", ends(data).to_csv(index=False).encode(), {"content-type": "text/csv"})
    frame = pd.read_csv(io.BytesIO(csv.body))
    pd.testing.assert_frame_equal(frame[["unique_id", "fallback"]], expected.to_frame()[["unique_id", "fallback"]])
    assert orjson.loads(client("GET", "/model").body)["short"] == "seasonal_naive"
