"""The document as served is the contract: what is answered is declared, and what it forbids is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.serving.conftest import Client, Response, frame, request, trained
from tests.serving.document import Document
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.schema import Schema
from tsforecast.serving.asgi import create_app

SHAPES = ("wide", "long", "covariates", "zoned", "parts")
Served = Callable[[str], "Contract"]


class Contract:
    """A client that holds every answer to the document that the server tells."""

    def __init__(self, bundle: Bundle) -> None:
        app = create_app()
        app.state.server.start(str(bundle.path))
        self.client, self.bundle = Client(app), bundle
        self.document = Document(self.client("GET", "/openapi.json").json)

    def __call__(self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Response:
        found = self.client(method, path.replace("{name}", "default"), body, headers)
        self.document.check(method, path.partition("?")[0], found.status, found.headers, found.body)
        return found

    def post(self, body: Any) -> int:
        """The status of a JSON body, which is refused if the document forbids it."""
        status = self("POST", "/forecast", body, {"content-type": "application/json"}).status
        assert status in (200, 400, 422)
        if not self.document.permits("/forecast", "application/json", body):
            assert status != 200, "the document forbids it"
        return status


@pytest.fixture(scope="module")
def served(bundles: Callable[[str], Bundle], tmp_path_factory: pytest.TempPathFactory) -> Served:
    made: dict[str, Contract] = {}

    def get(shape: str) -> Contract:
        if shape not in made:
            made[shape] = Contract(parts(tmp_path_factory.mktemp("parts")) if shape == "parts" else bundles(shape))
        return made[shape]

    return get


def parts(place: Path) -> Bundle:
    """Timestamps in four columns."""
    names = ("year", "month", "day", "hour")
    data = frame().assign(**{name: lambda f, name=name: getattr(f["date"].dt, name) for name in names})
    return trained(data.drop(columns="date"), Schema(names, target=("load", "visits"), freq="h"), place / "bundle")


def records(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def places(tree: Any, *at: Any) -> Iterator[tuple[Any, ...]]:
    """Of every value within a tree; of long lists the first, the last and one between."""
    yield at
    keys = tree if isinstance(tree, dict) else sorted({*range(len(tree))} & {0, 7, len(tree) - 1}) \
        if isinstance(tree, list) else ()  # fmt: skip
    for key in keys:
        yield from places(tree[key], *at, key)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_schema_of_the_document_is_one(served: Served, shape: str) -> None:
    document = served(shape).document
    for at in places(document.told):
        found: Any = document.told
        for key in at:
            found = found[key]
        if at and at[-1] == "schema":
            Draft202012Validator.check_schema(found)
            document.validator(found).is_valid({})  # whatever it refers to is there


@pytest.mark.parametrize("shape", SHAPES)
def test_what_the_document_describes_in_other_ways_is_forecast_too(served: Served, shape: str) -> None:
    contract = served(shape)
    asked, wanted = request(contract.bundle), contract.bundle.schema
    nothing = {"horizon": None, "levels": None}
    nothing |= {} if wanted.known else {"known_future": None}
    nothing |= {} if wanted.static else {"static": None}
    as_records = {name: records(columns) for name, columns in asked.items()}
    whole = contract("POST", "/forecast", asked).body
    for body in (asked, as_records, asked | nothing, as_records | nothing, asked | {"levels": [90.0, 80]}):
        assert contract.document.permits("/forecast", "application/json", body)
        assert contract("POST", "/forecast", body).body == whole
    for more in ({"horizon": 1}, {"levels": []}, {"levels": [80], "horizon": contract.bundle.dims.horizon}):
        assert contract.document.permits("/forecast", "application/json", asked | more)
        assert contract.post(asked | more) == 200


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_refused_whatever_the_rows_hold_is_forbidden_by_the_document(served: Served, shape: str) -> None:
    contract = served(shape)
    asked, wanted = request(contract.bundle), contract.bundle.schema
    history, first = asked["history"], records(asked["history"])

    def but(**columns: Any) -> dict[str, Any]:
        return {"history": {**history, **columns}}

    stamp, rows = wanted.stamp_columns[0], len(history["load"])
    forbidden: list[Any] = [
        [], 3, None, "x", {}, {"history": None}, {"history": []}, {"history": {}},
        {"history": [[1]]}, {"history": [{}]},
        {"horizn": 1}, {"horizon": 0}, {"horizon": 7}, {"horizon": "2"}, {"horizon": True}, {"horizon": 1.5},
        {"levels": 90}, {"levels": ["90"]}, {"levels": [95]}, {"levels": [90, 90]}, {"levels": [None]},
        but(more=[1.0] * rows), but(load=["1.5"] * rows), but(load=[True] * rows), but(load=[[1.0]] * rows),
        but(load=3), but(**{stamp: [None] * rows}), but(**{stamp: [1.5] * rows}), {"history": {k: [] for k in history}},
        {"history": [{**row, "more": 1} for row in first]}, {"history": [{**row, "load": "1"} for row in first]},
        {"history": [{k: v for k, v in row.items() if k != "load"} for row in first]},
        {"history": {k: v for k, v in history.items() if k != stamp}},
    ]  # fmt: skip
    forbidden += [] if wanted.known else [{"known_future": history}, {"known_future": []}]
    forbidden += [] if wanted.static else [{"static": {"size": [1]}}, {"static": [{"size": 1}]}]
    if shape == "covariates":
        forbidden += [{"known_future": None}, {"known_future": []}, {"static": []}, {"static": {"size": [1]}}]
        forbidden += [{"known_future": {**asked["known_future"], "load": [1.0] * 6}}, but(shop=[1.5] * rows)]
    for change in forbidden:
        body = {**asked, **change} if isinstance(change, dict) and change else change
        assert not contract.document.permits("/forecast", "application/json", body), change
        assert contract.post(body) in (400, 422), change


VALUES = st.sampled_from([
    None, True, 0, 1, 6, 1.5, -1, 90, 2**63, 1e300, "", "x", "90", "2024-01-01T00:00:00", [], {}, [1], [90], [None],
    ["x"], {"x": 1}, [{}], [{"load": 1}], {"load": [1]}, {"load": []},
]).map(deepcopy)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
@pytest.mark.parametrize("shape", ["wide", "covariates", "parts"])
def test_wherever_a_request_is_changed_what_the_document_forbids_is_refused(
    served: Served, shape: str, data: st.DataObject
) -> None:
    contract = served(shape)
    body: Any = request(contract.bundle) | {"horizon": 2, "levels": [90]}
    if data.draw(st.booleans()):
        body |= {name: records(body[name]) for name in ("history", "known_future", "static") if name in body}
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from([at for at in places(body) if at]))
        holder = body
        for key in way:
            holder = holder[key]
        what = data.draw(st.sampled_from(["put", "drop", "add"]))
        if what == "drop" and len(body) > 1:
            del holder[last]
        elif what == "add" and isinstance(holder, dict):
            holder[data.draw(st.sampled_from(["x", "load", "date", "static", "known_future"]))] = data.draw(VALUES)
        else:
            holder[last] = data.draw(VALUES)
    contract.post(body)


JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


def parameter(text: str) -> Any:
    return orjson.loads(text) if JSON_NUMBER.fullmatch(text) else text


HORIZONS = ("1", "6", "0", "7", "-1", "x", "null", "true", "1.5", "", "[1]", '"1"', "01", " 2", "2 ", "\n2")
LEVELS = ("90", "80,90.0", "", "90,", ",90", "90,,80", ",", "95", "90,90", "null", "[90]", '"90"', "90,80,90")
TAKEN = ("1", "6", *LEVELS[:3])


PARAMETERS = [*(("horizon", each) for each in HORIZONS), *(("levels", each) for each in LEVELS)]


@pytest.mark.parametrize(("name", "sent"), PARAMETERS)
def test_a_parameter_that_the_document_forbids_is_refused(served: Served, name: str, sent: str) -> None:
    contract, taken = served("wide"), sent in TAKEN and (name == "levels" or sent != "")
    listed = [parameter(part) for part in sent.split(",")] if sent else []
    value = listed if name == "levels" else parameter(sent)
    operation = contract.document.told["paths"]["/forecast_csv"]["post"]
    (schema,) = (each["schema"] for each in operation["parameters"] if each["name"] == name)
    text = operation["requestBody"]["content"]["text/csv"]["examples"]["golden"]["value"].encode()
    assert contract.document.validator(schema).is_valid(value) is taken
    found = contract("POST", f"/forecast_csv?{name}={quote(sent)}", text, {"content-type": "text/csv"})
    assert found.status == (200 if taken else 400), found.body


def test_a_form_is_one_file_and_the_document_says_so(served: Served) -> None:
    contract = served("wide")
    text = contract.document.told["paths"]["/forecast_csv"]["post"]["requestBody"]["content"]["text/csv"]
    file = text["examples"]["golden"]["value"]
    forms: dict[str, list[tuple[str, str | None, str]]] = {
        "a file": [("file", "a.csv", file)],
        "text": [("file", None, file)],
        "an empty file": [("file", "a.csv", "")],
        "no file chosen": [("file", "", "")],
        "empty text": [("file", None, "")],
        "another name": [("data", "a.csv", file)],
        "a field beside it": [("file", "a.csv", file), ("horizon", None, "2")],
        "a field without a name": [("file", "a.csv", file), ("", None, "2")],
        "two files": [("file", "a.csv", file), ("file", "b.csv", file)],
        "a file and text": [("file", "a.csv", file), ("file", None, file)],
        "many": [("file", "a.csv", file), *((f"x{i}", None, "1") for i in range(9))],
        "nothing": [],
    }
    for what, fields in forms.items():
        body = "".join(
            f'--x\r\nContent-Disposition: form-data; name="{name}"{"" if place is None else f"; filename={place!r}"}'
            f"\r\n\r\n{content}\r\n"
            for name, place, content in fields
        )
        kind = "multipart/form-data"
        found = contract("POST", "/forecast_csv", f"{body}--x--\r\n".encode(), {"content-type": f"{kind}; boundary=x"})
        told = {name: content for name, _, content in fields}
        taken = len(told) == len(fields) and contract.document.permits("/forecast_csv", kind, told)
        assert taken is (what in ("a file", "text")), what
        assert (found.status == 200) is taken, (what, found.body)
    assert contract("POST", "/forecast_csv", b"--x", {"content-type": "multipart/form-data"}).status == 400
    assert not contract.document.permits("/forecast_csv", "text/csv", "")
    assert contract("POST", "/forecast_csv", b"", {"content-type": "text/csv"}).status == 422


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_wrong_before_a_route_is_reached_is_declared_of_every_route(served: Served, shape: str) -> None:
    contract = served(shape)
    server = contract.client.app.state.server
    for path, operations in contract.document.told["paths"].items():
        (method,) = (each.upper() for each in operations)
        two_lengths = {"content-length": "1", "transfer-encoding": "chunked"}
        assert contract(method, path, b"", {"content-length": "9" * 12}).status == 413
        assert contract(method, path, b"", two_lengths).status == 400
        server.settings = type(server.settings)(hosts=("here",))
        assert contract(method, path).status == 421
        server.settings = type(server.settings)()
        if method == "POST":
            assert contract(method, path, b"x", {"content-type": "application/xml"}).status == 415
            assert contract(method, path, b"x", {"content-encoding": "gzip"}).status == 415
        else:
            assert contract(method, path).status == 200
            assert contract(method, path, b"{}", {"content-type": "application/xml"}).status == 200


def test_what_goes_wrong_while_it_answers_is_declared_too(
    bundles: Callable[[str], Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSFORECAST_QUEUE", "1")
    contract = Contract(bundles("wide"))
    asked = request(contract.bundle)
    paths = contract.document.told["paths"]
    text = paths["/forecast_csv"]["post"]["requestBody"]["content"]["text/csv"]["examples"]["golden"]["value"].encode()

    async def crowd(path: str, body: Any) -> list[Response]:
        return await asyncio.gather(*(contract.client.send("POST", path, body) for _ in range(3)))

    for path, body in (("/forecast", asked), ("/forecast_csv", text)):
        answers = asyncio.run(crowd(path, body))
        assert sorted(each.status for each in answers) == [200, 429, 429]
        for each in answers:
            contract.document.check("POST", path, each.status, each.headers, each.body)
    still = asked["history"] | {"load": [1.0] * len(asked["history"]["load"])}
    table = b"date,load,visits\n" + b"".join(
        f"{date},1.0,{visits}\n".encode() for date, visits in zip(still["date"], still["visits"], strict=True)
    )
    assert contract("POST", "/forecast", {"history": still}).json["warnings"]
    assert orjson.loads(contract("POST", "/forecast_csv", table).headers["x-tsforecast-warnings"])
    monkeypatch.setattr(Bundle, "infer", lambda *_: 1 / 0)
    assert contract("POST", "/forecast", asked).status == 500
    assert contract("POST", "/forecast_csv", text).status == 500
    contract.client.app.state.server.draining = True
    assert contract("GET", "/readyz").status == 503
