"""The load of the machine while a run is at work, under MLflow's own names."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from tsforecast.errors import ConfigError
from tsforecast.tracking.journal import Journal
from tsforecast.tracking.store import import_mlflow

INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"


def check() -> None:
    """Raise a ConfigError where psutil, which measures, is not installed, or the time between is none."""
    if find_spec("psutil") is None:
        fix = "pip install psutil (and nvidia-ml-py for GPUs), or leave it out"
        raise ConfigError("the load of the machine is measured by psutil", where="tracking.system_metrics", fix=fix)
    given = os.environ.get(INTERVAL, "10")
    if not re.fullmatch(r"\d*\.?\d+", given) or float(given) == 0:  # measured without a pause, it would never end
        raise ConfigError("the load is measured every so many seconds", where=INTERVAL, got=given, allowed="above 0")


@contextmanager
def sampled(journal: Journal) -> Iterator[None]:
    """Inside, processors, memory, disk, network and GPUs are measured, every 10 s and at the end.

    MLflow's environment variable MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL is another number of seconds.
    """
    import_mlflow()
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    load = SystemMetricsMonitor("", tracking_uri="http://")  # it only measures: nothing is sent anywhere
    ended, step = threading.Event(), sum("system" in each for each in journal.events)  # where the run goes on

    def measured() -> dict[str, float]:
        load.collect_metrics()
        found = load.aggregate_metrics()
        for each in load.monitors:
            each.clear_metrics()
        return {f"system/{name}": float(value) for name, value in found.items()}

    def follow() -> None:
        number, over = step, False
        while not over:
            over = ended.wait(load.sampling_interval)
            journal.append("metrics", step=number, values=measured(), system=True)
            number += 1

    measured()  # the first load of a processor is that since it was last asked: none
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
