"""Of version 2 of the Open Inference Protocol what asks for no tensors: is it alive, is it ready, what is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from tsforecast.serving.openapi import ABOUT, REFUSED, UNREAD
from tsforecast.serving.refusals import as_json

if TYPE_CHECKING:
    from tsforecast.serving.asgi import Server

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


def _tensors(**shapes: list[int]) -> list[dict[str, Any]]:
    """Arrays of any number of series, those of no columns left out."""
    return [{"name": name, "datatype": "FP32", "shape": [-1, *each]} for name, each in shapes.items() if each[-1]]


def add_oip(app: FastAPI, server: Server) -> None:
    """Add the routes."""

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
        inputs = _tensors(history=[bundle.context, channels], known_future=[ahead, len(bundle.schema.known)])
        outputs = _tensors(point=[ahead, channels], quantiles=[ahead, channels, len(bundle.quantile_levels)])
        about = {"name": request.scope["place"].name, "versions": [engine.version], "platform": "tsforecast"}
        return as_json({**about, "inputs": inputs, "outputs": outputs})
