"""The short way from a request to a panel: what a program sends is plain, and a few sums show that nothing is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
import orjson
import pandas as pd
from jaxtyping import Int

from tsforecast.bundle.bundle import Bundle
from tsforecast.data.columns import LARGEST
from tsforecast.data.frequency import length, parse
from tsforecast.data.panel import Panel
from tsforecast.data.schema import NAIVE
from tsforecast.data.stamps import FIRST_YEAR, LAST_YEAR
from tsforecast.serving.body import MISSING, NUMBER, Columns

_STAMP = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?", re.ASCII)
_CUT = {10: (b"T00:00:00", b""), 16: (b':00"', b'"'), 19: (b"", b"")}  # length of a timestamp to what it leaves out
_SPAN = np.datetime64(f"{FIRST_YEAR}-01-01", "s"), np.datetime64(f"{LAST_YEAR + 1}-01-01", "s")


def step(bundle: Bundle) -> int | None:
    """Nanoseconds from row to row; None where requests to this bundle are never so plain."""
    schema = bundle.schema
    numbers = not (bundle.schema.known or bundle.schema.static or schema.categorical)
    naive = isinstance(schema.time, str) and schema.timezone in (None, NAIVE)
    return length(parse(bundle.freq)) if numbers and naive else None


def plain(bundle: Bundle, nanos: int, columns: Columns) -> Panel | None:
    """The whole panel, when a few sums show that all is well; None: let the checks look and say.

    Series stand one after another with as many rows each, timestamps are plain ISO 8601 and regular, cells are
    numbers or null: what a program sends.
    """
    stamp, key = bundle.schema.stamp, bundle.schema.id
    named = (*bundle.channels, *bundle.schema.past)
    if columns.keys() != {stamp, *((key,) if key else ()), *named}:
        return None
    total, rows, ids = len(columns[stamp]), bundle.context, ["0"]
    each = total
    if key and total:
        names = columns[key]
        each = next((i for i, name in enumerate(names) if name != names[0]), total)
        ids = list(names[::each])
        if set(map(type, ids)) != {str} or not all(ids) or len(set(ids)) < len(ids) or total != each * len(ids):
            return None
        if list(chain.from_iterable(repeat(name, each) for name in ids)) != list(names):
            return None
    if each < rows:
        return None
    starts = _starts(columns[stamp], each, nanos)
    if starts is None or (bundle.schema.phase and not {*(starts % nanos).tolist()} <= {*bundle.schema.phase}):
        return None
    cells = [columns[name] for name in named]
    if not set(map(type, chain.from_iterable(cells))) <= {*NUMBER, MISSING}:
        return None
    try:
        values: np.ndarray = np.array(cells, dtype=np.float64)
    except OverflowError:  # whole numbers beyond float64
        return None
    with np.errstate(over="ignore"):  # beyond float32 is infinite
        values = values.astype(np.float32)
    if (np.abs(values) > LARGEST).any():
        return None
    n, horizon, c = len(ids), bundle.dims.horizon, len(bundle.channels)
    ahead: np.ndarray = np.full((n, rows + horizon, len(named)), np.nan, dtype=np.float32)
    ahead[:, :rows] = values.reshape(len(named), n, each)[..., -rows:].transpose(1, 2, 0)
    grid = ahead.reshape(-1, len(named))
    target, past = np.ascontiguousarray(grid[:, :c]), np.ascontiguousarray(grid[:, c:])
    stamps = starts[:, None] + np.arange(each - rows, each + horizon) * nanos
    time = pd.DatetimeIndex(stamps.reshape(-1).view("datetime64[ns]"))
    known, static = np.empty((len(grid), 0), np.float32), np.empty((n, 0), np.float32)
    return bundle.laid_out(np.array(ids, dtype=object), time, target, past, known, static)


def _starts(stamps: Sequence[Any], each: int, nanos: int) -> Int[np.ndarray, " N"] | None:
    """First nanosecond of each series, when the text is what the grid from there on would be written as."""
    starts, written = [], dict[str, tuple[int, bytes]]()
    for i in range(0, len(stamps), each):
        first = stamps[i]
        if not isinstance(first, str):
            return None
        if first not in written:
            if not _STAMP.fullmatch(first):
                return None
            try:
                begin = np.datetime64(first, "s")
            except ValueError:  # no such day
                return None
            if begin < _SPAN[0] or begin + np.timedelta64(each * nanos // 10**9, "s") > _SPAN[1]:
                return None
            start = int(begin.astype(np.int64)) * 10**9
            grid = (start + np.arange(each) * nanos).view("datetime64[ns]")
            written[first] = start, orjson.dumps(grid, option=orjson.OPT_SERIALIZE_NUMPY).replace(*_CUT[len(first)])
        start, text = written[first]
        if orjson.dumps(stamps[i : i + each]).replace(b" ", b"T") != text:
            return None
        starts.append(start)
    return np.array(starts, dtype=np.int64)
