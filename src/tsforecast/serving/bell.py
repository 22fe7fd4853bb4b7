"""What one worker of a server was told and all of them are to do: a file that each reads on."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson


@dataclass(frozen=True)
class Ring:
    """Look what these names stand for now.

    Parameters
    ----------
    allow, moved
        See `Slot.reload`.
    done
        The process that has looked already.
    """

    names: Sequence[str]
    allow: bool = False
    moved: bool = False
    done: int = 0


@dataclass
class Bell:
    """Rings in all processes that share a folder, and in this one where there is none.

    Parameters
    ----------
    folder
        Where their counters are, too. None: there is one process.
    """

    folder: str | None = field(default_factory=lambda: os.environ.get("PROMETHEUS_MULTIPROC_DIR"))

    def __post_init__(self) -> None:
        flags, place = os.O_RDWR | os.O_APPEND | os.O_CREAT, Path(self.folder or tempfile.mkdtemp(), "rings")
        self._file = os.open(place, flags, 0o600)
        self._heard = os.lseek(self._file, 0, os.SEEK_END)
        if not self.folder:
            shutil.rmtree(place.parent)  # open still, and nobody else's

    def ring(self, what: Ring) -> None:
        """Tell all; a line is written as a whole, whoever else writes."""
        os.write(self._file, orjson.dumps(asdict(what)) + b"\n")

    def rings(self) -> list[Ring]:
        """What this process has not heard yet."""
        text = os.pread(self._file, 2**16, self._heard)
        whole = text[: text.rfind(b"\n") + 1]
        self._heard += len(whole)
        return [ring for line in whole.splitlines() if (ring := Ring(**orjson.loads(line))).done != os.getpid()]
