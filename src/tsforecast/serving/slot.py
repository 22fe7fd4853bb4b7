"""The one place that holds what is served: exchanged as a whole while requests are answered."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tsforecast.errors import BundleError, TsforecastError
from tsforecast.registry import Registry
from tsforecast.serving.batching import Answers, Batcher
from tsforecast.serving.drift import Monitor
from tsforecast.serving.engine import Engine
from tsforecast.serving.metrics import Metrics
from tsforecast.serving.refusals import refused
from tsforecast.serving.settings import Settings
from tsforecast.serving.store import asked, newest, served
from tsforecast.serving.watch import give_back

log = logging.getLogger(__name__)
Factory = Callable[[Engine, Settings, Metrics], Answers]
# Of what `/model` tells: what a caller has built its requests and its reading of the answers on.
_COLUMNS = ("layout", "time", "id", "freq", "timezone", "channels", "past", "known", "static")
_CONTRACT = (*_COLUMNS, "least", "horizon", "levels")


@dataclass(frozen=True, eq=False)
class Live:
    """A bundle that is served, and all that answers for it.

    A request takes it once, and everything it needs from there: so it is answered by one bundle, whatever is served
    next, and what nobody holds any more is gone.

    Attributes
    ----------
    exact
        What it was found by: a path, `models:/load/3`, a whole tag.
    monitor
        Looks on at its requests.
    name
        What it is called among several.
    files
        Their bytes, all together.
    """

    engine: Engine
    answers: Answers
    exact: str
    monitor: Monitor
    name: str = ""
    files: int = 0

    @property
    def size(self) -> int:
        """Bytes of memory that it is counted as: five times its files, of which a ridge of 15 kB was measured to take
        47 kB and an ONNX network of 1 MB 4.6, and what its requests have left behind."""
        return 5 * self.files + self.monitor.held

    def check_ready(self) -> None:
        """Raise a RequestError (503) unless the golden request gave the golden answer."""
        if not self.engine.ready:
            raise refused(503, got="another answer to its golden request")

    @property
    def about(self) -> dict[str, str | None]:
        """Which bundle it is: for the log, and for whoever asked for another."""
        bundle = self.engine.bundle
        about = {"model": self.name or bundle.metadata.get("name"), "version": self.engine.version}
        return {**about, "digest": bundle.digest, "bundle": self.exact}


class Slot:
    """Holds what is served.

    | load, golden request, columns |        the old one answers, and stays if this fails
                                    | assign     from here on new requests take the new one
                                    | . . . drain     the old one ends with the last request that has taken it

    Parameters
    ----------
    where
        What `served` takes; looked up again by every `reload`.
    answers
        Makes who answers for a bundle.
    name
        Among several.

    Raises
    ------
    TsforecastError
        There is nothing to serve.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, where: str | None, answers: Factory = Batcher, name: str = ""
    ) -> None:
        self.settings, self.metrics, self.where, self.answers, self.name = settings, metrics, where, answers, name
        for outcome in ("done", "failed"):
            metrics.swaps.labels(outcome, name)  # there from the start: of one that begins with 1 no increase is seen
        metrics.fallback.labels(name)
        self._one = asyncio.Lock()
        self._assign(self._open())

    async def reload(self, *, allow: bool = False, moved: bool = False) -> bool:
        """Serve what the reference stands for now; one at a time, and what was served stays if anything fails.

        Parameters
        ----------
        allow
            Take a bundle of other columns or sizes, too.
        moved
            Only where the reference stands for another bundle than the last one that was tried.

        Returns
        -------
        bool
            Whether another bundle is served now.

        Raises
        ------
        TsforecastError
            There is none, or it cannot be loaded, gave other answers than are stored in it, or has other columns.
        """
        async with self._one:
            try:
                if moved and self._tried == await asyncio.to_thread(Registry().exact, newest(self.where) or asked()):
                    return False
                live = await asyncio.to_thread(self._open)
                self._check(live, allow or self.settings.allow_schema_change)
            except Exception as error:
                self.metrics.swaps.labels("failed", self.name).inc()
                trace = not isinstance(error, TsforecastError)
                log.error("not taken, the old one is served: %s", error, extra=self.live.about, exc_info=trace)
                raise
            if live.engine.bundle.digest == self.live.engine.bundle.digest:
                return False
            old = weakref.finalize(self.live, log.info, "no request uses it any more", extra=self.live.about)
            old.atexit = False
            self._assign(live)
            self.metrics.swaps.labels("done", self.name).inc()
            asyncio.get_running_loop().run_in_executor(None, give_back)
            return True

    def _open(self) -> Live:
        with tempfile.TemporaryDirectory(prefix="tsforecast-bundle-") as folder:  # of what has to be downloaded
            found = served(self.where, Path(folder))
            self._tried = found.exact
            engine = Engine.open(found.path)
            files = sum(file.stat().st_size for file in found.path.iterdir() if file.is_file())
            answers, monitor = self.answers(engine, self.settings, self.metrics), Monitor(engine.bundle)
        return Live(engine, answers, found.exact, monitor, self.name, files)

    def _check(self, live: Live, allow: bool) -> None:
        if not live.engine.ready:
            what = "the golden request of the bundle did not give its golden answer"
            raise BundleError(what, where=live.exact, got=live.engine.version, fix="see the log; train it again")
        before, after = (each.engine.describe() for each in (self.live, live))
        other = [name for name in _CONTRACT if before[name] != after[name]]
        if other and not allow:
            what = "the bundle has other columns or sizes than the one that is served"
            got, allowed = ([f"{name}={each[name]}" for name in other] for each in (after, before))
            fix = "change the callers, then allow_schema_change=true, or TSFORECAST_ALLOW_SCHEMA_CHANGE=true"
            raise BundleError(what, where=live.exact, got=got, allowed=allowed, fix=fix)

    def _assign(self, live: Live) -> None:
        log.info("serving %s from %s", live.about["model"], live.exact, extra=live.about)
        self.live = live
