"""Several bundles by their names: each is loaded when it is first asked for, and given up when others need the room."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from tsforecast.errors import ConfigError, TsforecastError, listed
from tsforecast.serving.batching import Batcher
from tsforecast.serving.bell import Ring
from tsforecast.serving.metrics import Metrics
from tsforecast.serving.refusals import refused
from tsforecast.serving.settings import Settings
from tsforecast.serving.slot import Factory, Live, Slot
from tsforecast.serving.store import asked, check_exact, newest, shelved
from tsforecast.serving.watch import give_back

log = logging.getLogger(__name__)
ALONE = "default"  # the name of the one bundle, where there is one
_AT_ONCE = 4  # bundles that are loaded at the same time: so many may be in memory beyond the bound
_PAUSE = 10.0  # seconds before one that could not be loaded is tried again


class Shelf:
    """What is served: a `Slot` for each name that is in memory.

    The first name is the default, `/forecast`; it is loaded at the start, and stays. The others are loaded in threads,
    each once however many ask for it, and the least recently used are given up beyond `bundles_memory`.

    Parameters
    ----------
    where
        Of the one bundle; None: what TSFORECAST_BUNDLES or TSFORECAST_BUNDLE says.
    answers
        Makes who answers for a bundle.

    Attributes
    ----------
    names
        What each name stands for.
    slots
        Those in memory, the least recently used first.

    Raises
    ------
    TsforecastError
        There is nothing to serve, or it is to be looked for again although it is the same for ever.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, where: str | None = None, answers: Factory = Batcher
    ) -> None:
        self.settings, self.metrics, self.answers = settings, metrics, answers
        self.several = {} if where else shelved()
        self.names: dict[str, str | None] = {**self.several} or {ALONE: where}
        self.default = next(iter(self.names))
        self.slots = metrics.slots = dict[str, Slot]()
        self._loading: dict[str, asyncio.Task[Slot | None]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="bundle")
        for each in self.several.values():  # of those that nobody has asked for yet, too
            check_exact(newest(each))
        self._keep(self.default, self._open(self.default))
        said = where or asked()
        if settings.reload and not self.several and self.slots[self.default].live.exact == said:
            what, allowed = "what is served stands for one bundle for ever", "models:/NAME@ALIAS, NAME:latest"
            fix = "say TSFORECAST_BUNDLE=models:/NAME@ALIAS, or leave TSFORECAST_RELOAD out"
            raise ConfigError(what, where="TSFORECAST_RELOAD", got=said, allowed=allowed, fix=fix)

    def named(self, name: str | None) -> str:
        """The name that is meant; None is the default. A RequestError (404) where there is none."""
        if name is not None and name not in self.names:
            raise refused(404, where="model", got=name[:100], allowed=listed(self.names, 10))
        return self.default if name is None else name

    async def take(self, name: str | None = None) -> Live:
        """The bundle of a name, loaded if it is not in memory, and from now on the one that was used last.

        Raises
        ------
        RequestError
            There is no such name, or its bundle cannot be loaded.
        """
        slot = self.slots.get(name := self.named(name)) or await self._load(name)
        if name in self.slots:
            self.slots[name] = self.slots.pop(name)
        return slot.live

    async def reload(self, name: str | None = None, *, allow: bool = False) -> tuple[bool, Live]:
        """Serve what a name stands for now, and whether that is another bundle; see `Slot.reload`."""
        if slot := self.slots.get(name := self.named(name)):
            swapped = await slot.reload(allow=allow)
            self.shrink()
            return swapped, slot.live
        self._failed.pop(name, None)
        return True, await self.take(name)

    async def poll(self, seconds: float) -> None:
        """Look whether the names in memory stand for other bundles, for ever."""
        while True:
            await asyncio.sleep(seconds)
            await self.heed(Ring((*self.slots,), moved=True))

    async def heed(self, ring: Ring) -> None:
        """Look what those of the names that are in memory stand for now; of the others it is found when they are."""
        for slot in [self.slots[name] for name in ring.names if name in self.slots]:
            with suppress(Exception):  # it is in the log and the metrics, and the next look may find it mended
                await slot.reload(allow=ring.allow, moved=ring.moved)
        self.shrink()

    def of(self, model: str) -> tuple[str, ...]:
        """The names that stand for versions of a registered model."""
        there = re.compile(rf"models:/{re.escape(model)}[@/]")
        return tuple(name for name, where in self.names.items() if there.match(where or asked() or ""))

    def describe(self) -> list[dict[str, Any]]:
        """Every name, and of those in memory which bundle it is; of one from a directory not where that lies."""
        told = []
        for name, where in self.names.items():
            live = self.slots[name].live if name in self.slots else None
            about: dict[str, Any] = {"name": name, "default": name == self.default, "loaded": live is not None}
            about |= {"version": live and live.engine.version, "digest": live and live.engine.bundle.digest}
            told.append({**about, "exact": live.exact if live and live.exact != where else None})
        return told

    async def _load(self, name: str) -> Slot:
        until, reason = self._failed.get(name, (0.0, ""))
        if time.monotonic() >= until:
            if (task := self._loading.get(name)) is None:
                task = self._loading[name] = asyncio.get_running_loop().create_task(self._try(name))
                task.add_done_callback(lambda _: self._loading.pop(name))
            if slot := await asyncio.shield(task):  # whoever leaves does not stop it for the others
                return slot
            until, reason = self._failed[name]
        wait = max(1, math.ceil(until - time.monotonic()))
        raise refused(503, where=f"models/{name}", got=reason, wait=wait)

    async def _try(self, name: str) -> Slot | None:
        try:
            slot = await asyncio.get_running_loop().run_in_executor(self._threads, self._open, name)
        except Exception as error:
            known = isinstance(error, TsforecastError)
            log.error("a bundle cannot be loaded: %s", error, extra={"model": name}, exc_info=not known)
            reason = error.what if isinstance(error, TsforecastError) else type(error).__name__
            self._failed[name] = time.monotonic() + _PAUSE, reason
            self.metrics.loads.labels("failed").inc()
            return None
        self._failed.pop(name, None)
        self._keep(name, slot)
        return slot

    def _open(self, name: str) -> Slot:
        label = name if self.several else ""
        return Slot(self.settings, self.metrics, self.names[name], self.answers, label)

    def _keep(self, name: str, slot: Slot) -> None:
        self.slots[name] = slot
        self.metrics.loads.labels("done").inc()
        self.shrink()

    def shrink(self) -> None:
        """Let the least recently used go, until what stays is within the bound; who has taken one may end with it."""
        held, most = sum(slot.live.size for slot in self.slots.values()), self.settings.bundles_memory * 2**20
        for name in [name for name in self.slots if name != self.default]:
            if held <= most:
                break
            slot = self.slots.pop(name)
            held -= slot.live.size
            log.info("given up, to make room", extra=slot.live.about)
            self._threads.submit(give_back)
