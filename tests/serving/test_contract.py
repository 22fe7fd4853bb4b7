"""What is read is what the bundle would read, and what is written is what it would forecast."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.errors import has, refused
from tests.serving.conftest import SHAPES, Client, H, L, frame, request, trained
from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.request import Prediction
from tsforecast.data.schema import Schema
from tsforecast.data.sources import read_frame
from tsforecast.errors import DataError, RequestError, TsforecastError
from tsforecast.serving.body import Table
from tsforecast.serving.engine import Engine

Bundles = Callable[[str], Bundle]


def frames(asked: dict[str, Any]) -> dict[str, pd.DataFrame]:
    return {name: pd.DataFrame(columns) for name, columns in asked.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_answer_is_the_bundles_own_forecast_to_the_bit(
    bundles: Bundles, serve: Callable[..., Client], shape: str
) -> None:
    bundle = bundles(shape)
    asked = request(bundle)
    expected = bundle.forecast(**frames(asked))
    found = serve(bundle)("POST", "/forecast", asked)
    assert found.status == 200, found.body
    for i, one in enumerate(found.json["forecasts"]):
        point = np.array([one["point"][name] for name in bundle.channels], np.float32).T
        np.testing.assert_array_equal(point, expected.values[i])
        assert [pd.Timestamp(stamp) for stamp in one["timestamps"]] == list(expected.time[i * H : (i + 1) * H])
        assert pd.Timestamp(one["cutoff"]) == expected.cutoff[i]
        assert expected.quantiles is not None
        for level, q in (("90", (0, 4)), ("80", (1, 3))):
            for side, place in zip(("lower", "upper"), q, strict=True):
                bound = [one["intervals"][level][side][name] for name in bundle.channels]
                np.testing.assert_array_equal(np.array(bound, np.float32).T, expected.quantiles[i, :, :, place])
    assert found.json["digest"] == bundle.digest
    assert found.json["version"] == str(bundle.digest)[:12]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("extra", [0, 5])
def test_json_is_read_as_a_frame_of_pandas_is(bundles: Bundles, shape: str, extra: int) -> None:
    bundle = bundles(shape)
    data, schema = SHAPES[shape]
    data = data[["date", *schema.key, *bundle.channels, *schema.past, *schema.known, *schema.static]]
    groups = [part for _, part in data.groupby("shop")] if schema.id else [data]
    ends = len(groups[0]) - (H if schema.known else 0)
    parts = [(part[ends - L - extra : ends], part[ends:]) for part in groups]
    frames = {"history": pd.concat([part for part, _ in parts]).drop(columns=list(schema.static))}
    if schema.known:
        frames["known_future"] = pd.concat([part for _, part in parts])[["date", "shop", *schema.known]]
        frames["static"] = data[["shop", *schema.static]].drop_duplicates()
    panel = bundle.panel(frames["history"], static=frames.get("static")).tail(L)
    expected = bundle.with_future(panel, frames.get("known_future"))
    texts = {name: f.assign(**({"date": [t.isoformat() for t in f["date"]]} if "date" in f else {}))
             for name, f in frames.items()}  # fmt: skip
    for form in ("list", "records"):
        asked = {name: f.astype(object).replace({np.nan: None}).to_dict(form) for name, f in texts.items()}
        got = Engine(bundle).read(orjson.dumps(asked, option=orjson.OPT_SERIALIZE_NUMPY)).panel
        for field in fields(got):
            np.testing.assert_array_equal(getattr(got, field.name), getattr(expected, field.name), err_msg=field.name)


@pytest.mark.parametrize(
    "spoil", ["word", "boolean", "number", "infinite", "offset", "month", "gap", "twice", "short", "null stamp"]
)
def test_what_is_not_as_it_should_be_is_refused(bundles: Bundles, spoil: str) -> None:
    bundle = bundles("wide")
    engine, asked = Engine(bundle), request(bundle)
    history = asked["history"]
    if spoil == "word":
        history["load"][3] = "1.5"
    elif spoil == "boolean":
        history["load"][3] = True
    elif spoil == "number":
        history["date"] = list(range(L))
    elif spoil == "infinite":
        history["load"][3] = 1e39
    elif spoil == "offset":
        history["date"] = [f"{stamp[:13]}+02" for stamp in history["date"]]
    elif spoil == "month":
        history["date"] = [stamp.replace("-01-", "-13-") for stamp in history["date"]]
    elif spoil == "gap":
        history["date"][L - 1] = "2030-01-01T00:00:00"
    elif spoil == "twice":
        history["date"][5] = history["date"][4]
    elif spoil == "short":
        history.update({name: cells[1:] for name, cells in history.items()})
    else:
        history["date"][0] = None
    with pytest.raises(TsforecastError):
        engine.read(orjson.dumps(asked))


def test_timestamps_count_in_the_zone_of_training(bundles: Bundles) -> None:
    bundle = bundles("zoned")
    engine, asked = Engine(bundle), request(bundle)
    local = pd.DatetimeIndex(asked["history"]["date"])
    assert str(local.tz) != "UTC"
    whole = engine.read(orjson.dumps(asked)).panel
    told = {**asked["history"], "date": [stamp.isoformat() for stamp in local.tz_convert("UTC")]}
    again = engine.read(orjson.dumps({**asked, "history": told})).panel
    assert str(again.time.tz) == "Europe/Berlin"
    assert again.time.equals(whole.time)
    naive = {**asked["history"], "date": [stamp[:19] for stamp in asked["history"]["date"]]}
    with refused(DataError, where="history", what=has("no time zone", "Europe/Berlin")):
        engine.read(orjson.dumps({**asked, "history": naive}))


@pytest.mark.parametrize("number", ["1e999", "-1e400", "1" + "0" * 400, "NaN", "[1]", '"1"', "true", "{}", "1.5.5"])
def test_a_cell_that_is_no_number_of_json_is_refused(bundles: Bundles, number: str) -> None:
    engine = Engine(bundles("wide"))
    body = orjson.dumps(request(bundles("wide")))
    first = body.index(b'"load":[') + len(b'"load":[')
    with pytest.raises(TsforecastError):
        engine.read(body[:first] + number.encode() + body[body.index(b",", first) :])


@pytest.mark.parametrize("table", ["history", "known_future", "static"])
@pytest.mark.parametrize("records", [False, True])
def test_columns_are_refused_by_their_names_before_a_cell_is_looked_at(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch, table: str, records: bool
) -> None:
    columns = {f"load{i}": [1.0] for i in range(20_000)}
    monkeypatch.setattr(Table, "kinds", property(lambda _: pytest.fail("a cell was looked at")))
    for shape in ("wide", "covariates"):
        asked = {**request(bundles(shape)), table: [dict.fromkeys(columns, 1.0)] if records else columns}
        with pytest.raises(DataError) as caught:
            Engine(bundles(shape)).read(orjson.dumps(asked))
        assert caught.value.where == table
        assert len(str(caught.value)) < 2000


def test_of_a_file_too_only_so_many_unknown_columns_are_read(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    read, seen = pd.read_csv, []

    def counted(*args: Any, **options: Any) -> pd.DataFrame:
        frame: pd.DataFrame = read(*args, **options)
        seen.append(frame.shape[1])
        return frame

    monkeypatch.setattr(pd, "read_csv", counted)
    text = ",".join(f"load{i}" for i in range(38_000)) + "\n"
    for shape in ("wide", "covariates"):
        with refused(DataError, where="history", what=has("'load' is missing", "did you mean")):
            Engine(bundles(shape)).read_csv(text.encode())
    assert max(seen) <= 110


@pytest.mark.parametrize(("shape", "minutes"), [("wide", 30), ("wide", 1), ("long", 30), ("covariates", 15),
                                                ("daily", 720), ("monthly", 60), ("zoned", 30)])  # fmt: skip
def test_timestamps_stand_where_those_of_training_stood(bundles: Bundles, shape: str, minutes: int) -> None:
    bundle = bundles(shape)
    asked = request(bundle)
    for table in ("history", "known_future"):
        if table in asked:
            moved = pd.DatetimeIndex(asked[table]["date"]) + pd.Timedelta(minutes=minutes)
            asked[table]["date"] = [stamp.isoformat() for stamp in moved]
    for use in (lambda: Engine(bundle).read(orjson.dumps(asked)), lambda: bundle.forecast(**frames(asked))):
        with refused(DataError, where="history", what=has("off the grid of training")):
            use()


def test_what_was_trained_at_half_past_is_forecast_at_half_past(tmp_path: Path) -> None:
    data, schema = SHAPES["wide"]
    bundle = trained(data.assign(date=data["date"] + pd.Timedelta(minutes=30)), schema, tmp_path / "bundle")
    asked = request(bundle)
    assert Engine(bundle).read(orjson.dumps(asked)).panel.time[0].minute == 30
    panel = Engine(bundle).read(orjson.dumps(asked)).panel
    with refused(DataError, where="history", allowed="timestamps on the grid of training, every h"):
        bundle.forecast(replace(panel, time=panel.time - pd.Timedelta(minutes=30)))


@pytest.mark.parametrize(("shape", "rows"), [("wide", 1), ("wide", L // 2), ("long", 1), ("covariates", 3)])
def test_a_file_ends_with_an_observation_or_with_the_rows_to_forecast(bundles: Bundles, shape: str, rows: int) -> None:
    bundle = replace(bundles(shape), missing=dict.fromkeys(bundles(shape).channels, L))
    asked = frames(request(bundle))
    history = asked["history"].assign(**asked.get("static", pd.DataFrame()).iloc[:1].to_dict("records")[0]
                                      if "static" in asked else {})  # fmt: skip
    longer = pd.concat([history.assign(date=pd.DatetimeIndex(history["date"]) - pd.Timedelta(hours=L)), history])
    longer.iloc[-rows:, [longer.columns.get_loc(name) for name in bundle.channels]] = np.nan
    text = pd.concat([longer, asked["known_future"].assign(size=longer["size"].iloc[0])]
                     if "known_future" in asked else [longer]).to_csv(index=False)  # fmt: skip
    with refused(DataError, where=has("load"), what=has("have no targets")):
        Engine(bundle).read_csv(text.encode())


def test_of_a_series_without_any_value_it_is_not_asked_whether_its_last_rows_are_history(bundles: Bundles) -> None:
    bundle = bundles("long")
    one = frames(request(bundle))["history"]
    whole = pd.concat([one, one.assign(shop="shop1")], ignore_index=True)
    lost = whole["shop"] == "shop1"
    history = whole.assign(load=whole["load"].mask(lost))
    golden.check_ended(bundle, history, golden.ENDED, "")
    assert bundle.forecast(history, short="drop").values.tobytes() == bundle.forecast(whole[~lost]).values.tobytes()
    history.loc[lost.idxmax(), "load"] = 1.0
    with refused(DataError, what=has("have no targets")):
        golden.check_ended(bundle, history, golden.ENDED, "")


@pytest.mark.parametrize("shape", ["wide", "long", "covariates"])
@pytest.mark.parametrize("records", [False, True])
def test_a_key_that_is_there_twice_is_refused_wherever_it_stands(bundles: Bundles, shape: str, records: bool) -> None:
    engine, asked = Engine(bundles(shape)), {**request(bundles(shape)), "horizon": 2}
    if records:
        asked |= {name: pd.DataFrame(asked[name]).to_dict("records") for name in asked if name != "horizon"}
    body = orjson.dumps(asked)
    engine.read(body)
    for place in range(len(body)):
        key = re.match(rb'"(\w+)":', body[place:])
        if not key or (records and place > 3 * body.index(b"}")):
            continue
        with refused(RequestError, where="body", got=key[1].decode(), what=has("twice")):
            engine.read(body[:place] + key[0] + b"[1], " + body[place:])


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(name=st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_series_may_have_any_name(bundles: Bundles, name: str) -> None:
    bundle = bundles("long")
    scaler = replace(bundle.features.scaler, scope="global")
    engine = Engine(replace(bundle, features=replace(bundle.features, scaler=scaler)))
    asked = request(bundle)
    asked["history"]["shop"] = [name] * L
    for body in (orjson.dumps(asked), json.dumps(asked).encode()):
        assert list(engine.read(body).panel.ids) == [name]


def test_columns_and_keys_may_come_in_any_order(bundles: Bundles, client: Client) -> None:
    asked = request(bundles("wide"))
    whole = client("POST", "/forecast", asked)
    turned = {"history": dict(reversed(asked["history"].items()))}
    records = [dict(zip(turned["history"], row, strict=True)) for row in zip(*turned["history"].values(), strict=True)]
    assert client("POST", "/forecast", turned).body == whole.body
    assert client("POST", "/forecast", {"history": records}).body == whole.body


def test_a_shorter_horizon_and_fewer_levels_are_a_part_of_the_whole(bundles: Bundles, client: Client) -> None:
    asked = request(bundles("wide"))
    whole = client("POST", "/forecast", asked).json["forecasts"][0]
    part = client("POST", "/forecast", {**asked, "horizon": 2, "levels": [80]}).json["forecasts"][0]
    assert part["timestamps"] == whole["timestamps"][:2]
    assert part["point"] == {name: values[:2] for name, values in whole["point"].items()}
    assert list(part["intervals"]) == ["80"]
    assert part["intervals"]["80"]["upper"]["load"] == whole["intervals"]["80"]["upper"]["load"][:2]
    assert client("POST", "/forecast", {**asked, "levels": []}).json["forecasts"][0]["intervals"] == {}


@pytest.mark.parametrize("shape", ["wide", "long", "covariates"])
def test_a_csv_file_gives_the_csv_of_the_bundles_forecast(
    bundles: Bundles, serve: Callable[..., Client], shape: str
) -> None:
    bundle = bundles(shape)
    client, asked = serve(bundle), frames(request(bundle))
    example = client("GET", "/openapi.json").json["paths"]["/forecast_csv"]["post"]["requestBody"]
    text = example["content"]["text/csv"]["examples"]["golden"]["value"].encode()
    expected = bundle.forecast(**asked)
    frame = expected.to_frame() if bundle.schema.id else expected.to_wide("date")
    found = client("POST", "/forecast_csv", text)
    assert found.status == 200, found.body
    assert found.body.decode() == frame.to_csv(index=False)
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n' + text + b"\r\n--x--\r\n"
    as_form = client("POST", "/forecast_csv", form, {"content-type": "multipart/form-data; boundary=x"})
    assert as_form.body == found.body
    assert len(client("POST", "/forecast_csv?horizon=1&levels=80", text).body.splitlines()) < H * len(
        found.body.splitlines()
    )


def test_names_of_series_come_back_as_they_were_sent(tmp_path: Path) -> None:
    names = {"shop0": "001", "shop1": "1", "shop2": "NA"}
    data = frame(3).assign(shop=lambda f: f["shop"].map(names))
    data.to_csv(tmp_path / "x.csv", index=False)
    schema = Schema("date", "shop", ("load", "visits"), freq="h")
    bundle = trained(read_frame(tmp_path / "x.csv", schema), schema, tmp_path / "bundle")
    engine = Engine(bundle)
    request = engine.read_csv((tmp_path / "x.csv").read_bytes())
    assert list(request.panel.ids) == list(bundle.forecast(data).ids) == list(names.values())
    sent = {"history": data.assign(date=data["date"].map(lambda t: t.isoformat())).to_dict("list")}
    assert list(engine.read(orjson.dumps(sent)).panel.ids) == list(names.values())
    answer = bundle.predictions([request])[0]
    assert isinstance(answer, Prediction)
    assert b"\n001,2024-01-07 06:00:00,2024-01-07 05:00:00,load," in engine.write_csv(request, answer)
    with refused(DataError, where="history", got="01", allowed="001, 1, NA"):
        bundle.forecast(data.assign(shop=data["shop"].replace("001", "01")))


def test_requests_forecast_together_are_forecast_as_alone(bundles: Bundles) -> None:
    engine = Engine(bundles("covariates"))
    one = request(engine.bundle)
    two = orjson.loads(orjson.dumps(one))
    two["history"]["load"] = [value * 2 for value in two["history"]["load"]]
    wrong = orjson.loads(orjson.dumps(one))
    wrong["known_future"]["weather"] = ["hail"] * len(wrong["known_future"]["weather"])
    asked = [engine.read(orjson.dumps(each)) for each in (one, wrong, two, one)]
    together = engine.bundle.predictions(asked)
    for request_, answer in zip(asked, together, strict=True):
        (alone,) = engine.bundle.predictions([request_])
        if isinstance(answer, TsforecastError):
            assert "hail" in str(answer)
            assert str(answer) == str(alone)
        else:
            np.testing.assert_array_equal(answer.point, alone.point)
            np.testing.assert_array_equal(answer.quantiles, alone.quantiles)
    assert isinstance(together[1], TsforecastError)
    assert sum(isinstance(answer, TsforecastError) for answer in together) == 1
