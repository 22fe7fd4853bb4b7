"""The two servers, in processes of their own: they answer the same bytes, and start with nothing of training."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import until
from tests.contracts.conftest import Trained, check
from tests.serving.conftest import request
from tests.serving.document import Document

Train = Callable[[str, str, str], Trained]
ADAPTERS = {
    "asgi": ["-m", "uvicorn", "tsforecast.serving.asgi:app", "--port"],
    "bento": ["-m", "bentoml", "serve", "tsforecast.serving.service:Forecaster", "--port"],
}


@contextmanager
def serving(
    adapter: str, bundle: Path, home: Path, trusted: ssl.SSLContext | None = None, *, several: bool = False
) -> Iterator[int]:
    """A real server in a process of its own, of a bundle, or of several that a file names; the port it answers on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        f"TSFORECAST_BUNDLE{'S' if several else ''}": str(bundle),
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "TSFORECAST_ADMIN_KEY": "secret" * 3,
    }
    log = (home / f"{adapter}.log").open("w+")
    process = subprocess.Popen(
        [sys.executable, *ADAPTERS[adapter], str(port)], env=environment, stderr=log, stdout=log, cwd=home
    )

    def ready() -> bool:
        assert process.poll() is None, Path(log.name).read_text()
        return call(port, "/readyz", trusted=trusted)[0] == 200

    try:
        until(ready, 300)
        yield port
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def call(port: int, path: str, body: bytes | None = None, trusted: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    address = f"http{'s' if trusted else ''}://localhost:{port}{path}"
    headers = {"Content-Type": "", "Authorization": "Bearer secretsecretsecret"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, body, headers), timeout=30, context=trusted
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def sent(port: int, head: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """The answer to a request as it is written here, valid or not."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1") + body)
        answer = HTTPResponse(connection)
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.mark.parametrize(("dataset", "model"), [("wide", "nlinear")])
def test_both_servers_give_the_same_bytes_as_their_document_says(
    trained: Train, tmp_path: Path, dataset: str, model: str
) -> None:
    bundle = trained(dataset, "calendar", model).saved(tmp_path / "bundle")
    asked = request(bundle)
    posts = [
        ("/forecast", json.dumps(asked).encode()),
        ("/forecast", b'{"history": []}'),
        ("/forecast", b"{"),
        ("/nope", b""),
        ("/forecast_csv?horizon=3", pd.DataFrame(asked["history"]).to_csv(index=False).encode()),
    ]
    answers, documents = {}, {}
    form = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        + posts[-1][1]
        + b"\r\n--x--\r\n"
    )
    heads = [
        ("GET /livez HTTP/1.1", b"", 200), ("GET /readyz HTTP/1.1", b"", 200), ("GET /model HTTP/1.1", b"", 200),
        ("GET /metrics HTTP/1.1", b"", 200), ("GET /livez HTTP/1.1\r\nno header", b"", 400),
        ("POST /forecast HTTP/1.1\r\nContent-Length: x", b"", 400),
        ("POST /forecast HTTP/1.1\r\nContent-Length: 99999999999", b"", 413),
        ("POST /forecast HTTP/1.1\r\nContent-Length: 2\r\nContent-Type: text/plain", b"{}", 415),
        (f"POST /forecast HTTP/1.1\r\nContent-Length: {len(posts[0][1])}", posts[0][1], 200),
        (f"POST /forecast_csv HTTP/1.1\r\nContent-Length: {len(posts[-1][1])}", posts[-1][1], 200),
        ("POST /forecast_csv HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x"
         f"\r\nContent-Length: {len(form)}", form, 200),
        ("POST /forecast_csv HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x"
         f"\r\nContent-Length: {len(form) - 9}", form[:-9], 400),
    ]  # fmt: skip
    next_one = trained(dataset, "calendar", "ridge").saved(tmp_path / "next")
    served = tmp_path / "served"
    for adapter in ADAPTERS:
        served.unlink(missing_ok=True)
        served.symlink_to(tmp_path / "bundle")
        with serving(adapter, served, tmp_path) as port:
            answers[adapter] = [call(port, path, body) for path, body in posts]
            answers[adapter] += [call(port, path) for path in ("/model", "/ui", "/ui/app.js")]
            documents[adapter] = json.loads(call(port, "/openapi.json")[1])
            for head, body, status in heads:
                method, target = head.split()[:2]
                got, headers, content = sent(port, head, body)
                assert got == status, (head, got, content)
                Document(documents[adapter]).check(method, target.partition("?")[0], got, headers, content)
            assert call(port, "/livez")[0] == 200
            assert b"tsforecast_requests_total" in call(port, "/metrics")[1]
            served.unlink()
            served.symlink_to(tmp_path / "next")
            answers[adapter] += [call(port, "/admin/reload", b""), call(port, *posts[0])]
    assert [status for status, _ in answers["asgi"]] == [200, 422, 400, 404, *[200] * 6]
    assert answers["asgi"] == answers["bento"]
    assert [json.loads(body)["digest"] for _, body in answers["asgi"][-2:]] == [next_one.digest] * 2
    assert documents["asgi"] == documents["bento"]
    check(bundle, asked, answers["asgi"][0][1])


def test_when_bento_has_nothing_to_serve_then_it_says_what_to_run(tmp_path: Path) -> None:
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"}
    environment.pop("TSFORECAST_BUNDLE", None)
    done = subprocess.run(
        [sys.executable, *ADAPTERS["bento"], "0"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode != 0
    assert "python -m tsforecast.publish" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_engine_imports_nothing_of_training() -> None:
    absent = ["torch", "lightning", "hydra", "omegaconf", "mlflow", "matplotlib", "pooch", "bentoml"]
    program = f"import sys, tsforecast.serving.asgi; sys.exit(', '.join(set({absent!r}) & sys.modules.keys()) or None)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
