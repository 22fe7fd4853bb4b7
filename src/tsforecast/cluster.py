"""Ray: tasks on this machine, or on the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tsforecast.errors import ConfigError


@contextmanager
def cluster(tasks: int, where: str) -> Iterator[Any]:
    """The `ray` module, connected; one that was connected before stays so.

    Parameters
    ----------
    tasks
        How many are to run at a time, where no cluster is there yet.
    where
        The key that asked for it, in messages.

    Raises
    ------
    ConfigError
        Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        fix = f"pip install 'tsforecast[ray]', or {where}=processes"
        raise ConfigError("Ray is not installed", where=where, got="ray", fix=fix)
    import ray

    there = ray.is_initialized()
    if not there:
        local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": tasks, "include_dashboard": False}
        ray.init(logging_level=logging.WARNING, **local)
    try:
        yield ray
    finally:
        if not there:
            ray.shutdown()
