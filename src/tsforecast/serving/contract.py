"""The one request and the one response: JSON or CSV to a checked panel, forecasts back to JSON or CSV.

{"history": [{"date": "2018-06-26T19:00:00", "OT": 9.5, ...}, ...]      records, or
 "history": {"date": [...], "OT": [...]},                               column lists
 "known_future": ..., "static": ...,                                    laid out likewise, where the model has them
 "horizon": 24, "levels": [90]}                                         optional: fewer steps, some of the intervals
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import pandas as pd
from jaxtyping import Float

from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.request import Prediction, Request
from tsforecast.data.columns import Problems, channel_columns, check_closed
from tsforecast.data.panel import Panel
from tsforecast.data.tables import read_csv
from tsforecast.errors import DataError, RequestError, listed, nearest
from tsforecast.serving.body import Table, check_keys
from tsforecast.serving.plain import plain, step

KEYS = ("history", "known_future", "static", "horizon", "levels")


@dataclass(frozen=True)
class Contract:
    """Reads requests to a bundle and writes its answers."""

    bundle: Bundle

    @property
    def version(self) -> str:
        """The start of the digest: the same bundle has the same version wherever it is kept."""
        return str(self.bundle.digest)[:12]

    @cached_property
    def _step(self) -> int | None:
        return step(self.bundle)

    def read(self, body: bytes) -> Request:
        """A JSON body as a request.

        Raises
        ------
        RequestError
            It is not JSON, or not of the shape above.
        DataError
            The rows in it cannot be forecast from; the message lists all that is wrong.
        """
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            allowed = "a JSON object; a missing value is null, infinity cannot be told"
            raise RequestError("the body is not JSON", code="json", where="body", got=error, allowed=allowed) from None
        if not isinstance(given, dict):
            got, allowed = type(given).__name__, f"an object with {', '.join(KEYS)}"
            raise RequestError("the body is not a JSON object", where="body", got=got, allowed=allowed)
        if unknown := [key for key in given if key not in KEYS]:
            near = nearest(unknown[0], KEYS)
            what, fix = "there is no such key in a request", near and f"did you mean {near}?"
            raise RequestError(what, where="body", got=unknown[0], allowed=KEYS, fix=fix)
        tables = {name: Table.of(given[name], name) for name in KEYS[:3] if given.get(name) is not None}
        if "history" not in tables:
            allowed = "records or column lists"
            raise RequestError("a request needs a history", where="history", got="nothing", allowed=allowed)
        horizon, levels = self.bundle.asked(given.get("horizon"), given.get("levels"))
        panel, schema, history = None, self.bundle.schema, tables["history"].columns
        if len(tables) == 1 and self._step is not None:
            panel = plain(self.bundle, self._step, history)
        if panel is None:
            self._check_names(tables)
            panel = self._panel(**{name: table.frame(schema) for name, table in tables.items()}, first_row=0)
            strings = sum(kinds[str] for table in tables.values() for kinds in table.kinds.values())
        else:
            strings = len(history[schema.stamp]) * (2 if schema.id else 1)
        check_keys(body, len(given), tables.values(), strings)
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
        history, future, static = golden.split(self.bundle, frame)
        panel = self._panel(history, future, static)
        last = panel.target.reshape(len(panel), -1, len(self.bundle.channels))[:, self.bundle.context - 1]
        if (blank := np.isnan(last).all(axis=1)).any():  # null in JSON says that nothing was observed
            what = f"the last rows of {blank.sum()} series have no targets: are they history, or to be forecast?"
            known, fix = self.bundle.schema.known, "leave the other rows without targets out"
            ahead = f"the {self.bundle.dims.horizon} rows to forecast without targets"
            allowed = ahead if known else "a file that ends with an observation"
            raise DataError(what, where=self.bundle.channels, got=listed(panel.ids[blank]), allowed=allowed, fix=fix)
        return self.bundle.request(panel, steps, names, lacking="error")

    def _panel(
        self,
        history: pd.DataFrame,
        known_future: pd.DataFrame | None = None,
        static: pd.DataFrame | None = None,
        first_row: int = 2,
    ) -> Panel:
        """Rows with those to forecast by way of frames, which tells every problem; the first row of JSON is 0."""
        form = self.bundle.schema.date_format if first_row else None  # in JSON it is ISO 8601
        bundle = replace(self.bundle, schema=replace(self.bundle.schema, closed=True, date_format=form))
        panel = bundle.panel(history, static=static, first_row=first_row).tail(bundle.context)
        return bundle.with_future(panel, known_future, first_row=first_row)

    def _check_names(self, tables: Mapping[str, Table]) -> None:
        """Refuse columns by their names, of which there may be very many, before a cell is looked at."""
        schema = replace(self.bundle.schema, closed=True)
        named = {
            "known_future": {schema.id, schema.stamp, *schema.stamp_columns, *schema.known},
            "static": {schema.id, *schema.static},
        }
        for where, table in tables.items():
            problems = Problems(where, 0)
            if where == "history":
                channel_columns(table.head, schema, "static" not in tables, problems)
            else:
                self.bundle.check_covariates(**{where: table.head})
                check_closed([name for name in table.columns if name not in named[where]], problems)
            problems.stop("mend the data")
        twice = [name for name in schema.static if name in tables["history"].columns]
        if "static" in tables and twice:
            allowed = "in static, or repeated in every row of the history"
            what, fix = "static covariates stand in two places", "leave them out of one"
            raise DataError(what, where="history", got=twice, allowed=allowed, fix=fix)

    def write(self, request: Request, found: Prediction) -> bytes:
        """The answer as JSON: numbers are float32 with the fewest digits that tell them apart."""
        bundle, panel, steps = self.bundle, request.panel, slice(0, request.horizon)
        n, context = len(panel), bundle.context

        def named(values: Float[np.ndarray, "N H C"]) -> list[dict[str, np.ndarray]]:
            rows = np.ascontiguousarray(values[:, steps].transpose(0, 2, 1))
            return [dict(zip(bundle.channels, each, strict=True)) for each in rows]

        ahead = panel.time[(panel.offsets[:-1, None] + np.arange(context - 1, context + request.horizon)).ravel()]
        stamps: Any = ahead.to_numpy() if ahead.tz is None else np.array([stamp.isoformat() for stamp in ahead])
        stamps = stamps.reshape(n, -1) if ahead.tz is None else stamps.reshape(n, -1).tolist()
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
        forecast = self.bundle.answer(request, found)
        wide = self.bundle.schema.layout == "wide"
        frame = forecast.to_wide(self.bundle.schema.stamp) if wide else forecast.to_frame()
        return frame.to_csv(index=False).encode()
