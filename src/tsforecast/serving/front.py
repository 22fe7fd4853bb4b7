"""Around every request: an id, what is taken on of heads and bodies, one line of log and the counters."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
import traceback
from collections.abc import Sequence
from io import BytesIO
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tsforecast.errors import RequestError, TsforecastError
from tsforecast.serving.memory import SMALL
from tsforecast.serving.refusals import check_query, refusal, refused
from tsforecast.serving.routes import Place
from tsforecast.serving.settings import Settings

if TYPE_CHECKING:
    from tsforecast.serving.asgi import Server

log = logging.getLogger("tsforecast.serving")
LEAVE = 2.0  # seconds that bodies on their way still have when the server is to stop
_REFUSAL, _LATEST = 0.002, 2.0  # seconds between two answers that there is no room, and until the last of many
_LARGE = 2**20  # bytes of a body that is too large for memory which the C library keeps
_ITSELF = re.compile(r"localhost|[\d.]+|[\da-f.]*:[\da-f.:]*")  # an address cannot be pointed elsewhere
_ID = re.compile(r"[\w.:@/+=-]{1,128}", re.ASCII)


class Front:
    """What every request passes on its way to the routes."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app, self.server = app, server
        self._refused = 0.0  # when the last of them is told that there is no room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            prefix, telemetry = scope.get("root_path", ""), self.server.telemetry
            place = Place.of(scope["path"].removeprefix(prefix))
            # A server keeps its own until the connection is used again, and with it what it names.
            scope = {**scope, "place": place, "root_path": prefix + place.prefix}
            await (telemetry(self._http, scope, receive, send) if telemetry else self._http(scope, receive, send))
        else:  # a web socket, for which there is no route
            await self.app(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        access = logging.getLogger("uvicorn.access")
        access.handlers, access.propagate = [], False  # our own line has more
        try:
            if not self.server.started:
                self.server.start()
        except Exception as error:  # left to uvicorn, it would take it for an app without a lifespan and go on
            text = f"Error: {error}" if isinstance(error, TsforecastError) else traceback.format_exc()
            await send({"type": "lifespan.startup.failed", "message": text})
            return
        self.server.watch()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.server.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(self.server, scope, receive, send)
        try:
            await exchange.admit()
            await self._routed(scope)(scope, exchange.receive, exchange.send)
        except TsforecastError as error:
            error.__traceback__ = error.__context__ = (
                None  # they hold frames, and so the body until the next collection
            )
            if isinstance(error, RequestError) and error.status == 429:
                await self._hold_back()
            await refusal(scope, error)(scope, receive, exchange.send)
        except ClientDisconnect:  # nobody reads the answer, but whoever calls this app waits for one
            await refusal(scope, refused(400, where="body"))(scope, receive, send)
            exchange.status = 499  # as nginx calls it
        except asyncio.CancelledError:  # so Ray tells that the caller left
            exchange.status = 499
            raise
        except Exception:
            log.exception("a request failed", extra={"request_id": exchange.request_id})
            if exchange.status != 500:
                raise  # the answer had begun
            await refusal(scope, refused(500))(scope, receive, exchange.send)
        finally:
            exchange.end()

    def _routed(self, scope: Scope) -> ASGIApp:
        """Who answers: what the table leads to, found at once, or FastAPI, which looks for what is left."""
        endpoint = self.server.endpoints.get((scope["method"], scope["place"].path))
        if endpoint is None:
            return self.app

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive))
            await response(scope, receive, send)

        return answer

    async def _hold_back(self) -> None:
        """Tell so many a second that there is no room, and others later: whoever comes again at once is to cost less
        than those who are answered."""
        now = asyncio.get_running_loop().time()
        self._refused = min(max(now, self._refused + _REFUSAL), now + _LATEST)
        await asyncio.sleep(self._refused - now)


