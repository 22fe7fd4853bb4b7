"""Which web pages may ask, and that what is asked over TLS is answered as it is without."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.contracts.test_serving import ADAPTERS, serving
from tests.errors import refused
from tests.serving.browser import Seen
from tests.serving.conftest import Client, request
from tests.serving.test_keys import ADA, bearer
from tests.serving.test_watch import listening, post, survived
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError
from tsforecast.serving.settings import Settings

Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]
SHOP = {"origin": "https://shop.example"}
__all__ = ["survived"]


def asks(method: str, *headers: str) -> dict[str, str]:
    """What a browser sends before it asks."""
    return {**SHOP, "access-control-request-method": method, "access-control-request-headers": ",".join(headers)}


def test_by_default_no_page_of_another_origin_is_let_in(bundles: Bundles, serve: Serve) -> None:
    client = serve(bundles("wide"))
    for found in (
        client("GET", "/model", b"", SHOP),
        client("POST", "/forecast", request(bundles("wide")), SHOP),
        client("OPTIONS", "/forecast", b"", asks("POST", "content-type")),
    ):
        assert not [name for name in found.headers if name.startswith("access-control")]


def test_pages_of_the_origins_that_are_named_are_let_in_with_their_key_and_told_every_refusal(
    bundles: Bundles, serve: Serve
) -> None:
    named = "https://shop.example, http://localhost:8080"
    client, asked = serve(bundles("wide"), cors=named, keys=f"ada:{ADA} 1/h"), request(bundles("wide"))
    found = client("OPTIONS", "/forecast", b"", asks("POST", "authorization", "content-type", "traceparent"))
    assert (found.status, found.headers["access-control-allow-origin"]) == (200, "https://shop.example")
    allowed = found.headers["access-control-allow-headers"].lower()
    assert {"authorization", "content-type", "traceparent"} <= {name.strip() for name in allowed.split(",")}
    assert "POST" in found.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in found.headers
    for headers, status in (({}, 401), (bearer(ADA), 200), (bearer(ADA), 429), ({"content-type": "text/plain"}, 401)):
        found = client("POST", "/forecast", asked, {**SHOP, **headers})
        assert (found.status, found.headers["access-control-allow-origin"]) == (status, "https://shop.example")
        assert "retry-after" in found.headers["access-control-expose-headers"].lower()
    other = {"origin": "https://shop.example.evil"}
    assert "access-control-allow-origin" not in client("GET", "/livez", b"", other).headers
    assert client("OPTIONS", "/forecast", b"", {**asks("POST"), **other}).status == 400


@pytest.mark.parametrize("said", ["shop.example", "https://shop.example/", "https://", "null", "https://a b"])
def test_what_is_no_origin_is_an_error_when_the_server_starts(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSFORECAST_CORS", f"*,{said}")
    with refused(ConfigError, where="TSFORECAST_CORS", got=said, what="this is no origin of a web page"):
        Settings.from_environment()


def test_a_page_of_another_origin_forecasts_in_a_browser_where_it_is_named(
    look: Seen, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = look.serve(bundles("wide"))
    closed = look.serve(bundles("daily"))
    monkeypatch.setenv("TSFORECAST_CORS", page)
    named = look.serve(bundles("daily"))
    browser = look.browser
    browser.open(f"{page}/livez")  # of that origin, and without the policy of /ui, which asks nobody else
    body = orjson.dumps(request(bundles("daily"))).decode()
    script = """fetch('%s/forecast', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: %s})
        .then((reply) => reply.text(), () => 'blocked')"""
    assert browser.run(script % (closed, repr(body))) == "blocked"
    expected = look.apps[named].state.server.slot.live.engine.version
    assert orjson.loads(browser.run(script % (named, repr(body))))["version"] == expected


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate for this machine, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    key, own = folder / "key.pem", folder / "own.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", own]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    return key, own


def test_over_tls_the_answer_is_as_without_and_nothing_is_answered_in_the_open(
    bundles: Bundles, serve: Serve, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key, own), asked = certificate, orjson.dumps(request(bundles("wide")))
    options = ["--ssl-keyfile", str(key), "--ssl-certfile", str(own), "--port"]
    monkeypatch.setitem(ADAPTERS, "tls", [*ADAPTERS["asgi"][:-1], *options])
    trusted = ssl.create_default_context(cafile=str(own))
    with serving("tls", Path(str(bundles("wide").path)), tmp_path, trusted) as port:
        to = urllib.request.Request(f"https://localhost:{port}/forecast", asked, {"Content-Type": "application/json"})
        with urllib.request.urlopen(to, context=trusted) as answer:
            assert answer.read() == serve(bundles("wide"))("POST", "/forecast", asked).body
        with pytest.raises(OSError, match="certificate verify failed"):
            urllib.request.urlopen(to, context=ssl.create_default_context())
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP/1.1" not in plain.recv(1000)


def test_whoever_stands_in_the_queue_of_a_server_that_stops_is_answered_over_tls_too(
    bundles: Bundles, serve: Serve, certificate: tuple[Path, Path]
) -> None:
    (key, own), client, whole = certificate, serve(bundles("wide")), post(request(bundles("wide")))
    trusted = ssl.create_default_context(cafile=str(own))

    async def run() -> list[bytes]:
        async with listening(client, ssl_keyfile=str(key), ssl_certfile=str(own)) as port:
            callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]  # the loop accepts none yet
            os.kill(os.getpid(), signal.SIGTERM)
            secure = {"ssl": trusted, "server_hostname": "localhost"}
            each = await asyncio.gather(*(asyncio.open_connection(sock=caller, **secure) for caller in callers))
            for _, writer in each:
                writer.write(whole)
            return await asyncio.gather(*(asyncio.wait_for(reader.read(), 5) for reader, _ in each))

    for answer in asyncio.run(run()):
        assert answer.startswith(b"HTTP/1.1 200")
