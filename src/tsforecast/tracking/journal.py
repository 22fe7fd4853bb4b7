"""What a run has told, on disk before any store hears of it.

begin     experiment, name, params, tags, parent            {"event": "begin", "at": 1764288000000, "uid": ...}
metrics   values of one step; of an epoch, once             {"event": "metrics", "at": ..., "step": 3, "values": {...}}
file      an artifact, by its path                          data: what was read
model     a bundle, to be kept as an MLflow model           again: it goes on in its folder   end: its status
          and, no event, how far a store has them           {"run": ..., "store": ..., "uploaded": 7}
"""

from __future__ import annotations

import json
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

from tsforecast.errors import OutputError
from tsforecast.files import BusyError, lock

FILE = "tracking.jsonl"


class Journal:
    """The events of one run in their order, a JSON line each, with its time in milliseconds since 1970.

    The file is locked as long as the run is at work, and the lock ends with the process: who gets it may write on, and
    knows that the run is over.

    Attributes
    ----------
    events
        All of them, those of earlier processes too.

    Raises
    ------
    BusyError
        Another process has the lock.
    OutputError
        It cannot be written, or is damaged.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.events, self._uploads = file, list[dict[str, Any]](), dict[str, dict[str, Any]]()
        self._writing = threading.Lock()  # the system's metrics come from a thread of their own
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._stream = file.open("a+b", buffering=0)
        except OSError as error:
            raise OutputError("a run cannot be recorded here", where=file, got=error.strerror) from error
        if lock(self._stream) is False:
            self._stream.close()
            what, fix = "another process is at work on this run", "wait for it, or name another directory"
            raise BusyError(what, where=file, fix=fix)
        self._stream.seek(0)
        lines = self._stream.read()
        whole = lines.rfind(b"\n") + 1  # what follows was cut off when the machine stopped
        self._stream.truncate(whole)
        for number, line in enumerate(lines[:whole].splitlines(), 1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                what, fix = "the journal of this run is damaged", "move the file away: what it holds is lost to a store"
                raise OutputError(what, where=f"{file}, line {number}", got=error, fix=fix) from error
            self._keep(entry)

    def append(self, event: str, at: int | None = None, **facts: Any) -> None:
        """Write one event; `at` is now."""
        self._write({"event": event, "at": at or now(), **facts})

    def uploaded(self, store: str) -> tuple[str, int]:
        """The MLflow run, and the number of events, that a store has; '' and 0 where it has none."""
        entry = self._uploads.get(store, {"run": "", "uploaded": 0})
        return entry["run"], entry["uploaded"]

    def mark(self, store: str, run: str, events: int) -> None:
        """Note how far a store has the run."""
        entry = {"run": run, "store": store, "uploaded": events}
        if entry != self._uploads.get(store):
            self._write(entry)

    def _write(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        with self._writing:
            end = self._stream.seek(0, 2)
            try:
                while line:  # a disk that is nearly full takes a part, and tells at the next
                    line = line[self._stream.write(line) :]
            except OSError as error:
                self._stream.truncate(end)  # a later line is not to be written behind half of this one
                raise OutputError("the run cannot be recorded", where=self.file, got=error.strerror) from error
            self._keep(entry)

    def _keep(self, entry: dict[str, Any]) -> None:
        if "event" in entry:
            self.events.append(entry)
        else:
            self._uploads[entry["store"]] = entry

    @property
    def begun(self) -> dict[str, Any]:
        """The first event."""
        return self.events[0]

    @property
    def ended(self) -> bool:
        """Whether the run said how it ended, and was not begun again."""
        return bool(self.events[-1]["event"] == "end")

    def close(self) -> None:
        """Release the file."""
        self._stream.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def opened(out: Path, facts: dict[str, Any]) -> Journal:
    """The journal of a run in the folder `out`, with its first event, or `again` where this very run was there before.

    A run of other parameters has left its journal under another name.
    """
    journal = Journal(out / FILE)
    if journal.events and _lasting(journal.begun["params"]) == _lasting(facts["params"]):
        journal.append("again")
        return journal
    if journal.events:
        journal.close()
        names = (out / f"tracking-{number}.jsonl" for number in count(1))
        journal.file.rename(next(file for file in names if not file.exists()))
        journal = Journal(out / FILE)
    journal.append("begin", **facts)
    return journal


def journals(place: Path) -> list[Path]:
    """The journals of a run, or of all runs in a folder."""
    return sorted(place.rglob("tracking*.jsonl"))


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _lasting(params: dict[str, str]) -> dict[str, str]:
    """The parameters that a run has for good: it may be told where to go on."""
    return {name: each for name, each in params.items() if not name.startswith(("ckpt_path", "resume", "paths."))}
