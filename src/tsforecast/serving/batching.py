"""Adaptive batching: requests that wait at the same time are forecast in one call, and nobody waits for company."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol, TypeAlias, TypeVar

from tsforecast.bundle.request import Prediction, Request
from tsforecast.serving.engine import Engine
from tsforecast.serving.metrics import Metrics
from tsforecast.serving.settings import Settings

_T = TypeVar("_T")
Read: TypeAlias = Callable[[], Request]
Write: TypeAlias = Callable[[Request, Prediction], bytes]
_QUICK = 0.001  # seconds of a model that is asked on the event loop: handing it to a thread costs other requests more
_SLICE = 0.004  # seconds of work on the event loop after which it looks who else has come
_TOGETHER = 32  # requests answered at once at most, so that the first of many does not wait for the last


class Answers(Protocol):
    """Who answers the requests to one bundle: `Batcher` in this process, or another elsewhere.

    Attributes
    ----------
    waiting
        Requests that nobody has begun to answer.
    wait
        Seconds after which one more would be begun with, as fast as it went lately.
    """

    @property
    def waiting(self) -> int: ...

    @property
    def wait(self) -> float: ...

    async def forecast(self, read: Read, write: Write, *, large: bool = False) -> bytes:
        """The answer to one request, as `write` gives it.

        Parameters
        ----------
        large
            Whether to read it takes long.

        Raises
        ------
        TsforecastError
            It cannot be read or answered.
        """
        ...


def _tried(call: Callable[[], _T]) -> _T | Exception:
    """What a call gives, or the error that its caller is to be told."""
    try:
        return call()
    except Exception as error:
        return error


@dataclass(eq=False)
class Job:
    """A request from its body to the bytes of its answer; it is read when its turn comes, and once."""

    read: Read
    write: Write
    future: asyncio.Future[bytes]
    large: bool = False

    @cached_property
    def request(self) -> Request | Exception:
        """What is asked, or why it cannot be read."""
        return _tried(self.read)

    @property
    def series(self) -> int:
        """How many series it asks for; none where it cannot be read."""
        return len(self.request.panel) if isinstance(self.request, Request) else 0


class Batcher:
    """Feeds an engine from one event loop, which it leaves free to take or refuse more.

    A call takes what waits, up to a number of requests and series. What comes meanwhile gathers for the next: the batch
    grows with the load. All of it is done on the event loop, in slices, as long as it is quick: a thread would fight
    with the loop for the interpreter. A slow model is asked in a thread, and a large body read in another before it
    takes its place.
    """

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self.engine, self.limit, self.observe = engine, settings.batch, metrics.forecasts
        self._queue: deque[Job] = deque()
        self._work: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forecast")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")  # one, as it is memory that parsing takes
        self._reading = 0
        self._series = engine.seconds  # seconds of a series in a call, lately
        self._call = self._request = 0.0  # seconds of a batch, and of a request in it, lately

    @property
    def waiting(self) -> int:
        """Requests that nobody has begun to answer."""
        return len(self._queue) + self._reading

    @property
    def wait(self) -> float:
        """Seconds, beyond those of one batch, after which one more would be begun with."""
        return max(0.0, len(self._queue) * self._request - self._call)

    async def forecast(self, read: Read, write: Write, *, large: bool = False) -> bytes:
        """The answer to one request; see `Answers`."""
        loop = asyncio.get_running_loop()
        job = Job(read, write, loop.create_future(), large)
        if large:
            self._reading += 1
            try:
                await loop.run_in_executor(self._reader, partial(getattr, job, "request"))
            finally:
                self._reading -= 1
        self._queue.append(job)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._answer_all())  # begins once all that has arrived stands in the queue
        return await job.future

    async def _answer_all(self) -> None:
        """Answer what waits, batch by batch, until nothing waits any more."""
        loop = asyncio.get_running_loop()
        while self._queue:
            began = time.perf_counter()
            batch = await self._gather()
            series = sum(job.series for job in batch)
            quick = self.engine.seconds < _QUICK and series * self._series < _SLICE and not batch[0].large
            answers = self._answer(batch) if quick else await loop.run_in_executor(self._thread, self._answer, batch)
            for job, answer in zip(batch, answers, strict=True):
                if job.future.done():
                    continue  # its caller has gone
                if isinstance(answer, Exception):
                    job.future.set_exception(answer)
                else:
                    job.future.set_result(answer)
            took = time.perf_counter() - began
            self._call, self._request = _lately(self._call, took), _lately(self._request, took / len(batch))
            await asyncio.sleep(0)  # whoever came meanwhile takes a place in the queue

    async def _gather(self) -> list[Job]:
        """Take requests that wait, and read them; a large one stands alone."""
        batch, series, began = list[Job](), 0, time.perf_counter()
        while self._queue and len(batch) < _TOGETHER and not (batch and (batch[0].large or self._queue[0].large)):
            job = self._queue[0]
            series += job.series
            if batch and series > self.limit:
                break
            batch.append(self._queue.popleft())
            if time.perf_counter() - began > _SLICE:
                await asyncio.sleep(0)
                began = time.perf_counter()
        return batch

    def _answer(self, batch: list[Job]) -> list[bytes | Exception]:
        """Answer requests in one call of the engine."""
        asked = [job.request for job in batch if isinstance(job.request, Request)]
        began = time.perf_counter()
        found = _tried(partial(self.engine.bundle.predictions, asked))
        predictions = iter([found] * len(asked) if isinstance(found, Exception) else found)
        if series := sum(job.series for job in batch):
            now = (time.perf_counter() - began) / series
            self._series += (now - self._series) / (32 if now > self._series else 4)  # not what one busy moment takes
            self.observe(series, len(asked))
        answers: list[Any] = []
        for job in batch:
            answer: Any = job.request
            if isinstance(job.request, Request) and isinstance(answer := next(predictions), Prediction):
                answer = _tried(partial(job.write, job.request, answer))
            answers.append(answer)
        return answers


def _lately(before: float, now: float) -> float:
    """A mean that forgets: of about the last eight."""
    return before + (now - before) / 8 if before else now
