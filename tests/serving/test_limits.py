"""What a server takes on: bytes held, requests that wait, and heads that need not be read further."""

from __future__ import annotations

import asyncio
import gc
import gzip
import re
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.conftest import Client, request
from tsforecast.bundle.bundle import Bundle
from tsforecast.serving.front import check_head
from tsforecast.serving.memory import unfolded
from tsforecast.serving.refusals import RequestError
from tsforecast.serving.settings import Settings, misspelt

Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]
POST = {"type": "http", "method": "POST", "path": "/forecast", "raw_path": b"/forecast", "root_path": "",
        "query_string": b"", "headers": [], "scheme": "http"}  # fmt: skip


async def holds_back(client: Client, parts: list[bytes], statuses: list[int]) -> None:
    """A caller that sends some parts of a body, and never the last."""
    left = [*parts]

    async def receive() -> Any:
        await asyncio.sleep(0)
        if not left:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": left.pop(), "more_body": True}

    async def send(message: Any) -> None:
        if "status" in message:
            statuses.append(message["status"])

    await client.app(dict(POST), receive, send)


def test_bodies_that_hold_back_their_last_byte_are_let_go_before_all_together_are_too_many_bytes(
    bundles: Bundles, serve: Serve
) -> None:
    client, asked = serve(bundles("wide"), max_body=1, max_memory=4), request(bundles("wide"))
    statuses: list[int] = []

    async def attack() -> None:
        callers = [asyncio.create_task(holds_back(client, [bytes(100_000)] * 9, statuses)) for _ in range(40)]
        for _ in range(200):
            await asyncio.sleep(0)
            held = client.app.state.server.memory.held
            assert held <= 4 * 2**20
        await asyncio.sleep(0.2)  # they are told one by one
        assert set(statuses) == {429}
        assert 30 <= len(statuses) < 40
        for _ in range(3):  # those who hold most give way to those who come in time
            assert (await client.send("POST", "/forecast", asked)).status == 200
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    asyncio.run(attack())
    assert client.app.state.server.memory.held == 0
    assert not client.app.state.server.memory.arriving


def test_what_is_refused_is_gone_without_a_collection(bundles: Bundles, serve: Serve) -> None:
    client, asked = serve(bundles("wide"), max_body=0.1), request(bundles("wide"))
    wrong = {"history": {"load": [1]}}, {**asked, "horizon": 99}
    bodies = {b"{": 400, orjson.dumps(wrong[1]): 400, orjson.dumps(wrong[0]): 422, bytes(200_000): 413}

    async def left(body: bytes, status: int) -> int:
        await client.send("POST", "/forecast", body)
        gc.collect()
        for _ in range(20):
            assert (await client.send("POST", "/forecast", body, {"content-length": ""})).status == status
        return gc.collect()

    gc.disable()
    try:
        assert [asyncio.run(left(body, status)) for body, status in bodies.items()] == [0, 0, 0, 0]
    finally:
        gc.enable()


COLUMNS = orjson.dumps({"history": {name: [1.2345 + i for i in range(20_000)] for name in "abcdefgh"}})


