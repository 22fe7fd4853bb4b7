"""tsforecast: compose, train, score and serve forecasts; what is served computes exactly what was trained."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsforecast.backtest import backtest
    from tsforecast.bundle.bundle import Bundle
    from tsforecast.data.panel import Panel
    from tsforecast.data.schema import Schema
    from tsforecast.errors import BundleError, ConfigError, DataError, OutputError, TsforecastError
    from tsforecast.leaderboard import leaderboard
    from tsforecast.promote import promote
    from tsforecast.registry import Registry, load_bundle
    from tsforecast.rerun import rerun
    from tsforecast.train import train
    from tsforecast.types import Forecast

__version__ = "0.1.0"
__all__ = ["Bundle", "BundleError", "ConfigError", "DataError", "Forecast", "OutputError", "Panel", "Schema"]
__all__ += ["Registry", "TsforecastError", "backtest", "leaderboard", "load_bundle", "promote", "rerun", "train"]

_HOME = {"Bundle": "bundle.bundle", "Registry": "registry", "load_bundle": "registry"}
_HOME |= {"backtest": "backtest", "train": "train", "Forecast": "types", "Panel": "data.panel", "Schema": "data.schema"}
_HOME |= {"leaderboard": "leaderboard", "promote": "promote", "rerun": "rerun"}
_HOME |= {name: "errors" for name in __all__ if name.endswith("Error")}


def __getattr__(name: str) -> Any:
    # Lazy, so that `--help` and the commands pay only for what they use.
    if name not in _HOME:
        raise AttributeError(f"module 'tsforecast' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tsforecast.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
