"""What Prometheus is told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

from tsforecast.serving.drift import VERDICTS

if TYPE_CHECKING:
    from tsforecast.serving.slot import Slot

_SHARED = "PROMETHEUS_MULTIPROC_DIR"  # a folder of all workers of a server
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_OF_COLUMNS = {
    "psi": "Population stability index of the last rows of a column.",
    "outside": "Share of the last rows of a column outside the range of training.",
    "missing": "Share of the last rows of a column that are missing.",
}


class Metrics:
    """Counters of one app, in a registry of their own.

    Attributes
    ----------
    slots
        The bundles in memory; its `Shelf` says which.
    """

    def __init__(self) -> None:
        if folder := os.environ.get(_SHARED):
            Path(folder).mkdir(parents=True, exist_ok=True)
        self.registry = CollectorRegistry()
        at: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("tsforecast_requests", "Requests answered.", ("path", "status", "model"), **at)
        self.seconds = Histogram(
            "tsforecast_request_seconds",
            "From the head of a request to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            **at,
        )
        self.series = Counter("tsforecast_series", "Series forecast.", **at)
        what = "Series forecast by seasonal naive, too short for the model or unknown to it."
        self.fallback = Counter("tsforecast_fallback_series", what, ("model",), **at)
        self.batch = Histogram("tsforecast_batch_requests", "Requests forecast in one call.", buckets=_SIZES, **at)
        swaps = "Times that another bundle was to be served: done, or failed, where the old one stayed."
        self.swaps = Counter("tsforecast_swaps", swaps, ("outcome", "model"), **at)
        self.loads = Counter("tsforecast_loads", "Bundles loaded when asked for: done, or failed.", ("outcome",), **at)
        self.slots: Mapping[str, Slot] = {}
        self._process = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        """What this process serves and takes, told as it is now: what is counted in a file would outlive a reload."""
        info = GaugeMetricFamily("tsforecast_model", "What is served.", labels=("model", "version"))
        served = [slot.live for slot in [*self.slots.values()]]
        for live in served:
            info.add_metric((str(live.about["model"]), str(live.about["version"])), 1)
        yield info
        held = sum(live.size for live in served)
        yield GaugeMetricFamily("tsforecast_bundles_bytes", "What the bundles in memory are counted as.", held)
        yield from (each for each in self._process.collect() if each.name == "process_resident_memory_bytes")
        yield from _drift({live.name: live.monitor.report() for live in served})

    def request(self, path: str, status: int, seconds: float, model: str = "") -> None:
        """One request is done; of one bundle of several, by its name."""
        self.requests.labels(path, status, model).inc()
        self.seconds.labels(path).observe(seconds)

    def forecasts(self, series: int, requests: int) -> None:
        """One call has forecast so many series for so many requests."""
        self.series.inc(series)
        self.batch.observe(requests)

    def text(self) -> tuple[bytes, str]:
        """The text, of all workers where there are several, and its media type."""
        registry = self.registry
        if _SHARED in os.environ:  # BentoML's workers write there
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry) + generate_latest(self), CONTENT_TYPE_LATEST


def _drift(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[GaugeMetricFamily]:
    """What `GET /drift` of this process says of each bundle in memory; nothing of what is not known."""
    verdict = GaugeMetricFamily("tsforecast_drift", "Verdict: 0 ok, 1 watch, 2 act.", labels=("model",))
    what = "MASE of the last forecasts whose actuals were posted."
    mase = GaugeMetricFamily("tsforecast_live_mase", what, labels=("model",))
    columns = {
        name: GaugeMetricFamily(f"tsforecast_drift_{name}", what, labels=("model", "column"))
        for name, what in _OF_COLUMNS.items()
    }
    for model, report in reports.items():
        verdict.add_metric((model,), VERDICTS.index(report["verdict"]))
        if (got := report["errors"]["mase"]["got"]) is not None:
            mase.add_metric((model,), got)
        for column, each in report["columns"].items():
            for name, gauge in columns.items():
                if each[name]["got"] is not None:
                    gauge.add_metric((model, column), each[name]["got"])
    yield from (each for each in (verdict, mase, *columns.values()) if each.samples)
