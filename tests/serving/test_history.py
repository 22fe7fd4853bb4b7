"""What a history is told to be: stale, empty at its end, unlike the rows of training, too short; by Python and HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from tests.errors import has, refused
from tests.serving.conftest import SHAPES, Client, H, L, frame, trained
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.schema import Schema
from tsforecast.errors import ConfigError, DataError
from tsforecast.serving.engine import Engine

Bundles = Callable[[str], Bundle]


def told(bundle: Bundle, history: pd.DataFrame) -> tuple[str, ...]:
    """The warnings of a forecast, which are the same over HTTP."""
    cells = history.assign(date=history["date"].astype(str)).astype(object).where(history.notna(), None)
    over_http = Engine(bundle).read(orjson.dumps({"history": cells.to_dict("list")})).warnings
    assert bundle.forecast(history).warnings == over_http
    return over_http


def test_series_that_end_before_others_are_told_refused_or_left_alone(
    bundles: Bundles, caplog: pytest.LogCaptureFixture
) -> None:
    bundle, data = bundles("long"), SHAPES["long"][0]
    assert told(bundle, data) == ()
    old = data[(data["shop"] != "shop1") | (data["date"] < "2024-01-05")]
    (said,) = told(bundle, old)
    assert "1 of 3 series" in said
    assert "shop1 (2024-01-04 23:00:00)" in said
    assert said in caplog.text
    assert bundle.forecast(old, stale="ignore").warnings == ()
    with refused(DataError, where="history", what=has("1 of 3 series", "shop1")):
        bundle.forecast(old, stale="error")
    with refused(ConfigError, where="stale", got="perhaps", allowed=["warn", "error", "ignore"]):
        bundle.forecast(old, stale="perhaps")


def test_last_rows_without_a_target_are_told(bundles: Bundles) -> None:
    bundle, data = bundles("holes"), SHAPES["holes"][0]
    empty = data.assign(load=data["load"].where(data.index < len(data) - 2))
    (said,) = told(bundle, empty)
    assert "count as history: load (2)" in said
    with pytest.raises(DataError, match="last rows are empty"):
        bundle.forecast(empty, stale="error")


SPOILT: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], list[str]]] = {
    "a thousand times": (lambda f: f.assign(visits=f["visits"] * 1000), ["visits of shop1", "training: "]),
    "a sentinel": (lambda f: f.assign(load=f["load"].where(f.index % 24 > 0, -999.0)), ["load of shop1 is -999 to "]),
    "a standstill": (lambda f: f.assign(load=0.5), ["load of shop1 is 0.5 throughout"]),
    "columns swapped": (lambda f: f.assign(load=f["visits"], visits=f["load"]), ["load of shop1 is "]),
}


@pytest.mark.parametrize("how", SPOILT)
def test_rows_unlike_those_of_training_are_told_with_series_column_and_range(bundles: Bundles, how: str) -> None:
    bundle, data = bundles("long"), SHAPES["long"][0]
    spoil, said = SPOILT[how]
    one = data["shop"] == "shop1"
    (warning,) = told(bundle, pd.concat([data[~one], spoil(data[one])]))
    assert all(part in warning for part in said)
    assert "shop0" not in warning
    assert "shop2" not in warning


def test_a_value_below_zero_is_told_where_training_had_none(tmp_path: Path) -> None:
    sales = frame().assign(load=lambda f: f["visits"] * 100)
    bundle = trained(sales, Schema(target=("load",), freq="h"), tmp_path / "bundle")
    (said,) = told(bundle, sales[["date", "load"]].assign(load=lambda f: f["load"].where(f.index % 24 > 0, -999.0)))
    assert "load is -999 to " in said


@pytest.mark.parametrize("shape", ["wide", "daily", "long", "holes", "covariates"])
def test_rows_of_training_are_never_unlike_them(bundles: Bundles, shape: str) -> None:
    bundle, (data, schema) = bundles(shape), SHAPES[shape]
    groups = [part for _, part in data.groupby("shop")] if schema.id else [data]
    static = data.groupby("shop")["size"].first().reset_index() if bundle.schema.static else None
    for end in (L, 60, 90, 140):
        history = pd.concat([part.iloc[end - L : end] for part in groups]).drop(columns="size", errors="ignore")
        future = pd.concat([part.iloc[end : end + 6] for part in groups]) if bundle.schema.known else None
        assert bundle.forecast(history, future, static=static, stale="ignore").warnings == ()


def test_covariates_of_the_future_and_of_series_are_held_to_their_ranges_too(bundles: Bundles) -> None:
    bundle, data = bundles("covariates"), SHAPES["covariates"][0]
    groups = [part for _, part in data.groupby("shop")]
    history = pd.concat([part.iloc[:-6] for part in groups]).drop(columns="size")
    future = pd.concat([part.iloc[-6:] for part in groups]).assign(price=lambda f: f["price"] * 100)
    static = pd.DataFrame({"shop": ["shop0", "shop1"], "size": [0, 40]})
    (said,) = bundle.forecast(history, future, static=static).warnings
    assert "price of shop0 is 1 to 500 (training: 1 to 5)" in said
    assert "size of shop1 is 40 throughout (training: 0 to 1)" in said
    assert "weather" not in said


def test_short_and_unknown_series_are_left_out_and_listed_when_that_is_asked_for(
    bundles: Bundles, caplog: pytest.LogCaptureFixture
) -> None:
    bundle, data = bundles("long"), SHAPES["long"][0]
    short = data[data["shop"] == "shop1"].tail(L - 1)
    more = pd.concat([data[data["shop"] != "shop1"], short, data[data["shop"] == "shop0"].assign(shop="new")])
    with refused(
        DataError, where="history", got="shop1 (23 rows)", allowed="24 rows or more, up to the cutoff"
    ) as caught:
        bundle.forecast(more)
    assert "short=drop" in str(caught.value.fix)
    found = bundle.forecast(more, short="drop")
    assert found.ids.tolist() == ["shop0", "shop2"]
    np.testing.assert_array_equal(found.values, bundle.forecast(data[data["shop"] != "shop1"]).values)
    assert f"2 of 4 series are left out: shop1 ({L - 1} rows), new (not trained on)" in caplog.text
    with refused(DataError, where="history", got="shop1 (23 rows)", allowed="24 rows or more, up to the cutoff"):
        bundle.forecast(short, short="drop")
    with refused(ConfigError, where="short", got="maybe", allowed=["error", "drop"]):
        bundle.forecast(more, short="maybe")
    with refused(DataError, got=f"{L - 1} rows"):  # one series, which has no name
        bundles("wide").forecast(SHAPES["wide"][0].tail(L - 1))


def test_the_answer_over_http_holds_the_warnings(bundles: Bundles, serve: Callable[..., Client]) -> None:
    bundle, data = bundles("wide"), SHAPES["wide"][0].tail(L)
    far: dict[str, Any] = data.assign(load=data["load"] * 1000, date=data["date"].astype(str)).to_dict("list")
    client = serve(bundle)
    found = client("POST", "/forecast", {"history": far})
    assert found.status == 200
    (said,) = found.json["warnings"]
    assert said.startswith("unlike the rows of training: load is ")
    file = client("POST", "/forecast_csv", pd.DataFrame(far).to_csv(index=False).encode())
    assert orjson.loads(file.headers["x-tsforecast-warnings"]) == [said]
    near = client("POST", "/forecast_csv", data.to_csv(index=False).encode())
    assert "x-tsforecast-warnings" not in near.headers


def test_more_missing_values_than_training_had_are_told_from_python_and_refused_by_a_server(bundles: Bundles) -> None:
    bundle, (data, _) = bundles("holes"), SHAPES["holes"]
    spoilt = data.assign(load=data["load"].where(~data.index.isin(len(data) - np.array([3, 7, 9]))))
    (said,) = bundle.forecast(spoilt).warnings
    assert "load (3, 2 at most)" in said
    with refused(DataError, where="history", got="load (3, 2 at most)"):
        told(bundle, spoilt.tail(L))


@pytest.mark.parametrize("column", ["load", "price"])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_row_of_a_file_is_called_as_it_stands_there_whether_past_or_to_forecast(
    bundles: Bundles, column: str, mixed: bool
) -> None:
    engine, data = Engine(bundles("covariates")), SHAPES["covariates"][0].astype(object)
    data = data.groupby("shop").tail(L + H)
    data = data.sort_values(["date", "shop"]) if mixed else data
    ahead = data["date"] > data["date"].unique()[L - 1]
    data.loc[ahead, ["load", "visits"]] = None
    for wrong in data.index[ahead if column == "price" else ~ahead][::7]:
        text = data.assign(**{column: data[column].where(data.index != wrong, "oops")}).to_csv(index=False)
        (line,) = (i for i, line in enumerate(text.splitlines(), 1) if "oops" in line)
        with refused(DataError, what=has(f"(1 row: {line})")):
            engine.read_csv(text.encode())
    assert engine.read_csv(data.to_csv(index=False).encode()).horizon == H
