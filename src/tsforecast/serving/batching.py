"""Adaptive batching: requests that wait at the same time are forecast in one call, and nobody waits for company."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from tsforecast.errors import TsforecastError
from tsforecast.serving.contract import Answer, Request
from tsforecast.serving.engine import Engine

_SHORT = 0.005  # seconds a forecast may hold the event loop: handing it to a thread costs other requests more


class Batcher:
    """Feeds an engine from one event loop.

    A call takes all that waits, up to `limit` series. While a long one runs in its thread, requests gather for the
    next: the batch grows with the load, and an idle server answers at once.
    """

    def __init__(self, engine: Engine, limit: int) -> None:
        self.engine, self.limit = engine, limit
        self.waiting: deque[tuple[Request, asyncio.Future[Answer]]] = deque()
        self.running = False
        self.sizes: list[int] = []  # of the batches since somebody looked
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forecast")

    async def forecast(self, request: Request, *, alone: bool = False) -> Answer:
        """The answer to one request; `alone`, when no other can be on its way to join it, it is given at once.

        Raises
        ------
        TsforecastError
            It cannot be answered.
        """
        if alone and not self.running and len(request.whole) * self.engine.seconds < _SHORT:
            self.sizes.append(1)
            (answer,) = self.engine.forecast([request])
            if isinstance(answer, TsforecastError):
                raise answer
            return answer
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self.waiting.append((request, future))
        if not self.running:
            self.running = True
            loop.call_soon(self._next)
        return await future

    def _next(self) -> None:
        batch: list[tuple[Request, asyncio.Future[Answer]]] = []
        series = 0
        while self.waiting and (not batch or series + len(self.waiting[0][0].whole) <= self.limit):
            batch.append(self.waiting.popleft())
            series += len(batch[-1][0].whole)
        requests = [request for request, _ in batch]
        loop = asyncio.get_running_loop()
        self.sizes.append(len(batch))
        if series * self.engine.seconds < _SHORT:
            try:
                self._settle(batch, self.engine.forecast(requests))
            except Exception as error:  # told to every caller
                self._settle(batch, error)
        else:
            call = loop.run_in_executor(self._thread, self.engine.forecast, requests)
            call.add_done_callback(lambda done: self._settle(batch, done.exception() or done.result()))

    def _settle(
        self,
        batch: list[tuple[Request, asyncio.Future[Answer]]],
        answers: list[Answer | TsforecastError] | BaseException,
    ) -> None:
        each = [answers] * len(batch) if isinstance(answers, BaseException) else answers
        for (_, future), answer in zip(batch, each, strict=True):
            if future.done():
                continue  # its caller has gone
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self.running = bool(self.waiting)
        if self.running:
            asyncio.get_running_loop().call_soon(self._next)
