"""When MLflow's server says that an alias has moved, all workers follow; whoever else says so is refused."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.test_serving import ADAPTERS, serving
from tests.serving.conftest import Client, Response
from tests.serving.test_slot import Link, link, pair, shop, swaps_of
from tsforecast.bundle.bundle import Bundle
from tsforecast.registry import Registry
from tsforecast.serving.bell import Bell, Ring
from tsforecast.serving.watch import Watch

Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]
SECRET = "a secret of 16 characters or more"
__all__ = ["link", "pair", "shop"]


def signed(
    event: Any, secret: str = SECRET, at: float | None = None, delivery: str = "d-1"
) -> tuple[bytes, dict[str, str]]:
    """A delivery as the installed MLflow signs it."""
    from mlflow.webhooks import constants
    from mlflow.webhooks.delivery import _generate_hmac_signature

    body, sent = json.dumps(event), str(int(time.time() if at is None else at))
    return body.encode(), {
        "content-type": "application/json",
        constants.WEBHOOK_DELIVERY_ID_HEADER: delivery,
        constants.WEBHOOK_TIMESTAMP_HEADER: sent,
        constants.WEBHOOK_SIGNATURE_HEADER: _generate_hmac_signature(secret, delivery, sent, body),
    }


def moved(name: str = "shop", entity: str = "model_version_alias", action: str = "created") -> dict[str, Any]:
    return {"entity": entity, "action": action, "data": {"name": name, "alias": "champion", "version": "2"}}


@pytest.fixture
def client(bundles: Bundles, serve: Serve, shop: Registry) -> Client:
    return serve(replace(bundles("wide"), path=Path("models:/shop@champion")), webhook_secret=SECRET)


async def until(client: Client, digest: str) -> None:
    async with asyncio.timeout(120):
        while (await client.send("GET", "/model")).json["digest"] != digest:
            await asyncio.sleep(0.05)


def test_only_what_is_signed_with_the_secret_just_now_and_once_is_taken(client: Client) -> None:
    def post(body: bytes, headers: dict[str, str]) -> tuple[int, str, str | None]:
        found = client("POST", "/admin/mlflow", body, headers)
        return found.status, found.json.get("code"), found.json.get("where")

    body, headers = signed(moved())
    names = {name.partition("-")[2].partition("-")[2]: name for name in headers if name.startswith("X-")}
    signature, sent, delivery = names["Signature"], names["Timestamp"], names["Delivery-Id"]
    for bad in (
        (body.replace(b"shop", b"shoq"), headers),
        signed(moved(), SECRET + "x"),
        (body, {**headers, signature: ""}),
        (body, {**headers, signature: headers[signature].replace("v1,", "")}),
        (body, {**headers, signature: "v1,\xff"}),
        (body, {**headers, sent: str(int(headers[sent]) + 1)}),
        (body, {**headers, delivery: "d-2"}),
        (body, {name: each for name, each in headers.items() if name != signature}),
        (b"", {"content-type": "application/json"}),
    ):
        assert post(*bad) == (403, "signature", signature)
    for at in (time.time() - 400, time.time() + 400):
        assert post(*signed(moved(), at=at)) == (403, "signature", sent)
    assert post(body, headers) == (202, None, None)
    assert post(body, headers) == (403, "signature", delivery)
    assert post(*signed(moved(), at=time.time() - 200, delivery="d-2")) == (202, None, None)
    assert post(*signed(moved("other"), delivery="d-3")) == (200, None, None)
    assert post(*signed(moved(entity="prompt_alias"), delivery="d-4")) == (200, None, None)
    assert post(*signed(moved(action="deleted"), delivery="d-5")) == (200, None, None)
    assert post(*signed(moved(), at=10**30, delivery="d-6")) == (403, "signature", sent)
    for i, other in enumerate(([], "x", None, {}, {"data": None}, {"data": []})):
        assert post(*signed(other, delivery=f"d-1{i}")) == (400, "request", "body")
    assert client("POST", "/admin/mlflow", b" " * (2**20 + 1), headers).status == 413
    assert SECRET not in str([client("GET", path).body for path in ("/metrics", "/model", "/openapi.json")])


def test_a_delivery_moves_what_is_served_and_a_version_that_fails_leaves_the_old_one(
    client: Client, pair: dict[str, Bundle], bundles: Bundles, shop: Registry
) -> None:
    shop.publish(Path(str(bundles("daily").path)), to="mlflow", name="shop", alias=None)  # other columns

    async def run() -> Response:
        Watch(client.app.state.server)
        shop.point("shop", "champion", 2)
        assert (await client.send("GET", "/model")).json["digest"] == next(iter(pair)), "nobody looks by itself"
        await client.send("POST", "/admin/mlflow", *signed(moved(), delivery="d-10"))
        await until(client, [*pair][1])
        shop.point("shop", "champion", 3)
        await client.send("POST", "/admin/mlflow", *signed(moved(), delivery="d-11"))
        async with asyncio.timeout(10):
            while (
                'tsforecast_swaps_total{model="",outcome="failed"} 1.0'
                not in (text := await client.send("GET", "/metrics")).body.decode()
            ):
                await asyncio.sleep(0.05)
        await until(client, [*pair][1])
        return text

    assert [line for line in asyncio.run(run()).body.decode().splitlines() if "swaps_total{" in line] == swaps_of(1, 1)


def test_without_a_secret_there_is_no_such_route(bundles: Bundles, serve: Serve) -> None:
    assert serve(bundles("wide"))("POST", "/admin/mlflow", *signed(moved())).status == 404


def test_a_ring_is_heard_once_by_each_process_that_is_there_and_not_by_one_that_comes_later(tmp_path: Path) -> None:
    bell = Bell(str(tmp_path))
    listen = (
        "import sys; from tsforecast.serving.bell import Bell; bell = Bell(sys.argv[1]); print('there', flush=True)"
    )
    listen += "; input(); print(*[name for ring in bell.rings() for name in ring.names]); print(len(bell.rings()))"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    others = [subprocess.Popen([sys.executable, "-c", listen, str(tmp_path)], **pipes) for _ in range(2)]
    for other in others:
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
    rings = [Ring([f"shop{i}"]) for i in range(500)]
    for ring in rings:
        bell.ring(ring)
    bell.ring(Ring(["mine"], done=os.getpid()))
    late = Bell(str(tmp_path))
    for other in others:
        heard, again = other.communicate("\n")[0].splitlines()
        assert heard.split() == [*(f"shop{i}" for i in range(500)), "mine"]
        assert again == "0"
    assert (bell.rings(), bell.rings(), late.rings()) == (rings, [], [])
    alone = Bell(None)
    alone.ring(rings[0])
    assert alone.rings() == [rings[0]]


@pytest.fixture
def stop() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def workers(link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: ExitStack) -> int:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "counted"))
    monkeypatch.setitem(ADAPTERS, "two", [*ADAPTERS["asgi"][:-1], "--workers", "2", "--port"])
    return stop.enter_context(serving("two", link.path, tmp_path))


def test_when_all_workers_are_told_to_stop_then_who_connects_is_answered_or_refused(
    workers: int, stop: ExitStack
) -> None:
    def asked() -> bytes | None:
        """The first bytes of an answer; nothing, of a connection that nobody takes; None, where it is refused."""
        try:
            with socket.create_connection(("127.0.0.1", workers), 30) as caller:
                caller.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return caller.recv(12)
        except ConnectionRefusedError:
            return None
        except ConnectionResetError:
            return b""

    slow = socket.create_connection(("127.0.0.1", workers), 30)
    slow.sendall(b"POST /forecast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
    with slow, ThreadPoolExecutor(1) as pool:
        assert asked() == b"HTTP/1.1 200"
        stopping = pool.submit(stop.close)
        while (found := asked()) is not None:  # else nobody is there who could refuse before the slow one is answered
            assert found == b"HTTP/1.1 200"
            time.sleep(0.02)
        assert slow.recv(12) == b"HTTP/1.1 408"
        stopping.result()


def test_of_the_workers_that_serve_the_last_one_that_leaves_is_told_so(tmp_path: Path) -> None:
    bell = Bell(str(tmp_path))
    bell.arrive()
    serves = "import sys; from tsforecast.serving.bell import Bell; bell = Bell(sys.argv[1]); bell.arrive()"
    serves += "; print(flush=True); input(); print(bell.leave())"
    command = [sys.executable, "-c", serves, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (own,) = tmp_path.glob(f"serving-{os.getppid()}-*")
        (theirs,) = tmp_path.glob(f"serving-{os.getpid()}-*")
        theirs.rename(own.with_name(own.name.replace(str(os.getpid()), str(other.pid))))  # of the same parent
        assert not bell.leave()
        bell.arrive()
        assert other.communicate("\n")[0].strip() == "True", "of its own parent it is the only one"
    assert bell.leave(), "the other is gone, and said nothing"
    assert not Bell(None).leave()


def test_a_reload_that_one_worker_was_asked_for_reaches_the_other(
    workers: int, link: Link, pair: dict[str, Bundle]
) -> None:
    def ask(path: str, body: bytes | None = None) -> str:
        headers = {"Authorization": "Bearer secretsecretsecret"}
        asked = urllib.request.Request(f"http://127.0.0.1:{workers}{path}", body, headers)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return str(answer.read().decode())

    def counted(line: str) -> None:
        """Until both together have."""
        until = time.monotonic() + 120
        while f"tsforecast_{line} 2.0" not in (told := ask("/metrics")):
            assert time.monotonic() < until, told
            time.sleep(0.1)

    first, second = pair
    counted('loads_total{outcome="done"}')
    assert json.loads(ask("/model"))["digest"] == first
    link.to(pair[second])
    assert json.loads(ask("/admin/reload", b""))["swapped"]
    counted('swaps_total{model="",outcome="done"}')
    assert {json.loads(ask("/model"))["digest"] for _ in range(20)} == {second}
