"""What is served is exchanged as a whole, while requests are answered, or it stays."""

from __future__ import annotations

import asyncio
import importlib
import logging
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tests.conftest import until
from tests.errors import has, refused
from tests.serving.conftest import SHAPES, Client, Response, request, trained
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import BundleError, ConfigError
from tsforecast.registry import Registry
from tsforecast.serving import store
from tsforecast.serving.store import served

Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]
KEY = {"Authorization": "Bearer päss-word of sixteen".encode().decode("latin-1")}


@pytest.fixture(scope="session")
def pair(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Two bundles of the same columns, by their digests; the second was trained on other values."""
    data, schema = SHAPES["wide"]
    other = data.assign(load=data["load"] * 3 + 100)
    first, second = bundles("wide"), trained(other, schema, tmp_path_factory.mktemp("pair") / "bundle")
    return {str(bundle.digest): bundle for bundle in (first, second)}


class Link:
    """A path that stands for one bundle, and then for another, with no moment between."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self.path = folder / "served"
        self.to(bundle)

    def to(self, bundle: Bundle | Path) -> None:
        fresh = self.path.with_name("next")
        fresh.symlink_to(bundle if isinstance(bundle, Path) else Path(str(bundle.path)))
        fresh.replace(self.path)


@pytest.fixture
def link(pair: dict[str, Bundle], tmp_path: Path) -> Link:
    return Link(tmp_path, next(iter(pair.values())))


@pytest.fixture
def client(link: Link, serve: Serve, bundles: Bundles) -> Client:
    """Of what the link stands for."""
    return serve(replace(bundles("wide"), path=link.path), admin_key="päss-word of sixteen")


def reload(client: Client, query: str = "") -> Response:
    return client("POST", f"/admin/reload{query}", headers=KEY)


def metric(client: Client, start: str) -> list[str]:
    return [line for line in client("GET", "/metrics").body.decode().splitlines() if line.startswith(start)]


def swaps_of(done: int = 0, failed: int = 0) -> list[str]:
    counts = {"done": done, "failed": failed}
    return [f'tsforecast_swaps_total{{model="",outcome="{name}"}} {count}.0' for name, count in counts.items()]


def test_under_load_every_request_is_answered_wholly_by_one_of_the_bundles_that_are_swapped(
    pair: dict[str, Bundle], client: Client, link: Link
) -> None:
    asked = request(next(iter(pair.values())))
    csv = b"date,load,visits\n" + b"\n".join(
        f"{stamp},{load},{visits}".encode() for stamp, load, visits in zip(*asked["history"].values(), strict=True)
    )
    expected: dict[str, dict[str, bytes]] = {"/forecast": {}, "/forecast_csv": {}}
    for digest, bundle in pair.items():  # of each alone
        link.to(bundle)
        reload(client)
        for path, body in (("/forecast", asked), ("/forecast_csv", csv)):
            expected[path][digest] = client("POST", path, body).body
    assert len({*expected["/forecast"].values(), *expected["/forecast_csv"].values()}) == 4

    async def caller(path: str, body: Any, answers: list[tuple[str, Response]], over: asyncio.Event) -> None:
        while not over.is_set():
            answers.append((path, await client.send("POST", path, body)))
            await asyncio.sleep(0)

    async def run() -> tuple[list[tuple[str, Response]], list[Response]]:
        answers, swaps, over = list[tuple[str, Response]](), list[Response](), asyncio.Event()
        bodies = [("/forecast", asked)] * 3 + [("/forecast_csv", csv)]
        callers = [asyncio.create_task(caller(path, body, answers, over)) for path, body in bodies]
        for turn in range(10):
            link.to([*pair.values()][turn % 2])
            swaps.append(await client.send("POST", "/admin/reload", headers=KEY))
        over.set()
        await asyncio.gather(*callers)
        return answers, swaps

    answers, swaps = asyncio.run(run())
    assert [(each.status, each.json["swapped"], each.json["digest"]) for each in swaps] == [
        (200, True, digest) for digest in [*pair] * 5
    ]
    seen = set()
    for path, answer in answers:
        assert answer.status == 200
        digest = answer.json["digest"] if path == "/forecast" else answer.headers["x-tsforecast-digest"]
        assert answer.body == expected[path][digest]
        seen.add((path, digest))
    assert len(seen) == 4
    assert metric(client, "tsforecast_swaps_total") == swaps_of(done=11)


def test_what_is_no_longer_served_is_gone_once_its_last_request_is_answered(
    pair: dict[str, Bundle], client: Client, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pair.values()
    server, body = client.app.state.server, orjson.dumps(request(first))
    caplog.set_level(logging.INFO)
    logging.getLogger("tsforecast").addHandler(caplog.handler)
    assert client("GET", "/openapi.json").status == 200
    assert client("POST", "/forecast", {"history": []}).status == 422
    taken = server.slot.live  # as a request does
    old = weakref.ref(taken.engine)
    link.to(second)
    assert reload(client).json["swapped"]
    answer = asyncio.run(server.forecast(taken, taken.engine.read, taken.engine.write, body))
    assert orjson.loads(answer)["digest"] == first.digest
    del taken
    # the thread that answered lets go of it a moment later
    until(lambda: old() is None and caplog.messages[-1] == "no request uses it any more")
    events = [(record.getMessage(), getattr(record, "digest", None)) for record in caplog.records]
    assert events[-1] == ("no request uses it any more", first.digest)
    assert (f"serving test from {link.path}", second.digest) in events


def test_a_bundle_that_gives_other_answers_than_it_holds_is_not_taken(
    pair: dict[str, Bundle], client: Client, link: Link, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pair.values()
    logging.getLogger("tsforecast").addHandler(caplog.handler)
    wrong = {**(second.golden or {}), "values": (np.array((second.golden or {})["values"]) + 1).tolist()}
    bad = replace(second, golden=wrong).save(tmp_path / "bad")
    shutil.copytree(str(second.path), tmp_path / "torn")
    (tmp_path / "torn/forecaster.safetensors").write_bytes(b"half")
    for path, said in ((bad.path, "golden"), (tmp_path / "torn", "damaged"), (tmp_path / "none", "there is no bundle")):
        link.to(Path(str(path)))
        answer = reload(client)
        assert (answer.status, answer.json["code"]) == (422, "bundle")
        assert said in str(answer.json)
        assert client("POST", "/forecast", request(first)).json["digest"] == first.digest
        assert client("GET", "/readyz").status == 200
    assert metric(client, "tsforecast_swaps_total") == swaps_of(failed=3)
    told = [record for record in caplog.records if record.getMessage().startswith("not taken, the old one is served")]
    assert [getattr(record, "digest", None) for record in told] == [first.digest] * 3
    link.to(second)
    assert reload(client).json["swapped"]


def test_a_bundle_of_other_columns_is_taken_only_when_that_is_allowed(
    bundles: Bundles, client: Client, link: Link
) -> None:
    link.to(bundles("covariates"))
    answer = reload(client)
    assert (answer.status, answer.json["code"]) == (422, "bundle")
    assert "known=('price', 'weather')" in answer.json["got"]
    assert "known=()" in answer.json["allowed"]
    assert "allow_schema_change" in answer.json["fix"]
    document = client("GET", "/openapi.json").json["components"]["schemas"]["Request"]
    assert "known_future" not in document["required"]
    assert reload(client, "?allow_schema_change=true").json["digest"] == bundles("covariates").digest
    document = client("GET", "/openapi.json").json["components"]["schemas"]["Request"]
    assert "known_future" in document["required"]
    assert client("GET", "/model").json["known"] == ["price", "weather"]
    (model,) = metric(client, "tsforecast_model{")
    assert str(bundles("covariates").digest)[:12] in model


def test_the_environment_may_allow_other_columns(bundles: Bundles, link: Link, serve: Serve) -> None:
    start = replace(bundles("wide"), path=link.path)
    client = serve(start, admin_key="päss-word of sixteen", allow_schema_change="true")
    link.to(bundles("daily"))
    assert reload(client).json["swapped"]
    with refused(ConfigError, where="TSFORECAST_ALLOW_SCHEMA_CHANGE", got="'perhaps'"):
        serve(start, allow_schema_change="perhaps")


def test_the_same_bundle_again_is_no_swap(client: Client) -> None:
    assert reload(client).json["swapped"] is False
    assert metric(client, "tsforecast_swaps_total") == swaps_of()


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_there_is_no_such_route(bundles: Bundles, serve: Serve, key: str | None) -> None:
    client = serve(bundles("wide"), **({} if key is None else {"admin_key": key}))
    nowhere = client("POST", "/admin/nowhere", headers=KEY)
    for method in ("POST", "GET", "PUT"):
        answer = client(method, "/admin/reload", headers={"Authorization": "Bearer "})
        assert (answer.status, answer.json["message"]) == (404, nowhere.json["message"])


def test_with_another_key_nothing_is_reloaded(bundles: Bundles, client: Client, link: Link) -> None:
    link.to(bundles("wide"))
    wrong = ["", "Bearer ", "Bearer wrong", KEY["Authorization"].removeprefix("Bearer "), KEY["Authorization"] + "x"]
    for given in wrong:
        answer = client("POST", "/admin/reload", headers={"Authorization": given})
        assert (answer.status, answer.json["code"]) == (401, "key")
    assert client("POST", "/admin/reload").status == 401
    assert reload(client, "?allow=true").status == 400
    assert reload(client, "?allow_schema_change=perhaps").status == 422
    assert client("GET", "/admin/reload").status == 405


def test_a_short_admin_key_is_refused(bundles: Bundles, serve: Serve) -> None:
    with refused(ConfigError, where="TSFORECAST_ADMIN_KEY", got=None, allowed="16 characters or more"):
        serve(bundles("wide"), admin_key="secret")


@pytest.fixture
def shop(pair: dict[str, Bundle], tmp_path: Path, tracking_database: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registered model whose champion is the first of the pair, and whose second version is the other."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(tracking_database, tmp_path)}")
    registry = Registry()
    for bundle in pair.values():
        registry.publish(Path(str(bundle.path)), to="mlflow", name="shop", alias=None)
    registry.point("shop", "champion", 1)
    return registry


def test_when_the_alias_moves_then_the_server_follows_and_a_version_that_fails_is_tried_once(
    pair: dict[str, Bundle], bundles: Bundles, serve: Serve, shop: Registry
) -> None:
    shop.publish(Path(str(bundles("daily").path)), to="mlflow", name="shop", alias=None)  # other columns
    client = serve(replace(bundles("wide"), path=Path("models:/shop@champion")), reload=0.02)

    async def until(digest: str | None, failed: int) -> None:
        wanted = swaps_of(failed=failed)[1:]
        for _ in range(1500):
            await asyncio.sleep(0.01)
            told = (await client.send("GET", "/metrics")).body.decode().splitlines()
            now = [line for line in told if line.startswith('tsforecast_swaps_total{model="",outcome="failed"}')]
            if (await client.send("GET", "/model")).json["digest"] == digest and now == wanted:
                return
        raise AssertionError((now, wanted))

    async def run() -> None:
        first, second = pair
        client.app.state.server.watch()
        await until(first, 0)
        shop.point("shop", "champion", 2)
        await until(second, 0)
        shop.point("shop", "champion", 3)
        await until(second, 1)
        await asyncio.sleep(0.3)  # many looks
        await until(second, 1)
        shop.point("shop", "champion", 1)
        await until(first, 1)

    asyncio.run(run())


def test_what_stands_for_one_bundle_for_ever_is_not_looked_at_again(bundles: Bundles, serve: Serve) -> None:
    with refused(ConfigError, where="TSFORECAST_RELOAD", fix=has("@ALIAS")):
        serve(bundles("wide"), reload=5)


def test_workers_that_look_for_themselves_are_not_told_an_exact_version(
    pair: dict[str, Bundle], shop: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSFORECAST_BUNDLE", "models:/shop@champion")
    monkeypatch.setattr(store, "parent_process", object)
    with refused(BundleError, where="TSFORECAST_BUNDLE"):
        served()
    monkeypatch.setenv("TSFORECAST_RELOAD", "30")
    assert served().exact == "models:/shop/1"
    service: Any = importlib.import_module("tsforecast.serving.service")
    service.Forecaster.inner.look()  # the parent of BentoML's workers
    shop.point("shop", "champion", 2)
    assert Bundle.load(served().path).digest == [*pair][1]


def test_what_several_names_stand_for_is_found_once_for_all_workers(
    bundles: Bundles, shop: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(str(bundles("wide").path))
    monkeypatch.chdir(path.parent)  # the workers need not be there
    monkeypatch.setenv("TSFORECAST_BUNDLES", f"load={path.name},shop=models:/shop@champion")
    service: Any = importlib.import_module("tsforecast.serving.service")
    service.Forecaster.inner.look()
    shop.point("shop", "champion", 2)
    assert store.shelved() == {"load": str(path), "shop": "models:/shop/1"}
