"""KServe's time series protocol, mapped onto the same engine.

| inputs[i].series, from start_timestamp on  |  history: a series of that name, a row each step
| options.horizon, options.quantiles         |  horizon; of the quantiles of the bundle

The numbers are those of `/forecast`; covariates, and steps such as 15 minutes, have no place in the protocol.
https://kserve.github.io/website/docs/reference/time_series/api
"""

from __future__ import annotations

import asyncio
import reprlib
import time
import uuid
from collections import defaultdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
import orjson
import pandas as pd
from fastapi import Body, FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tsforecast.bundle.request import Prediction
from tsforecast.bundle.request import Request as Asked
from tsforecast.data.frequency import ahead, parse
from tsforecast.errors import RequestError
from tsforecast.fallback import NAME
from tsforecast.serving.body import Table, check_once
from tsforecast.serving.engine import Engine
from tsforecast.serving.openapi import REFUSED

if TYPE_CHECKING:
    from tsforecast.serving.asgi import Server

Kind = Literal["univariate_time_series", "multivariate_time_series"]
Short = Literal["S", "T", "H", "D", "W", "M", "Q", "Y"]
Long = Literal["second", "minute", "hour", "day", "week", "month", "quarter", "year"]
_STEPS = dict(zip(("s", "min", "h", "D", "W", "MS", "QS", "YS"), get_args(Short), strict=True))  # as pandas calls them
_STEPS |= {"ME": "M", "QE": "Q", "YE": "Y"}
_NAMES = dict(zip(get_args(Long), get_args(Short), strict=True))
_LARGE = 64 * 1024  # bytes of a body that is parsed in a thread
_BODY: Any = Body(None)
_FIRST: Any = Field(fail_fast=True)  # an error takes a kilobyte, and a body has room for millions
_SOME: Any = Field(fail_fast=True, min_length=1)
_Values = Annotated[list[float | None], _SOME]


