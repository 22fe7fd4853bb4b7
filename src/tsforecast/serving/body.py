"""The tables in a JSON body as columns, their names first, and no key twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from tsforecast.errors import RequestError
from tsforecast.serving.plain import MISSING, NUMBER, Columns


def columns_of(given: Any, where: str) -> Columns:
    """Records as column lists; column lists as they are."""
    allowed = "records ([{name: value, ...}, ...]) or column lists ({name: [value, ...], ...})"
    if isinstance(given, dict):
        if wrong := [name for name, cells in given.items() if not isinstance(cells, list)]:
            raise RequestError(
                "a column is not a list",
                where=f"{where}.{wrong[0]}",
                got=type(given[wrong[0]]).__name__,
                allowed=allowed,
            )
        if len({len(cells) for cells in given.values()}) > 1:
            lengths = ", ".join(f"{name} {len(cells)}" for name, cells in list(given.items())[:10])
            raise RequestError("the columns have different lengths", where=where, got=lengths, allowed=allowed)
        return given
    if not isinstance(given, list) or set(map(type, given)) - {dict}:
        raise RequestError("this is neither records nor column lists", where=where, allowed=allowed,
                           got="a list with other things than records" if isinstance(given, list) else
                           type(given).__name__)  # fmt: skip
    if not given:
        return {}
    names = list(given[0])
    for i, record in enumerate(given):
        if len(record) != len(names) or record.keys() != given[0].keys():
            differ = ", ".join(sorted(record.keys() ^ given[0].keys())[:5])
            raise RequestError(
                "the records have different keys",
                where=f"{where}[{i}]",
                got=f"not as record 0: {differ}",
                allowed=", ".join(names[:20]),
                fix="write a missing value as null",
            )
    if len(names) == 1:
        return {names[0]: [record[names[0]] for record in given]}
    return dict(zip(names, zip(*map(itemgetter(*names), given), strict=True), strict=True)) if names else {}


def head(names: Iterable[str], rows: int) -> pd.DataFrame:
    """A frame of these columns and of the first row, if there is one; made of one array, a column costs nothing."""
    index = pd.Index([*names], dtype=object)
    return pd.DataFrame(np.empty((min(1, rows), len(index))), columns=index)


def check_keys(body: bytes, given: Mapping[str, Any], tables: Mapping[str, Columns], strings: int) -> None:
    """Refuse a key that is there twice, of which parsers keep the last: keys and text cells leave no quote over."""
    keys = len(given)
    for name, table in tables.items():
        keys += len(table) * (len(given[name]) if isinstance(given[name], list) else 1)
    if body.count(b'"') != 2 * (keys + strings):
        json.loads(body, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise RequestError("a key is there twice", where="body", got=twice, fix="name each once")
    return found


def series_of(cells: Sequence[Any]) -> pd.Series:
    """A column of a frame; numbers stay numbers when all are missing."""
    numeric = set(map(type, cells)) <= {*NUMBER, MISSING}
    return pd.Series(list(cells), dtype=np.float64 if numeric and None in cells else None)
