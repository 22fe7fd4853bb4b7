"""What a server does beside answering: close what does not come, give memory back, take leave before it stops."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import signal
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from tsforecast.serving.front import LEAVE

if TYPE_CHECKING:
    from tsforecast.serving.asgi import Server

_MUCH = 2**24  # bytes that requests took after which memory is given back


class Watch:
    """Looks once a second, from the event loop of a server that has been started.

    What belongs to the protocol is uvicorn's: it is found by the handler of SIGTERM that it has set, also in a worker
    of BentoML. Under another server there is less to look at.

    Parameters
    ----------
    shared
        The port is shared with a parent process that is told to stop together with this one, and would reset whoever
        connects meanwhile; so it is closed for both.
    """

    def __init__(self, server: Server, *, shared: bool = False) -> None:
        self.server, self.shared = server, shared
        self.loop = asyncio.get_running_loop()
        handler = signal.getsignal(signal.SIGTERM)
        self.uvicorn: Any = getattr(handler, "__self__", None)
        self.waiting: dict[tuple[Any, ...], float] = {}
        self.last: list[asyncio.Task[Any]] = []
        self.heeding: list[asyncio.Task[None]] = []
        if threading.current_thread() is threading.main_thread() and callable(handler):
            self.stop = handler
            signal.signal(signal.SIGTERM, lambda *given: self.loop.call_soon_threadsafe(self._leave, *given))
            server.bell.arrive()
        self.look()

    def look(self) -> None:
        """Once a second, or as often as short patience needs it."""
        self._close_silent(time.monotonic())
        self.server.keys = self.server.keys.current()
        self.heeding += [self.loop.create_task(self.server.shelf.heed(ring)) for ring in self.server.bell.rings()]
        self.heeding = [task for task in self.heeding if not task.done()]
        self.server.shelf.shrink()  # what requests leave behind grows, too
        memory = self.server.memory
        if memory.peak > _MUCH and memory.held < memory.peak / 4:
            memory.peak = memory.held
            self.loop.run_in_executor(None, give_back)
        if self.server.recorder:
            self.loop.run_in_executor(None, self.server.recorder.step)
        self.loop.call_later(min(1.0, self.server.settings.patience), self.look)

    def _close_silent(self, now: float) -> None:
        """Close connections that for too long send one head, or take none of an answer: uvicorn has no limit."""
        state = getattr(self.uvicorn, "server_state", None)
        waiting = {}
        for each in getattr(state, "connections", ()):
            cycle = getattr(each, "cycle", None)
            unread = each.flow.write_paused and each.transport.get_write_buffer_size()
            if unread or ((cycle is None or cycle.response_complete) and each.timeout_keep_alive_task is None):
                since = waiting[each, cycle, unread] = self.waiting.get((each, cycle, unread), now)
                if now - since > self.server.settings.patience:
                    each.transport.abort()  # to close it would wait until the rest has been taken
        self.waiting = waiting

    def _leave(self, number: int, frame: FrameType | None) -> None:
        """Take leave of open connections for a moment before the server closes them.

        A server that stops closes its idle connections, also one whose next request is on its way. So it first takes
        no new ones, and says `Connection: close` with every answer: callers go elsewhere.
        """
        self.server.draining = True
        self.loop.call_later(0.5, self.stop, number, frame)
        config: Any = getattr(self.uvicorn, "config", None)
        several = getattr(config, "workers", 1) > 1 and config.fd is None  # a socket of systemd's stays open
        shared = (self.server.bell.leave() and several) or self.shared
        for listener in getattr(self.uvicorn, "servers", ()):
            for port in listener.sockets:
                self._last_call(port.dup(), shared)
            listener.close()
        for each in self.server.memory.arriving:
            each.hurry(LEAVE)

    def _last_call(self, port: socket.socket, shared: bool) -> None:
        """Take whoever stands in the queue of the port, who would be reset when it closes; close it for all workers."""
        config, lifespan, state = self.uvicorn.config, self.uvicorn.lifespan, self.uvicorn.server_state
        # As uvicorn makes it: the listeners of uvloop do not tell theirs.
        protocol = partial(config.http_protocol_class, config=config, server_state=state, app_state=lifespan.state)
        port.setblocking(False)
        while True:
            try:
                connection, _ = port.accept()
            except OSError:  # nobody does, or another worker has closed the port for all
                break
            connected = self.loop.connect_accepted_socket(protocol, connection, ssl=config.ssl)
            self.last.append(self.loop.create_task(connected))
        if shared:
            with suppress(OSError):  # as before
                port.shutdown(socket.SHUT_RDWR)
        port.close()


def give_back() -> None:
    """Return freed memory to the system, which the C library keeps for itself otherwise."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's
        trim(0)
