"""deploy/nginx.conf, as it is but for ports and places, before a server: what it stops and what it lets through."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.test_serving import serving
from tests.serving.conftest import request
from tests.serving.document import Document
from tsforecast.bundle.bundle import Bundle

CONFIG = Path(__file__).parents[2] / "deploy" / "nginx.conf"
ADA, BEN = "a" * 16, "b" * 16  # keys; Ben may ask once
PATIENCE = 2  # seconds for a head here, so that the test is short
Answer = tuple[int, dict[str, str], bytes]


class Proxy:
    """One that runs, and how it is asked."""

    def __init__(self, port: int, behind: int, bundle: Bundle, stop: Callable[[], None]) -> None:
        self.port, self.behind, self.asked = port, behind, json.dumps(request(bundle)).encode()
        self.stop = stop  # the server behind it, for good

    def connect(self) -> http.client.HTTPSConnection:
        trusting = ssl._create_unverified_context()
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=trusting, timeout=30)

    def __call__(
        self, method: str, path: str, body: bytes | None = None, *, over: Any = None, **headers: str
    ) -> Answer:
        connection = over or self.connect()
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(
            method, path, body, {"Content-Type": "application/json", "Authorization": f"Bearer {ADA}", **told}
        )
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.fixture(scope="module")
def proxy(bundles: Callable[[str], Bundle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if nginx is None or shutil.which("openssl") is None:
        pytest.skip("needs nginx and openssl, which are not installed")
    place = tmp_path_factory.mktemp("nginx")
    names = ["-subj", "/CN=localhost", "-keyout", str(place / "privkey.pem"), "-out", str(place / "fullchain.pem")]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names]
    subprocess.run(make, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as environment, ExitStack() as stack:
        environment.setenv("TSFORECAST_KEYS", f"ada:{ADA},ben:{BEN} 1/h")
        behind = stack.enter_context(serving("asgi", bundles("wide").path, place))
        text = CONFIG.read_text()
        for said, here in {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "server forecaster:3000": f"server 127.0.0.1:{behind}",
            "/etc/nginx/tls": str(place),
            "client_header_timeout 10s": f"client_header_timeout {PATIENCE}s",
            "http {": f"http {{ access_log off; {_temporary(place)}",
        }.items():
            assert text.count(said) >= 1, said
            text = text.replace(said, here)
        (place / "nginx.conf").write_text(text)
        user = "user root;" if os.geteuid() == 0 else ""  # whose folder it is
        settings = f"{user} daemon off; pid {place}/pid; error_log {place}/error.log;"
        process = subprocess.Popen([nginx, "-p", str(place), "-c", str(place / "nginx.conf"), "-g", settings])
        found = Proxy(port, behind, bundles("wide"), stack.close)
        until = time.monotonic() + 10
        while time.monotonic() < until and process.poll() is None:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        assert process.poll() is None, (place / "error.log").read_text()
        yield found
        process.terminate()
        process.wait(10)


def _temporary(place: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {place}/{kind};" for kind in kinds)


def test_a_forecast_is_the_servers_own_and_one_connection_is_used_again(proxy: Proxy) -> None:
    direct = http.client.HTTPConnection("127.0.0.1", proxy.behind)
    expected = proxy("POST", "/forecast", proxy.asked, over=direct)[2]
    kept = proxy.connect()
    kept.connect()
    used = kept.sock
    for _ in range(3):
        status, headers, body = proxy("POST", "/forecast", proxy.asked, over=kept, X_Request_ID="mine")
        assert (status, headers["x-request-id"], body) == (200, "mine", expected)
    assert kept.sock is used
    assert "strict-transport-security" in headers
    for path in ("/readyz", "/model", "/openapi.json", "/ui"):
        assert proxy("GET", path)[0] == 200


def test_a_head_that_does_not_come_is_cut_and_reaches_nobody(proxy: Proxy) -> None:
    began = time.monotonic()
    with ssl._create_unverified_context().wrap_socket(socket.create_connection(("127.0.0.1", proxy.port))) as slow:
        slow.settimeout(0.2)
        while time.monotonic() - began < 4 * PATIENCE:
            try:
                slow.sendall(b"GET /livez HTTP/1.1\r\n" if time.monotonic() - began < 0.1 else b"X-A: b\r\n")
                if slow.recv(1000) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert PATIENCE - 0.5 < time.monotonic() - began < PATIENCE + 1.5


def test_a_large_body_passes_and_one_that_is_too_large_is_refused_in_the_same_shape(proxy: Proxy) -> None:
    large = proxy.asked + b" " * (31 * 2**20)
    assert proxy("POST", "/forecast", large)[0] == 200
    status, headers, body = proxy("POST", "/forecast", proxy.asked + b" " * (32 * 2**20))
    direct = http.client.HTTPConnection("127.0.0.1", proxy.behind)
    document = Document(json.loads(proxy("GET", "/openapi.json", over=direct)[2]))
    document.check("post", "/forecast", status, headers, body)
    assert (status, json.loads(body)["code"]) == (413, "too_large")


def test_counters_and_administration_are_for_those_inside(proxy: Proxy) -> None:
    assert [proxy("GET", path)[0] for path in ("/metrics", "/metrics/", "//metrics")] == [404] * 3
    for path in ("/admin/reload", "/admin/mlflow"):  # asked from nginx's own machine; the second from any
        assert json.loads(proxy("POST", path, b"{}")[2])["code"] in ("key", "not_found", "signature")
    assert "location /admin/ {\n      allow 127.0.0.1;\n      deny all;" in CONFIG.read_text()


def test_a_refusal_of_the_server_comes_through_as_it_is(proxy: Proxy) -> None:
    answers = [proxy("POST", "/forecast", proxy.asked, Authorization=f"Bearer {BEN}") for _ in range(2)]
    assert [status for status, *_ in answers] == [200, 429]
    _, headers, body = answers[1]
    assert (json.loads(body)["code"], int(headers["retry-after"]) > 3000) == ("rate", True)
    status, headers, body = proxy("POST", "/forecast", proxy.asked, Authorization="Bearer another")
    assert (status, headers["www-authenticate"], json.loads(body)["code"]) == (401, "Bearer", "key")


def test_last_where_no_server_answers_callers_are_told_to_come_again(proxy: Proxy) -> None:
    proxy.stop()
    status, headers, body = proxy("POST", "/forecast", proxy.asked)
    assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "1", "not_ready")
