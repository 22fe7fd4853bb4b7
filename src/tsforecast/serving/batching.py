"""Adaptive batching: requests that wait at the same time are forecast in one call, and nobody waits for company."""

from __future__ import annotations

import asyncio
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
Seen: TypeAlias = Callable[[Request, Prediction], None]
_SHORT = 0.005  # seconds a lone forecast may hold the event loop: handing it to a thread costs other requests more
_TOGETHER = 32  # requests answered at once at most, so that the first of many does not wait for the last


class Answers(Protocol):
    """Who answers the requests to one bundle: `Batcher` in this process, or another elsewhere.

    Attributes
    ----------
    waiting
        Requests that are not yet answered.
    seen
        Told each request that is forecast from, and its forecast; it must not hold the event loop for 0.2 ms.
    """

    seen: Seen | None

    @property
    def waiting(self) -> int: ...

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
    """A request from its body to the bytes of its answer; it is read when its turn comes, and once.

    Attributes
    ----------
    large
        Whether to read it takes long: never on the event loop.
    """

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

    def brief(self, seconds: float) -> bool:
        """Whether it may be answered on the event loop, at so many seconds a series."""
        return not self.large and self.series * seconds < _SHORT


class Batcher:
    """Feeds an engine from one event loop, which it leaves free to take or refuse more.

    A call takes what waits, up to `limit` series. While it runs in its thread, requests gather for the next: the batch
    grows with the load. A request that waits alone and is answered at once is not worth a thread.
    """

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self.engine, self.limit, self.observe = engine, settings.batch, metrics.forecasts
        self.seen: Seen | None = None
        self._queue: deque[Job] = deque()
        self._work: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forecast")

    @property
    def waiting(self) -> int:
        """Requests that nobody has begun to answer."""
        return len(self._queue)

    async def forecast(self, read: Read, write: Write, *, large: bool = False) -> bytes:
        """The answer to one request; see `Answers`."""
        loop = asyncio.get_running_loop()
        job = Job(read, write, loop.create_future(), large)
        self._queue.append(job)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._answer_all())  # begins once all that has arrived stands in the queue
        return await job.future

    async def _answer_all(self) -> None:
        """Answer what waits: on the loop, where it is short, else in the thread, until nothing waits any more."""
        loop = asyncio.get_running_loop()
        while self._queue:
            lone = len(self._queue) == 1 and self._queue[0].brief(self.engine.seconds)
            for future, answer in self._answer() if lone else await loop.run_in_executor(self._thread, self._answer):
                if future.done():
                    continue  # its caller has gone
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
            await asyncio.sleep(0)  # whoever came meanwhile takes a place in the queue

    def _answer(self) -> list[tuple[asyncio.Future[bytes], Any]]:
        """Take jobs from the queue and answer them, in one call of the engine."""
        batch, series = list[Job](), 0
        while self._queue and len(batch) < _TOGETHER and (not batch or series + self._queue[0].series <= self.limit):
            series += self._queue[0].series
            batch.append(self._queue.popleft())
        asked = [job.request for job in batch if isinstance(job.request, Request)]
        found = _tried(partial(self.engine.bundle.predictions, asked))
        predictions = iter([found] * len(asked) if isinstance(found, Exception) else found)
        if asked:
            self.observe(series, len(asked))
        done: list[tuple[asyncio.Future[bytes], Any]] = []
        for job in batch:
            answer: Any = job.request
            if isinstance(job.request, Request) and isinstance(answer := next(predictions), Prediction):
                if self.seen is not None:
                    self.seen(job.request, answer)
                answer = _tried(partial(job.write, job.request, answer))
            done.append((job.future, answer))
        return done
