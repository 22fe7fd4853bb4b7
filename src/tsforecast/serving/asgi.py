"""`uvicorn tsforecast.serving.asgi:app`: the engine over HTTP; the Bento service mounts the same app."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import tsforecast
from tsforecast.errors import RequestError, TsforecastError
from tsforecast.serving.batching import Batcher
from tsforecast.serving.contract import Answer, problem
from tsforecast.serving.contract import Request as Asked
from tsforecast.serving.engine import Engine
from tsforecast.serving.metrics import Metrics
from tsforecast.serving.openapi import document
from tsforecast.serving.settings import Settings

log = logging.getLogger("tsforecast.serving")
_LARGE = 256 * 1024  # bytes of a body that is read in a thread, so that the event loop answers others meanwhile
_COUNTED = ("/forecast", "/forecast_csv")
_PATHS = {*_COUNTED, "/model", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/redoc"}
_LEAVE = 2.0  # seconds that bodies on their way still have when the server is to stop
_FIGURE = re.compile(r"-?\d{1,6}(\.\d{1,6})?", re.ASCII)
_ID = re.compile(r"[\w.:@/+=-]{1,128}")


class Server:
    """What the routes share: engine, batcher, settings and counters; `start` it before the first request."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.inside = 0
        self.draining = False

    def start(self, where: str | None = None) -> None:
        """Load, warm up and check; called on the main thread of the serving process.

        Raises
        ------
        TsforecastError
            There is nothing to serve, or a setting is not one.
        """
        log_as_json()
        self.settings = Settings.from_environment()
        self.engine = Engine.open(where)
        self.batcher = Batcher(self.engine, self.settings.batch)
        self.metrics.model(self.engine.describe())
        bundle = self.engine.bundle
        log.info("serving %s from %s", bundle.metadata.get("name"), bundle.path, extra={"digest": bundle.digest})

    def drain_on_term(self, seconds: float = 0.5) -> None:
        """On SIGTERM, take leave of open connections for a moment before the server closes them.

        A server that stops closes its idle connections, also one whose next request is on its way. So it first takes
        no new ones, and says `Connection: close` with every answer: callers go elsewhere.
        """
        before = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            return
        loop = asyncio.get_running_loop()

        def drain(number: int, frame: FrameType | None) -> None:
            self.draining = True
            for listener in getattr(getattr(before, "__self__", None), "servers", ()):  # uvicorn's
                loop.call_soon_threadsafe(listener.close)
            loop.call_soon_threadsafe(loop.call_later, seconds, before, number, frame)

        signal.signal(signal.SIGTERM, drain)

    async def forecast(
        self, read: Callable[[bytes], Asked], write: Callable[[Asked, Answer], bytes], body: bytes
    ) -> bytes:
        """Read, forecast with whoever else is waiting, write."""
        if not self.engine.ready:
            raise not_ready()
        large = len(body) > _LARGE
        asked = await asyncio.to_thread(read, body) if large else read(body)
        answer = await self.batcher.forecast(asked, alone=self.inside == 1)
        self.metrics.forecasts(len(asked.whole), self.batcher.sizes)
        return await asyncio.to_thread(write, asked, answer) if large else write(asked, answer)


