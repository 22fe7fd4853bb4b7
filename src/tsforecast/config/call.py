"""A command called as a function: from arguments, and perhaps a frame in memory, to what its command line composes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.config.compose import build, compose
from tsforecast.config.job import limit_threads

if TYPE_CHECKING:
    from tsforecast.data.sources import Source


def called(
    command: str, overrides: Sequence[str], data: Any, dataset: Mapping[str, Any]
) -> tuple[DictConfig, dict[str, str], Source | None, tuple[str, ...]]:
    """The configuration, the option chosen in each group, the source of a frame, and all overrides.

    Parameters
    ----------
    data
        A frame in memory in place of a file.
    dataset
        Keys of `dataset`.
    """
    if data is not None:
        given = any(each.startswith("dataset=") for each in overrides)
        overrides = (*["dataset=wide"] * (not given), "dataset.path=memory", *overrides)
    cfg, chosen = compose(command, overrides)
    for key, value in dataset.items():
        OmegaConf.update(cfg, f"dataset.{key}", value, force_add=True)  # its constructor says which keys there are
    limit_threads(cfg.threads)
    if data is None:
        return cfg, chosen, None, tuple(overrides)
    from tsforecast.data.sources import FrameSource

    return cfg, chosen, FrameSource(data, build(cfg.dataset).schema), tuple(overrides)


def callable_module(name: str, function: Callable[..., Any]) -> None:
    """Make a command's module callable: once it is imported, `tsf.train` is the module, and to call it is to train."""

    class Command(ModuleType):
        __call__ = staticmethod(function)

    sys.modules[name].__class__ = Command
