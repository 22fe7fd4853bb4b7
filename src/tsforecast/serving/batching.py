"""Adaptive batching: requests that wait at the same time are forecast in one call, and nobody waits for company."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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
    asked: Request | Exception | None = None

    @property
    def series(self) -> int:
        """How many series it asks for; none where it cannot be read."""
        if self.asked is None:
            try:
                self.asked = self.read()
            except Exception as error:  # told to its caller
                self.asked = error
        return len(self.asked.panel) if isinstance(self.asked, Request) else 0

    def told(self, answer: Prediction | Exception) -> bytes | Exception:
        """What its caller is told."""
        try:
            return self.write(self.asked, answer) if isinstance(answer, Prediction) else answer  # type: ignore[arg-type]
        except Exception as error:
            return error


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
        self.running = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forecast")

    async def forecast(self, read: Callable[[], Request], write: Callable[[Request, Prediction], bytes]) -> bytes:
        """The answer to one request, as `write` gives it.

        Raises
        ------
        TsforecastError
            It cannot be read or answered.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # the one before it ended, perhaps before it was told that its jobs were done
            self._loop, self.running = loop, False
        job = Job(read, write, loop.create_future())
        self.waiting.append(job)
        if not self.running:
            self.running = True
            loop.call_soon(self._next)  # once all that has arrived stands in the queue
        return await job.future

    def _next(self) -> None:
        """Prediction what waits: on the loop, where it is short, else in the thread until nothing waits any more."""
        loop = asyncio.get_running_loop()
        if len(self.waiting) == 1 and self.waiting[0].series * self.engine.seconds < _SHORT:
            _settle(self._answers())
            self._go_on()
        else:
            loop.run_in_executor(self._thread, self._drain, loop).add_done_callback(lambda _: self._go_on())

    def _go_on(self) -> None:
        self.running = bool(self.waiting)
        if self.running:
            asyncio.get_running_loop().call_soon(self._next)

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        while self.waiting:
            loop.call_soon_threadsafe(_settle, self._answers())

    def _answers(self) -> list[tuple[Job, bytes | Exception]]:
        """Take jobs from the queue and answer them, in one call of the engine."""
        batch: list[Job] = []
        series = 0
        while self.waiting and len(batch) < _TOGETHER and (not batch or series + self.waiting[0].series <= self.limit):
            series += self.waiting[0].series
            batch.append(self.waiting.popleft())
        requests = [job.asked for job in batch if isinstance(job.asked, Request)]
        try:
            found = iter(self.engine.bundle.predictions(requests) if requests else ())
            each = [job.asked if isinstance(job.asked, Exception) else next(found) for job in batch]
        except Exception as error:  # told to every caller
            each = [error] * len(batch)
        if requests:
            self.observe(series, len(requests))
        return [(job, job.told(answer)) for job, answer in zip(batch, each, strict=True)]


def _settle(answered: list[tuple[Job, bytes | Exception]]) -> None:
    for job, answer in answered:
        if job.future.done():
            continue  # its caller has gone
        if isinstance(answer, bytes):
            job.future.set_result(answer)
        else:
            job.future.set_exception(answer)
