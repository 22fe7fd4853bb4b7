"""The load of the machine while a run is at work, under MLflow's own names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from tsforecast.errors import ConfigError
from tsforecast.tracking.client import import_mlflow
from tsforecast.tracking.journal import Journal


def check() -> None:
    """Raise a ConfigError where psutil, which measures, is not installed."""
    if find_spec("psutil") is None:
        fix = "pip install psutil (and nvidia-ml-py for GPUs), or leave it out"
        raise ConfigError("the load of the machine is measured by psutil", where="tracking.system_metrics", fix=fix)


@contextmanager
def sampled(journal: Journal) -> Iterator[None]:
    """Inside, processors, memory, disk, network and GPUs are measured, every 10 s and at the end.

    MLflow's environment variable MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL is another number of seconds.
    """
    import_mlflow()
    from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL as INTERVAL

    monitors, ended = _monitors(), threading.Event()
    step = sum("system" in each for each in journal.events)  # where the run goes on

    def follow() -> None:
        number, over = step, False
        while not over:
            over = ended.wait(INTERVAL.get() or 10)
            values: dict[str, float] = {}
            for each in monitors:
                each.collect_metrics()
                values |= {f"system/{name}": float(value) for name, value in each.aggregate_metrics().items()}
                each.clear_metrics()
            journal.append("metrics", step=number, values=values, system=True)
            number += 1

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    found = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    for kind in (GPUMonitor, ROCMMonitor):
        with suppress(ImportError, RuntimeError):  # there is none of its makers
            found.append(kind())
    for each in found:
        each.collect_metrics()  # the first load of a processor is that since it was last asked: none
        each.clear_metrics()
    return found