class Exchange:
    """One request and its answer.

    Attributes
    ----------
    size, held
        Bytes of the body that have arrived, and those that the request takes in memory; see `Memory`.
    """

    def __init__(self, server: Server, scope: Scope, receive: Receive, send: Send) -> None:
        self.server, self.scope, self._receive, self._send = server, scope, receive, send
        self.began = time.perf_counter()
        self.headers = dict(scope["headers"])
        given = self.headers.get(b"x-request-id", b"").decode("latin-1")
        self.request_id = given if _ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        self.status, self.size, self.held = 500, 0, 0
        self.place: Place = scope["place"]
        self.counted = bool(self.place.route.takes)
        self.close = True  # what is refused before it is there is not read on
        self.key: str | None = None  # the name of it
        self._body: bytes | None = None
        self._head: Message | None = None  # of the answer
        self._given_up: RequestError | None = None
        patience = min(server.settings.patience, LEAVE) if server.draining else server.settings.patience
        self._time = asyncio.timeout(patience)

    async def admit(self) -> None:
        """Take the bundle that the request is about, and read a body that is to be forecast from, or say why not.

        Raises
        ------
        RequestError
            It cannot be taken on, is late or too large, or there is no room for it.
        ClientDisconnect
            The caller left before all of it had arrived.
        """
        route = self.place.route
        self.key = self.server.keys.check(self.place, self.headers)
        check_head(self.scope, self.headers, self.server.settings, route.takes)
        if route.query is not None and self.scope["query_string"]:
            check_query(self.scope, route.query)
        if self.counted and route.key != "own" and (rate := self.server.keys.rate(self.key)):
            self.server.rates.take(self.key, rate)
        if route.bundle and route.loads:
            await self.server.take(self.scope, self.place.name)
        if self.counted:
            length = self.headers.get(b"content-length", b"")
            self.close = not length.isdigit() or int(length) > SMALL  # to read it costs less than a new connection
            if "live" in self.scope:
                self.server.admit(self.scope["live"])
            self.close = True
            self._body = await self._read()
            await self.server.memory.unfold(self, self._body)
        self.close = False
        if self.place.path is None:  # to the router a path with a line feed behind it is the one without
            where, got = self.scope["path"], self.scope["method"]
            fix = "GET /ui is the page for people, GET /openapi.json tells every path"
            raise RequestError("Not Found", status=404, code="not_found", where=where, got=got, fix=fix)

    async def _read(self) -> bytes:
        memory, settings, body, more = self.server.memory, self.server.settings, self._place(), True
        try:
            async with self._time:
                memory.arriving.add(self)
                while more:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    if self._left() <= 0:  # a fast sender is never waited for
                        raise TimeoutError
                    self.size += len(part := message.get("body", b""))
                    if self.size > (most := min(settings.max_body, self.place.route.most)) * 2**20:
                        raise refused(413, where="body", allowed=f"{most:g} MiB")
                    more = message.get("more_body", False)
                    memory.add(self, len(part))
                    body.write(part)
            body.seek(0)
            return body.read(self.size)
        except TimeoutError:
            raise self._given_up or refused(408, where="body", allowed=f"{settings.patience:g} seconds") from None
        finally:
            memory.arriving.discard(self)
            body.close()  # an error keeps this frame, and what it names, until it has been told

    def _place(self) -> BytesIO | mmap:
        """Where a body is put: a large one into pages of its own, which go back to the system at once."""
        length = self.headers.get(b"content-length", b"")
        most = int(length) if length.isdigit() else int(self.server.settings.max_body * 2**20)
        return mmap(-1, most, MAP_PRIVATE | MAP_ANONYMOUS) if most > _LARGE else BytesIO()

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
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            if self.server.draining or self.close:
                message["headers"].append((b"connection", b"close"))
            self._head = message  # kept until there is room for what comes after it
            return
        if large := len(body := message.get("body", b"")) > SMALL:  # in memory until its caller has taken most of it
            self.server.memory.add(self, len(body), whole=True)
        if self._head:
            head, self._head = self._head, None
            self.status = head["status"]
            await self._send(head)
        if large:
            await self._send({**message, "more_body": True})
            message = {**message, "body": b""}
        await self._send(message)

    def end(self) -> None:
        """Count it, and tell the log, also why it was refused."""
        server, scope = self.server, self.scope
        server.memory.release(self)
        seconds = time.perf_counter() - self.began
        server.metrics.request(self.place.path or "other", self.status, seconds, scope.get("model", ""))
        extra = {"request_id": self.request_id, "method": scope["method"], "path": scope["path"]}
        extra |= {"status": self.status, "bytes": self.size, "ms": round(seconds * 1e3, 2)}
        extra |= {"key": self.key} if self.key else {}
        extra |= {"trace_id": scope["trace_id"]} if "trace_id" in scope else {}
        extra |= {"model": scope["model"]} if scope.get("model") else {}
        if refused := scope.get("refused"):
            extra |= {"code": refused.code, "reason": " ".join(str(refused).split())[:1000]}
        if log.isEnabledFor(level := logging.INFO if self.counted else logging.DEBUG):
            record = logging.LogRecord(log.name, level, __file__, 0, "request", None, None)  # no look for its caller
            record.__dict__ |= extra
            log.handle(record)


def check_head(scope: Scope, headers: dict[bytes, bytes], settings: Settings, takes: Sequence[str] = ()) -> None:
    """Refuse what need not be read; `takes` are the media types of a body that is.

    Raises
    ------
    RequestError
        The length is told twice or too large, the host is another's, or the body is of another kind.
    """
    length = headers.get(b"content-length", b"")
    if length and b"transfer-encoding" in headers:  # a proxy and a server may differ on where such a request ends
        where = "Transfer-Encoding and Content-Length"
        raise RequestError("the length of the body is told in two ways", where=where, allowed="one of them")
    host = headers.get(b"host", b"localhost").decode("latin-1").lower()
    if not _is_ours(host, scope, settings):
        raise refused(421, where="Host", got=host[:100])
    if takes and scope["method"] == "POST":
        coding = headers.get(b"content-encoding", b"identity").decode("latin-1").lower()
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if coding != "identity":
            raise refused(415, where="Content-Encoding", got=coding[:100], allowed="identity: send it as it is")
        if kind and kind not in takes:
            raise refused(415, where="Content-Type", got=kind[:100], allowed=" or ".join(takes))
    if length.isdigit() and (len(length) > 15 or int(length) > settings.max_body * 2**20):
        raise refused(413, where="body", allowed=f"{settings.max_body:g} MiB")


def _is_ours(host: str, scope: Scope, settings: Settings) -> bool:
    """Whether the caller means this server: the name of a foreign page may have been pointed here (rebinding)."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if settings.hosts:
        return "*" in settings.hosts or name in settings.hosts
    here = (scope.get("server") or ("",))[0]
    return not here.startswith(("127.", "::1", "::ffff:127.")) or bool(_ITSELF.fullmatch(name))
