"""What Prometheus is told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one app, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        at: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("tsforecast_requests", "Requests answered.", ("path", "status"), **at)
        self.seconds = Histogram(
            "tsforecast_request_seconds", "From first byte to last.", ("path",), buckets=_SECONDS, **at
        )
        self.series = Counter("tsforecast_series", "Series forecast.", **at)
        self.batch = Histogram("tsforecast_batch_requests", "Requests forecast in one call.", buckets=_SIZES, **at)
        swaps = "Times that another bundle was to be served: done, or failed, where the old one stayed."
        self.swaps = Counter("tsforecast_swaps", swaps, ("outcome",), **at)
        for outcome in ("done", "failed"):
            self.swaps.labels(outcome)  # there from the start: of one that begins with 1 no increase is seen
        self.served = ("", "")

    def model(self, description: Mapping[str, Any]) -> None:
        """Which model it is, instead of the one before."""
        self.served = str(description["model"]), str(description["version"])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What this process serves: told as it is now, since what is counted in a file would outlive a reload."""
        info = GaugeMetricFamily("tsforecast_model", "What is served.", labels=("model", "version"))
        info.add_metric(self.served, 1)
        yield info

    def request(self, path: str, status: int, seconds: float) -> None:
        """One request is done."""
        self.requests.labels(path, status).inc()
        self.seconds.labels(path).observe(seconds)

    def forecasts(self, series: int, requests: int) -> None:
        """One call has forecast so many series for so many requests."""
        self.series.inc(series)
        self.batch.observe(requests)

    def text(self) -> tuple[bytes, str]:
        """The text, of all workers where there are several, and its media type."""
        registry = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # BentoML's workers write there
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry) + generate_latest(self), CONTENT_TYPE_LATEST
