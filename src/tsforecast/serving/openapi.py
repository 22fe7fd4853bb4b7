"""The OpenAPI document: the shapes of the contract, with the bundle's golden request as an example that runs."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tsforecast.serving.engine import Engine

_CELL = {"type": ["number", "string", "null"]}
_NUMBERS = {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "number"}}}


def document(app: FastAPI, engine: Engine) -> dict[str, Any]:
    """The document of an app that serves `engine`."""
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    bundle = engine.bundle
    levels = {"type": "array", "uniqueItems": True, "maxItems": len(bundle.intervals)}
    if bundle.intervals:
        levels["items"] = {"type": "number", "enum": [float(level) for level in bundle.intervals]}
    horizon = {"type": "integer", "minimum": 1, "maximum": bundle.dims.horizon}
    table = {"oneOf": [
        {"type": "array", "items": {"type": "object", "additionalProperties": _CELL}},
        {"type": "object", "additionalProperties": {"type": "array", "items": _CELL}},
    ]}  # fmt: skip
    optional = [
        name for name, names in (("known_future", bundle.schema.known), ("static", bundle.schema.static)) if names
    ]
    request = {
        "type": "object", "required": [name for name in ("history", *optional) if name != "static"],
        "additionalProperties": False,  # static covariates may also be repeated in the history
        "properties": {**dict.fromkeys(("history", *optional), table), "horizon": horizon, "levels": levels},
    }  # fmt: skip
    text = {"type": ["string", "null"]}
    error = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "string"},
            "message": {"type": "string"},
            "where": text,
            "got": text,
            "allowed": text,
            "fix": text,
        },
    }
    bounds = {"type": "object", "properties": {"lower": _NUMBERS, "upper": _NUMBERS}}
    answer = {"type": "object", "required": ["model", "version", "digest", "forecasts"], "properties": {
        "model": text, "version": {"type": "string"}, "digest": {"type": "string"}, "freq": {"type": "string"},
        "channels": {"type": "array", "items": {"type": "string"}},
        "levels": {"type": "array", "items": {"type": "number"}},
        "warnings": {"type": "array", "items": {"type": "string"}},
        "forecasts": {"type": "array", "items": {"type": "object", "properties": {
            "series": text, "cutoff": {"type": "string"}, "timestamps": {"type": "array", "items": {"type": "string"}},
            "point": _NUMBERS, "intervals": {"type": "object", "additionalProperties": bounds},
        }}},
    }}  # fmt: skip
    found["components"] = {"schemas": {"Request": request, "Answer": answer, "Error": error}}
    request_example = {"value": engine.example, "summary": "the latest rows of training, as column lists"}
    body: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Request"}, "examples": {"golden": request_example}}
    paths = found["paths"]
    about = "Forecast one or many series from their latest rows."
    paths["/forecast"] = {"post": {"summary": "Forecast", "description": about, "operationId": "forecast"}}
    paths["/forecast"]["post"]["requestBody"] = {"required": True, "content": {"application/json": body}}
    csv = {"schema": {"type": "string"}, "examples": {"golden": {"value": csv_example(engine)}}}
    file = {"type": "string", "contentMediaType": "text/csv"}
    form = {"schema": {"type": "object", "required": ["file"], "properties": {"file": file}}}
    paths["/forecast_csv"]["post"] |= {
        "requestBody": {"required": True, "content": {"text/csv": csv, "multipart/form-data": form}},
        "parameters": [{"name": "horizon", "in": "query", "schema": horizon},
                       {"name": "levels", "in": "query", "schema": levels, "style": "form", "explode": False}],
    }  # fmt: skip
    refused = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    shapes = {
        "/forecast": ("application/json", {"$ref": "#/components/schemas/Answer"}),
        "/forecast_csv": ("text/csv", {"type": "string"}),
        "/metrics": ("text/plain", {"type": "string"}),
    }
    for path, methods in paths.items():
        kind, shape = shapes.get(path, ("application/json", {"type": "object"}))
        for operation in methods.values():
            operation["responses"] = {"200": {"description": "as asked", "content": {kind: {"schema": shape}}}}
            if path.startswith("/forecast"):
                meaning = {
                    400: "not a request",
                    408: "the body did not arrive in time",
                    413: "too large",
                    415: "a body of another media type",
                    421: "for another host",
                    422: "rows that cannot be used",
                    429: "come back later",
                    503: "not ready",
                }
                operation["responses"] |= {str(code): {"description": why, **refused} for code, why in meaning.items()}
            elif path == "/readyz":
                operation["responses"]["503"] = {"description": "not ready", **refused}
    return dict(json.loads(json.dumps(found, default=list)))


def csv_example(engine: Engine) -> str:
    """The golden request as a CSV file."""
    import pandas as pd

    parts = {name: pd.DataFrame(columns) for name, columns in engine.example.items()}
    frame = pd.concat([parts[name] for name in ("history", "known_future") if name in parts])
    if "static" in parts:
        key = engine.bundle.schema.id
        frame = frame.merge(parts["static"], on=key) if key else frame.assign(**parts["static"].iloc[0])
    return str(frame.to_csv(index=False))