def create_app() -> FastAPI:
    """The app; its server starts with the ASGI lifespan, or by `app.state.server.start()`."""
    server = Server()
    app = FastAPI(title="tsforecast", version=tsforecast.__version__, description=str(__doc__), redirect_slashes=False)
    app.state.server = server
    app.add_middleware(Front, server=server)

    async def forecast(request: Request) -> Response:
        """Forecast one or many series from their latest rows."""
        contract = server.engine.contract
        content = await server.forecast(contract.read, contract.write, await request.body())
        return Response(content, media_type="application/json")

    # Starlette's own route: there is nothing for FastAPI to resolve or validate, and `document` describes it.
    app.add_route("/forecast", forecast, methods=["POST"])

    @app.post("/forecast_csv")
    async def forecast_csv(request: Request) -> Response:
        """A CSV file in, as the body or as the form field `file`; a CSV file out."""
        contract, query = server.engine.contract, request.query_params
        if unknown := sorted(set(query) - {"horizon", "levels"}):
            raise RequestError("there is no such parameter", where="query", got=unknown[0], allowed="horizon, levels")
        for name in query:
            if len(given := query.getlist(name)) > 1:
                raise RequestError("a parameter is there twice", where=name, got=", ".join(given), allowed="one")
        horizon = _number(query["horizon"]) if "horizon" in query else None
        levels = [_number(part) for part in query["levels"].split(",") if part] if "levels" in query else None
        body = await _file(request, server.settings)
        headers = {}

        def write(asked: Asked, answer: Answer) -> bytes:
            if asked.warnings:
                headers["X-Tsforecast-Warnings"] = json.dumps([text[:1000] for text in asked.warnings])
            return contract.write_csv(asked, answer)

        content = await server.forecast(lambda raw: contract.read_csv(raw, horizon, levels), write, body)
        return Response(content, media_type="text/csv; charset=utf-8", headers=headers)

    @app.get("/model")
    async def model() -> Response:
        """What is served: columns, rows needed, horizon, intervals, scores."""
        return _json(server.engine.describe())

    @app.get("/livez")
    async def livez() -> Response:
        """The process answers."""
        return _json({"status": "alive"})

    @app.get("/readyz")
    async def readyz() -> Response:
        """The golden request gave the golden answer, and the server is not about to stop."""
        if server.draining or not server.engine.ready:
            raise not_ready("it is about to stop" if server.draining else "its golden request gave another answer")
        return _json({"status": "ready"})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters in Prometheus' text format."""
        content, kind = server.metrics.text()
        return Response(content, media_type=kind)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app, server.engine)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    app.add_exception_handler(TsforecastError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    return app


class Front:
    """Around every request: an id, the limits, one line of log and the counters."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # a web socket; closed before it is accepted, it is refused
            await receive()
            await send({"type": "websocket.close", "code": 1000})

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
        self.server.drain_on_term()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        server, began, status, size = self.server, time.perf_counter(), 500, 0
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        most, counted = int(server.settings.max_body * 2**20), scope["path"] in _COUNTED
        inside = complete = False

        async def measured() -> Message:
            nonlocal size, inside, complete
            if complete:
                return await receive()
            message = await self._message(receive, began)
            size += len(message.get("body", b""))
            if size > most:
                raise too_large(server.settings)
            complete = not message.get("more_body", False)
            if counted and complete:
                inside = True  # from now on it keeps others waiting; a body on its way does not
                server.inside += 1
                if server.inside > server.settings.queue:
                    raise busy(server.settings)
            return message

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                if server.draining or status == 413:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            if headers.get(b"content-length", b"0").isdigit() and int(headers.get(b"content-length", b"0")) > most:
                await _problem(too_large(server.settings))(scope, receive, stamped)
            else:
                await self.app(scope, measured, stamped)
        except ClientDisconnect:
            await _problem(left())(scope, receive, send)  # nobody reads it, but whoever calls this app waits for it
            status = 499  # as nginx calls it
        except Exception:
            log.exception("a request failed", extra={"request_id": request_id})
            if status != 500:
                raise  # the answer had begun
            await _problem(failed())(scope, receive, stamped)
        finally:
            server.inside -= inside
            seconds = time.perf_counter() - began
            server.metrics.request(scope["path"] if scope["path"] in _PATHS else "other", status, seconds)
            extra = {"request_id": request_id, "method": scope["method"], "path": scope["path"], "status": status,
                     "bytes": size, "ms": round(seconds * 1e3, 2)}  # fmt: skip
            log.log(logging.INFO if counted else logging.DEBUG, "request", extra=extra)

    async def _message(self, receive: Receive, began: float) -> Message:
        """The next part of a body; one that does not come in time is given up, soon when the server is to stop."""
        patience = self.server.settings.patience
        while True:
            try:
                async with asyncio.timeout(1.0):
                    return await receive()
            except TimeoutError:
                waited = time.perf_counter() - began
                if waited > (min(patience, _LEAVE) if self.server.draining else patience):
                    raise late(self.server.settings) from None


async def _file(request: Request, settings: Settings) -> bytes:
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await request.body()
    try:
        async with request.form(max_files=1, max_fields=1, max_part_size=int(settings.max_body * 2**20)) as form:
            file = form.get("file")
            if file is None:
                raise RequestError("the form has no file", where="file", got=", ".join(form) or "nothing",
                                   allowed="one field called file")  # fmt: skip
            return file.encode() if isinstance(file, str) else await file.read()
    except (UnicodeError, LookupError) as error:
        raise RequestError("the form cannot be read", where="body", got=error, allowed="UTF-8") from None


def _number(text: str) -> Any:
    return json.loads(text) if _FIGURE.fullmatch(text) and not re.match(r"-?0\d", text) else text


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(
        orjson.dumps(content, default=str, option=orjson.OPT_APPEND_NEWLINE), status, media_type="application/json"
    )


def _problem(error: TsforecastError) -> Response:
    status = error.status if isinstance(error, RequestError) else 422
    answer = _json(problem(error), status)
    if status in (429, 503):
        answer.headers["Retry-After"] = "1"
    return answer


def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, TsforecastError):
        return _problem(error)
    assert isinstance(error, HTTPException)
    kind = {404: "not_found", 405: "method"}.get(error.status_code, "request")
    refused = _problem(RequestError(str(error.detail), status=error.status_code, code=kind, where=request.url.path,
                                    got=request.method, allowed=(error.headers or {}).get("Allow")))  # fmt: skip
    refused.headers.update(error.headers or {})
    return refused


def too_large(settings: Settings) -> RequestError:
    """413."""
    return RequestError(
        "the body is too large",
        status=413,
        code="too_large",
        where="body",
        allowed=f"{settings.max_body:g} MiB",
        fix="send fewer series, or raise TSFORECAST_MAX_BODY",
    )


def late(settings: Settings) -> RequestError:
    """408."""
    return RequestError("the body did not arrive in time", status=408, code="late", where="body",
                        allowed=f"{settings.patience:g} seconds")  # fmt: skip


def left() -> RequestError:
    """For a caller that has gone."""
    return RequestError("the caller left before the body had arrived", where="body")


def busy(settings: Settings) -> RequestError:
    """429."""
    return RequestError("too many requests are waiting", status=429, code="busy", allowed=f"{settings.queue} at a time",
                        fix="come back after the seconds that Retry-After says")  # fmt: skip


def not_ready(got: str | None = None) -> RequestError:
    """503."""
    return RequestError("the server is not ready", status=503, code="not_ready", got=got, fix="look at its log")


def failed() -> RequestError:
    """500."""
    return RequestError("the server failed", status=500, code="internal", fix="look at its log, by the request id")


class _Json(logging.Formatter):
    """One JSON object a line."""

    _usual = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, what happened, and whatever came with it."""
        extra = {key: value for key, value in vars(record).items() if key not in self._usual}
        if record.exc_info:
            extra["trace"] = self.formatException(record.exc_info)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": stamp, "level": record.levelname, "event": record.getMessage(), **extra}
        return orjson.dumps(line, default=str).decode()


def log_as_json() -> None:
    """What tsforecast logs goes to stderr, a JSON object a line."""
    root = logging.getLogger("tsforecast")
    if not any(isinstance(handler.formatter, _Json) for handler in root.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Json())
        root.addHandler(handler)
    root.propagate = False
    root.setLevel(logging.INFO)


app = create_app()
