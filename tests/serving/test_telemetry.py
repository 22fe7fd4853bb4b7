"""With OTEL_EXPORTER_OTLP_ENDPOINT a collector is told of requests and counters; without it nothing is imported."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from tests.contracts.test_serving import ADAPTERS, call, serving
from tests.errors import has, refused
from tests.serving.conftest import Client, request
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FROM = {"traceparent": f"00-{TRACE}-{PARENT}-01", "user-agent": "shop/1"}
Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]


class Collector:
    """Takes what is sent over OTLP and HTTP, and decodes it with the published schema."""

    def __init__(self, patience: float = 0.0) -> None:
        self.spans: list[tuple[dict[str, Any], Any]] = []  # of which resource, and the span
        self.metrics: dict[str, Any] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(patience)
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for each in ExportTraceServiceRequest.FromString(body).resource_spans:
                about = values(each.resource.attributes)
                self.spans += [(about, span) for scope in each.scope_spans for span in scope.spans]
        else:
            assert path == "/v1/metrics"
            for each in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics = {metric.name: metric for scope in each.scope_metrics for metric in scope.metrics}

    @property
    def served(self) -> list[Any]:
        return [span for _, span in self.spans if span.kind == span.SPAN_KIND_SERVER]

    def below(self, parent: Any) -> list[Any]:
        found = [span for _, span in self.spans if span.parent_span_id == parent.span_id]
        return sorted(found, key=lambda span: int(span.start_time_unix_nano))


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.address)
    yield found
    found.server.shutdown()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logging.getLogger("tsforecast").addHandler(caplog.handler)
    yield caplog
    logging.getLogger("tsforecast").removeHandler(caplog.handler)


def test_a_forecast_goes_on_with_the_trace_of_its_caller_and_tells_its_parts(
    bundles: Bundles, serve: Serve, collector: Collector, logged: pytest.LogCaptureFixture
) -> None:
    client = serve(bundles("long"))
    assert client("POST", "/forecast", request(bundles("long")), {**FROM, "x-request-id": "mine"}).status == 200
    client.app.state.server.close()
    (span,) = collector.served
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("POST /forecast", TRACE, PARENT)
    told = values(span.attributes)
    expected = {"http.request.method": "POST", "http.route": "/forecast", "url.path": "/forecast", "url.scheme": "http"}
    expected |= {"tsforecast.model": "test", "tsforecast.version": str(bundles("long").digest)[:12]}
    expected |= {"http.response.status_code": 200, "user_agent.original": "shop/1", "network.protocol.version": "1.1"}
    assert {name: told.get(name) for name in expected} == expected
    assert span.status.code == span.status.STATUS_CODE_UNSET
    parts = collector.below(span)
    assert [part.name for part in parts] == ["read", "forecast", "write"]
    assert values(parts[1].attributes) == {"tsforecast.series": 1, "tsforecast.horizon": 6}
    times = [(part.start_time_unix_nano, part.end_time_unix_nano) for part in parts]
    flat = [span.start_time_unix_nano, *(each for pair in times for each in pair), span.end_time_unix_nano]
    assert flat == sorted(flat)
    about = collector.spans[0][0]
    assert (about["service.name"], bool(about["service.instance.id"])) == ("tsforecast", True)
    (line,) = [record for record in logged.records if record.getMessage() == "request"]
    assert (line.__dict__["trace_id"], line.__dict__["request_id"]) == (TRACE, "mine")


def test_the_environment_of_opentelemetry_names_the_service_and_may_take_no_sample(
    bundles: Bundles, serve: Serve, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "load-forecasts")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    client = serve(bundles("wide"))
    for headers in ({}, FROM, {"traceparent": FROM["traceparent"][:-1] + "0"}, {"traceparent": "00-\xff-x"}):
        assert client("POST", "/forecast", request(bundles("wide")), headers).status == 200
    client.app.state.server.close()
    assert [span.trace_id.hex() for span in collector.served] == [TRACE], "only that of which its caller has one"
    assert collector.spans[0][0]["service.name"] == "load-forecasts"


def test_what_is_refused_says_why_and_probes_are_not_told(
    bundles: Bundles, serve: Serve, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(bundles("wide"))
    for path in ("/livez", "/readyz", "/metrics", "/ui", "/ui/app.js"):
        assert client("GET", path).status == 200
    assert client("GET", "/nowhere").status == 404
    assert client("BREW", "/forecast").status == 405
    assert client("POST", "/forecast", {"history": []}).status == 422
    assert client("POST", "/forecast", b"{").status == 400
    monkeypatch.setattr(Bundle, "predictions", lambda *_: 1 / 0)
    assert client("POST", "/forecast", request(bundles("wide"))).status == 500
    client.app.state.server.close()
    told = [(span.name, values(span.attributes), span.status.code) for span in collector.served]
    assert [(name, about["http.response.status_code"], about["tsforecast.code"]) for name, about, _ in told] == [
        ("GET", 404, "not_found"),
        ("_OTHER /forecast", 405, "method"),
        ("POST /forecast", 422, "data"),
        ("POST /forecast", 400, "json"),
        ("POST /forecast", 500, "internal"),
    ]
    assert [about.get("error.type") for _, about, _ in told] == [None] * 4 + ["500"]
    assert [code for *_, code in told] == [0] * 4 + [2], "what the caller has done is no error of the server"


def test_the_counters_are_those_that_metrics_tells(bundles: Bundles, serve: Serve, collector: Collector) -> None:
    client, asked = serve(bundles("long")), request(bundles("long"))
    for body in (asked, asked, b"{"):
        client("POST", "/forecast", body)
    text = client("GET", "/metrics").body.decode()
    client.app.state.server.close()
    wanted, got = {}, {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_created") and sample.labels.get("path") != "/metrics":
                wanted[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    for name, metric in collector.metrics.items():
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            labels = values(point.attributes)
            if labels.get("path") == "/metrics":
                continue
            assert kind == "gauge" or 0 < point.start_time_unix_nano < point.time_unix_nano
            if kind != "histogram":
                suffix = "_total" if kind == "sum" else ""
                got[name + suffix, tuple(sorted(labels.items()))] = point.as_double or point.as_int
                continue
            below = 0
            for bound, count in zip([*point.explicit_bounds, float("inf")], point.bucket_counts, strict=True):
                below, le = below + count, "+Inf" if bound == float("inf") else str(bound)
                got[f"{name}_bucket", tuple(sorted({**labels, "le": le}.items()))] = below
            got[f"{name}_sum", tuple(sorted(labels.items()))] = point.sum
            got[f"{name}_count", tuple(sorted(labels.items()))] = point.count
    assert all(found.pop(("process_resident_memory_bytes", ())) > 2**20 for found in (got, wanted))
    assert got == wanted
    assert got["tsforecast_requests_total", (("model", ""), ("path", "/forecast"), ("status", "200"))] == 2


@pytest.mark.parametrize("away", ["refuses", "never answers"])
def test_a_collector_that_is_away_holds_nobody_up_and_is_told_once(
    bundles: Bundles,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    away: str,
) -> None:
    asked = request(bundles("wide"))
    alone = serve(bundles("wide"))
    expected = alone("POST", "/forecast", asked).body
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if away == "never answers":
            port.listen(100)  # and takes what is sent to it
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        for name, value in {"BSP_SCHEDULE_DELAY": 20, "METRIC_EXPORT_INTERVAL": 50, "BSP_MAX_QUEUE_SIZE": 600}.items():
            monkeypatch.setenv(f"OTEL_{name}", str(value))
        for handler in logging.getLogger("opentelemetry").handlers[:]:  # of another test
            logging.getLogger("opentelemetry").removeHandler(handler)
        client, text = serve(bundles("wide")), io.StringIO()
        (handler,) = logging.getLogger("opentelemetry").handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(text)
        seconds: dict[Client, list[float]] = {alone: [], client: []}

        async def ask() -> None:
            for _ in range(200):  # 800 spans: more than wait in the queue
                for each, times in seconds.items():
                    began = time.perf_counter()
                    assert (await each.send("POST", "/forecast", asked)).body == expected
                    times.append(time.perf_counter() - began)

        asyncio.run(ask())
        began = time.monotonic()
        client.app.state.server.close()
        assert time.monotonic() - began < 2.5
    assert statistics.median(seconds[client]) < 2 * statistics.median(seconds[alone]) + 0.002
    (line,) = text.getvalue().splitlines()
    assert json.loads(line)["level"] in ("WARNING", "ERROR")


def test_without_the_variable_nothing_of_it_is_imported(bundles: Bundles) -> None:
    program = f"""
