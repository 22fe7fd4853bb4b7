"""One error shape for every bad request, limits, readiness, and an OpenAPI document whose examples run."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.errors import has, refused
from tests.serving.conftest import SHAPES, Client, L, request
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import BundleError, ConfigError
from tsforecast.serving.asgi import create_app
from tsforecast.serving.engine import Engine
from tsforecast.serving.openapi import Answer, Error
from tsforecast.serving.settings import Settings

Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]
SHAPE = {"code", "message", "where", "got", "allowed", "fix"}


def change(asked: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {**asked, "history": {**asked["history"], **columns}}


def part(asked: dict[str, Any], rows: slice) -> dict[str, Any]:
    return {**asked, "history": {name: cells[rows] for name, cells in asked["history"].items()}}


def put(cells: list[Any], place: int, value: Any) -> list[Any]:
    return [*cells[:place], value, *cells[place + 1 :]]


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], int, str, str]] = {
    "not json": (lambda a: b"{", 400, "json", "not JSON"),
    "NaN": (lambda a: orjson.dumps(a).replace(b"[", b"[NaN,", 1), 400, "json", "not JSON"),
    "infinity": (lambda a: orjson.dumps(a).replace(b'"load":[', b'"load":[1e999,'), 400, "json", "not JSON"),
    "not utf-8": (lambda a: b'{"history": "\xff"}', 400, "json", "not JSON"),
    "a list": (lambda a: [a], 400, "request", "JSON object"),
    "nothing": (lambda a: {}, 400, "request", "needs history"),
    "misspelt key": (lambda a: {**a, "horizn": 2}, 400, "request", "did you mean horizon?"),
    "several misspelt": (lambda a: {"histry": 1, "levls": 2, "zzz": 3}, 400, "request", "histry"),
    "level nearly": (lambda a: {**a, "levels": [90.0000001]}, 400, "request", "90, 80"),
    "three centuries": (lambda a: change(a, date=["1701-01-01T00:00:00", *[f"2015-01-01T{i:02}:00:00" for i in range(L - 1)]]), 422, "data", "gaps"),
    "the end of time": (lambda a: change(a, date=[f"2262-04-10T{i:02}:00:00" for i in range(L)]), 422, "data", "cannot be read"),
    "half of it with an offset": (lambda a: change(a, date=[f"{t}{'Z' * (i % 2)}" for i, t in enumerate(a["history"]["date"])]), 422, "data", "without a UTC offset"),
    "many columns": (lambda a: change(a, **{f"laod{i}": [1.0] * L for i in range(3000)}), 422, "data", "(3000)"),
    "history is text": (lambda a: {"history": "x"}, 400, "request", "neither records"),
    "a row is a list": (lambda a: {"history": [[1, 2]]}, 400, "request", "neither records"),
    "a column is a number": (lambda a: change(a, load=3), 400, "request", "not a list"),
    "columns of other lengths": (lambda a: change(a, load=[1.0]), 400, "request", "different lengths"),
    "records of other keys": (
        lambda a: {"history": [{"date": "2024-01-01", "load": 1}, {"date": "2024-01-01"}]}, 400, "request", "different keys"
    ),
    "empty records": (lambda a: {"history": [{}] * 30}, 422, "data", "'load' is missing"),
    "no rows": (lambda a: {"history": []}, 422, "data", "there are no rows"),
    "horizon 0": (lambda a: {**a, "horizon": 0}, 400, "request", "1 to 6"),
    "horizon beyond": (lambda a: {**a, "horizon": 7}, 400, "request", "1 to 6"),
    "horizon true": (lambda a: {**a, "horizon": True}, 400, "request", "1 to 6"),
    "horizon text": (lambda a: {**a, "horizon": "2"}, 400, "request", "1 to 6"),
    "unknown level": (lambda a: {**a, "levels": [95]}, 400, "request", "90, 80"),
    "level twice": (lambda a: {**a, "levels": [90, 90]}, 400, "request", "90, 80"),
    "level text": (lambda a: {**a, "levels": ["90"]}, 400, "request", "90, 80"),
    "fewer rows": (lambda a: part(a, slice(1, None)), 422, "data", "24 rows or more"),
    "a gap": (lambda a: change(a, date=put(a["history"]["date"], L - 1, "2024-01-09T05:00:00")), 422, "data", "gaps"),
    "duplicates": (lambda a: change(a, date=put(a["history"]["date"], 5, a["history"]["date"][4])), 422, "data", "duplicate timestamps"),
    "unsorted": (lambda a: part(a, slice(None, None, -1)), 422, "data", "not sorted"),
    "too many missing": (lambda a: change(a, load=put(a["history"]["load"], 7, None)), 422, "data", "more missing values"),
    "all missing": (lambda a: change(a, load=[None] * L), 422, "data", "no observed value"),
    "beyond float32": (lambda a: change(a, load=put(a["history"]["load"], 7, 1e300)), 422, "data", "beyond 1e+18"),
    "enormous": (lambda a: change(a, load=put(a["history"]["load"], L - 1, 3e38)), 422, "data", ""),
    "a word": (lambda a: change(a, load=put(a["history"]["load"], 7, "high")), 422, "data", "not numbers"),
    "a number as text": (lambda a: change(a, load=put(a["history"]["load"], 7, "1.5")), 422, "data", "not numbers"),
    "a boolean": (lambda a: change(a, load=put(a["history"]["load"], 7, True)), 422, "data", "not numbers"),
    "a nested list": (lambda a: change(a, load=put(a["history"]["load"], 7, [1.0])), 422, "data", "not numbers"),
    "all nested": (lambda a: change(a, load=[[1.0]] * L), 422, "data", "not numbers"),
    "a stamp as number": (lambda a: change(a, date=list(range(L))), 422, "data", "not timestamps"),
    "no such day": (lambda a: change(a, date=put(a["history"]["date"], 0, "2024-02-31T00:00:00")), 422, "data", "cannot be read"),
    "no stamp": (lambda a: change(a, date=put(a["history"]["date"], 3, None)), 422, "data", "not timestamps"),
    "another freq": (lambda a: change(a, date=[f"2024-01-{i + 1:02}T00:00:00" for i in range(L)]), 422, "data", "gaps"),
    "off the grid": (lambda a: change(a, date=put(a["history"]["date"], 3, "2024-01-06T00:30:00")), 422, "data", ""),
    "missing channel": (lambda a: {"history": {k: v for k, v in a["history"].items() if k != "load"}}, 422, "data", "'load' is missing"),
    "renamed channel": (lambda a: {"history": {k.replace("load", "laod"): v for k, v in a["history"].items()}}, 422, "data", "'laod'"),
    "extra channel": (lambda a: change(a, more=[1.0] * L), 422, "data", "'more' is not to be here"),
    "known future of nothing": (lambda a: {**a, "known_future": {"date": []}}, 422, "data", "no known future"),
    "static of nothing": (lambda a: {**a, "static": {"size": [1]}}, 422, "data", "no static"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_a_4xx_in_the_one_shape(bundles: Bundles, client: Client, name: str) -> None:
    make, status, code, says = BAD[name]
    found = client("POST", "/forecast", make(request(bundles("wide"))))
    assert found.status == status, found.body
    assert set(found.json) == SHAPE
    assert found.json["code"] == code
    assert says in " ".join(str(value) for value in found.json.values())
    assert all(value is None or isinstance(value, str) for value in found.json.values())
    assert "dataset." not in str(found.json), "a caller cannot set a policy"


@pytest.mark.parametrize(
    ("shape", "spoil", "says"),
    [
        ("long", lambda a: change(a, shop=["shop9"] * L), "did you mean shop"),
        ("long", lambda a: change(a, shop=put(a["history"]["shop"], 3, None)), "not names"),
        ("long", lambda a: {"history": {k: v for k, v in a["history"].items() if k != "shop"}}, "'shop' is missing"),
        ("covariates", lambda a: {k: v for k, v in a.items() if k != "known_future"}, "future values of 2 known"),
        ("covariates", lambda a: {k: v for k, v in a.items() if k != "static"}, "'size' is missing"),
        ("covariates", lambda a: {**a, "known_future": {k: v[1:] for k, v in a["known_future"].items()}}, "1 of 6"),
        (
            "covariates",
            lambda a: {**a, "known_future": {**a["known_future"], "price": [None] * 6}},
            "known in every row",
        ),
        ("covariates", lambda a: {**a, "known_future": {**a["known_future"], "weather": ["hail"] * 6}}, "hail"),
        ("covariates", lambda a: {**a, "known_future": {**a["known_future"], "weather": [1e300] * 6}}, "1e+300"),
        (
            "covariates",
            lambda a: {**a, "known_future": {**a["known_future"], "load": [1.0] * 6}},
            "'load' is not to be",
        ),
        (
            "covariates",
            lambda a: {**a, "known_future": {k: [*v, v[-1]] for k, v in a["known_future"].items()}},
            "there twice (1 row: 5)",
        ),
        ("covariates", lambda a: {**a, "static": {**a["static"], "zone": ["x"]}}, "'zone' is not to be here"),
        ("covariates", lambda a: change(a, size=[3] * L), "'size' is not to be here"),
        ("covariates", lambda a: {**a, "static": {**a["static"], "size": [None]}}, "where static"),
        ("covariates", lambda a: {**a, "static": {"shop": ["shop1"], "size": [1]}}, "missing for 1 series"),
        ("holes", lambda a: change(a, load=[None, None, None, *a["history"]["load"][3:]]), "2 at most"),
        ("monthly", lambda a: change(a, date=put(a["history"]["date"], 4, "2024-05-02T00:00:00")), "off the grid"),
    ],
)
def test_series_and_covariates_are_checked_too(
    bundles: Bundles, serve: Serve, shape: str, spoil: Any, says: str
) -> None:
    bundle = bundles(shape)
    found = serve(bundle)("POST", "/forecast", spoil(request(bundle)))
    assert found.status == 422, found.body
    assert says in " ".join([*map(str, found.json.values()), "where", str(found.json["where"])])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe\x00", "UTF-16"),
        (b"date,load\n2024-01-01,1\n", "'visits' is missing"),
        (b"date,load,load\n2024-01-01,1,2\n", "more than once"),
        (b"date,load,visits\n2024-01-01,1\n", "Expected 3 columns, got 2"),
        (b"date,load,visits\n2024-01-01,high,1\n", "not numbers"),
        (b"date,load,visits\n" + b"soon,1,1\n" * 99, "cannot be read, such as 'soon'"),
        (b"date,load,visits\n2024-01-01,inf,1\n", "beyond 1e+18"),
    ],
)
def test_a_bad_file_is_a_4xx_in_the_same_shape(client: Client, body: bytes, says: str) -> None:
    found = client("POST", "/forecast_csv", body)
    assert found.status == 422, found.body
    assert set(found.json) == SHAPE
    assert says in found.json["message"] + str(found.json["got"])


def test_a_wrong_parameter_path_or_method_has_the_same_shape(client: Client) -> None:
    for method, path, status in (("POST", "/forecast_csv?horizon=x", 400), ("POST", "/forecast_csv?levels=7", 400),
                                 ("POST", "/forecast_csv?leves=90", 400), ("POST", "/forecast?horizon=2", 400),
                                 ("GET", "/nope", 404),
                                 ("POST", "/forecast_csv?horizon=" + "[" * 5000, 400),
                                 ("POST", "/forecast_csv?horizon=1&horizon=2", 400),
                                 ("POST", "/forecast_csv?horizon=null", 400), ("POST", "/forecast/", 404),
                                 ("GET", "/forecast", 405)):  # fmt: skip
        found = client(method, path, b"x")
        assert found.status == status
        assert set(found.json) == SHAPE
    assert "/ui is the page" in client("GET", "/").json["fix"], "the address of a server, as a person types it"


def test_of_a_file_with_a_misspelt_column_and_others_that_are_not_read_only_the_first_is_told(
    bundles: Bundles, serve: Serve
) -> None:
    bundle, data = bundles("long"), SHAPES["long"][0]
    assert not bundle.schema.closed
    client, file = serve(bundle), data.assign(note="x", more=1)
    assert client("POST", "/forecast_csv", file.to_csv(index=False).encode()).status == 200
    found = client("POST", "/forecast_csv", file.rename(columns={"load": "laod"}).to_csv(index=False).encode())
    assert found.status == 422
    assert found.json["message"].startswith("1 problem in the data\n  - column 'load' is missing; did you mean 'laod'?")
    assert "not to be here" not in found.json["message"]
    nothing = client("POST", "/actuals", {})
    assert (nothing.status, nothing.json["message"], nothing.json["got"]) == (400, "a request needs actuals", "nothing")


def test_a_file_of_very_many_columns_is_refused_in_few_words(client: Client) -> None:
    found = client("POST", "/forecast_csv", (",".join(f"c{i}" for i in range(38_000)) + "\n").encode())
    assert found.status == 422
    assert len(found.body) < 5000


@pytest.mark.parametrize("charset", ["undefined", "nonsense"])
def test_a_form_that_cannot_be_decoded_is_a_4xx(client: Client, charset: str) -> None:
    body = b'--X\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--X--\r\n'
    kind = f"Multipart/Form-Data; boundary=X; charset={charset}"
    assert client("POST", "/forecast_csv", body, {"content-type": kind}).status in (400, 422)


def test_a_body_that_does_not_arrive_is_408_and_keeps_nobody_waiting(bundles: Bundles, serve: Serve) -> None:
    client = serve(bundles("wide"), patience=0.1, queue=1)
    sent: list[Any] = []

    async def receive() -> Any:
        assert (await client.send("POST", "/forecast", request(bundles("wide")))).status == 200
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/forecast", "raw_path": b"/forecast", "root_path": "",
             "query_string": b"", "headers": [(b"content-length", b"10")], "scheme": "http"}  # fmt: skip
    asyncio.run(client.app(scope, receive, send))
    assert sent[0]["status"] == 408


def test_whoever_leaves_or_asks_for_a_web_socket_is_let_go(client: Client) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def leaves() -> Any:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "path": "/forecast", "raw_path": b"/forecast", "root_path": "",
             "query_string": b"", "headers": [(b"content-length", b"10")], "scheme": "http"}  # fmt: skip
    asyncio.run(client.app(scope, leaves, send))
    assert sent[-1]["type"] == "http.response.body"  # a server that waits for an answer has one

    async def connects() -> Any:
        return {"type": "websocket.connect"}

    asyncio.run(client.app({"type": "websocket", "path": "/livez", "headers": []}, connects, send))
    assert sent[-1]["type"] == "websocket.close"


def test_a_path_that_is_not_there_is_no_label_of_its_own(bundles: Bundles, serve: Serve) -> None:
    client = serve(bundles("wide"))
    assert client("POST", "/evil-1", b"", {"content-length": "99999999999"}).status == 413
    assert "evil" not in client("GET", "/metrics").body.decode()


def test_a_body_over_the_limit_is_413_whether_its_length_is_told_or_not(bundles: Bundles, serve: Serve) -> None:
    client, body = serve(bundles("wide"), max_body=0.001), b" " * 2000
    for headers in ({}, {"content-length": "nonsense"}):
        found = client("POST", "/forecast", body, headers)
        assert (found.status, found.json["code"]) == (413, "too_large")
    assert client("GET", "/livez").status == 200


def test_when_the_house_is_full_then_the_next_is_answered_429_with_retry_after(bundles: Bundles, serve: Serve) -> None:
    bundle = bundles("wide")
    client, asked = serve(bundle, queue=3), request(bundle)

    async def crowd() -> list[Any]:
        return await asyncio.gather(*(client.send("POST", "/forecast", asked) for _ in range(5)))

    found = asyncio.run(crowd())
    assert sorted(each.status for each in found) == [200, 200, 200, 429, 429]
    full = next(each for each in found if each.status == 429)
    assert full.headers["retry-after"] == "1"
    assert full.json["code"] == "busy"
    assert client("POST", "/forecast", asked).status == 200


def test_requests_at_the_same_time_are_forecast_in_one_call(bundles: Bundles, serve: Serve) -> None:
    bundle = bundles("wide")
    client, asked = serve(bundle), request(bundle)
    alone = client("POST", "/forecast", asked).body

    async def crowd() -> list[Any]:
        return await asyncio.gather(*(client.send("POST", "/forecast", asked) for _ in range(8)))

    assert {each.body for each in asyncio.run(crowd())} == {alone}
    metrics = client("GET", "/metrics").body.decode()
    assert "tsforecast_batch_requests_sum 9.0" in metrics
    assert "tsforecast_batch_requests_count 2.0" in metrics


def test_when_the_golden_answer_differs_then_nothing_is_ready(bundles: Bundles, serve: Serve, tmp_path: Path) -> None:
    bundle = bundles("wide")
    assert bundle.golden is not None
    values = json.loads(json.dumps(bundle.golden["values"]))
    values[0][0][0] += 0.5
    from dataclasses import replace

    client = serve(replace(bundle, golden={**bundle.golden, "values": values}).save(tmp_path / "other"))
    assert client("GET", "/livez").status == 200
    for method, path in (("GET", "/readyz"), ("POST", "/forecast")):
        found = client(method, path, request(bundle))
        assert (found.status, found.json["code"]) == (503, "not_ready")


def test_a_bundle_without_a_golden_request_is_not_served(bundles: Bundles, tmp_path: Path) -> None:
    from dataclasses import replace

    old = replace(bundles("wide"), golden=None).save(tmp_path / "old")
    assert old.golden is None
    with refused(BundleError, what=has("golden request"), fix=has("with_golden")):
        Engine.open(Path(str(old.path)))


def test_when_there_is_nothing_to_serve_then_the_server_does_not_start_and_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TSFORECAST_BUNDLE", str(tmp_path / "nowhere"))
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message)

    asyncio.run(create_app()({"type": "lifespan", "state": {}}, receive, send))
    assert [message["type"] for message in said] == ["lifespan.startup.failed"]
    assert "there is no bundle here" in said[0]["message"]
    assert "Traceback" not in said[0]["message"]


@pytest.mark.parametrize(
    ("name", "value"), [("TSFORECAST_QUEUE", "many"), ("TSFORECAST_MAX_BODY", "-1"), ("TSFORECAST_MAX_BODY", "inf")]
)
def test_a_setting_that_is_no_number_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with refused(ConfigError, where=name, got=repr(value), allowed="a number above 0"):
        Settings.from_environment()


@pytest.mark.parametrize("shape", ["wide", "long", "covariates", "zoned"])
def test_the_examples_of_the_openapi_document_run_as_they_stand(bundles: Bundles, serve: Serve, shape: str) -> None:
    client = serve(bundles(shape))
    paths = client("GET", "/openapi.json").json["paths"]
    for path, operation in paths.items():
        for kind, content in operation.get("post", {}).get("requestBody", {}).get("content", {}).items():
            for example in content.get("examples", {}).values():
                value = example["value"]
                body = value.encode() if kind == "text/csv" else orjson.dumps(value)
                assert client("POST", path, body, {"content-type": kind}).status == 200
    assert set(paths) >= {"/forecast", "/forecast_csv", "/model", "/models", "/livez", "/readyz", "/metrics"}


@pytest.mark.parametrize("shape", ["wide", "long", "covariates", "zoned"])
def test_what_is_answered_has_the_shape_that_the_document_says(bundles: Bundles, serve: Serve, shape: str) -> None:
    bundle, client = bundles(shape), serve(bundles(shape))
    for body, model in ((request(bundle), Answer), ({"history": []}, Error)):
        found = client("POST", "/forecast", body)
        model.model_validate_json(found.body, strict=True)
        assert set(found.json) == set(model.model_fields)
    document = client("GET", "/openapi.json").json
    asked, schema = document["components"]["schemas"]["Request"], bundle.schema
    parts = [name for name, wanted in (("known_future", schema.known), ("static", schema.static)) if wanted]
    assert set(asked["properties"]) == {"history", "known_future", "static", "horizon", "levels"}
    assert [
        name for name in ("known_future", "static") if asked["properties"][name] != {"anyOf": [{"type": "null"}]}
    ] == parts
    assert set(asked["required"]) == {"history", *parts} - {"static"}
    assert asked["properties"]["horizon"]["maximum"] == bundle.dims.horizon
    assert asked["properties"]["levels"]["items"]["enum"] == [90, 80]
    for path, operation in document["paths"].items():
        if "post" in operation:
            told = "200 400 404 408 413 415 421 422 429 500 503"
            assert set(operation["post"]["responses"]) == set(told.split())
            assert operation["post"]["requestBody"]["required"], path


def test_the_model_page_tells_what_a_request_needs(bundles: Bundles, client: Client) -> None:
    told, bundle = client("GET", "/model").json, bundles("wide")
    assert (told["context"], told["horizon"], told["freq"], told["levels"]) == (L, 6, "h", [90, 80])
    assert tuple(told["channels"]) == bundle.channels
    assert told["scores"] == {"test/mae": 1.0}


def test_every_request_has_an_id_that_the_log_tells_too(
    bundles: Bundles, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("tsforecast").addHandler(caplog.handler)
    given_id = client("POST", "/forecast", request(bundles("wide")), {"x-request-id": "abc-1"})
    assert given_id.headers["x-request-id"] == "abc-1"
    forged = client("POST", "/forecast", b"{", {"x-request-id": "a\nb"})
    assert forged.headers["x-request-id"] != "a\nb"
    logged = [record for record in caplog.records if record.getMessage() == "request"]
    logging.getLogger("tsforecast").removeHandler(caplog.handler)
    assert [record.__dict__["request_id"] for record in logged] == ["abc-1", forged.headers["x-request-id"]]
    assert [record.__dict__["status"] for record in logged] == [200, 400]
    assert logged[1].__dict__["code"] == "json"
    assert logged[1].__dict__["reason"].startswith("the body is not JSON where: body got: ")


def test_a_failure_of_ours_is_a_500_in_the_same_shape_without_its_text(
    bundles: Bundles, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(bundles("wide"))
    monkeypatch.setattr(Bundle, "infer", lambda *_: 1 / 0)
    found = client("POST", "/forecast", request(bundles("wide")))
    assert found.status == 500
    assert set(found.json) == SHAPE
    assert b"division" not in found.body


CELLS = st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**64 - 1),
                  st.text(max_size=8), st.lists(st.integers(0, 9), max_size=2), st.sampled_from(["NaN", "now", "2024-01-01", "1e999"]))  # fmt: skip
TREES = st.recursive(
    CELLS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_is_sent_is_answered_with_a_4xx_or_a_forecast_of_good_rows(
    client: Client, bundles: Bundles, data: st.DataObject
) -> None:
    asked = request(bundles("wide"))
    kind = data.draw(st.sampled_from(["bytes", "tree", "key", "cell", "drop", "flip"]))
    if kind == "bytes":
        body = data.draw(st.binary(max_size=200))
    elif kind == "tree":
        body = orjson.dumps(data.draw(TREES))
    elif kind == "flip":
        raw = bytearray(orjson.dumps(asked))
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        body = bytes(raw)
    else:
        if kind == "key":
            asked[data.draw(st.sampled_from(["history", "known_future", "static", "horizon", "levels", "x"]))] = (
                data.draw(TREES)
            )
        elif kind == "cell":
            cells = asked["history"][data.draw(st.sampled_from(["date", "load", "visits"]))]
            cells[data.draw(st.integers(0, L - 1))] = data.draw(CELLS)
        else:
            for cells in asked["history"].values():
                del cells[data.draw(st.integers(0, L - 1))]
        body = orjson.dumps(asked)
    for path in ("/forecast", "/forecast_csv"):
        found = client("POST", path, body)
        assert found.status < 500, found.body
        if found.status == 200:
            for one in found.json["forecasts"]:
                assert all(value is not None for values in one["point"].values() for value in values)
            history = orjson.loads(body)["history"]
            assert {"date", "load", "visits"} == set(history)
            assert all(type(cell) in (int, float) for name in ("load", "visits") for cell in history[name])
        else:
            assert set(found.json) == SHAPE


def test_a_damaged_bundle_is_told_by_its_file(bundles: Bundles, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(str(bundles("wide").path), copy)
    (copy / "golden.json").write_text("{}")
    with refused(BundleError, where=has("golden.json"), what=has("sha256")):
        Bundle.load(copy)
