"""A command called as a function: from arguments, and perhaps a frame in memory, to the job its command line has."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import OmegaConf

from tsforecast.config.compose import build, compose
from tsforecast.config.job import Job, limit_threads
from tsforecast.config.recorded import asked, going_on


def called(
    command: str,
    overrides: Sequence[str],
    data: Any,
    dataset: Mapping[str, Any],
    out: str | os.PathLike[str] | None = None,
) -> Job:
    """What is to be run.

    Parameters
    ----------
    data
        A frame in memory in place of a file.
    dataset
        Keys of `dataset`.
    out
        The directory of the run.
    """
    place = None if out is None else Path(out)
    if command == "train" and (run := asked(overrides, *dataset, *["out"] * (place is not None))):
        job = going_on(run)
    else:
        if data is not None:
            given = any(each.startswith("dataset=") for each in overrides)
            overrides = (*["dataset=wide"] * (not given), "dataset.path=memory", *overrides)
        job = Job(*compose(command, overrides), overrides, place)
    for key, value in dataset.items():
        OmegaConf.update(job.cfg, f"dataset.{key}", value, force_add=True)  # its constructor says which keys there are
    limit_threads(job.cfg.threads)
    if data is None:
        return job
    from tsforecast.data.sources import FrameSource

    return replace(job, source=FrameSource(data, build(job.cfg.dataset).schema))


def callable_module(name: str, function: Callable[..., Any]) -> None:
    """Make a command's module callable: once it is imported, `tsf.train` is the module, and to call it is to train."""

    class Command(ModuleType):
        __call__ = staticmethod(function)

    sys.modules[name].__class__ = Command
