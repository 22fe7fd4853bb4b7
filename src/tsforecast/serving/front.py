"""Around every request: an id, the limits, one line of log and the counters."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
import traceback
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tsforecast.errors import RequestError, TsforecastError
from tsforecast.serving.limits import TAKES, check_head
from tsforecast.serving.refusals import refusal, refused

if TYPE_CHECKING:
    from tsforecast.serving.asgi import Server

log = logging.getLogger("tsforecast.serving")
_PATHS = {*TAKES, "/model", "/livez", "/readyz", "/metrics", "/openapi.json"}
LEAVE = 2.0  # seconds that bodies on their way still have when the server is to stop
_ID = re.compile(r"[\w.:@/+=-]{1,128}")


class Front:
    """What every request passes on its way to the routes."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # a web socket, for which there is no route
            await self.app(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        access = logging.getLogger("uvicorn.access")
        access.handlers, access.propagate = [], False  # our own line has more
        try:
            self.server.start()
        except Exception as error:  # left to uvicorn, it would take it for an app without a lifespan and go on
            text = f"Error: {error}" if isinstance(error, TsforecastError) else traceback.format_exc()
            await send({"type": "lifespan.startup.failed", "message": text})
            return
        self.server.watch()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(self.server, scope, receive, send)
        try:
            await exchange.admit()
            await self.app(scope, exchange.receive, exchange.send)
        except TsforecastError as error:
            await refusal(scope, error)(scope, receive, exchange.send)
        except ClientDisconnect:  # nobody reads the answer, but whoever calls this app waits for one
            await refusal(scope, refused(400, where="body"))(scope, receive, send)
            exchange.status = 499  # as nginx calls it
        except Exception:
            log.exception("a request failed", extra={"request_id": exchange.request_id})
            if exchange.status != 500:
                raise  # the answer had begun
            await refusal(scope, refused(500))(scope, receive, exchange.send)
        finally:
            exchange.end()


class Exchange:
    """One request and its answer.

    Attributes
    ----------
    size, held
        Bytes of the body that have arrived, and those of them that are in memory.
    """

    def __init__(self, server: Server, scope: Scope, receive: Receive, send: Send) -> None:
        self.server, self.scope, self._receive, self._send = server, scope, receive, send
        self.began = time.perf_counter()
        self.headers = dict(scope["headers"])
        given = self.headers.get(b"x-request-id", b"").decode("latin-1")
        self.request_id = given if _ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        self.status, self.size, self.held = 500, 0, 0
        self.counted, self.close = scope["path"] in TAKES, True  # what is refused before it is there is not read on
        self._body: bytes | None = None
        self._given_up: RequestError | None = None
        patience = min(server.settings.patience, LEAVE) if server.draining else server.settings.patience
        self._time = asyncio.timeout(patience)

    async def admit(self) -> None:
        """Read a body that is to be forecast from, unless there is a reason not to.

        Raises
        ------
        RequestError
            It cannot be taken on, is late or too large, or there is no room for it.
        ClientDisconnect
            The caller left before all of it had arrived.
        """
        check_head(self.scope, self.headers, self.server.settings)
        if self.counted:
            self._body = await self._read()
        self.close = False

    async def _read(self) -> bytes:
        bodies, settings, parts, more = self.server.bodies, self.server.settings, list[bytes](), True
        try:
            async with self._time:
                bodies.arriving.add(self)
                while more:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    if self._left() <= 0:  # a fast sender is never waited for
                        raise TimeoutError
                    parts.append(message.get("body", b""))
                    self.size += len(parts[-1])
                    if self.size > settings.max_body * 2**20:
                        raise refused(413, where="body", allowed=f"{settings.max_body:g} MiB")
                    more = message.get("more_body", False)
                    bodies.add(self, len(parts[-1]))
        except TimeoutError:
            raise self._given_up or refused(408, where="body", allowed=f"{settings.patience:g} seconds") from None
        finally:
            bodies.arriving.discard(self)
        return b"".join(parts)

    def _left(self) -> float:
        return (self._time.when() or 0) - asyncio.get_running_loop().time()

    async def receive(self) -> Message:
        """The body at once, where it was read, and then whether the caller has left."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body}

    def hurry(self, seconds: float, error: RequestError | None = None) -> None:
        """Give the rest of the body so many seconds; then the error is raised."""
        self._given_up = error or self._given_up
        if self._left() > seconds and not self._time.expired():
            self._time.reschedule(asyncio.get_running_loop().time() + seconds)

    async def send(self, message: Message) -> None:
        """A part of the answer, stamped with the id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            if self.server.draining or self.close:
                message["headers"].append((b"connection", b"close"))
        await self._send(message)

    def end(self) -> None:
        """Count it, and tell the log, also why it was refused."""
        server, scope = self.server, self.scope
        server.bodies.release(self)
        seconds = time.perf_counter() - self.began
        server.metrics.request(scope["path"] if scope["path"] in _PATHS else "other", self.status, seconds)
        extra = {"request_id": self.request_id, "method": scope["method"], "path": scope["path"]}
        extra |= {"status": self.status, "bytes": self.size, "ms": round(seconds * 1e3, 2)}
        if refused := scope.get("refused"):
            extra |= {"code": refused.code, "reason": " ".join(str(refused).split())[:1000]}
        log.log(logging.INFO if self.counted else logging.DEBUG, "request", extra=extra)