class _Closed(BaseModel):
    """Of a request: what is not read is not taken."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TimeSeriesInput(_Closed):
    """A series from its first row on; of several channels a row holds all, in the order of the model."""

    type: Kind
    name: str
    series: _Values | Annotated[list[_Values], _SOME]
    frequency: Long | Short
    start_timestamp: str


class ForecastOptions(_Closed):
    """How many steps, and which quantiles beside the point."""

    horizon: int = Field(ge=1)
    quantiles: Annotated[list[float], _FIRST] | None = None


class ForecastRequest(_Closed):
    """A request to the bundle that is served by the name in `model`; `metadata` is not read."""

    model: str
    inputs: list[TimeSeriesInput] = Field(min_length=1, fail_fast=True)
    options: ForecastOptions
    metadata: dict[str, Any] | None = None


class TimeSeriesForecast(BaseModel):
    """Of one series, from its first step on; `mean_forecast` is the point that `/forecast` gives."""

    type: Kind
    name: str
    mean_forecast: list[float] | list[list[float]]
    frequency: str
    start_timestamp: str
    quantiles: dict[str, list[float] | list[list[float]]] | None = None
    fallback: str | None = None


class ForecastOutput(BaseModel):
    """Of one input."""

    type: str
    id: str
    status: str
    content: list[TimeSeriesForecast]


class ForecastResponse(BaseModel):
    """The forecasts in the order of the inputs, and by which bundle they are."""

    id: str
    created_at: int
    status: str
    model: str
    outputs: list[ForecastOutput]
    version: str
    digest: str
    warnings: list[str]


def parsed(body: bytes) -> ForecastRequest:
    """A body as a request of the protocol; a RequestError where it is none."""
    try:
        found = ForecastRequest.model_validate_json(body)
    except ValidationError as error:
        many = {"loc": (), "input": f"{error.error_count()} errors", "msg": "other keys than those of the protocol"}
        first = many if error.error_count() > 1000 else error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if "[" not in str(part)) or "body"
        what, got = "this is no request of KServe's time series protocol", reprlib.repr(first["input"])[:100]
        raise RequestError(what, where=where, got=got, allowed=first["msg"]) from None
    keys = sum(len(each.model_fields_set) for each in (found, found.options, *found.inputs))
    if found.metadata or body.count(b'"') != 2 * (keys + 1 + 4 * len(found.inputs)):  # see `check_keys`
        check_once(body)
    return found


def read(engine: Engine, given: ForecastRequest) -> Asked:
    """What is asked of a bundle.

    Raises
    ------
    RequestError
        The bundle needs what the protocol has no place for, or the series are not laid out as its own.
    DataError
        The rows cannot be forecast from.
    """
    bundle, schema = engine.bundle, engine.bundle.schema
    step, fix = parse(bundle.freq), f"POST /models/{given.model}/forecast"
    unit = _STEPS.get(step.rule_code.partition("-")[0]) if step.n == 1 else None
    if lacking := [*schema.past, *schema.known, *schema.static, *([] if unit else [f"steps of {bundle.freq}"])]:
        what = "this bundle needs what KServe's protocol has no place for"
        raise RequestError(what, where="model", got=lacking, fix=fix)
    quantiles(engine, given)
    names, columns = [each.name for each in given.inputs], defaultdict[str, list[Any]](list)
    if len({*names}) < len(names) or (schema.id is None and len(names) > 1):
        allowed = "each name once" if schema.id else "one: its channels are the columns of a multivariate series"
        raise RequestError("these are not the series of this bundle", where="inputs", got=names, allowed=allowed)
    for i, each in enumerate(given.inputs):
        where, width = f"inputs.{i}", len(bundle.channels)
        if _NAMES.get(each.frequency, each.frequency) != unit:
            what = "the bundle has another frequency"
            raise RequestError(what, where=f"{where}.frequency", got=each.frequency, allowed=unit)
        rows, one = each.series, each.type == "univariate_time_series"
        widths = {len(row) if isinstance(row, list) else -1 for row in rows}
        if widths - {-1 if one else width} or (one and width > 1):
            what, allowed = "the rows are not as wide as the bundle", f"{width} in a row: {', '.join(bundle.channels)}"
            raise RequestError(what, where=f"{where}.series", got=each.type, allowed=allowed)
        columns[schema.stamp] += _stamps(f"{where}.start_timestamp", each.start_timestamp, len(rows), engine)
        by_channel = [rows] if one else zip(*rows, strict=True)
        for channel, cells in zip(bundle.channels, by_channel, strict=True):
            columns[channel] += cells
        if schema.id:
            columns[schema.id] += [each.name] * len(rows)
    horizon, _ = bundle.asked(given.options.horizon)
    return engine.asked({"history": Table("history", columns, 1)}, horizon)


def _stamps(where: str, text: str, rows: int, engine: Engine) -> list[str]:
    """The timestamps of so many rows, as text that is read like any other."""
    try:
        given = pd.DatetimeIndex([datetime.fromisoformat(text)])
        local = engine.bundle.schema.local(given)  # None: a zone, or its lack, that is refused like any other
        start = (given if local is None else local)[0]
        return [stamp.isoformat() for stamp in (start, *ahead(start, rows - 1, parse(engine.bundle.freq)))]
    except (ValueError, OverflowError):
        what, allowed = "this is no timestamp of a first row", "2024-12-31T22:00:00, and rows within pandas' range"
        raise RequestError(what, where=where, got=text[:100], allowed=allowed) from None


def quantiles(engine: Engine, given: ForecastRequest) -> dict[str, int]:
    """The quantiles that are asked for, and their places among those of the bundle; a RequestError of another."""
    places = {round(level, 9): i for i, level in enumerate(engine.bundle.quantile_levels)}
    asked = given.options.quantiles or ()
    if wrong := [level for level in asked if round(level, 9) not in places]:
        what, allowed = "the bundle has no such quantile", [*places] or "none"
        raise RequestError(what, where="options.quantiles", got=wrong, allowed=allowed)
    return {str(level): places[round(level, 9)] for level in asked}


def write(engine: Engine, given: ForecastRequest, request: Asked, found: Prediction) -> bytes:
    """The answer, with the numbers of `Engine.write`."""
    panel, outputs = request.panel, []
    place = {name: i for i, name in enumerate(panel.ids)} if engine.bundle.schema.id else {}
    for each in given.inputs:
        i, one = place.get(each.name, 0), each.type == "univariate_time_series"

        def shown(values: np.ndarray, one: bool = one) -> np.ndarray:  # [H C]
            return np.ascontiguousarray(values[: request.horizon, 0] if one else values[: request.horizon])

        content = {
            "type": each.type,
            "name": each.name,
            "mean_forecast": shown(found.point[i]),
            "frequency": each.frequency,
            "start_timestamp": panel.time[panel.offsets[i] + engine.bundle.context].isoformat(),
        }
        if request.series[i] < 0:
            content["fallback"] = NAME
        if found.quantiles is not None and given.options.quantiles:
            told = quantiles(engine, given).items()
            content["quantiles"] = {level: shown(found.quantiles[i, ..., q]) for level, q in told}
        about = {"type": "time_series_forecast", "id": uuid.uuid4().hex, "status": "completed"}
        outputs.append({**about, "content": [content]})
    body = {
        "id": uuid.uuid4().hex,
        "created_at": int(time.time()),
        "status": "completed",
        "model": given.model,
        "outputs": outputs,
        "version": engine.version,
        "digest": engine.bundle.digest,
        "warnings": request.warnings,
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def add_kserve(app: FastAPI, server: Server) -> None:
    """Add the route."""

    @app.post(
        "/v1/timeseries/forecast",
        responses=REFUSED | {200: {"model": ForecastResponse}},
        openapi_extra={"requestBody": {"required": True}},
    )
    async def timeseries_forecast(request: Request, _body: ForecastRequest = _BODY) -> Response:
        """KServe's time series protocol: the same forecasts, of bundles without covariates."""
        body = await request.body()
        given = await asyncio.to_thread(parsed, body) if len(body) > _LARGE else parsed(body)
        await server.take(request.scope, given.model)
        live = request.scope["live"]
        content = await server.forecast(
            live, lambda _: read(live.engine, given), partial(write, live.engine, given), body
        )
        return Response(content, media_type="application/json")
