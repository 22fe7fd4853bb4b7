"""The engine: one bundle, loaded and held to its golden answer; requests as JSON or CSV in, forecasts likewise out.

{"history": [{"date": "2018-06-26T19:00:00", "OT": 9.5, ...}, ...]      records, or
 "history": {"date": [...], "OT": [...]},                               column lists
 "known_future": ..., "static": ...,                                    laid out likewise, where the model has them
 "horizon": 24, "levels": [90]}                                         optional: fewer steps, some of the intervals
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
from jaxtyping import Float

import tsforecast
from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.request import Prediction, Request
from tsforecast.data.arrays import Arrays
from tsforecast.data.columns import Problems, stamp_columns
from tsforecast.data.frames import to_panel
from tsforecast.data.panel import Panel
from tsforecast.data.tables import read_csv
from tsforecast.errors import BundleError, RequestError, TsforecastError, nearest
from tsforecast.fallback import NAME
from tsforecast.serving.body import Table, check_keys

log = logging.getLogger(__name__)
_TABLES = ("history", "known_future", "static")
_KEYS = (*_TABLES, "horizon", "levels")


@dataclass(frozen=True)
class Engine:
    """Reads requests to one bundle and writes its answers; it keeps no state between them.

    Attributes
    ----------
    ready
        Whether the golden request gave the golden answer.
    seconds
        What a forecast of one series took when warm.
    """

    bundle: Bundle
    ready: bool = False
    seconds: float = 0.0

    @classmethod
    def open(cls, path: Path) -> Engine:
        """Load the bundle in a directory, warm up, and check the golden answer.

        Raises
        ------
        BundleError
            It cannot be loaded, or holds no golden request.
        """
        bundle = Bundle.load(path)
        if bundle.golden is None:
            what = "the bundle holds no golden request, so nothing could tell whether it is served right"
            fix = "train again, or golden.with_golden(bundle, panel).save(path)"
            raise BundleError(what, where=bundle.path, fix=fix)
        return cls(bundle).checked()

    def checked(self) -> Engine:
        """The engine with `ready` as the golden request finds it."""
        stored, body, took = self.bundle.golden or {}, orjson.dumps(self.example), []
        try:
            for _ in range(3):
                request = self.read(body)
                began = time.perf_counter()
                (answer,) = self.bundle.predictions([request])
                took.append(time.perf_counter() - began)
                if isinstance(answer, TsforecastError):
                    raise answer
                self.write(request, answer)
                for name, got in (("values", answer.point), ("quantiles", answer.quantiles)):
                    if not _close(got, stored.get(name)):
                        raise BundleError(f"it gave other {name} than are stored in the bundle", where=self.bundle.path)
            if "probe" in stored and not _close(golden.means(self.bundle), stored["probe"]):
                raise BundleError("drawn histories have other forecasts than are stored", where=self.bundle.path)
        except TsforecastError as error:
            log.error("not ready: the golden request failed: %s", error)
            return self
        return replace(self, ready=True, seconds=min(took))

    @cached_property
    def example(self) -> dict[str, Any]:
        """The golden request: one that runs as it stands."""
        stored = self.bundle.golden or {}
        return {name: stored[name] for name in _TABLES if name in stored}

    @cached_property
    def example_csv(self) -> str:
        """The golden request as a CSV file."""
        tables = {name: pd.DataFrame(columns) for name, columns in self.example.items()}
        return str(golden.joined(tables, self.bundle.schema.id).to_csv(index=False))

    @cached_property
    def _of_json(self) -> Bundle:
        return replace(self.bundle, schema=replace(self.bundle.schema, closed=True, date_format=None))  # it is ISO 8601

    @property
    def version(self) -> str:
        """The start of the digest: the same bundle has the same version wherever it is kept."""
        return str(self.bundle.digest)[:12]

    def describe(self) -> dict[str, Any]:
        """What a caller has to know of the model."""
        bundle, schema = self.bundle, self.bundle.schema
        per_series = schema.id is not None and bundle.features.scaler.scope == "series"
        columns = ("layout", "time", "id", "freq", "timezone", "past", "known", "static")
        return {
            "model": bundle.metadata.get("name"),
            "version": self.version,
            "digest": bundle.digest,
            "tsforecast": tsforecast.__version__,
            "context": bundle.context,
            "least": bundle.least,
            "short": NAME if bundle.fallback else "error",
            "horizon": bundle.dims.horizon,
            "channels": bundle.channels,
            **{name: getattr(schema, name) for name in columns},
            "categories": bundle.features.categories,
            "missing": {name: bundle.missing.get(name, 0) for name in (*bundle.channels, *schema.past)},
            "levels": [float(level) for level in bundle.intervals],
            "series": len(bundle.features.ids) if per_series else None,
            "units": dict(schema.units),
            "csv": {name: getattr(schema, name) for name in ("sep", "decimal", "thousands", "date_format", "unsorted")},
            "trained_until": bundle.metadata.get("chosen_until"),
            "scores": bundle.metadata.get("scores", {}),
            "evaluation": bundle.metadata.get("evaluation"),
        }

    def read(self, body: bytes) -> Request:
        """A JSON body as a request.

        Raises
        ------
        RequestError
            It is not JSON, or not of the shape above.
        DataError
            The rows in it cannot be forecast from; the message lists all that is wrong.
        """
        given = _object(body, _KEYS)
        tables = {name: Table.of(given[name], name, body) for name in _TABLES if given.get(name) is not None}
        _check_given(tables, "history")
        horizon, levels = self.bundle.asked(given.get("horizon"), given.get("levels"))
        found = self.asked(tables, horizon, levels)
        check_keys(body, len(given), tables.values())
        return found

    def asked(self, tables: dict[str, Table], horizon: int, levels: tuple[str, ...] | None = None) -> Request:
        """What is asked of tables of JSON; a DataError where the rows in them cannot be forecast from."""
        panel = self.panel(self._of_json, self.frames(tables))
        return self.bundle.request(panel, horizon, levels, lacking="error")

    def read_csv(self, body: bytes, horizon: int | None = None, levels: Sequence[Any] | None = None) -> Request:
        """A CSV file as a request: the rows of `golden.example`, known futures behind the history.

        Raises
        ------
        DataError
            It cannot be read or forecast from.
        """
        steps, names = self.bundle.asked(horizon, levels)
        frame = read_csv(body, "the file", self.bundle.schema)
        panel = self.panel(self.bundle, dict(zip(_TABLES, golden.split(self.bundle, frame), strict=True)))
        return self.bundle.request(panel, steps, names, lacking="error")

    def read_actuals(self, body: bytes) -> Panel:
        """What came true, laid out as a history: `{"actuals": rows}`; covariates in it are not looked at.

        Raises
        ------
        RequestError
            It is not JSON, or not of this shape.
        DataError
            The rows cannot be read; the message lists all that is wrong.
        """
        given, schema = _object(body, ("actuals",)), self._of_json.schema
        _check_given(given, "actuals")
        table = Table.of(given["actuals"], "actuals", body)
        beside = [name for name in (*schema.past, *schema.known, *schema.static) if name in table.columns]
        table.check_names([*stamp_columns(table.columns, schema), *schema.key, *schema.target, *beside])
        own = replace(schema, past=(), known=(), static=(), categorical=(), gaps="fill")
        arrays = table.arrays(schema)
        check_keys(body, len(given), [table])
        columns = {name: cells for name, cells in arrays.columns.items() if name not in beside}
        problems = Problems("actuals", 0, None)
        return to_panel(replace(arrays, columns=columns), own, problems, for_training=False)

    def frames(self, tables: dict[str, Table]) -> dict[str, Arrays]:
        """The tables of a JSON body, once all have the columns that they are to have: there may be very many others."""
        schema = self.bundle.schema
        self.bundle.check_covariates(**{name: table.columns for name, table in tables.items() if name != "history"})
        repeated = () if "static" in tables else schema.static
        own = {"history": (*schema.target, *schema.past, *schema.known, *repeated), "known_future": schema.known}
        for name, table in tables.items():
            stamps = () if name == "static" else stamp_columns(table.columns, schema)
            table.check_names([*stamps, *schema.key, *own.get(name, schema.static)])
        return {name: table.arrays(schema) for name, table in tables.items()}

    def panel(self, bundle: Bundle, tables: Mapping[str, Any]) -> Panel:
        """Rows with those to forecast with every problem told: rows of JSON count from 0, others as in their file."""
        parts = {name: table for name, table in tables.items() if table is not None}
        first = {name: t.index.to_numpy() + 2 if isinstance(t, pd.DataFrame) else 0 for name, t in parts.items()}
        history, future = parts["history"], parts.get("known_future")
        panel = bundle.panel(history, static=parts.get("static"), first_row=first["history"])
        return bundle.with_future(panel, future, first_row=first.get("known_future", 0))

    def write(self, request: Request, found: Prediction) -> bytes:
        """The answer as JSON: numbers are float32 with the fewest digits that tell them apart."""
        bundle, panel, steps = self.bundle, request.panel, slice(0, request.horizon)
        n, context = len(panel), bundle.context

        def named(values: Float[np.ndarray, "N H C"]) -> list[dict[str, np.ndarray]]:
            rows = np.ascontiguousarray(values[:, steps].transpose(0, 2, 1))
            return [dict(zip(bundle.channels, each, strict=True)) for each in rows]

        stamps: Any = panel.time.asi8.reshape(n, -1)[:, context - 1 : context + request.horizon]
        if (zone := panel.time.tz) is None:
            stamps = stamps.view("datetime64[ns]")
        else:
            stamps = [[stamp.isoformat() for stamp in pd.DatetimeIndex(each, tz=zone)] for each in stamps]
        point, spread = named(found.point), {}
        levels = tuple(bundle.intervals) if request.levels is None else request.levels
        if found.quantiles is not None:
            spread = {level: [named(found.quantiles[..., q]) for q in bundle.intervals[level]] for level in levels}
        forecasts = [
            {
                "series": name if bundle.schema.id else None,
                "cutoff": stamps[i][0],
                "timestamps": stamps[i][1:],
                "point": point[i],
                "intervals": {level: {"lower": low[i], "upper": high[i]} for level, (low, high) in spread.items()},
                **({"fallback": NAME} if request.series[i] < 0 else {}),
            }
            for i, name in enumerate(panel.ids)
        ]
        body = {
            "model": bundle.metadata.get("name"),
            "version": self.version,
            "digest": bundle.digest,
            "freq": bundle.freq,
            "channels": bundle.channels,
            "levels": [float(level) for level in levels],
            "warnings": request.warnings,
            "forecasts": forecasts,
        }
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)

    def write_csv(self, request: Request, found: Prediction) -> bytes:
        """The answer as a CSV file laid out as the bundle's own data: wide or long."""
        forecast = request.answer(self.bundle, found)
        wide = self.bundle.schema.layout == "wide"
        frame = forecast.to_wide(self.bundle.schema.stamp) if wide else forecast.to_frame()
        return frame.to_csv(index=False).encode()


