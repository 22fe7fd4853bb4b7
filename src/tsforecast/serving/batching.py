"""Adaptive batching: requests that wait at the same time are forecast in one call, and nobody waits for company."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tsforecast.bundle.request import Prediction, Request
from tsforecast.serving.engine import Engine

_SHORT = 0.005  # seconds a lone forecast may hold the event loop: handing it to a thread costs other requests more
_TOGETHER = 32  # requests answered at once at most, so that the first of many does not wait for the last


@dataclass(eq=False)
class Job:
    """A request from its body to the bytes of its answer; it is read when its turn comes, and once."""

    read: Callable[[], Request]
    write: Callable[[Request, Prediction], bytes]
    future: asyncio.Future[bytes]
    request: Request | None = None
    outcome: bytes | Exception | None = None

    @property
    def series(self) -> int:
        """How many series it asks for; none where it cannot be read."""
        if self.request is None and self.outcome is None:
            try:
                self.request = self.read()
            except Exception as error:  # told to its caller
                self.outcome = error
        return 0 if self.request is None else len(self.request.panel)

    def conclude(self, request: Request, found: Prediction | Exception) -> None:
        """Write the answer, or keep the error that there is instead."""
        try:
            self.outcome = found if isinstance(found, Exception) else self.write(request, found)
        except Exception as error:
            self.outcome = error

    def settle(self) -> None:
        """Give the caller its answer, unless it has gone."""
        if self.future.done():
            return
        if isinstance(self.outcome, Exception):
            self.future.set_exception(self.outcome)
        else:
            self.future.set_result(self.outcome or b"")


class Batcher:
    """Feeds an engine from one event loop, which it leaves free to take or refuse more.

    A call takes what waits, up to `limit` series. While it runs in its thread, requests gather for the next: the batch
    grows with the load. A request that waits alone and is answered at once is not worth a thread.

    Parameters
    ----------
    observe
        Told the series and the requests of each call.
    """

    def __init__(self, engine: Engine, limit: int, observe: Callable[[int, int], None] = lambda *_: None) -> None:
        self.engine, self.limit, self.observe = engine, limit, observe
        self.waiting: deque[Job] = deque()
        self._work: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forecast")

    async def forecast(self, read: Callable[[], Request], write: Callable[[Request, Prediction], bytes]) -> bytes:
        """The answer to one request, as `write` gives it.

        Raises
        ------
        TsforecastError
            It cannot be read or answered.
        """
        loop = asyncio.get_running_loop()
        job = Job(read, write, loop.create_future())
        self.waiting.append(job)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._answer_all())  # begins once all that has arrived stands in the queue
        return await job.future

    async def _answer_all(self) -> None:
        """Answer what waits: on the loop, where it is short, else in the thread, until nothing waits any more."""
        loop = asyncio.get_running_loop()
        while self.waiting:
            lone = len(self.waiting) == 1 and self.waiting[0].series * self.engine.seconds < _SHORT
            for job in self._answer() if lone else await loop.run_in_executor(self._thread, self._answer):
                job.settle()
            await asyncio.sleep(0)  # whoever came meanwhile takes a place in the queue

    def _answer(self) -> list[Job]:
        """Take jobs from the queue and answer them, in one call of the engine."""
        batch: list[Job] = []
        series = 0
        while self.waiting and len(batch) < _TOGETHER and (not batch or series + self.waiting[0].series <= self.limit):
            series += self.waiting[0].series
            batch.append(self.waiting.popleft())
        asked = [(job, job.request) for job in batch if job.request is not None]
        try:
            found: list[Any] = self.engine.bundle.predictions([request for _, request in asked])
        except Exception as error:  # told to every caller
            found = [error] * len(asked)
        for (job, request), each in zip(asked, found, strict=True):
            job.conclude(request, each)
        if asked:
            self.observe(series, len(asked))
        return batch
