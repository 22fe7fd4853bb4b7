"""What a server tells of itself and of what it serves: probes, counters, and the document that is the contract."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.responses import PlainTextResponse

from tsforecast.serving.openapi import ABOUT, UNREAD, Description, Drift, Models, Status, add_bundle, add_keys
from tsforecast.serving.refusals import as_json
from tsforecast.serving.routes import Place

if TYPE_CHECKING:
    from tsforecast.serving.asgi import Server

# What a caller can do without: how much was trained on, until when, and how well that can be forecast.
_OF_TRAINING: dict[str, Any] = {"trained_until": None, "series": None, "scores": {}, "evaluation": None}


def add_about(app: FastAPI, server: Server) -> None:
    """Add the routes."""

    @app.get("/models", responses=UNREAD | {200: {"model": Models}})
    async def models(_: Request) -> Response:
        """The names of what is served; `/models/{name}/openapi.json` describes each."""
        return as_json({"models": server.shelf.describe()})

    @app.get("/model", responses=ABOUT | {200: {"model": Description}})
    async def model(request: Request) -> Response:
        """What is served: columns, rows needed, horizon, intervals, scores."""
        told = request.scope["live"].engine.describe()
        return as_json(told | _OF_TRAINING if server.settings.minimal else told)

    @app.get("/drift", responses=ABOUT | {200: {"model": Drift}})
    async def drift(request: Request) -> Response:
        """Whether what this process is asked, and how far it is off, still is as in training, and why not."""
        told = await asyncio.to_thread(request.scope["live"].monitor.report)
        return as_json(_without_figures(told) if server.settings.minimal else told)

    @app.get("/livez", responses=UNREAD | {200: {"model": Status}})
    async def livez(_: Request) -> Response:
        """The process answers."""
        return as_json({"status": "alive"})

    @app.get("/readyz", responses=ABOUT | {200: {"model": Status}})
    async def readyz(request: Request) -> Response:
        """The golden request gave the golden answer, and the server is not about to stop."""
        server.check_ready(request.scope["live"])
        return as_json({"status": "ready"})

    @app.get("/metrics", response_class=PlainTextResponse, responses=UNREAD)
    async def metrics(_: Request) -> Response:
        """Counters in Prometheus' text format."""
        content, kind = await asyncio.to_thread(server.metrics.text)
        return Response(content, media_type=kind)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        document = deepcopy(app.openapi())  # what the routes say, once; with what the bundle adds it is told at once
        add_bundle(document, request.scope["live"].engine, examples=not server.settings.minimal)
        if (place := request.scope["place"]).prefix:  # what there is of one of several
            document["paths"] = {path: each for path, each in document["paths"].items() if Place.below(path)}
        add_keys(document, server.keys, place.prefix)
        if prefix := request.scope.get("root_path"):
            document["servers"] = [{"url": prefix}]
        return as_json(document)


def _without_figures(told: dict[str, Any]) -> dict[str, Any]:
    """What drift is told without how columns are spread, in training and in what others have asked."""
    reasons = [each | {"got": None, "usual": ""} for each in told["reasons"]]
    columns = {name: {"verdict": each["verdict"]} for name, each in told["columns"].items()}
    return told | {"reasons": reasons, "columns": columns, "errors": {}}
