"""What a process of its own publishes: it imports this module, and none of what the tests of the store need."""

from __future__ import annotations

import os
import signal
from itertools import count
from pathlib import Path

from tsforecast.serving.store import BentoStore


def publish(bundle: Path, name: str, killed_at: int = 0) -> str:
    """Publish in a process of its own; one that is killed at its first, second, ... move of a file or directory."""
    moves, put = count(1), Path.replace

    def move(path: Path, target: Path) -> Path:
        if next(moves) == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return put(path, target)

    Path.replace = move  # type: ignore[assignment, method-assign]
    return BentoStore().publish(bundle, name)
