"""Several bundles in one server: each by its name, loaded when it is asked for, and given up when others need room."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.contracts.test_serving import ADAPTERS, call, serving
from tests.errors import has, refused
from tests.serving.conftest import Client, request
from tests.serving.document import Document
from tests.serving.test_keys import ADA, bearer
from tests.serving.test_kserve import as_kserve
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import BundleError, ConfigError
from tsforecast.serving import shelf
from tsforecast.serving.asgi import create_app
from tsforecast.serving.engine import Engine
from tsforecast.serving.store import shelved

Bundles = Callable[[str], Bundle]
SHAPES = ("wide", "long", "covariates")
ADMIN = "an admin's key of letters"


@pytest.fixture
def several(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Client]:
    """`several(load="wide", ...)`: a client of an app that serves these names; or of text, or of a file."""

    def start(text: object = None, **names: str) -> Client:
        told = ",".join(f"{name}={bundles(shape).path}" for name, shape in names.items())
        monkeypatch.setenv("TSFORECAST_BUNDLES", str(text or told))
        monkeypatch.setenv("TSFORECAST_ADMIN_KEY", ADMIN)
        app = create_app()
        app.state.server.start()
        return Client(app)

    return start


def loaded(client: Client) -> list[str]:
    return [each["name"] for each in client("GET", "/models").json["models"] if each["loaded"]]


def counted(client: Client, start: str) -> float:
    told = client("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in told if line.startswith(start))


def test_each_name_answers_as_its_bundle_alone_and_the_first_is_the_default(
    bundles: Bundles, several: Callable[..., Client], serve: Callable[..., Client]
) -> None:
    client = several(load="wide", shops="long", price="covariates")
    assert loaded(client) == ["load"]
    alone = {}
    for name, shape in (("shops", "long"), ("price", "covariates"), ("load", "wide")):
        asked = orjson.dumps(request(bundles(shape)))
        csv = Engine(bundles(shape)).example_csv.encode()
        bodies = {"/forecast": asked, "/forecast_csv?horizon=2": csv}
        alone[name] = {path: Client(_app(bundles(shape)))("POST", path, body).body for path, body in bodies.items()}
        for path, body in bodies.items():
            found = client("POST", f"/models/{name}{path}", body)
            assert (found.status, found.body) == (200, alone[name][path])
        assert client("GET", f"/models/{name}/model").json["digest"] == bundles(shape).digest
        assert client("GET", f"/models/{name}/readyz").json == {"status": "ready"}
    assert client("POST", "/forecast", request(bundles("wide"))).body == alone["load"]["/forecast"]
    assert client("POST", "/models/price/forecast", request(bundles("wide"))).status == 422
    told = client("GET", "/models").json["models"]
    assert [(each["name"], each["default"], each["digest"]) for each in told] == [
        ("load", True, bundles("wide").digest),
        ("shops", False, bundles("long").digest),
        ("price", False, bundles("covariates").digest),
    ]
    assert not any(str(Path(str(bundles("wide").path)).parent) in str(each) for each in told)
    for path, names in (("/forecast", {"load": 2, "shops": 1, "price": 2}), ("/forecast_csv", {"load": 1, "price": 1})):
        for name, count in names.items():
            assert counted(client, f'tsforecast_requests_total{{model="{name}",path="{path}"') == count


def _app(bundle: Bundle) -> Any:
    app = create_app()
    app.state.server.start(str(bundle.path))
    return app


def test_what_there_is_of_one_of_several_is_what_its_own_document_says(
    bundles: Bundles, several: Callable[..., Client]
) -> None:
    client = several(load="wide", price="covariates")
    told = client("GET", "/models/price/openapi.json").json
    assert told["servers"] == [{"url": "/models/price"}]
    assert {*told["paths"]} == {"/forecast", "/forecast_csv", "/actuals", "/drift", "/model", "/readyz"}
    document = Document(told)
    for path in told["paths"]:
        method = "POST" if "post" in told["paths"][path] else "GET"
        for body in (b"{", *([orjson.dumps(request(bundles("covariates")))] if path == "/forecast" else [])):
            found = client(method, f"/models/price{path}", body)
            document.check(method, path, found.status, found.headers, found.body)
    assert (
        "price"
        in told["components"]["schemas"]["Request"]["properties"]["known_future"]["anyOf"][0]["items"]["properties"]
    )
    page = client("GET", "/models/price/ui")
    assert (page.status, page.body) == (200, client("GET", "/ui").body)
    assert client("GET", "/models/price/ui/app.js").body == client("GET", "/ui/app.js").body
    assert client("GET", "/models/price/ui/").headers["location"] == "../ui"
    for path in ("/metrics", "/livez", "/models", "/admin/reload", "/models/load/model", "", "/", "/nope"):
        assert client("GET", f"/models/price{path}").status == 404, path


@pytest.mark.parametrize(
    "path", ["/models/nope/forecast", "/models/nope/openapi.json", "/models/Load/model", "/models/%2E/model"]
)
def test_a_name_that_is_not_served_is_404_and_says_which_are(several: Callable[..., Client], path: str) -> None:
    client = several(load="wide", price="long")
    found = client("POST" if path.endswith("forecast") else "GET", path, b"{}")
    assert (found.status, found.json["code"], found.json["allowed"]) == (404, "model", "load, price")
    assert counted(client, 'tsforecast_requests_total{model="",path="/') >= 1
    assert "nope" not in client("GET", "/metrics").body.decode()


def test_one_bundle_is_a_shelf_of_one_and_its_metrics_name_none(client: Client, bundles: Bundles) -> None:
    asked = request(bundles("wide"))
    assert client("POST", "/models/default/forecast", asked).body == client("POST", "/forecast", asked).body
    assert [each["name"] for each in client("GET", "/models").json["models"]] == ["default"]
    assert "default" not in client("GET", "/metrics").body.decode()


def test_two_thousand_names_are_served_and_what_is_held_stays_within_the_bound(
    bundles: Bundles, several: Callable[..., Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"shop{i:04}" for i in range(2000)]
    for i, name in enumerate(names):
        (tmp_path / name).symlink_to(str(bundles(SHAPES[i % 3]).path))
    (tmp_path / "bundles").write_text("# by name\n" + "".join(f"{name} = {tmp_path / name}\n" for name in names))
    monkeypatch.setenv("TSFORECAST_BUNDLES_MEMORY", "1")
    made, opened = list[Any](), Engine.open

    def seen(path: Path) -> Engine:
        made.append(weakref.ref(engine := opened(path)))
        return engine

    def living() -> int:
        return sum(each() is not None for each in made)

    monkeypatch.setattr(Engine, "open", seen)
    client = several(tmp_path / "bundles")
    size = max(5 * sum(file.stat().st_size for file in Path(str(bundles(each).path)).iterdir()) for each in SHAPES)
    least, most = 2**20 // size, 2**20 // (size // 2) + 1
    drawn, asked = random.Random(3), {each: orjson.dumps(request(bundles(each))) for each in SHAPES}
    for turn in range(120):
        i = drawn.randrange(2000) if turn % 3 else 7  # one is asked for again and again
        found = client("POST", f"/models/{names[i]}/forecast", asked[SHAPES[i % 3]])
        assert found.json["digest"] == bundles(SHAPES[i % 3]).digest
        assert living() <= most
        client.app.state.server.shelf.shrink()  # as every second, of what requests have left behind
        assert counted(client, "tsforecast_bundles_bytes") <= 2**20
    held = loaded(client)
    assert least <= len(held) == living() <= most
    assert {"shop0000", "shop0007"} <= {*held}, "the default one stays, and what is asked for most"
    assert counted(client, 'tsforecast_loads_total{outcome="done"}') == 82
    assert counted(client, "tsforecast_model{") == len(held)


def test_however_many_ask_for_a_name_it_is_loaded_once_and_others_are_answered_meanwhile(
    bundles: Bundles, several: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, asked = several(load="wide", price="long"), request(bundles("long"))
    opened, meanwhile = Engine.open, threading.Event()
    monkeypatch.setattr(Engine, "open", lambda path: (meanwhile.wait(30), opened(path))[1])

    async def run() -> list[int]:
        many = [asyncio.create_task(client.send("POST", "/models/price/forecast", asked)) for _ in range(30)]
        await asyncio.sleep(0.05)
        many[0].cancel()  # who leaves does not stop it for the others
        for path, body in (("/livez", b""), ("/forecast", request(bundles("wide")))):
            assert (await client.send("POST" if body else "GET", path, body)).status == 200
        assert not any(each.done() for each in many[1:])
        meanwhile.set()
        return [each.status for each in await asyncio.gather(*many[1:])]

    assert set(asyncio.run(run())) == {200}
    assert counted(client, 'tsforecast_loads_total{outcome="done"}') == 2


def test_a_bundle_that_cannot_be_loaded_is_503_with_the_reason_and_is_tried_again_only_after_a_while(
    bundles: Bundles, several: Callable[..., Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    shutil.copytree(str(bundles("long").path), tmp_path / "torn")
    weights = tmp_path / "torn/forecaster.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"half")
    client = several(f"load={bundles('wide').path},torn={tmp_path / 'torn'},gone={tmp_path / 'gone'}")
    logging.getLogger("tsforecast").addHandler(caplog.handler)
    for name, reason in (("torn", "damaged"), ("gone", "there is no bundle"), ("torn", "damaged")):
        found = client("POST", f"/models/{name}/forecast", request(bundles("long")))
        assert (found.status, found.json["code"], found.json["where"]) == (503, "not_ready", f"models/{name}")
        assert reason in found.json["got"]
        assert 1 <= int(found.headers["retry-after"]) <= 10
        assert str(tmp_path) not in found.body.decode(), "where it lies is for the log"
    assert client("GET", "/models/torn/readyz").status == 503
    assert client("GET", "/readyz").status == 200
    assert counted(client, 'tsforecast_loads_total{outcome="failed"}') == 2
    told = [record.getMessage() for record in caplog.records if "cannot be loaded" in record.getMessage()]
    assert [str(tmp_path / "torn") in text for text in told] == [True, False]
    weights.write_bytes(whole)
    assert client("GET", "/models/torn/readyz").status == 503
    monkeypatch.setattr(shelf.time, "monotonic", lambda real=time.monotonic: real() + 11)
    assert client("POST", "/models/torn/forecast", request(bundles("long"))).json["digest"] == bundles("long").digest


def test_what_a_request_has_taken_answers_it_although_it_is_given_up_meanwhile(
    bundles: Bundles, several: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSFORECAST_BUNDLES_MEMORY", "0.001")
    client = several(load="wide", shops="long", price="covariates")
    server = client.app.state.server

    async def run() -> bytes:
        taken = await server.shelf.take("shops")
        assert (await client.send("GET", "/models/price/readyz")).status == 200
        assert [*server.shelf.slots] == ["load"]
        body = orjson.dumps(request(bundles("long")))
        return bytes(await server.forecast(taken, taken.engine.read, taken.engine.write, body))

    assert orjson.loads(asyncio.run(run()))["digest"] == bundles("long").digest


def test_what_requests_leave_behind_counts_too(bundles: Bundles, several: Callable[..., Client]) -> None:
    client = several(load="wide", shops="long")
    held = client.app.state.server.shelf
    asked = request(bundles("long"))
    assert client("GET", "/models/shops/readyz").status == 200
    before = held.slots["shops"].live.size
    assert client("POST", "/models/shops/forecast", asked).status == 200
    live = held.slots["shops"].live
    rows, kept = live.monitor._rows["shop0"][1], live.monitor.kept
    assert live.size == before + rows.nbytes + sum(each.bytes for each in kept._forecasts.values()) > before
    both = sum(slot.live.size for slot in held.slots.values())
    for room, names in ((both, ["load", "shops"]), (both - 1, ["load"])):
        held.settings = replace(held.settings, bundles_memory=room / 2**20)
        held.shrink()
        assert loaded(client) == names


def test_one_that_is_given_up_while_it_is_reloaded_is_not_counted_any_more(
    bundles: Bundles, several: Callable[..., Client], tmp_path: Path
) -> None:
    (tmp_path / "now").symlink_to(str(bundles("wide").path))
    client = several(f"load={bundles('long').path},price={tmp_path / 'now'}")
    held = client.app.state.server.shelf
    assert client("GET", "/models/price/readyz").status == 200
    (tmp_path / "next").symlink_to(str(bundles("daily").path))
    (tmp_path / "next").replace(tmp_path / "now")

    async def run() -> bool:
        reload = asyncio.create_task(held.reload("price", allow=True))
        await asyncio.sleep(0)
        held.settings = replace(held.settings, bundles_memory=0.001)
        held.shrink()
        return (await reload)[0]

    assert asyncio.run(run())
    assert loaded(client) == ["load"]
    assert counted(client, "tsforecast_model{") == 1


def test_one_name_is_reloaded_and_polled_by_itself(
    bundles: Bundles, several: Callable[..., Client], tmp_path: Path
) -> None:
    (tmp_path / "now").symlink_to(str(bundles("wide").path))
    client = several(f"load={bundles('long').path},price={tmp_path / 'now'}")

    def reload(query: str) -> Any:
        return client("POST", f"/admin/reload?{query}", headers=bearer(ADMIN))

    assert reload("model=nope").json["code"] == "model"
    assert reload("model=price").json["model"] == "price"
    (tmp_path / "next").symlink_to(str(bundles("daily").path))
    (tmp_path / "next").replace(tmp_path / "now")
    assert reload("").json["swapped"] is False
    assert reload("model=price").status == 422
    answer = reload("model=price&allow_schema_change=1").json
    assert (answer["swapped"], answer["digest"], answer["model"]) == (True, bundles("daily").digest, "price")
    assert client("GET", "/models/price/model").json["freq"] == "D"
    assert client("GET", "/model").json["digest"] == bundles("long").digest
    assert counted(client, 'tsforecast_swaps_total{model="price",outcome="done"}') == 1
    assert counted(client, 'tsforecast_swaps_total{model="price",outcome="failed"}') == 1
    assert counted(client, 'tsforecast_swaps_total{model="load"') == 0


def test_to_have_a_bundle_loaded_by_its_name_is_for_those_who_have_a_key(
    several: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSFORECAST_KEYS", f"ada:{ADA}")
    client = several(load="wide", price="long")
    for path, status in (("/readyz", 200), ("/models/price/ui", 200), ("/models/price/readyz", 401)):
        assert client("GET", path).status == status, path
    assert loaded(client) == ["load"]
    assert client("GET", "/models/price/readyz", headers=bearer(ADA)).status == 200
    document = Document(client("GET", "/models/price/openapi.json", headers=bearer(ADA)).json)
    for path, operations in document.told["paths"].items():
        assert all("security" in each for each in operations.values()), path
        method = next(iter(operations)).upper()
        assert client(method, f"/models/price{path}").status == 401, path


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("load=a,load=b", "TSFORECAST_BUNDLES, entry 2", "twice"),
        ("load=", "TSFORECAST_BUNDLES, entry 1", "no name with a bundle"),
        ("a/b=c", "TSFORECAST_BUNDLES, entry 1", "no name with a bundle"),
        ("=c", "TSFORECAST_BUNDLES, entry 1", "no name with a bundle"),
        ("load=a,price", "TSFORECAST_BUNDLES, entry 2", "no name with a bundle"),
        ("#=", "TSFORECAST_BUNDLES", "there is no bundle"),
        ("/no/such/file", "TSFORECAST_BUNDLES", "cannot be read"),
    ],
)
def test_names_that_cannot_be_meant_are_an_error(
    monkeypatch: pytest.MonkeyPatch, text: str, where: str, what: str
) -> None:
    monkeypatch.setenv("TSFORECAST_BUNDLES", text)
    with refused(ConfigError, where=where, what=has(what), allowed=has("name=bundle")):
        shelved()


def test_what_is_served_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSFORECAST_BUNDLES", "load=a")
    monkeypatch.setenv("TSFORECAST_BUNDLE", "b")
    with refused(ConfigError, where="TSFORECAST_BUNDLE, TSFORECAST_BUNDLES", got="b"):
        shelved()


def test_the_default_one_must_be_there_at_the_start(several: Callable[..., Client], tmp_path: Path) -> None:
    with refused(BundleError, where=tmp_path / "none"):
        several(f"load={tmp_path / 'none'}")


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_both_servers_serve_several_bundles(bundles: Bundles, tmp_path: Path, adapter: str) -> None:
    names = {"load": "wide", "shops": "long"}
    (tmp_path / "bundles").write_text("".join(f"{name}={bundles(shape).path}\n" for name, shape in names.items()))
    with serving(adapter, tmp_path / "bundles", tmp_path, several=True) as port:
        for name, shape in names.items():
            asked = orjson.dumps(request(bundles(shape)))
            status, body = call(port, f"/models/{name}/forecast", asked)
            assert (status, body) == (200, Client(_app(bundles(shape)))("POST", "/forecast", asked).body)
        told = orjson.loads(call(port, "/models")[1])["models"]
        assert [(each["name"], each["loaded"]) for each in told] == [("load", True), ("shops", True)]
        assert call(port, "/models/price/model")[0] == 404
        kserve = orjson.dumps(as_kserve(bundles("wide")) | {"model": "load"})
        status, body = call(port, "/v1/timeseries/forecast", kserve)
        own = orjson.loads(call(port, "/forecast", orjson.dumps(request(bundles("wide"))))[1])["forecasts"][0]["point"]
        told = orjson.loads(body)["outputs"][0]["content"][0]["mean_forecast"]
        assert (status, told) == (200, [list(row) for row in zip(own["load"], own["visits"], strict=True)])
        assert orjson.loads(call(port, "/v2/models/shops/ready")[1]) == {"name": "shops", "ready": True}
        assert (
            b'tsforecast_requests_total{model="shops",path="/forecast",status="200"} 1.0' in call(port, "/metrics")[1]
        )
