"""Ray Serve, started once: it answers the bytes of `asgi.py`, loses no request, and takes what there is room for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson
import psutil
import pytest
import ray
from ray import serve

from tests.errors import has, refused
from tests.serving.conftest import Client, few, request
from tests.serving.test_http import BAD
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import BundleError, ConfigError
from tsforecast.serving.asgi import create_app
from tsforecast.serving.engine import Engine
from tsforecast.serving.ray import _DEPLOYED, Behind, _opened, app, check_room

Bundles = Callable[[str], Bundle]
Answer = tuple[int, str, bytes]
KEY = "secret" * 3


class Served:
    """What Ray serves, its bundle by a link that can be moved, and beside it the app that is to answer the same."""

    def __init__(self, port: int, link: Path, others: set[psutil.Process]) -> None:
        self.port, self.link, self.others = port, link, others
        self.beside = asgi()

    def send(self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """An answer of Ray: status, media type and content."""
        body = body if isinstance(body, bytes) else orjson.dumps(body)
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body or None, method=method)
        for name, value in {"Content-Type": "", **(headers or {})}.items():
            asked.add_header(name, value)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read()

    def reload(self, path: Path) -> dict[str, Any]:
        """Serve another bundle from here on."""
        (fresh := self.link.with_name("fresh")).symlink_to(path)
        fresh.replace(self.link)
        status, _, body = self.send("POST", "/admin/reload", headers={"Authorization": f"Bearer {KEY}"})
        assert status == 200, body
        return dict(orjson.loads(body))


def asgi(path: Path | None = None) -> Client:
    client = Client(create_app())
    client.app.state.server.start(path and str(path))
    return client


def forecast(client: Client, asked: Any, path: str = "/forecast") -> bytes:
    return client("POST", path, asked).body


@pytest.fixture(scope="module")
def served(bundles: Bundles, lenient: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    (link := tmp_path_factory.mktemp("ray") / "live").symlink_to(bundles("wide").path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = f"wide={link},long={bundles('long').path},lenient={lenient.path}"
    others = {*psutil.Process().children(recursive=True)}
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TSFORECAST_ADMIN_KEY", KEY)
        patch.setenv("TSFORECAST_MAX_BODY", "1")
        for check in ("READY", "HEALTH"):  # else Ray kills the proxy of a busy machine
            patch.setenv(f"RAY_SERVE_PROXY_{check}_CHECK_TIMEOUT_S", "120")
        try:
            ray.init(num_cpus=2, object_store_memory=80 * 2**20, namespace="serve", **quiet)
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            serve.run(app({"bundles": both}), name="shop")
            patch.setenv("TSFORECAST_BUNDLES", both)
            yield Served(port, link, others)
        finally:
            if ray.is_initialized():
                serve.shutdown()
                ray.shutdown()


def test_every_answer_is_that_of_the_app_to_the_byte(served: Served, bundles: Bundles) -> None:
    short = few()
    cells = short.assign(date=short["date"].astype(str)).to_dict("list")
    asked, csv = request(bundles("wide")), Engine(bundles("wide")).example_csv.encode()
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n' + csv + b"\r\n--x--\r\n"
    parts: dict[str, str] = {"Content-Type": "multipart/form-data; boundary=x"}
    sent: list[tuple[Any, ...]] = [
        ("POST", "/forecast", asked),
        ("POST", "/forecast", {**asked, "horizon": 2, "levels": [90]}),
        ("POST", "/forecast_csv", csv),
        ("POST", "/forecast_csv?horizon=3&levels=80", form, parts),
        ("POST", "/forecast_csv?horizon=99", csv),
        ("POST", "/forecast_csv", b"date,load\n"),
        ("POST", "/forecast?horizon=2", asked),
        ("POST", "/forecast", b" " * 2**20 + b"[]"),
        ("POST", "/forecast", b"{}", {"Content-Type": "text/plain"}),
        ("POST", "/forecast", b"{}", {"Content-Encoding": "gzip"}),
        ("POST", "/admin/reload", b"", {"Authorization": "Bearer another"}),
        *[
            ("GET", path)
            for path in ("/model", "/livez", "/readyz", "/openapi.json", "/ui", "/ui/../x", "/forecast", "/no")
        ],
        ("POST", "/models/long/forecast", request(bundles("long"))),
        ("POST", "/models/long/forecast", asked),
        ("POST", "/models/none/forecast", asked),
        ("POST", "/models/lenient/forecast", {"history": cells, "horizon": 2, "levels": [80]}),
        ("POST", "/models/lenient/forecast", {"history": {name: each[-1:] for name, each in cells.items()}}),
        ("POST", "/models/lenient/forecast_csv", short.to_csv(index=False).encode()),
        ("GET", "/models"),
        *[("POST", "/forecast", make(asked)) for make, *_ in BAD.values()],
    ]
    for each in sent:
        mine = served.beside(*each)
        assert served.send(*each) == (mine.status, mine.headers["content-type"], mine.body), each


def test_a_name_that_has_been_pointed_here_is_refused(served: Served) -> None:
    status, _, body = served.send("GET", "/model", headers={"Host": "evil.example"})
    assert (status, orjson.loads(body)["code"]) == (421, "host")


def test_requests_that_come_together_are_forecast_together_and_each_is_answered_as_if_alone(
    served: Served, bundles: Bundles
) -> None:
    paths = {"/forecast": "wide", "/models/long/forecast": "long"}
    asked = [
        (path, {**request(bundles(name)), "horizon": 1 + i % 6}) for i in range(24) for path, name in paths.items()
    ]

    def told(name: str) -> float:
        lines = served.send("GET", "/metrics")[2].decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    series, calls, sent = told("tsforecast_series_total"), told("tsforecast_batch_requests_count"), 0
    for _ in range(20):  # by chance no request came while another was forecast
        with ThreadPoolExecutor(24) as callers:
            found = list(callers.map(lambda each: served.send("POST", *each), asked))
        assert [body for *_, body in found] == [forecast(served.beside, each, path) for path, each in asked]
        sent += len(asked)
        if (called := told("tsforecast_batch_requests_count") - calls) < sent:
            break
    assert told("tsforecast_series_total") - series == sent
    assert 0 < called < sent


def test_another_bundle_is_taken_while_requests_are_answered_and_each_by_one_of_both(
    served: Served, bundles: Bundles, tmp_path: Path
) -> None:
    first = bundles("wide")
    other = replace(first, metadata={**first.metadata, "name": "other"}).save(tmp_path / "other")
    asked = request(first)
    right = {forecast(asgi(Path(str(each.path))), asked) for each in (first, other)}
    assert len(right) == 2
    until, swaps = time.monotonic() + 3, []

    def call(_: int) -> set[bytes]:
        seen = set()
        while time.monotonic() < until:
            status, _, body = served.send("POST", "/forecast", asked)
            assert status == 200, body
            seen.add(body)
        return seen

    with ThreadPoolExecutor(4) as callers:
        seen = callers.map(call, range(4))
        for path in (other.path, first.path, other.path, first.path):
            swaps.append(served.reload(Path(str(path)))["swapped"])
        answers = set().union(*seen)
    assert swaps == [True] * 4
    assert answers == right


def test_a_replica_that_is_killed_loses_no_request_and_the_next_needs_no_bundle_on_disk(
    served: Served, bundles: Bundles
) -> None:
    away = served.link.rename(served.link.with_name("away"))
    replicas = [
        each for each in psutil.process_iter(["cmdline"]) if "ServeReplica:shop:Model" in str(each.info["cmdline"])
    ]
    mine = [each.pid for each in replicas if os.getpid() in {parent.pid for parent in each.parents()}]
    asked = request(bundles("wide"))
    with ThreadPoolExecutor(8) as callers:
        answers = [callers.submit(served.send, "POST", "/forecast", asked) for _ in range(40)]
        for pid in mine:
            os.kill(pid, signal.SIGKILL)
        assert {each.result() for each in answers} == {(200, "application/json", forecast(served.beside, asked))}
    assert len(mine) == 1
    away.rename(served.link)


def test_what_asks_for_more_processors_than_there_are_is_refused_at_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_DEPLOYED, "graceful_shutdown_timeout_s", 1)  # after which Ray gives up what never started
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="greedy failed"):
        serve.run(app({"bundle": str(served.link), "num_cpus": "64"}), name="greedy", route_prefix="/greedy")
    assert time.monotonic() - began < 30
    said = json.dumps(serve.status().applications["greedy"].deployments["Ingress"].message)
    assert "a replica of Model" in said
    assert "64 CPU" in said
    assert "2 CPU" in said
    assert served.send("GET", "/readyz")[0] == 200


def test_whoever_leaves_is_no_failure_of_the_server(served: Served, bundles: Bundles) -> None:
    body = orjson.dumps(request(bundles("wide")))
    head = f"POST /forecast HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    until, told = time.monotonic() + 30, ""
    while 'status="499"' not in told and time.monotonic() < until:  # some leave after the answer, or before it is asked
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", served.port)) as caller:
                caller.sendall(head + body)
        told = served.send("GET", "/metrics")[2].decode()
    assert 'status="499"' in told
    assert 'status="500"' not in told


def test_a_caller_who_was_gone_before_the_body_was_asked_for_is_told_as_gone() -> None:
    heard: list[Any] = []

    async def hears(scope: Any, receive: Any, send: Any) -> None:
        heard.append(await receive())

    async def gone() -> Any:
        raise ray.exceptions.TaskCancelledError

    asyncio.run(Behind(cast("Any", hears))({"type": "http"}, gone, cast("Any", None)))
    assert heard == [{"type": "http.disconnect"}]


def test_a_replica_takes_no_other_bundle_than_it_was_asked_for(bundles: Bundles) -> None:
    files = {file.name: file.read_bytes() for file in Path(str(bundles("wide").path)).iterdir()}
    digest = str(bundles("wide").digest)
    assert _opened(files, digest).ready
    with refused(BundleError, where="Model", allowed="0" * 12):
        _opened(files, "0" * 64)
    with refused(BundleError, what=has("altered")):
        _opened({**files, "bundle.json": b"{}"}, digest)


def needs(cpus: float, replicas: int = 1, **more: float) -> dict[str, Any]:
    return {"deployment_config": {"num_replicas": replicas}, "required_resources": {"CPU": cpus, **more}}


def test_room_is_needed_on_one_machine_for_each_replica_and_on_all_for_all() -> None:
    nodes: list[dict[str, float]] = [{"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}]
    check_room({"a": needs(4), "b": needs(0.5, 4), "c": needs(0, GPU=1)}, nodes)
    scaled = needs(3, 99) | {"deployment_config": {"num_replicas": None, "autoscaling_config": {"min_replicas": 2}}}
    with refused(ConfigError, where="a replica of a", got="5 CPU", allowed="4 CPU", fix=has("num_cpus")):
        check_room({"a": needs(5)}, nodes)
    with refused(ConfigError, where="a replica of a", got="2 GPU", allowed="1 GPU"):
        check_room({"a": needs(1, GPU=2)}, nodes)
    with refused(ConfigError, where="the deployments together", got="6.5 CPU", allowed="6 CPU"):
        check_room({"a": scaled, "b": needs(0.5)}, nodes)


def test_an_argument_that_there_is_not_is_refused_with_the_nearest() -> None:
    with refused(ConfigError, got="num_cpu", fix=has("num_cpus")):
        app({"num_cpu": 1})


def test_after_the_shutdown_no_process_is_left(served: Served) -> None:
    processes = [each for each in psutil.Process().children(recursive=True) if each not in served.others]
    assert len(processes) > 5
    serve.shutdown()
    ray.shutdown()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive
