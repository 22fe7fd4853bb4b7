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
from tsforecast.data.frames import to_panel
from tsforecast.data.panel import Panel
from tsforecast.data.tables import read_csv
from tsforecast.errors import DataError, RequestError, TsforecastError, listed, nearest
from tsforecast.serving.body import check_keys, columns_of, head, series_of
from tsforecast.serving.plain import MISSING, NUMBER, Columns, plain, step

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
            raise RequestError("the body is not a JSON object", where="body", got=type(given).__name__,
                               allowed=f"an object with {', '.join(KEYS)}")  # fmt: skip
        if unknown := [key for key in given if key not in KEYS]:
            key = unknown[0]
            near = nearest(key, KEYS)
            raise RequestError("there is no such key in a request", where="body", got=key, allowed=", ".join(KEYS),
                               fix=f"did you mean {near}?" if near else None)  # fmt: skip
        tables = {name: columns_of(given[name], name) for name in KEYS[:3] if given.get(name) is not None}
        if "history" not in tables:
            raise RequestError("a request needs a history", where="history", got="nothing",
                               allowed="records or column lists")  # fmt: skip
        horizon, levels = self.bundle.asked(given.get("horizon"), given.get("levels"))
        panel = None
        if len(tables) == 1 and self._step is not None:
            panel = plain(self.bundle, self._step, tables["history"])
        if panel is None:
            self._check_names(tables)
            frames = {name: self._frame(columns, name) for name, columns in tables.items()}
            panel = self._checked(**frames, first_row=0)
            strings = sum([*map(type, cells)].count(str) for table in tables.values() for cells in table.values())
        else:
            strings = len(tables["history"][self.bundle.schema.stamp]) * (2 if self.bundle.schema.id else 1)
        check_keys(body, given, tables, strings)
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
        panel = self._checked(history, future, static, first_row=2)
        last = panel.target.reshape(len(panel), -1, len(self.bundle.channels))[:, self.bundle.context - 1]
        if (blank := np.isnan(last).all(axis=1)).any():  # null in JSON says that nothing was observed
            raise DataError(
                f"the last rows of {int(blank.sum())} series have no targets: are they history, or to be forecast?",
                where=", ".join(self.bundle.channels[:5]),
                got=listed(panel.ids[blank]),
                allowed=f"the {self.bundle.dims.horizon} rows to forecast without targets"
                if self.bundle.schema.known
                else "a file that ends with an observation",
                fix="leave the other rows without targets out",
            )
        return self.bundle.request(panel, steps, names, lacking="error")

    def _checked(
        self, history: pd.DataFrame, known_future: pd.DataFrame | None = None, static: pd.DataFrame | None = None,
        *, first_row: int,
    ) -> Panel:  # fmt: skip
        """The whole panel by way of frames, which tells every problem."""
        bundle = self.bundle
        if not first_row:  # JSON, whose timestamps are ISO 8601
            bundle = replace(bundle, schema=replace(bundle.schema, date_format=None))
        bundle.check_covariates(known_future, static)
        if static is not None and (twice := [name for name in bundle.schema.static if name in history]):
            raise DataError("static covariates stand in two places", where="history", got=listed(twice),
                            allowed="in static, or repeated in every row of the history",
                            fix="leave them out of one")  # fmt: skip
        panel = to_panel(history, replace(bundle.schema, closed=True), static=static, where="history",
                         for_training=False, first_row=first_row, tail=bundle.context)  # fmt: skip
        return bundle.with_future(bundle.panel(panel).tail(bundle.context), known_future, first_row=first_row)

    def _check_names(self, tables: Mapping[str, Columns]) -> None:
        """Refuse columns by their names, of which there may be very many, before a cell is looked at."""
        schema = replace(self.bundle.schema, closed=True)
        heads = {where: head(columns, len(next(iter(columns.values()), ()))) for where, columns in tables.items()}
        problems = Problems("history", 0)
        channel_columns(heads.pop("history"), schema, "static" not in tables, problems)
        problems.stop("mend the data")
        self.bundle.check_covariates(**heads)
        stamps = (*schema.stamp_columns, schema.stamp, *self.bundle.schema.known)
        for where, named in (("known_future", stamps), ("static", self.bundle.schema.static)):
            problems = Problems(where, 0)
            check_closed([name for name in tables.get(where, ()) if name not in {schema.id, *named}], problems)
            problems.stop("mend the data")

    def _frame(self, columns: Columns, where: str) -> pd.DataFrame:
        """Column lists as a frame, once every cell has a type that its column may hold: no "1.5", no true."""
        schema, problems = self.bundle.schema, Problems(where, 0)
        for name, cells in columns.items():
            allowed: set[type] = {*NUMBER, MISSING}
            what = "numbers"
            if name in schema.stamp_columns or name == schema.stamp:
                one = name == schema.stamp
                allowed, what = {str if one else int}, "timestamps as text" if one else "panel numbers"
            elif name == schema.id:
                allowed, what = {str, int}, "names"
            elif name in schema.categorical:
                allowed, what = {str, *NUMBER, MISSING}, "categories"
            if wrong := set(map(type, cells)) - allowed:
                rows = np.array([type(cell) in wrong for cell in cells])
                sample = orjson.dumps(cells[int(rows.argmax())]).decode()
                problems.add(f"column {name!r} has cells that are not {what}, such as {sample[:40]}", rows)
        problems.stop("mend the data")
        return pd.DataFrame({name: series_of(cells) for name, cells in columns.items()})

    def write(self, request: Request, found: Prediction) -> bytes:
        """The answer as JSON: numbers are float32 with the fewest digits that tell them apart."""
        bundle, panel, steps = self.bundle, request.panel, slice(0, request.horizon)
        n, context = len(panel), bundle.context

        def named(values: Float[np.ndarray, "N H C"]) -> list[dict[str, np.ndarray]]:
            rows = np.ascontiguousarray(values[:, steps].transpose(0, 2, 1))
            return [dict(zip(bundle.channels, each, strict=True)) for each in rows]

        if panel.time.tz is None:
            stamps: Any = panel.time.asi8.view("datetime64[ns]").reshape(n, -1)[
                :, context - 1 : context + request.horizon
            ]
        else:
            stamps = [[stamp.isoformat() for stamp in panel.time[begin + context - 1 :][: request.horizon + 1]]
                      for begin in panel.offsets[:-1]]  # fmt: skip
        point, spread = named(found.point), {}
        levels = tuple(bundle.intervals) if request.levels is None else request.levels
        if found.quantiles is not None:
            spread = {level: [named(found.quantiles[..., q]) for q in bundle.intervals[level]] for level in levels}
        body = {
            "model": bundle.metadata.get("name"), "version": self.version, "digest": bundle.digest, "freq": bundle.freq,
            "channels": bundle.channels, "levels": [float(level) for level in levels], "warnings": request.warnings,
            "forecasts": [
                {
                    "series": name if bundle.schema.id else None, "cutoff": stamps[i][0],
                    "timestamps": stamps[i][1:], "point": point[i],
                    "intervals": {level: {"lower": low[i], "upper": high[i]} for level, (low, high) in spread.items()},
                }
                for i, name in enumerate(panel.ids)
            ],
        }  # fmt: skip
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)

    def write_csv(self, request: Request, found: Prediction) -> bytes:
        """The answer as a CSV file laid out as the bundle's own data: wide or long."""
        forecast = self.bundle.answer(request, found)
        wide = self.bundle.schema.layout == "wide"
        frame = forecast.to_wide(self.bundle.schema.stamp) if wide else forecast.to_frame()
        return frame.to_csv(index=False).encode()


def problem(error: TsforecastError) -> dict[str, str | None]:
    """The one shape of an error: `code, message, where, got, allowed, fix`."""
    texts = {name: text and text[:1000] for name, text in error.parts.items()}
    return {"code": error.code, "message": error.what[:4000], **texts}