import sys
from tsforecast.serving.asgi import app
app.state.server.start({str(bundles("wide").path)!r})
heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "tsforecast.serving.telemetry")
print([name for name in sys.modules if name.startswith(heavy)])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_counters_that_cannot_be_told_once_are_told_the_next_time(
    bundles: Bundles,
    serve: Serve,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = serve(bundles("wide")).app.state.server
    logging.getLogger("opentelemetry").addHandler(caplog.handler)
    with monkeypatch.context() as broken:
        broken.setattr(server.metrics, "collect", lambda: 1 / 0)
        server.telemetry.reader.collect()
    logging.getLogger("opentelemetry").removeHandler(caplog.handler)
    assert collector.metrics == {}
    assert [record.getMessage() for record in caplog.records][-1] == "the counters were not sent"
    server.close()
    assert "tsforecast_model" in collector.metrics


@pytest.mark.parametrize("asked", ["1 min", "0", "nan"])
def test_an_interval_that_is_no_time_is_refused_at_the_start(
    bundles: Bundles, serve: Serve, collector: Collector, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", asked)
    with refused(ConfigError, where="OTEL_METRIC_EXPORT_INTERVAL", got=asked, allowed="milliseconds"):
        serve(bundles("wide"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("ENDPOINT", "localhost:4318"), ("ENDPOINT", "grpc://ada:secret@there"), ("PROTOCOL", "grpc")],
)
def test_what_is_no_collector_over_http_is_refused_at_the_start(
    bundles: Bundles, serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    with refused(ConfigError, where="OTEL_EXPORTER_OTLP_ENDPOINT", allowed=has("http://HOST:4318")) as told:
        serve(bundles("wide"))
    assert "secret" not in str(told.value)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_server_tells_each_request_once_and_stops_in_time(
    bundles: Bundles, collector: Collector, adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")  # which would tell of them, too
    body = json.dumps(request(bundles("wide"))).encode()
    with serving(adapter, bundles("wide").path, tmp_path) as port:
        for _ in range(3):
            assert call(port, "/forecast", body)[0] == 200
        began = time.monotonic()
    assert time.monotonic() - began < 8
    assert [span.name for span in collector.served] == ["POST /forecast"] * 3
    assert len(collector.spans) == 3 * 4
    assert "tsforecast_requests" in collector.metrics
