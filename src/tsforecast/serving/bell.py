"""What one worker of a server was told and all of them are to do: a file that each reads on."""

from __future__ import annotations

import os
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
        named = self.folder and Path(self.folder, "rings")
        self._file = named.open("a+b", 0) if named else tempfile.TemporaryFile("a+b", 0)  # noqa: SIM115 (for ever)
        self._heard = self._file.seek(0, os.SEEK_END)

    def ring(self, what: Ring) -> None:
        """Tell all; a line is written as a whole, whoever else writes."""
        self._file.write(orjson.dumps(asdict(what)) + b"\n")

    def arrive(self) -> None:
        """Say that this worker of its parent serves."""
        if self.folder:
            Path(self.folder, f"serving-{os.getppid()}-{os.getpid()}").touch()

    def leave(self) -> bool:
        """Say that it does no more: whether it was the last one."""
        if not self.folder:
            return False
        Path(self.folder, f"serving-{os.getppid()}-{os.getpid()}").unlink(missing_ok=True)
        others = Path(self.folder).glob(f"serving-{os.getppid()}-*")
        return not any(_is_there(int(each.name.rpartition("-")[2])) for each in others)

    def rings(self) -> list[Ring]:
        """What this process has not heard yet."""
        text = os.pread(self._file.fileno(), 2**16, self._heard)
        whole = text[: text.rfind(b"\n") + 1]
        self._heard += len(whole)
        return [ring for line in whole.splitlines() if (ring := Ring(**orjson.loads(line))).done != os.getpid()]


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
