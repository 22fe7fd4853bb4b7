"""`uvicorn tsforecast.serving.asgi:app`: the engine over HTTP; the Bento service mounts the same app."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Scope

import tsforecast
from tsforecast.bundle.request import Prediction
from tsforecast.bundle.request import Request as Asked
from tsforecast.errors import ConfigError, RequestError
from tsforecast.serving.about import add_about
from tsforecast.serving.admin import add_admin
from tsforecast.serving.batching import Batcher, Read
from tsforecast.serving.bell import Bell
from tsforecast.serving.front import Front
from tsforecast.serving.keys import Keys, listening
from tsforecast.serving.kserve import add_kserve
from tsforecast.serving.logs import log_as_json
from tsforecast.serving.memory import SMALL, Memory
from tsforecast.serving.metrics import Metrics
from tsforecast.serving.openapi import CSV, REFUSED, Answer, Matched, Plain
from tsforecast.serving.page import add_page
from tsforecast.serving.rates import Rates
from tsforecast.serving.recorder import Recorder
from tsforecast.serving.refusals import as_json, no_route, refused
from tsforecast.serving.settings import CORS, OTLP, Settings, misspelt, names
from tsforecast.serving.shelf import Shelf
from tsforecast.serving.slot import Factory, Live, Slot
from tsforecast.serving.watch import Watch

if TYPE_CHECKING:
    from tsforecast.serving.telemetry import Telemetry

log = logging.getLogger(__name__)
_CORS: dict[str, Any] = {
    "allow_methods": ("GET", "POST"),
    "allow_headers": ("Authorization", "Content-Type", "X-Request-ID", "traceparent", "tracestate"),
    "expose_headers": ("Retry-After", "X-Request-ID", "X-Tsforecast-Digest", "X-Tsforecast-Warnings"),
}


class Server:
    """What the routes share: what is served, settings and counters; `start` it before the first request.

    Parameters
    ----------
    answers
        Makes who answers for a bundle.
    """

    def __init__(self, answers: Factory = Batcher) -> None:
        self.answers = answers
        self.metrics, self.rates = Metrics(), Rates()
        self.endpoints: dict[tuple[str, str | None], Callable[[Request], Awaitable[Response]]] = {}
        self.draining = self.started = False
        self.telemetry: Telemetry | None = None

    def start(self, where: str | None = None) -> None:
        """Load, warm up and check; called on the main thread of the serving process.

        Raises
        ------
        TsforecastError
            There is nothing to serve, or a setting is not one.
        """
        log_as_json()
        for name, near in misspelt():
            log.warning("%s is set, and nothing reads it: did you mean %s?", name, near)
        self.settings, self.keys = Settings.from_environment(), Keys.from_environment()
        self.keys.check_address(listening())
        self.memory, self.bell = Memory(self.settings), Bell()
        folder, most = self.settings.request_log, self.settings.request_log_max
        self.recorder = Recorder(Path(folder), most) if folder else None
        self.shelf = Shelf(self.settings, self.metrics, where, self.answers)
        if os.environ.get(OTLP):
            try:
                from tsforecast.serving.telemetry import Telemetry
            except ImportError as error:
                fix = "pip install 'tsforecast[otel]'"
                raise ConfigError("telemetry needs a package", where=OTLP, got=error, fix=fix) from None
            self.telemetry = Telemetry(self.metrics)
        sys.setswitchinterval(0.001)  # seconds that a thread may keep the event loop from answering others
        gc.collect()
        gc.freeze()  # what is loaded stays: no collection walks it again
        gc.set_threshold(50_000, 50, 50)
        self.started = True

    def watch(self, *, shared: bool = False) -> None:
        """Look after connections, memory and what is to be served, from the event loop that answers; see `Watch`."""
        self.watcher = Watch(self, shared=shared)
        if self.settings.reload:
            self.polling = asyncio.get_running_loop().create_task(self.shelf.poll(self.settings.reload))

    @property
    def slot(self) -> Slot:
        """That of the default bundle."""
        return self.shelf.slots[self.shelf.default]

    async def take(self, scope: Scope, name: str | None) -> None:
        """Say which bundle a request is about, and take it: `scope["live"]`.

        Raises
        ------
        RequestError
            There is none of that name, or it cannot be loaded.
        """
        found = self.shelf.named(name)
        scope["model"] = found if self.shelf.several else ""
        scope["live"] = await self.shelf.take(found)

    def check_ready(self, live: Live) -> None:
        """Raise a RequestError (503) where no more requests are to be sent here."""
        if self.draining:
            raise refused(503, got="it is about to stop")
        live.check_ready()

    def admit(self, live: Live) -> None:
        """Raise a RequestError where one more could not be answered, or not in time; nothing of it need be read."""
        live.check_ready()
        answers, settings = live.answers, self.settings
        if answers.waiting >= settings.queue or answers.wait > settings.max_wait:
            allowed = f"{settings.queue} that wait, or {settings.max_wait:g} seconds"
            raise refused(429, where="requests", allowed=allowed, wait=max(1, ceil(answers.wait)))

    def close(self) -> None:
        """Tell what is not told yet; nothing is answered any more."""
        if self.telemetry:
            self.telemetry.close()
        if self.recorder:
            self.recorder.step(now=True)

    async def forecast(
        self, live: Live, read: Callable[[bytes], Asked], write: Callable[[Asked, Prediction], bytes], body: bytes
    ) -> bytes:
        """Read, forecast with whoever else is waiting, write: all by the one bundle that the request has taken.

        Raises
        ------
        RequestError
            The server is not ready, or too many wait.
        TsforecastError
            The body cannot be read or answered.
        """
        self.admit(live)  # again: others that came with it may have taken the last place
        reading: Read = partial(read, body)

        def told(request: Asked, found: Prediction) -> bytes:
            answer = write(request, found)
            self.metrics.fallback.labels(live.name).inc(int((request.series < 0).sum()))
            try:
                live.monitor.seen(request, found)
            except Exception:
                log.exception("whoever looks on at forecasts failed")
            if self.recorder:
                self.recorder.add(live, request)
            return answer

        parts = self.telemetry.parts(reading, told) if self.telemetry else (reading, told)
        return await live.answers.forecast(*parts, large=len(body) > SMALL)  # then in a thread


def create_app(answers: Factory = Batcher) -> FastAPI:
    """The app; its server starts with the ASGI lifespan, or by `app.state.server.start()`."""
    server = Server(answers)
    app = FastAPI(
        title="tsforecast",
        version=tsforecast.__version__,
        description=str(__doc__),
        redirect_slashes=False,
        openapi_url=None,  # FastAPI's knows of no bundle, and its pages need scripts of another host
        telemetry={"tracing": False, "metrics": False, "logs": False},  # each request is told once, by `Telemetry`
    )
    app.state.server = server
    app.add_middleware(Front, server=server)
    if origins := names(CORS):  # around all the rest: a browser asks whether it may before it sends a key
        app.add_middleware(CORSMiddleware, allow_origins=origins, **_CORS)
    app.router.route_class = Plain

    @app.post("/forecast", operation_id="forecast", responses=REFUSED | {200: {"model": Answer}})
    async def forecast(request: Request) -> Response:
        """Forecast one or many series from their latest rows."""
        live: Live = request.scope["live"]
        content = await server.forecast(live, live.engine.read, live.engine.write, await request.body())
        return Response(content, media_type="application/json")

    @app.post("/forecast_csv", response_class=Response, responses=REFUSED | CSV)
    async def forecast_csv(request: Request) -> Response:
        """A CSV file in, as the body or as the form field `file`; a CSV file out."""
        live, query = cast(Live, request.scope["live"]), request.query_params
        horizon = _number(query["horizon"]) if "horizon" in query else None
        parts = query["levels"].split(",") if query.get("levels") else []
        levels = [_number(part) for part in parts] if "levels" in query else None
        body = await _file(request, server.settings)
        headers = {"X-Tsforecast-Digest": str(live.engine.bundle.digest)}

        def write(asked: Asked, answer: Prediction) -> bytes:
            if asked.warnings:
                headers["X-Tsforecast-Warnings"] = json.dumps([text[:1000] for text in asked.warnings])
            return live.engine.write_csv(asked, answer)

        content = await server.forecast(live, lambda raw: live.engine.read_csv(raw, horizon, levels), write, body)
        return Response(content, headers=headers, media_type="text/csv")

    @app.post("/actuals", operation_id="actuals", responses=REFUSED | {200: {"model": Matched}})
    async def actuals(request: Request) -> Response:
        """What came true, laid out as a history: held against what was forecast of it."""
        live, body = cast(Live, request.scope["live"]), await request.body()
        return as_json(await asyncio.to_thread(lambda: live.monitor.kept.match(live.engine.read_actuals(body))))

    add_admin(app, server)
    app.add_exception_handler(HTTPException, no_route)
    add_about(app, server)
    add_kserve(app, server)
    add_page(app)
    plain = [route for route in app.routes if isinstance(route, Plain)]
    server.endpoints = {(method, route.path): route.endpoint for route in plain for method in route.methods or ()}
    return app


async def _file(request: Request, settings: Settings) -> bytes:
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await request.body()
    allowed = "one field called file, in UTF-8"
    try:
        async with request.form(max_files=1, max_fields=1, max_part_size=int(settings.max_body * 2**20)) as form:
            if [name for name, _ in form.multi_items()] != ["file"]:
                raise RequestError("a form is one file", where="body", got=[*form] or "nothing", allowed=allowed)
            file = form["file"]
            return file.encode() if isinstance(file, str) else await file.read()
    except (UnicodeError, LookupError, HTTPException) as error:
        got = error.detail if isinstance(error, HTTPException) else error
        raise RequestError("the form cannot be read", where="body", got=got, allowed=allowed) from None


def _number(text: str) -> Any:
    """A parameter as JSON would have it; what is none stays text, and is refused where the bounds are known."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if given is None or text != text.strip() else given


app = create_app()
