"""KServe's protocols give the numbers of our own routes, and refuse what they have no words for."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import orjson
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.conftest import SHAPES, Client, few, frame, request, trained
from tests.serving.document import Document
from tests.serving.test_document import places
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.schema import Schema
from tsforecast.serving.memory import unfolded

Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]
PATH = "/v1/timeseries/forecast"
FREQUENCIES = {"h": "H", "D": "D", "MS": "month"}


def latest(bundle: Bundle) -> dict[str, Any]:
    """A request: the golden one, or of three shops, of which that holds one, and of few rows where these are enough."""
    if bundle.fallback:
        return {"history": few().assign(date=lambda f: f["date"].map(pd.Timestamp.isoformat)).to_dict("list")}
    if bundle.schema.id is None or "visits" in bundle.schema.columns:
        return request(bundle)
    rows = frame(3).groupby("shop").tail(24)[["date", "shop", "load"]]
    return {"history": rows.assign(date=rows["date"].map(pd.Timestamp.isoformat)).to_dict("list")}


def as_kserve(bundle: Bundle, **options: Any) -> dict[str, Any]:
    """A request, as a client of KServe writes it: from the frame, knowing nothing of the server."""
    rows = pd.DataFrame(latest(bundle)["history"])
    kind = f"{'uni' if len(bundle.channels) == 1 else 'multi'}variate_time_series"
    inputs = []
    for name, part in rows.groupby("shop") if "shop" in rows else [("all", rows)]:
        values = part[[*bundle.channels]].to_numpy().tolist()
        series = values if kind.startswith("multi") else [value for (value,) in values]
        told = {"type": kind, "name": name, "series": series, "frequency": FREQUENCIES[bundle.freq]}
        inputs.append({**told, "start_timestamp": part["date"].iloc[0]})
    return {"model": "default", "inputs": inputs, "options": {"horizon": bundle.dims.horizon, **options}}


def long_without_covariates(place: Any) -> Bundle:
    return trained(frame(3).drop(columns="visits"), Schema("date", "shop", ("load",), freq="h"), place / "bundle")


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return long_without_covariates(tmp_path_factory.mktemp("shops"))


@pytest.mark.parametrize("shape", ["wide", "daily", "zoned", "holes", "shops", "months", "lenient"])
def test_the_numbers_are_those_of_our_own_route(
    bundles: Bundles, shops: Bundle, lenient: Bundle, serve: Serve, shape: str, tmp_path: Any
) -> None:
    if shape == "months":
        data, _ = SHAPES["monthly"]
        bundle = trained(data.drop(columns="visits"), Schema(target=("load",), freq="MS"), tmp_path / "bundle")
    else:
        bundle = {"shops": shops, "lenient": lenient}.get(shape) or bundles(shape)
    client, asked = serve(bundle), as_kserve(bundle, quantiles=[0.05, 0.9])
    document = Document(client("GET", "/openapi.json").json)
    assert document.permits(PATH, "application/json", asked)
    found, ours = client("POST", PATH, asked), client("POST", "/forecast", latest(bundle)).json
    document.check("POST", PATH, found.status, found.headers, found.body)
    told = found.json
    assert (told["status"], told["model"], told["digest"]) == ("completed", "default", bundle.digest)
    assert [each["content"][0]["name"] for each in told["outputs"]] == [each["name"] for each in asked["inputs"]]
    assert told["warnings"] == ours["warnings"]
    by_name = {each["series"] or "all": each for each in ours["forecasts"]}
    for output in told["outputs"]:
        (content,) = output["content"]
        own = by_name[content["name"]]
        assert content["start_timestamp"] == own["timestamps"][0]
        assert content.get("fallback") == own.get("fallback")
        for values, wanted in (
            (content["mean_forecast"], own["point"]),
            (content["quantiles"]["0.05"], own["intervals"]["90"]["lower"]),
            (content["quantiles"]["0.9"], own["intervals"]["80"]["upper"]),
        ):
            rows = [wanted[channel] for channel in bundle.channels]
            assert values == (rows[0] if len(rows) == 1 else [list(row) for row in zip(*rows, strict=True)])


def test_fewer_steps_another_order_and_words_for_the_frequency_are_taken(shops: Bundle, serve: Serve) -> None:
    client, asked = serve(shops), as_kserve(shops)
    whole = {each["content"][0]["name"]: each["content"][0] for each in client("POST", PATH, asked).json["outputs"]}
    asked["inputs"].reverse()
    asked["options"]["horizon"] = 2
    asked["metadata"] = {"request_id": "mine"}
    for each in asked["inputs"]:
        each["frequency"] = "hour"
    found = client("POST", PATH, asked).json["outputs"]
    assert [each["content"][0]["name"] for each in found] == ["shop2", "shop1", "shop0"]
    for each in found:
        (content,) = each["content"]
        assert "quantiles" not in content
        assert content["mean_forecast"] == whole[content["name"]]["mean_forecast"][:2]


def test_the_model_that_the_body_names_answers(
    bundles: Bundles, shops: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tsforecast.serving.asgi import create_app

    monkeypatch.setenv("TSFORECAST_BUNDLES", f"load={bundles('wide').path},shops={shops.path}")
    app = create_app()
    app.state.server.start()
    client = Client(app)
    for name, bundle in (("shops", shops), ("load", bundles("wide"))):
        asked = as_kserve(bundle) | {"model": name}
        assert client("POST", PATH, asked).json["digest"] == bundle.digest
        assert client("GET", f"/v2/models/{name}/ready").json == {"name": name, "ready": True}
    found = client("POST", PATH, asked | {"model": "nope"})
    assert (found.status, found.json["code"]) == (404, "model")
    assert client("GET", "/v2/models/nope/ready").status == 404
    metrics = client("GET", "/metrics").body.decode()
    assert f'tsforecast_requests_total{{model="shops",path="{PATH}",status="200"}} 1.0' in metrics


@pytest.mark.parametrize("shape", ["long", "covariates", "monthly"])
def test_a_bundle_with_covariates_is_refused_and_our_own_route_is_named(
    bundles: Bundles, serve: Serve, shape: str
) -> None:
    found = serve(bundles(shape))("POST", PATH, as_kserve(bundles(shape)))
    assert (found.status, found.json["where"]) == (400, "model")
    assert found.json["got"] == {"covariates": "price, weather, size"}.get(shape, "visits")
    assert found.json["fix"] == "POST /models/default/forecast"


def test_steps_that_the_protocol_has_no_name_for_are_refused(serve: Serve, tmp_path: Any) -> None:
    bundle = trained(frame(freq="15min"), Schema(target=("load", "visits"), freq="15min"), tmp_path / "bundle")
    FREQUENCIES["15min"] = "T"
    found = serve(bundle)("POST", PATH, as_kserve(bundle))
    assert (found.status, found.json["got"]) == (400, "steps of 15min")


def changed(asked: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    """A copy with another value at `inputs.0.name`; `...` leaves it out."""
    copy = orjson.loads(orjson.dumps(asked))
    *way, last = (int(part) if part.isdigit() else part for part in where.split("."))
    holder = copy
    for part in way:
        holder = holder[part]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return dict(copy)


@pytest.mark.parametrize(
    ("where", "value", "status"),
    [
        ("inputs.0.frequency", "D", 400), ("inputs.0.frequency", "fortnight", 400), ("inputs.0.frequency", ..., 400),
        ("inputs.0.start_timestamp", ..., 400), ("inputs.0.start_timestamp", "now", 400),
        ("inputs.0.start_timestamp", "9999-12-31T23:00:00", 422), ("inputs.0.start_timestamp", "", 400),
        ("inputs.0.start_timestamp", "2024-01-06T06:30:00", 422),
        ("inputs.0.start_timestamp", "2024-01-06T06:00:00Z", 422),
        ("inputs.0.type", "univariate_time_series", 400), ("inputs.0.type", "tensor", 400),
        ("inputs.0.series", [], 400), ("inputs.0.series", [[1.0, 2.0]], 422), ("inputs.0.series", [[1.0]] * 24, 400),
        ("inputs.0.series", [1.0] * 24, 400), ("inputs.0.series", [["1.0", 2.0]] * 24, 400),
        ("inputs.0.series", [[]] * 24, 400), ("inputs.0.series", [1.0, [1.0, 2.0]], 400),
        ("inputs.0.series", [[True, 2.0]] * 24, 400), ("inputs.0.series", [[1.0, None]] * 24, 422),
        ("inputs.0.covariates", {"price": [1.0]}, 400), ("inputs", [], 400), ("inputs", ..., 400),
        ("options.horizon", 0, 400), ("options.horizon", 7, 400), ("options.horizon", "2", 400),
        ("options.horizon", True, 400), ("options.quantiles", [0.1, 0.25], 400), ("options.quantiles", ["0.1"], 400),
        ("options.temperature", 1, 400), ("model", ..., 400), ("model", None, 400), ("unknown", 1, 400),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_and_says_where(
    client: Client, bundles: Bundles, where: str, value: Any, status: int
) -> None:
    document = Document(client("GET", "/openapi.json").json)
    body = changed(as_kserve(bundles("wide")), where, value)
    found = client("POST", PATH, body)
    assert found.status == status, found.body
    document.check("POST", PATH, found.status, found.headers, found.body)
    if status == 400:
        assert found.json["where"].split(".")[0] in where, found.json


ODD = st.sampled_from([
    None, True, 0, 1.5, -1, 2**63, 1e300, "", "2024-01-01T00:00:00+25:00", "0001-01-01", "2024-W01-1", [], {}, [1],
    [None], [[1, 2]], [[None, None]], [[]], ["x"], {"x": 1}, 0.5, [0.1, 0.1], "S", "year",
]).map(deepcopy)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_wherever_a_request_is_changed_it_is_answered_as_the_document_says(
    client: Client, bundles: Bundles, data: st.DataObject
) -> None:
    document, body = Document(client("GET", "/openapi.json").json), as_kserve(bundles("wide"), quantiles=[0.1])
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from([at for at in places(body) if at]))
        holder: Any = body
        for key in way:
            holder = holder[key]
        holder[last] = data.draw(ODD)
    found = client("POST", PATH, body)
    document.check("POST", PATH, found.status, found.headers, found.body)
    assert found.status in (200, 400, 404, 422)
    assert found.status != 200 or document.permits(PATH, "application/json", body)


def test_series_that_are_not_those_of_the_bundle_are_refused(shops: Bundle, bundles: Bundles, serve: Serve) -> None:
    wide, asked = serve(bundles("wide")), as_kserve(bundles("wide"))
    two = asked | {"inputs": asked["inputs"] + [asked["inputs"][0] | {"name": "other"}]}
    assert (found := wide("POST", PATH, two)).status == 400
    assert found.json["where"] == "inputs"
    client, asked = serve(shops), as_kserve(shops)
    assert client("POST", PATH, asked | {"inputs": asked["inputs"][:1] * 2}).json["where"] == "inputs"
    found = client("POST", PATH, changed(asked, "inputs.1.name", "elsewhere"))
    assert (found.status, found.json["got"]) == (422, "elsewhere")
    found = client("POST", PATH, changed(asked, "inputs.1.series", []))  # among others that have rows
    assert (found.status, found.json["where"]) == (400, "inputs.1.series")
    for body in (
        b"{",
        b"[]",
        b'{"model": NaN}',
        orjson.dumps(asked).replace(b'"model"', b'"model":"default","model"'),
        orjson.dumps(asked).replace(b'"name"', b'"name":"x","name"'),
        orjson.dumps(asked | {"metadata": {"x": "y"}}).replace(b'"x"', b'"x":"z","x"'),
    ):
        assert client("POST", PATH, body).status == 400, body
    assert client("POST", f"{PATH}?horizon=2", asked).status == 400
    assert client("POST", PATH, bytes(2**23 + 1)).status == 413


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[' + b"{}," * 50_000 + b"{}]}",
        b'{"inputs":[{"series":[' + b'"",' * 50_000 + b"{}]}]}",
        b'{"inputs":[{"series":[[' + b'"",' * 50_000 + b"{}]]}]}",
        b'{"options":{"quantiles":[' + b'"",' * 50_000 + b"{}]}}",
        b"{" + b",".join(b'"%x":1' % i for i in range(50_000)) + b"}",
    ],
)
def test_a_body_that_is_wrong_everywhere_takes_not_many_times_what_it_counts_for(client: Client, body: bytes) -> None:
    tracemalloc.start()
    try:
        assert client("POST", PATH, body).status == 400
        assert tracemalloc.get_traced_memory()[1] < 4 * unfolded(body)
    finally:
        tracemalloc.stop()


def test_a_body_of_many_series_is_parsed_while_others_are_answered(shops: Bundle, serve: Serve) -> None:
    client, asked = serve(shops), as_kserve(shops)
    for each in asked["inputs"]:
        each["series"] = [1.5] * 20_000 + each["series"]
        each["start_timestamp"] = str(pd.Timestamp(each["start_timestamp"]) - pd.Timedelta(hours=20_000))

    async def both() -> list[int]:
        large = asyncio.create_task(client.send("POST", PATH, asked))
        await asyncio.sleep(0)
        order = [(await client.send("GET", "/livez")).status]
        return [*order, large.done(), (await large).status]

    assert asyncio.run(both()) == [200, False, 200]


def test_readiness_is_told_as_version_2_of_the_protocol_does(client: Client, bundles: Bundles, serve: Serve) -> None:
    assert client("GET", "/v2/health/live").json == {"live": True}
    assert client("GET", "/v2/health/ready").json == {"ready": True}
    told = client("GET", "/v2/models/default").json
    assert told == {
        "name": "default",
        "versions": [str(bundles("wide").digest)[:12]],
        "platform": "tsforecast",
        "inputs": [{"name": "history", "datatype": "FP32", "shape": [-1, 24, 2]}],
        "outputs": [
            {"name": "point", "datatype": "FP32", "shape": [-1, 6, 2]},
            {"name": "quantiles", "datatype": "FP32", "shape": [-1, 6, 2, 5]},
        ],
    }
    other = serve(bundles("covariates"))
    assert {each["name"] for each in other("GET", "/v2/models/default").json["inputs"]} == {"history", "known_future"}
    other.app.state.server.draining = True
    assert [other("GET", path).status for path in ("/v2/health/ready", "/v2/models/default/ready")] == [503, 503]
    assert other("GET", "/v2/health/live").status == 200
