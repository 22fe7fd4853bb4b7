"""Ray: tasks on this machine, or on the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tsforecast.errors import ConfigError

_T = TypeVar("_T")


def tasks(call: Callable[..., _T], jobs: Sequence[tuple[object, ...]], at_a_time: int, where: str) -> Iterator[_T]:
    """What a call gives for each job, as it comes; a connection to Ray that was there before stays.

    Parameters
    ----------
    jobs
        The arguments of each call.
    at_a_time
        How many are to run at once, where no cluster is there yet.
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

    if not (there := ray.is_initialized()):
        local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": at_a_time, "include_dashboard": False}
        ray.init(logging_level=logging.WARNING, **local)
    try:
        pending = [ray.remote(num_cpus=1, max_retries=0)(call).remote(*job) for job in jobs]
        while pending:
            done, pending = ray.wait(pending)
            yield ray.get(done[0])
    finally:
        if not there:
            ray.shutdown()
