"""The OpenAPI document: FastAPI writes it from the routes and these shapes, a bundle adds its bounds and examples."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, create_model

from tsforecast.serving.engine import Engine
from tsforecast.serving.refusals import KINDS

Cell = float | str | None
Table = list[dict[str, Cell]] | dict[str, list[Cell]]
Numbers = dict[str, list[float]]


class Interval(BaseModel):
    """Bounds of every channel, one a step."""

    lower: Numbers
    upper: Numbers


class SeriesForecast(BaseModel):
    """Of one series; intervals by their level, `90`."""

    series: str | None
    cutoff: str
    timestamps: list[str]
    point: Numbers
    intervals: dict[str, Interval]


class Answer(BaseModel):
    """The forecasts of all series of a request."""

    model: str | None
    version: str
    digest: str
    freq: str
    channels: list[str]
    levels: list[float]
    warnings: list[str]
    forecasts: list[SeriesForecast]


class Error(BaseModel):
    """What is wrong, where, what was got, what is allowed, and how to mend it."""

    code: str
    message: str
    where: str | None
    got: str | None
    allowed: str | None
    fix: str | None


_SHAPE = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
REFUSED: dict[int | str, dict[str, Any]] = {status: {"content": _SHAPE} for status in sorted({*KINDS, 422} - {500})}
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


class Plain(APIRoute):
    """A route whose endpoint reads the request itself: there is nothing for FastAPI to resolve or validate."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint."""
        return self.endpoint


def add_bundle(document: dict[str, Any], engine: Engine) -> None:
    """What a document says of one bundle: the tables and bounds of a request, and the golden one as an example."""
    bundle, levels = engine.bundle, [float(level) for level in engine.bundle.intervals]
    some: dict[str, Any] = {"uniqueItems": True, "items": {"type": "number"} | ({"enum": levels} if levels else {})}
    fields: dict[str, Any] = {"history": (Table, ...)}
    fields |= {"known_future": (Table, ...)} if bundle.schema.known else {}
    fields |= {"static": (Table, None)} if bundle.schema.static else {}  # it may also be repeated in the history
    fields["horizon"] = Annotated[int, Field(ge=1, le=bundle.dims.horizon)], None
    fields["levels"] = Annotated[list[float], Field(max_length=len(levels), json_schema_extra=some)], None
    request = create_model("Request", __config__=ConfigDict(extra="forbid"), **fields).model_json_schema()
    document["components"]["schemas"] |= {"Request": request, "Error": Error.model_json_schema()}
    for each in request["properties"].values():
        each.pop("default", None)  # null, which is not of its type
    example = {"value": engine.example, "summary": "the latest rows of training, as column lists"}
    file = {"type": "string", "contentMediaType": "text/csv"}
    form = {"type": "object", "required": ["file"], "properties": {"file": file}}
    as_csv = {"schema": {"type": "string"}, "examples": {"golden": {"value": engine.example_csv}}}
    as_json = {"schema": {"$ref": "#/components/schemas/Request"}, "examples": {"golden": example}}
    json, csv = (document["paths"][path]["post"] for path in ("/forecast", "/forecast_csv"))
    json["requestBody"] = {"required": True, "content": {"application/json": as_json}}
    csv["requestBody"] = {"required": True, "content": {"text/csv": as_csv, "multipart/form-data": {"schema": form}}}
    csv["parameters"] = [
        {"name": name, "in": "query", "schema": request["properties"][name], "style": "form", "explode": False}
        for name in ("horizon", "levels")
    ]
