"""OpenTelemetry: spans and counters go to a collector; imported only where OTEL_EXPORTER_OTLP_ENDPOINT is set."""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from collections import defaultdict
from itertools import pairwise
from threading import Thread
from typing import Any, cast

from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import tsforecast
from tsforecast.bundle.request import Prediction, Request
from tsforecast.errors import ConfigError
from tsforecast.serving.batching import Read, Write
from tsforecast.serving.logs import log_as_json
from tsforecast.serving.metrics import Metrics
from tsforecast.serving.routes import Place
from tsforecast.serving.settings import OTLP

_LEAVE = 2.0  # seconds that a server which stops waits for the collector
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")  # any other word is one of a caller's


class Telemetry:
    """Tells a collector of requests, by a thread of its own: what cannot be sent is dropped, nobody waits for it.

    The SDK reads the rest of its environment: `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, headers, intervals.

    Raises
    ------
    ConfigError
        The collector is not one that is spoken to over HTTP.
    """

    def __init__(self, metrics: Metrics) -> None:
        where, protocol = os.environ[OTLP], os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        if not where.startswith(("http://", "https://")) or protocol != "http/protobuf":
            what, got = "this is no collector that takes OTLP over HTTP", [where.rpartition("@")[2], protocol]
            raise ConfigError(what, where=OTLP, got=got, allowed="http://HOST:4318, http/protobuf")
        log_as_json("opentelemetry", _Seldom())
        own = {"service.name": "tsforecast", "service.version": tsforecast.__version__}
        own["service.instance.id"] = str(uuid.uuid4())  # several workers are several instances
        resource = Resource.create(own).merge(OTELResourceDetector().detect())  # what the environment says wins
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.tracer = self.provider.get_tracer("tsforecast", tsforecast.__version__)
        self.reader = _Counted(metrics, resource)

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request by `app`, inside a span that goes on with the caller's trace."""
        place: Place = scope["place"]
        if place.route.key == "never" or place.path == "/metrics":  # machines ask all day; or files of a page
            await app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        carrier = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
        attributes = {
            "http.request.method": method,
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
            "user_agent.original": carrier.get("user-agent", ""),
            "client.address": client[0],
            "server.address": server[0],
            "server.port": server[1] or 0,
        }
        parent = propagate.extract(carrier, context.Context())  # not what a server around this one has begun
        route = ("/models/{name}" if place.prefix else "") + (place.path or "")
        attributes |= {"http.route": route} if route else {}
        span = self.tracer.start_span(f"{method} {route}".strip(), parent, trace.SpanKind.SERVER, attributes)
        scope["trace_id"] = trace.format_trace_id(span.get_span_context().trace_id)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                _tell(span, scope, message["status"])
            await send(message)

        with trace.use_span(span, end_on_exit=True, record_exception=False):
            await app(scope, receive, told)

    def parts(self, read: Read, write: Write) -> tuple[Read, Write]:
        """The two ends of a forecast, called in any thread, as spans, and as another what comes between them."""
        parent, between = context.get_current(), 0
        if not trace.get_current_span().is_recording():  # it is not of the sample
            return read, write

        def reading() -> Request:
            nonlocal between
            with self.tracer.start_as_current_span("read", parent, record_exception=False):
                asked = read()
            between = time.time_ns()
            return asked

        def writing(asked: Request, found: Prediction) -> bytes:
            attributes = {"tsforecast.series": len(asked.panel), "tsforecast.horizon": asked.horizon}
            self.tracer.start_span("forecast", parent, attributes=attributes, start_time=between).end()
            with self.tracer.start_as_current_span("write", parent):
                return write(asked, found)

        return reading, writing

    def close(self) -> None:
        """Send what is left, as far as the collector takes it at once."""
        last = [Thread(target=each.shutdown, daemon=True) for each in (self.provider, self.reader)]
        until = time.monotonic() + _LEAVE
        for thread in last:
            thread.start()
        for thread in last:
            thread.join(max(0.0, until - time.monotonic()))


def _tell(span: trace.Span, scope: Scope, status: int) -> None:
    """What is known once there is an answer."""
    span.set_attribute("http.response.status_code", status)
    if live := scope.get("live"):
        span.set_attributes({f"tsforecast.{name}": live.about[name] or "" for name in ("model", "version")})
    if refused := scope.get("refused"):
        span.set_attribute("tsforecast.code", refused.code)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(trace.StatusCode.ERROR)


class _Counted(export.PeriodicExportingMetricReader):
    """What `/metrics` tells of this process, under the same names: there is one set of counters."""

    def __init__(self, metrics: Metrics, resource: Resource) -> None:
        self.metrics, self.resource, self.began = metrics, resource, time.time_ns()
        if not re.fullmatch(r"\d*[1-9]\d*", asked := os.environ.get(_INTERVAL, "60000")):
            raise ConfigError("this is no time", where=_INTERVAL, got=asked, allowed="milliseconds")
        super().__init__(OTLPMetricExporter(), float(asked))
        self._set_collect_callback(self._counters)

    def _counters(self, *_: Any, **__: Any) -> Any:
        """All, as they are; what goes wrong is told, and the next time may be better."""
        try:
            families = [*self.metrics.registry.collect(), *self.metrics.collect()]
            told = [export.Metric(each.name, each.documentation, each.unit, self._data(each)) for each in families]
            scope = export.ScopeMetrics(InstrumentationScope("tsforecast", tsforecast.__version__), told, "")
            return export.MetricsData([export.ResourceMetrics(self.resource, [scope], "")])
        except Exception:
            logging.getLogger("opentelemetry").exception("the counters were not sent")
            return None

    def _data(self, family: Metric) -> Any:
        now, total = time.time_ns(), export.AggregationTemporality.CUMULATIVE
        samples = [each for each in family.samples if not each.name.endswith("_created")]
        if family.type != "histogram":
            points = [export.NumberDataPoint(each.labels, self.began, now, each.value) for each in samples]
            return export.Sum(points, total, True) if family.type == "counter" else export.Gauge(points)
        found: dict[tuple[tuple[str, str], ...], dict[str, float]] = defaultdict(
            dict
        )  # by labels: by bound, and the sum
        for each in samples:
            own = tuple(item for item in each.labels.items() if item[0] != "le")
            found[own][each.labels.get("le", each.name.removeprefix(family.name))] = each.value
        return export.Histogram([self._point(dict(own), values, now) for own, values in found.items()], total)

    def _point(self, own: dict[str, str], values: dict[str, float], now: int) -> export.HistogramDataPoint:
        """Prometheus counts what lies below each bound, OpenTelemetry what lies between two."""
        below = {float(bound): int(count) for bound, count in values.items() if not bound.startswith("_")}
        counts, unknown = [0, *below.values()], cast(float, None)  # smallest and largest
        each, bounds = [after - before for before, after in pairwise(counts)], [*below][:-1]
        ends = (self.began, now, counts[-1], values["_sum"])
        return export.HistogramDataPoint(own, *ends, each, bounds, unknown, unknown)


class _Seldom(logging.Filter):
    """One line a minute at most, with the number of those left out: a collector that is away is no news."""

    last, left_out = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written."""
        if record.created - self.last < 60:
            self.left_out += 1
            return False
        record.left_out = self.left_out
        self.last, self.left_out = record.created, 0
        return True
