"""The memory that requests take: their bodies, what these unfold to when they are parsed, and answers not yet taken."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from tsforecast.serving.refusals import refused
from tsforecast.serving.settings import Settings

if TYPE_CHECKING:
    from tsforecast.serving.front import Exchange

SMALL = 64 * 1024  # bytes of a body, or an answer, of which only very many together are much
_UNFOLDS = 16  # bytes that a small body takes for each of its own, at most but for one that is to do harm
# Bytes that a value, a text, an object and a list take at most, by the character before or around it.
_TAKES = {b",": 60, b'"': 30, b"{": 200, b"[": 90}


class Memory:
    """Bytes that requests hold, of all together.

    Where they become too many, the request that holds the most and is not yet whole is let go: not the one that comes
    in time, but the one that holds back its last byte.

    Attributes
    ----------
    held, peak
        Now, and at most since somebody looked.
    arriving
        Requests that are not yet whole.
    """

    def __init__(self, settings: Settings) -> None:
        self.most = int(settings.max_memory * 2**20)
        self.held = self.peak = 0
        self.arriving: set[Exchange] = set()

    def add(self, request: Exchange, count: int, *, whole: bool = False) -> None:
        """A request takes more.

        Parameters
        ----------
        whole
            It is answered: whatever others are still arriving with goes first.

        Raises
        ------
        RequestError
            It is too much, and no request that is still arriving holds more than this one.
        """
        request.held += count
        self.held += count
        self.peak = max(self.peak, self.held)
        while self.held > self.most:
            error = refused(429, where="memory of requests", allowed=f"{self.most / 2**20:g} MiB at a time")
            others = {each for each in self.arriving if each.held}
            largest = max(others if whole and others else {request, *others}, key=lambda each: each.held)
            self.release(largest)
            if largest is request:
                raise error
            largest.hurry(0, error)

    async def unfold(self, request: Exchange, body: bytes) -> None:
        """A body is whole: from now on it counts with what it takes once it is parsed.

        Raises
        ------
        RequestError
            It is more than there may ever be, or too much now.
        """
        count = len(body) * _UNFOLDS if len(body) <= SMALL else await asyncio.to_thread(unfolded, body)
        if len(body) + count > self.most:
            got, allowed = f"{count / 2**20:.0f} MiB once it is parsed", f"{self.most / 2**20:g} MiB"
            raise refused(413, where="body", got=got, allowed=allowed)
        self.add(request, count)

    def release(self, request: Exchange) -> None:
        """A request takes nothing any more."""
        self.held -= request.held
        request.held = 0


def unfolded(body: bytes) -> int:
    """How many bytes a body takes at most once it is parsed: eight times its own for columns of numbers."""
    cells, found = np.frombuffer(body, np.uint8), 0
    for part in np.split(cells, range(2**20, len(cells), 2**20)):  # so that little more is needed to count them
        found += sum(takes * int(np.count_nonzero(part == ord(mark))) for mark, takes in _TAKES.items())
    return found
