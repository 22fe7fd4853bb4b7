"""What a server tells of itself and of what it serves: probes, counters, and the document that is the contract.

Probes and models stand below `/v2`, too, as version 2 of the Open Inference Protocol names them.
"""

from __future__ import annotations

import asyncio
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.responses import PlainTextResponse

from tsforecast.serving.openapi import ABOUT, REFUSED, UNREAD, Description, Drift, Models, Status, add_bundle, add_keys
from tsforecast.serving.refusals import as_json
from tsforecast.serving.routes import Place

if TYPE_CHECKING:
    from tsforecast.serving.asgi import Server

# What a caller can do without: how much was trained on, until when, and how well that can be forecast.
_OF_TRAINING: dict[str, Any] = {"trained_until": None, "series": None, "scores": {}, "evaluation": None}


_NAME = {"parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]}


class Live(BaseModel):
    """The process answers."""

    live: bool


class Ready(BaseModel):
    """It can be asked for forecasts; of one model, by its name."""

    name: str | None = None
    ready: bool


class Tensor(BaseModel):
    """An array; -1 stands for any number."""

    name: str
    datatype: str
    shape: list[int]


class Model(BaseModel):
    """What a forecast is made from, and what it is."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


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

    @app.get("/v2/health/live", responses=UNREAD | {200: {"model": Live}})
    async def health_live(_: Request) -> Response:
        """The process answers."""
        return as_json({"live": True})

    @app.get("/v2/health/ready", responses=UNREAD | {200: {"model": Ready}, 503: REFUSED[503]})
    async def health_ready(_: Request) -> Response:
        """As `/readyz`."""
        server.check_ready(server.slot.live)
        return as_json({"ready": True})

    @app.get("/v2/models/{name}/ready", responses=ABOUT | {200: {"model": Ready}}, openapi_extra=_NAME)
    async def model_ready(request: Request) -> Response:
        """As `/models/{name}/readyz`; one that is not in memory is loaded."""
        server.check_ready(request.scope["live"])
        return as_json({"name": request.scope["place"].name, "ready": True})

    @app.get("/v2/models/{name}", responses=ABOUT | {200: {"model": Model}}, openapi_extra=_NAME)
    async def model_metadata(request: Request) -> Response:
        """What the arrays of a bundle are; `/models/{name}/model` tells more."""
        engine = request.scope["live"].engine
        bundle = engine.bundle
        ahead, channels = bundle.dims.horizon, len(bundle.channels)
        rows = bundle.context if bundle.least == bundle.context else -1
        inputs = _tensors(history=[rows, channels], known_future=[ahead, len(bundle.schema.known)])
        outputs = _tensors(point=[ahead, channels], quantiles=[ahead, channels, len(bundle.quantile_levels)])
        about = {"name": request.scope["place"].name, "versions": [engine.version], "platform": "tsforecast"}
        return as_json({**about, "inputs": inputs, "outputs": outputs})


def _tensors(**shapes: list[int]) -> list[dict[str, Any]]:
    """Arrays of any number of series, those of no columns left out."""
    return [{"name": name, "datatype": "FP32", "shape": [-1, *each]} for name, each in shapes.items() if each[-1]]


def _without_figures(told: dict[str, Any]) -> dict[str, Any]:
    """What drift is told without how columns are spread, in training and in what others have asked."""
    reasons = [each | {"got": None, "usual": ""} for each in told["reasons"]]
    columns = {name: {"verdict": each["verdict"]} for name, each in told["columns"].items()}
    return told | {"reasons": reasons, "columns": columns, "errors": {}}
