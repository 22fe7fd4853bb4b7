"""The OpenAPI document: FastAPI writes it from the routes and these shapes, a bundle adds its bounds and examples."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from tsforecast.bundle.bundle import Bundle
from tsforecast.serving.body import may_hold
from tsforecast.serving.engine import Engine
from tsforecast.serving.keys import Keys
from tsforecast.serving.refusals import KINDS
from tsforecast.serving.routes import Place

Numbers = dict[str, list[float]]


class Interval(BaseModel):
    """Bounds of every channel, one a step."""

    lower: Numbers
    upper: Numbers


class SeriesForecast(BaseModel):
    """Of one series; intervals by their level, `90`; `fallback` says what stood in where the model could not."""

    series: str | None
    cutoff: str
    timestamps: list[str]
    point: Numbers
    intervals: dict[str, Interval]
    fallback: str | None = None


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


class Description(BaseModel):
    """What is served: `layout`, `time`, `id` and what follows are columns, `context` the rows that a forecast reads.

    `least` are those that a series needs. `short` is what forecasts one with fewer, or unknown; `error`: it is refused.
    """

    model: str | None
    version: str
    digest: str
    tsforecast: str
    context: int
    least: int
    short: str
    horizon: int
    channels: list[str]
    layout: str
    time: str | list[str]
    id: str | None
    freq: str
    timezone: str | None
    past: list[str]
    known: list[str]
    static: list[str]
    categories: dict[str, list[str | float]]
    missing: dict[str, int]
    levels: list[float]
    series: int | None
    units: dict[str, str]
    csv: dict[str, str | None]
    trained_until: str | None
    scores: dict[str, Any]
    evaluation: dict[str, Any] | None


class Served(BaseModel):
    """A name, and which bundle it is while that is in memory; it is loaded when it is asked for."""

    name: str
    default: bool
    loaded: bool
    version: str | None
    digest: str | None
    exact: str | None


class Models(BaseModel):
    """The names that stand in `/models/{name}/forecast`, and before every other path about a bundle."""

    models: list[Served]


class Reason(BaseModel):
    """Why a verdict is not `ok`; without a column it is about errors, or about how many series were too short."""

    verdict: str
    column: str | None
    what: str
    got: float | None
    usual: str


class Drift(BaseModel):
    """What one worker has seen: the last `window` rows of each series, and errors, beside training.

    While no series is `whole`, with so many rows, what is outside the range of training, or came again, is judged.
    """

    verdict: str
    reasons: list[Reason]
    since: str
    worker: int
    requests: int
    series: int
    whole: int
    rows: int
    window: int
    columns: dict[str, dict[str, Any]]
    errors: dict[str, Any]


class Matched(BaseModel):
    """How many values were given, how many of them had been forecast, and how many forecasts they are of."""

    values: int
    matched: int
    forecasts: int


class Status(BaseModel):
    """`alive`, or `ready`."""

    status: str


def _headers(**told: str) -> dict[str, Any]:
    return {name.replace("_", "-"): {"description": text, "schema": {"type": "string"}} for name, text in told.items()}


_WRONG = {
    400: "the body, its length or a parameter is none that is described here",
    422: "the data cannot be forecast from: all that is wrong with it",
}


def _refused(status: int) -> dict[str, Any]:
    """A refusal as the document has it; what is not HTTP is refused by the server below, in plain text."""
    what = _WRONG.get(status) or KINDS[status][1]
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    content |= {"text/plain": {"schema": {"type": "string"}}} if status == 400 else {}
    wait = _headers(Retry_After="seconds to wait")
    headers = {401: _headers(WWW_Authenticate="Bearer"), 429: wait, 503: wait}.get(status, {})
    return {"description": what, "content": content, "headers": headers}


Responses = dict[int | str, dict[str, Any]]
REFUSED: Responses = {status: _refused(status) for status in sorted({*KINDS, 422} - {401})}
UNREAD: Responses = {status: REFUSED[status] for status in (400, 413, 421, 429, 500)}  # of a route that reads no body
ABOUT: Responses = UNREAD | {status: REFUSED[status] for status in (404, 503)}  # and is about a bundle
_WARNINGS = "what is served although it looks wrong, a JSON list of texts"
_ABOUT = _headers(X_Tsforecast_Digest="of the bundle that answered", X_Tsforecast_Warnings=_WARNINGS)
CSV: Responses = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "headers": _ABOUT}}


class Plain(APIRoute):
    """A route whose endpoint reads the request itself: there is nothing for FastAPI to resolve or validate."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint."""
        return self.endpoint


_JSON = {str: "string", int: "integer", float: "number", type(None): "null"}  # the name of a type
_NOTHING = {"type": "null"}


