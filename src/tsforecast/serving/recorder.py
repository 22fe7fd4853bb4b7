"""The rows that requests brought, as Parquet files to train on later: a file is whole, or it is not there."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
import time
from collections import defaultdict, deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tsforecast.bundle.request import Request
from tsforecast.data.panel import Panel
from tsforecast.errors import ConfigError, OutputError
from tsforecast.files import atomic
from tsforecast.serving.settings import REQUEST_LOG

if TYPE_CHECKING:
    from tsforecast.serving.slot import Live

log = logging.getLogger(__name__)
_SECONDS, _BYTES = 600, 2**26  # what is written at once: a kill loses no more of it
_WAITING = 2**12  # requests that wait, for a second, to be looked at; beyond them the first are left out
_Of = tuple[str, str, tuple[str, ...]]  # model, version, and the columns that tell rows apart
_OURS, _BEGUN = "*/2*T*Z-*-*.parquet", "*/.*T*Z-*-*.parquet"


class Recorder:
    """Keeps the histories of requests, each row once a file: of what overlaps only the new rows are added.

    DIR/load/20261128T031500000000Z-0123456789ab-4711.parquet    when, version, process

    Parameters
    ----------
    folder
        TSFORECAST_REQUEST_LOG.
    most
        TSFORECAST_REQUEST_LOG_MAX, in MiB: of all its files; beyond it the oldest go.

    Raises
    ------
    ConfigError
        It cannot be written to.
    """

    def __init__(self, folder: Path, most: float) -> None:
        self.folder, self.most = folder, int(most * 2**20)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            what = "requests cannot be kept there"
            raise ConfigError(what, where=REQUEST_LOG, got=error, allowed="a folder that may be written to") from None
        self._new: deque[tuple[Live, Panel]] = deque(maxlen=_WAITING)
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._since, self._bytes = time.monotonic(), 0
        self._frames: dict[_Of, list[pd.DataFrame]] = defaultdict(list)
        self._known: dict[_Of, dict[str, tuple[int, int]]] = defaultdict(dict)

    def add(self, live: Live, request: Request) -> None:
        """Remember a request that was answered; what it brought is looked at by `step`."""
        self._new.append((live, request.panel))

    def step(self, now: bool = False) -> None:
        """Look at what has come, in a thread, and write it where enough has, or it is to be now."""
        if not self._lock.acquire(blocking=now):
            return
        try:
            if len(self._new) == _WAITING:
                log.warning("requests come faster than they can be kept: some are left out of %s", self.folder)
            while self._new:
                self._take(*self._new.popleft())
            due = self._bytes > min(_BYTES, self.most / 4) or time.monotonic() - self._since > _SECONDS
            if self._bytes and (now or due):
                self._write()
        except (OSError, OutputError) as error:  # the disk is full, say: forecasts are answered all the same
            log.error("requests could not be kept: %s", error, extra={"where": str(self.folder)})
            self._clear()
        finally:
            self._lock.release()

    def _take(self, live: Live, panel: Panel) -> None:
        """Add the rows of a history that are not known of its series yet."""
        bundle, schema = live.engine.bundle, live.engine.bundle.schema
        name = re.sub(r"[^\w.@-]+", "-", str(live.about["model"])).strip(".") or "bundle"
        key = (name, live.engine.version, (*schema.key, schema.stamp))
        known, begin, context = self._known[key], panel.first.copy(), bundle.context
        stamps = panel.time.asi8.reshape(len(panel), -1)[:, :context]
        for i, series in enumerate(panel.ids.tolist()):
            first, last = int(panel.time.asi8[begin[i]]), int(stamps[i, -1])
            since, until = known.get(series, (first, first - 1))
            if goes_on := since <= first <= until:  # else rows between what is known and these would be lost
                begin[i] = panel.offsets[i] + np.searchsorted(stamps[i], until, side="right")
            known[series] = (since, max(until, last)) if goes_on else (first, last)
        end = panel.offsets[:-1] + context
        if (some := begin < end).any():
            fresh = panel.rows(begin, end).select(some)
            named = {"y": bundle.channels[0]} if len(bundle.channels) == 1 else {}
            frame = fresh.to_frame(id=schema.id or "", time=schema.stamp).rename(columns=named)
            self._frames[key].append(frame if schema.id else frame.drop(columns=""))
            self._bytes += int(frame.memory_usage(index=False).sum())

    def _write(self) -> None:
        """A file of each bundle, put in its place when it is on the disk; then the oldest go that are too many."""
        for (name, version, of_row), frames in self._frames.items():
            table = pd.concat(frames, ignore_index=True).drop_duplicates([*of_row])
            table = table.sort_values([*of_row], kind="stable")
            stem = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{version}-{os.getpid()}"
            with atomic(self.folder / name / f"{stem}.parquet") as part:  # readers of a folder pass over such names
                table.to_parquet(part, index=False)
        self._clear()
        files = sorted(self.folder.glob(_OURS), key=lambda file: file.name, reverse=True)
        sizes = np.cumsum([file.stat().st_size for file in files])
        for file in [*np.array(files, dtype=object)[sizes > self.most], *self.folder.glob(_BEGUN)]:
            if not file.name.startswith(".") or time.time() - file.stat().st_mtime > 2 * _SECONDS:
                file.unlink(missing_ok=True)  # another worker may have been first