def _object(body: bytes, keys: Sequence[str]) -> dict[str, Any]:
    """A body of JSON with these keys and no others."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        allowed = "a JSON object; a missing value is null, infinity cannot be told"
        raise RequestError("the body is not JSON", code="json", where="body", got=str(error), allowed=allowed) from None
    if not isinstance(given, dict):
        got, allowed = type(given).__name__, f"an object with {', '.join(keys)}"
        raise RequestError("the body is not a JSON object", where="body", got=got, allowed=allowed)
    if unknown := [key for key in given if key not in keys]:
        near = nearest(unknown[0], keys)
        what, fix = "there is no such key in a request", near and f"did you mean {near}?"
        raise RequestError(what, where="body", got=unknown[0], allowed=keys, fix=fix)
    return given


def _check_given(given: Mapping[str, Any], name: str) -> None:
    if given.get(name) is None:
        allowed = "records or column lists"
        raise RequestError(f"a request needs {name}", where=name, got="nothing", allowed=allowed)


def _close(got: np.ndarray | None, stored: Any) -> bool:
    """Equal but for the last bits, in which processors differ."""
    if got is None or stored is None:
        return got is stored
    wanted = np.asarray(stored, dtype=np.float32)
    return got.shape == wanted.shape and bool(np.all(np.abs(got - wanted) <= 1e-5 * np.abs(wanted).max(initial=1e-6)))
