"""A server on a real socket: what it closes, what it refuses to share, and how it takes leave."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
import uvicorn

from tests.serving.conftest import Client, request
from tsforecast.bundle.bundle import Bundle
from tsforecast.serving import watch

Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]
HTTP = {"h11": b"two ways", "httptools": b"Invalid HTTP request"}  # uvicorn's parsers, and who refuses two lengths how


@pytest.fixture(autouse=True)
def survived() -> Iterator[None]:
    """A server raises the signal again that stopped it."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


@asynccontextmanager
async def listening(client: Client, *, shared: bool = False, **options: str) -> AsyncIterator[int]:
    """The app behind uvicorn, in this loop; another process holds the port too, where it is shared."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        quiet: dict[str, Any] = {"lifespan": "off", "log_level": "error", "access_log": False}
        server = uvicorn.Server(uvicorn.Config(client.app, **quiet, **options))
        serving = asyncio.create_task(server.serve(sockets=[port.dup()]))
        while not server.started:
            await asyncio.sleep(0.01)
        client.app.state.server.watch(shared=shared)
        yield port.getsockname()[1]
        server.should_exit = True
        await serving


def post(body: Any, *headers: str) -> bytes:
    data = orjson.dumps(body)
    lines = ["POST /forecast HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


@pytest.mark.parametrize("http", HTTP)
def test_a_connection_whose_head_does_not_come_is_closed_and_another_is_not(
    bundles: Bundles, serve: Serve, http: str
) -> None:
    client, whole = serve(bundles("wide"), patience=0.5), post(request(bundles("wide")))

    async def run() -> None:
        async with listening(client, http=http) as port:
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            silent[1][1].write(b"POST /forecast HTTP/1.1\r\nHost: loc")
            reader, writer = silent[2]
            writer.write(whole)  # this one's second head does not come
            assert (await reader.readline()).split()[1] == b"200"
            writer.write(whole[:30])
            busy_reader, busy_writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(8):  # longer than the patience in all
                busy_writer.write(whole)
                assert (await busy_reader.readuntil(b"\r\n\r\n")).split()[1] == b"200"
                await busy_reader.readuntil(b"}\n")
                await asyncio.sleep(0.1)
            for each, _ in silent:
                await asyncio.wait_for(each.read(), 5)  # until the end

    asyncio.run(run())


def test_a_caller_that_takes_nothing_of_its_answer_is_cut_off_and_its_memory_free_again(
    bundles: Bundles, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, whole = serve(bundles("wide"), patience=0.3), post(request(bundles("wide")))
    server = client.app.state.server
    monkeypatch.setattr(type(server.slot.live.engine), "write", lambda *_: bytes(2**24))

    async def run() -> None:
        async with listening(client) as port:
            with socket.create_connection(("127.0.0.1", port)) as caller:
                caller.sendall(whole)
                held = []
                for _ in range(100):
                    await asyncio.sleep(0.02)
                    held.append(server.memory.held)
                assert max(held) > 2**24
                assert held[-1] == 0
            reader, writer = await asyncio.open_connection("127.0.0.1", port)  # another takes it slowly, but takes it
            writer.write(whole)
            head = await reader.readuntil(b"\r\n\r\n")
            assert f"content-length: {2**24}".encode() in head
            for _ in range(16):
                assert len(await reader.readexactly(2**20)) == 2**20
                await asyncio.sleep(0.05)

    asyncio.run(run())


@pytest.mark.parametrize("http", HTTP)
def test_a_request_whose_length_is_told_twice_is_refused_with_all_that_follows_it(
    bundles: Bundles, serve: Serve, http: str
) -> None:
    client = serve(bundles("wide"))
    hidden = b"GET /model HTTP/1.1\r\nHost: localhost\r\n\r\n"
    smuggled = (b"POST /forecast HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                b"Content-Length: %d\r\n\r\n0\r\n\r\n" % (5 + len(hidden)))  # fmt: skip

    async def run() -> bytes:
        async with listening(client, http=http) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(smuggled + hidden)
            return await asyncio.wait_for(reader.read(), 5)

    answer = asyncio.run(run())
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer
    assert HTTP[http] in answer


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_when_told_to_stop_then_whoever_has_connected_is_answered_and_the_next_is_refused(
    bundles: Bundles, serve: Serve, loop: str
) -> None:
    client, whole = serve(bundles("wide")), post(request(bundles("wide")))

    async def run() -> list[bytes]:
        async with listening(client, shared=True) as port:
            callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]  # the loop accepts none yet
            for caller in callers:
                caller.sendall(whole)
            os.kill(os.getpid(), signal.SIGTERM)
            each = [await asyncio.open_connection(sock=caller) for caller in callers]
            answers = await asyncio.gather(*(asyncio.wait_for(reader.read(), 5) for reader, _ in each))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            return answers

    factory = uvicorn.Config(client.app, loop=loop).get_loop_factory()  # type: ignore[arg-type]
    with asyncio.Runner(loop_factory=factory) as runner:
        answers = runner.run(run())
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer


def test_a_worker_whose_port_another_has_closed_for_both_stops_all_the_same(bundles: Bundles, serve: Serve) -> None:
    client = serve(bundles("wide"))

    async def run() -> None:
        async with listening(client, shared=True):
            watcher = client.app.state.server.watcher
            watcher.uvicorn.servers[0].sockets[0].dup().shutdown(socket.SHUT_RDWR)
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(5):
                while not watcher.uvicorn.should_exit:
                    await asyncio.sleep(0.05)

    asyncio.run(run())


def test_after_large_bodies_memory_is_given_back_once(
    bundles: Bundles, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, given = serve(bundles("wide"), patience=0.05), list[int]()
    monkeypatch.setattr(watch, "give_back", lambda: given.append(client.app.state.server.memory.held))

    async def run() -> None:
        client.app.state.server.watch()
        assert (await client.send("POST", "/forecast", b"[1]")).status == 400
        await asyncio.sleep(0.15)
        assert not given
        assert (await client.send("POST", "/forecast", b"," * 2**20)).status == 400
        async with asyncio.timeout(20):
            while not given:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.15)  # and not again

    asyncio.run(run())
    assert given == [0]
