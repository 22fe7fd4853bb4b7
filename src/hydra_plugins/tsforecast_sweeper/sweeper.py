"""The sweepers behind `-m`. Hydra imports this on every start: it imports nothing heavy itself."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.plugins.sweeper import Sweeper


class TuningSweeper(Sweeper):
    """Searches the space of `hydra.sweeper.params` and of the command line with Optuna."""

    def __init__(self, **settings: Any) -> None:
        self.config: Any = None

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep the configuration; a trial looks at no test row, so the command's own task is not called."""
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the trials that are missing, then the best configuration once more in full."""
        from tsforecast.config.job import limit_threads

        limit_threads(self.config.threads)  # before numpy is imported
        from tsforecast.tuning.sweep import sweep

        return sweep(self.config, arguments)


class ComparedSweeper(BasicSweeper):  # type: ignore[misc]
    """Runs every combination as Hydra does; the runs are tracked as parts of one, and compared at the end."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run all of them."""
        from tsforecast.config.closing import swept

        with swept(self.config, arguments):
            return super().sweep(arguments)
