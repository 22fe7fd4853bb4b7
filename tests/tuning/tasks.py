"""What trials of the tests do in place of a fit."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any


def parabola(cfg: Any, chosen: Any, listener: Any) -> dict[str, float]:
    """Lowest at a lookback of 50."""
    return {"val/mae": (cfg.lookback - 50) ** 2 / 1000, "time/fit_seconds": float(cfg.lookback)}


def killed(cfg: Any, chosen: Any, listener: Any) -> dict[str, float]:
    """The first time, its process is killed at trial 7."""
    if listener.trial.number == 7 and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return parabola(cfg, chosen, listener)


def reporting(cfg: Any, chosen: Any, listener: Any) -> dict[str, float]:
    """Three epochs, of which every one is as good as the end."""
    for epoch in range(3):
        listener.epoch({"epoch": epoch, "val/loss": parabola(cfg, chosen, listener)["val/mae"]})
    return parabola(cfg, chosen, listener)


def failing(cfg: Any, chosen: Any, listener: Any) -> dict[str, float]:
    """Always."""
    raise RuntimeError(f"no luck with {cfg.lookback}")


def breaking(cfg: Any, chosen: Any, listener: Any) -> dict[str, float]:
    """Takes the storage away."""
    with closing(sqlite3.connect("sweep/study.db")) as database:
        database.execute("drop table trial_values")
        database.commit()
    return parabola(cfg, chosen, listener)


def odd(cfg: Any, chosen: Any, listener: Any) -> dict[str, float]:
    """Now and then."""
    return failing(cfg, chosen, listener) if listener.trial.number % 2 else parabola(cfg, chosen, listener)


def together(cfg: Any, chosen: Any, listener: Any) -> dict[str, float]:
    """Waits until two processes are at work; every fourth trial takes longer than the others."""
    Path(f"worker-{os.getpid()}").touch()
    while len(list(Path().glob("worker-*"))) < 2:
        time.sleep(0.05)
    time.sleep(0.3 if listener.trial.number % 4 == 0 else 0.05)
    return {**parabola(cfg, chosen, listener), "pid": float(os.getpid())}