def _object(properties: dict[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _table(bundle: Bundle, columns: Sequence[str], optional: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Records, or column lists, of these columns and no others."""
    kinds = may_hold(bundle.schema)
    cells = {name: {"type": sorted(_JSON[kind] for kind in kinds[name][0])} for name in columns}
    lists = {name: {"type": "array", "minItems": 1, "items": cell} for name, cell in cells.items()}
    return [{"type": "array", "minItems": 1, "items": _object(cells, optional)}, _object(lists, optional)]


def _request(bundle: Bundle, horizon: dict[str, Any], levels: dict[str, Any]) -> dict[str, Any]:
    """A request to one bundle: null is what is left out."""
    schema, own = bundle.schema, {"history": (*bundle.channels, *bundle.schema.past, *bundle.schema.known)}
    tables: dict[str, list[dict[str, Any]]] = {"history": [], "known_future": [], "static": []}
    for stamps in dict.fromkeys((schema.stamp_columns, (schema.stamp,))):  # in parts, or whole
        first = (*stamps, *schema.key)
        tables["history"] += _table(bundle, (*first, *own["history"], *schema.static), schema.static)
        tables["known_future"] += _table(bundle, (*first, *schema.known)) if schema.known else [_NOTHING]
    tables["static"] = [*_table(bundle, (*schema.key, *schema.static)), _NOTHING] if schema.static else [_NOTHING]
    properties: dict[str, Any] = {name: {"anyOf": shapes} for name, shapes in tables.items()}
    for name, each in (("horizon", horizon), ("levels", levels)):
        properties[name] = each | {"type": [each["type"], "null"]}
    optional = [name for name in properties if name != "history" and not (name == "known_future" and schema.known)]
    return _object(properties, optional)


def _actuals(bundle: Bundle) -> dict[str, Any]:
    """What came true: the rows of a history, with or without covariates."""
    schema, shapes = bundle.schema, list[dict[str, Any]]()
    beside = (*schema.past, *schema.known, *schema.static)
    for stamps in dict.fromkeys((schema.stamp_columns, (schema.stamp,))):
        shapes += _table(bundle, (*stamps, *schema.key, *bundle.channels, *beside), beside)
    return _object({"actuals": {"anyOf": shapes}})


def add_bundle(document: dict[str, Any], engine: Engine, examples: bool = True) -> None:
    """What a document says of one bundle: the tables and bounds of a request, and the golden one as an example."""
    bundle, percents = engine.bundle, [float(level) for level in engine.bundle.intervals]
    horizon = {"type": "integer", "minimum": 1, "maximum": bundle.dims.horizon}
    level: dict[str, Any] = {"type": "number"} | ({"enum": percents} if percents else {})
    levels = {"type": "array", "uniqueItems": True, "maxItems": len(percents), "items": level}
    request = _request(bundle, horizon, levels)
    schemas = {"Request": request, "Actuals": _actuals(bundle), "Error": Error.model_json_schema()}
    document["components"]["schemas"] |= schemas
    posted: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Actuals"}}
    posted["examples"] = {"golden": {"value": {"actuals": engine.example.get("history", {})}}}
    document["paths"]["/actuals"]["post"]["requestBody"] = {"required": True, "content": {"application/json": posted}}
    example = {"value": engine.example, "summary": "the latest rows of training, as column lists"}
    file = {"type": "string", "minLength": 1}
    form = {"schema": _object({"file": file | {"contentMediaType": "text/csv"}})}
    as_csv = {"schema": file, "examples": {"golden": {"value": engine.example_csv}}}
    as_json = {"schema": {"$ref": "#/components/schemas/Request"}, "examples": {"golden": example}}
    json, csv = (document["paths"][path]["post"] for path in ("/forecast", "/forecast_csv"))
    json["requestBody"] = {"required": True, "content": {"application/json": as_json}}
    csv["requestBody"] = {"required": True, "content": {"text/csv": as_csv, "multipart/form-data": form}}
    csv["parameters"] = [
        {"name": name, "in": "query", "schema": each, "style": "form", "explode": False}
        for name, each in (("horizon", horizon), ("levels", levels))
    ]
    if not examples:  # whatever the rows are an example of
        for operation in (each for path in document["paths"].values() for each in path.values()):
            for content in operation.get("requestBody", {}).get("content", {}).values():
                content.pop("examples", None)


def add_keys(document: dict[str, Any], keys: Keys, prefix: str = "") -> None:
    """What a document says of a server that wants keys, of paths behind a prefix."""
    if keys.digests:
        scheme = {
            "type": "http",
            "scheme": "bearer",
            "description": "A key of the owner of the server.",
        }
        document["components"]["securitySchemes"] = {"key": scheme}
    for path, operations in document["paths"].items():
        for operation in operations.values() if keys.needed(Place.of(prefix + path)) else ():
            operation["security"] = [{"key": []}]
            operation["responses"]["401"] = _refused(401)