@pytest.mark.parametrize(
    "cells", [b"1.5,", b"1,", b"[],", b"{},", b'{"a":1},', b'"\xc3\xa4",', b'"",', b"[1,2],", COLUMNS + b","]
)
def test_a_body_never_unfolds_to_more_than_it_counts_for(cells: bytes) -> None:
    body = b"[" + cells * (300_000 // len(cells) + 1) + b"0]"
    tracemalloc.start()
    try:
        parsed = orjson.loads(body)
        assert tracemalloc.get_traced_memory()[0] <= unfolded(body), parsed[:1]
    finally:
        tracemalloc.stop()
    assert not cells.startswith(COLUMNS) or unfolded(body) < 9 * len(body)


def test_a_body_that_would_unfold_to_more_than_there_is_memory_is_too_large(bundles: Bundles, serve: Serve) -> None:
    client = serve(bundles("wide"), max_memory=8)
    found = client("POST", "/forecast", b'{"history":[' + b"{}," * 100_000 + b"{}]}")
    assert (found.status, found.json["got"]) == (413, "25 MiB once it is parsed")
    assert client.app.state.server.memory.held == 0


def test_whoever_holds_most_gives_way_to_a_request_that_comes_whole(bundles: Bundles, serve: Serve) -> None:
    asked = request(bundles("wide"))
    client = serve(bundles("wide"), max_body=0.5, max_memory=0.5)
    statuses: list[int] = []

    async def attack() -> None:
        caller = asyncio.create_task(holds_back(client, [bytes(2**19 - 10)], statuses))
        for _ in range(10):
            await asyncio.sleep(0)
        assert (await client.send("POST", "/forecast", asked)).status == 200
        await caller

    asyncio.run(attack())
    assert statuses == [429]


def test_an_answer_is_never_cut_whoever_is_still_arriving_gives_way_to_it_or_it_is_refused(
    bundles: Bundles, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsforecast.serving.front.SMALL", 1000)
    whole = len(serve(bundles("wide"))("GET", "/openapi.json").body)
    client = serve(bundles("wide"), max_memory=12 * 4_000 / 2**20)
    statuses: list[int] = []

    async def attack() -> None:
        callers = [asyncio.create_task(holds_back(client, [bytes(4_000)], statuses)) for _ in range(12)]
        await asyncio.sleep(0.1)
        found = await client.send("GET", "/openapi.json")
        assert (found.status, len(found.body)) == (200, whole), "each of them holds less than it"
        await asyncio.sleep(0.2)
        assert 0 < len(statuses) < 12
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    asyncio.run(attack())
    assert {*statuses} == {429}
    found = serve(bundles("wide"), max_memory=(whole - 1) / 2**20)("GET", "/openapi.json")
    assert (found.status, found.json["code"]) == (429, "busy")


def slow(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[int]:
    predictions, calls = Bundle.predictions, list[int]()

    def late(self: Bundle, requests: Any) -> Any:
        calls.append(len(requests))
        time.sleep(seconds)
        return predictions(self, requests)

    monkeypatch.setattr(Bundle, "predictions", late)
    return calls


def test_while_many_wait_for_a_forecast_then_probes_are_answered_and_the_time_counts_from_the_arrival(
    bundles: Bundles, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, asked, order = serve(bundles("wide")), request(bundles("wide")), list[str]()
    slow(monkeypatch, 0.05)

    async def one(method: str, path: str, body: Any = b"") -> None:
        assert (await client.send(method, path, body)).status == 200
        order.append(path)

    async def crowd() -> None:
        await asyncio.gather(*(one("POST", "/forecast", asked) for _ in range(80)), one("GET", "/livez"))

    asyncio.run(crowd())
    assert order[0] == "/livez"
    metrics = client("GET", "/metrics").body.decode()
    took = float(metrics.partition('tsforecast_request_seconds_sum{path="/forecast"} ')[2].split()[0])
    assert took > 80 * 0.05  # the first 32 waited for one call, the others for two or three
    assert "tsforecast_batch_requests_count 3.0" in metrics


def test_whoever_would_wait_too_long_is_told_how_long_and_whoever_comes_with_the_next_call_is_answered(
    bundles: Bundles, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, asked = serve(bundles("wide"), max_wait=0.1), request(bundles("wide"))
    calls = slow(monkeypatch, 1.2)
    assert client("POST", "/forecast", asked).status == 200  # from now on it is known how long one takes

    async def crowd() -> list[Any]:
        return await asyncio.gather(*(client.send("POST", "/forecast", asked) for _ in range(8)))

    found = asyncio.run(crowd())
    assert len(calls) == 2  # one for each crowd
    assert sorted(each.status for each in found) == [200] * 2 + [429] * 6
    assert {each.headers["retry-after"] for each in found if each.status == 429} == {"2"}


def test_while_a_large_body_is_read_and_a_slow_model_asked_then_others_are_answered(
    bundles: Bundles, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.002)  # which is found when it is loaded: a quick one is asked on the event loop
    client, asked = serve(bundles("wide")), request(bundles("wide"))
    engine = client.app.state.server.slot.live.engine
    bodies, order = [orjson.dumps(asked) + b" " * 2**16, orjson.dumps(asked)], list[bytes]()
    one_answered, probed, probed_again = (threading.Event() for _ in range(3))
    read, predictions, heard = type(engine).read, Bundle.predictions, list[bool]()

    def read_late(*each: Any) -> Any:  # a large body: not before the small one is answered
        heard.append(len(each[1]) < 2**16 or one_answered.wait(20))
        return read(*each)

    def predict_late(*each: Any) -> Any:  # not before probes are answered: for ever, if those wait for the model
        heard.append((probed_again if order else probed).wait(20))
        return predictions(*each)

    monkeypatch.setattr(type(engine), "read", read_late)
    monkeypatch.setattr(Bundle, "predictions", predict_late)

    async def one(body: bytes) -> None:
        assert (await client.send("POST", "/forecast", body)).status == 200
        order.append(body)
        one_answered.set()

    async def probe(done: threading.Event) -> None:
        for _ in range(20):
            assert (await client.send("GET", "/livez")).status == 200
            await asyncio.sleep(0.005)
        done.set()

    async def crowd() -> None:
        large, small = (asyncio.create_task(one(body)) for body in bodies)
        await probe(probed)
        await small
        await probe(probed_again)
        await large

    asyncio.run(crowd())
    assert order == bodies[::-1]  # the small one need not wait for the reading of the other
    assert heard == [True] * 4  # two are read, and two forecast


def test_one_request_that_cannot_be_read_or_written_spoils_no_other_of_its_batch(
    bundles: Bundles, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, asked = serve(bundles("wide")), request(bundles("wide"))
    alone = client("POST", "/forecast", asked).body
    monkeypatch.setattr(type(client.app.state.server.slot.live.engine), "write_csv", lambda *_: 1 / 0)
    csv = b"date,load,visits\n" + b"\n".join(
        f"{stamp},{load},{visits}".encode() for stamp, load, visits in zip(*asked["history"].values(), strict=True)
    )

    async def crowd() -> list[Any]:
        return await asyncio.gather(
            client.send("POST", "/forecast", asked), client.send("POST", "/forecast", b"{"),
            client.send("POST", "/forecast_csv", csv), client.send("POST", "/forecast", asked),
        )  # fmt: skip

    found = asyncio.run(crowd())
    assert [each.status for each in found] == [200, 400, 500, 200]
    assert found[0].body == found[3].body == alone


def test_whoever_looks_on_sees_each_request_that_is_forecast_from_and_its_forecast(
    bundles: Bundles, serve: Serve
) -> None:
    client, asked, seen = serve(bundles("wide")), request(bundles("wide")), list[tuple[Any, Any]]()
    client.app.state.server.slot.live.monitor.seen = lambda *each: seen.append(each)

    async def crowd() -> list[Any]:
        return await asyncio.gather(*(client.send("POST", "/forecast", body) for body in (asked, b"{", asked)))

    assert [each.status for each in asyncio.run(crowd())] == [200, 400, 200]
    assert client("POST", "/forecast", asked).status == 200
    assert len(seen) == 3
    for of, found in seen:
        assert found.point.tobytes() == bundles("wide").predictions([of])[0].point.tobytes()


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/forecast", "application/json", 200),
        ("/forecast", "Application/JSON; charset=utf-8", 200),
        ("/forecast", "text/plain", 415),
        ("/forecast", "application/x-www-form-urlencoded", 415),
        ("/forecast", "multipart/form-data; boundary=x", 415),
        ("/forecast_csv", "text/plain", 415),
        ("/forecast_csv", "application/json", 415),
    ],
)
def test_a_body_of_another_media_type_is_415(
    bundles: Bundles, client: Client, path: str, kind: str, status: int
) -> None:
    found = client("POST", path, request(bundles("wide")), {"content-type": kind})
    assert found.status == status
    if status == 415:
        assert (found.json["code"], found.json["where"]) == ("media_type", "Content-Type")


def test_a_compressed_body_is_415_and_says_that_it_is_the_coding(bundles: Bundles, client: Client) -> None:
    body = gzip.compress(b"{}")
    found = client("POST", "/forecast", body, {"content-type": "application/json", "content-encoding": "gzip"})
    assert (found.status, found.json["where"], found.json["got"]) == (415, "Content-Encoding", "gzip")


def test_there_is_no_page_that_needs_another_host(client: Client) -> None:
    assert [client("GET", path).status for path in ("/docs", "/redoc")] == [404, 404]


def host_status(host: str, address: str = "127.0.0.1", hosts: tuple[str, ...] = ()) -> int:
    scope = {**POST, "server": (address, 3000)}
    try:
        check_head(scope, {b"host": host.encode("latin-1")}, Settings(hosts=hosts))
    except RequestError as error:
        return error.status
    return 200


@given(st.ip_addresses() | st.just("localhost"), st.sampled_from(["", ":80", ":3000"]))
def test_on_this_machines_own_address_a_host_is_an_address_or_localhost(name: Any, port: str) -> None:
    told = f"[{name}]" if ":" in str(name) else str(name)
    assert host_status(told + port) == 200
    assert host_status(f"{name}.example.org".replace(":", ".") + port) == 421
    assert host_status(f"{name}.example.org".replace(":", ".") + port, "10.0.0.7") == 200


def test_hosts_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSFORECAST_HOSTS", "Forecasts.example.org, other")
    hosts = Settings.from_environment().hosts
    given = ("forecasts.example.org:80", "OTHER", "example.org", "127.0.0.1")
    assert [host_status(host, "10.0.0.7", hosts) for host in given] == [200, 200, 421, 421]
    assert host_status("whatever", "127.0.0.1", ("*",)) == 200


def test_after_a_reload_the_metrics_tell_of_one_model(bundles: Bundles, serve: Serve) -> None:
    client = serve(bundles("wide"))
    before = client("GET", "/model").json["version"]
    client.app.state.server.start(str(bundles("daily").path))
    models = [line for line in client("GET", "/metrics").body.decode().splitlines() if "tsforecast_model{" in line]
    assert len(models) == 1
    assert before not in models[0]


def test_a_variable_that_is_misspelt_is_told_with_the_one_it_may_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEYS_FORALL", "EXPOS", "MAX_BODY", "SOMETHING_ELSE"):
        monkeypatch.setenv(f"TSFORECAST_{name}", "1")
    assert misspelt() == [
        ("TSFORECAST_EXPOS", "TSFORECAST_EXPOSE"),
        ("TSFORECAST_KEYS_FORALL", "TSFORECAST_KEYS_FOR_ALL"),
    ]


def test_every_variable_that_the_pages_name_is_one_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *(root / "docs").glob("*.md"), *(root / "deploy").glob("*.*")]
    for name in set(re.findall(r"TSFORECAST_[A-Z_]*[A-Z]", " ".join(page.read_text() for page in pages))):
        monkeypatch.setenv(name, "1")
    assert not misspelt()
