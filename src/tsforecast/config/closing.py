"""What a sweep ends with: its runs compared."""

from __future__ import annotations

import logging
import os
import shlex
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from tsforecast.config.job import show
from tsforecast.errors import TsforecastError

log = logging.getLogger("tsforecast")


class Leaderboard(Callback):
    """Prints the leaderboard of a sweep of `train` or `backtest`; a search with Optuna ends with its own table."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Hydra calls it once, after the last run."""
        basic = config.hydra.sweeper["_target_"].endswith(".BasicSweeper")
        if not basic or config.hydra.job.config_name not in ("train", "backtest"):
            return
        from tsforecast.leaderboards.board import leaderboard

        folder = config.hydra.sweep.dir
        try:
            board = leaderboard([folder])
        except TsforecastError as error:  # the runs have said themselves what became of them
            log.warning("no leaderboard of this sweep: %s", error)
            return
        place = shlex.quote(os.path.relpath(folder))
        show(f"{board.table()}\n\nAs a page\n  python -m tsforecast.leaderboard runs={place} out={place}")
