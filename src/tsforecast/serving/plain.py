"""The short way from a request to a panel: what a program sends is plain, and a few sums show that nothing is wrong."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Shaped

from tsforecast.bundle.bundle import Bundle
from tsforecast.data.columns import LARGEST
from tsforecast.data.frequency import length, parse
from tsforecast.data.panel import Panel
from tsforecast.data.schema import NAIVE
from tsforecast.data.stamps import FIRST_YEAR, LAST_YEAR
from tsforecast.serving.body import MISSING, NUMBER, Columns

_SPAN = np.datetime64(f"{FIRST_YEAR}-01-01", "s"), np.datetime64(f"{LAST_YEAR + 1}-01-01", "s")


def plain(bundle: Bundle, columns: Columns) -> Panel | None:
    """The whole panel, when a few sums show that all is well; None: let the checks look and say.

    Series stand one after another with as many rows each, timestamps are ISO 8601 without a zone and regular, cells
    are numbers or null: what a program sends.
    """
    schema, named, rows = bundle.schema, (*bundle.channels, *bundle.schema.past), bundle.context
    nanos = length(parse(bundle.freq))
    if nanos is None or schema.categorical or schema.timezone not in (None, NAIVE):
        return None
    if columns.keys() != {schema.stamp, *schema.key, *named} or schema.stamp_columns != (schema.stamp,):
        return None
    one = np.array(["0"], dtype=object), len(columns[schema.stamp])
    found = _series(columns[schema.id]) if schema.id else one
    if found is None or found[1] < rows:
        return None
    ids, each = found
    time = _regular(columns[schema.stamp], each, nanos)
    if time is None or (schema.phase and not {*(time[:, 0].view(np.int64) % nanos)} <= {*schema.phase}):
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
    stamps = time[:, :1] + np.arange(each - rows, each + horizon) * np.timedelta64(nanos, "ns")
    index = pd.DatetimeIndex(np.broadcast_to(stamps, (n, rows + horizon)).reshape(-1))
    known, static = np.empty((len(grid), 0), np.float32), np.empty((n, 0), np.float32)
    return bundle.laid_out(ids, index, target, past, known, static)


def _series(names: Any) -> tuple[np.ndarray, int] | None:
    """The names of series that stand one after another, and the rows of each."""
    each = next((i for i, name in enumerate(names) if name != names[0]), len(names))
    ids: np.ndarray = np.array(names[:: each or 1], dtype=object)
    if set(map(type, ids)) != {str} or not all(ids) or len(set(ids)) < len(ids):
        return None
    return (ids, each) if np.repeat(ids, each).tolist() == names else None


def _regular(cells: Any, each: int, nanos: int) -> Shaped[np.ndarray, "N each"] | None:
    """Timestamps of each series, of one where all have the same, if they are `nanos` apart."""
    same = cells == cells[:each] * (len(cells) // each)
    try:
        text = pa.array(cells[:each] if same else cells, pa.string())
        time = text.cast(pa.timestamp("ns")).to_numpy(zero_copy_only=False).reshape(-1, each)
    except (pa.ArrowException, UnicodeError):
        return None
    regular = (np.diff(time, axis=1) == np.timedelta64(nanos, "ns")).all()
    return time if regular and (time[:, 0] >= _SPAN[0]).all() and (time[:, -1] < _SPAN[1]).all() else None
