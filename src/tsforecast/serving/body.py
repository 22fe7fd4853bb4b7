"""The tables in a JSON body as columns: names and cells are checked before a frame is made, and no key stands twice."""

from __future__ import annotations

import json
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import orjson

from tsforecast.data.arrays import Arrays
from tsforecast.data.columns import Problems, check_closed
from tsforecast.data.schema import Schema
from tsforecast.errors import RequestError

Columns = Mapping[str, Sequence[Any]]
NUMBER, MISSING = {int, float}, type(None)  # types of a cell
_CELLS = {*NUMBER, MISSING}
_ALLOWED = "records ([{name: value, ...}, ...]) or column lists ({name: [value, ...], ...})"


@dataclass(frozen=True)
class Table:
    """Columns by name, of one length; each name stands `written` times in the body, and in all of it no `flags`."""

    where: str
    columns: Columns
    written: int
    flags: bool = True

    @classmethod
    def of(cls, given: Any, where: str, body: bytes) -> Table:
        """Records as column lists; column lists as they are.

        Raises
        ------
        RequestError
            It is neither, or its columns or records do not fit together.
        """
        flags = b"true" in body or b"false" in body
        if isinstance(given, dict):
            if wrong := [name for name, cells in given.items() if not isinstance(cells, list)]:
                at, got = f"{where}.{wrong[0]}", type(given[wrong[0]]).__name__
                raise RequestError("a column is not a list", where=at, got=got, allowed=_ALLOWED)
            if len({len(cells) for cells in given.values()}) > 1:
                lengths = [f"{name} {len(cells)}" for name, cells in given.items()]
                raise RequestError("the columns have different lengths", where=where, got=lengths, allowed=_ALLOWED)
            return cls(where, given, 1, flags)
        if not isinstance(given, list) or set(map(type, given)) - {dict}:
            got = "a list with other things than records" if isinstance(given, list) else type(given).__name__
            raise RequestError("this is neither records nor column lists", where=where, got=got, allowed=_ALLOWED)
        names = list(given[0]) if given else []
        for i, record in enumerate(given):
            if len(record) != len(names) or record.keys() != given[0].keys():
                differ = ", ".join(sorted(record.keys() ^ given[0].keys())[:5])
                at, got, fix = f"{where}[{i}]", f"not as record 0: {differ}", "write a missing value as null"
                raise RequestError("the records have different keys", where=at, got=got, allowed=names, fix=fix)
        return cls(where, {name: [record[name] for record in given] for name in names}, len(given), flags)

    @cached_property
    def kinds(self) -> dict[str, set[type]]:
        """The types of the cells of each column."""
        return {n: {float} if n in self.packed else {*map(type, cells)} for n, cells in self.columns.items()}

    @cached_property
    def packed(self) -> dict[str, np.ndarray]:
        """Columns of numbers that begin with a fraction, without a look at each cell: true would be packed as 1."""
        found = {}
        for name, cells in self.columns.items() if not self.flags else ():
            if cells and type(cells[0]) is float:
                with suppress(struct.error):
                    found[name] = np.frombuffer(struct.pack(f"{len(cells)}d", *cells))
        return found

    @property
    def texts(self) -> int:
        """How many cells are text."""
        return sum([*map(type, self.columns[name])].count(str) for name, kinds in self.kinds.items() if str in kinds)

    def check_names(self, wanted: Sequence[str]) -> None:
        """Raise a DataError unless the columns are those `wanted`, and hold something."""
        problems = Problems(self.where, 0)
        problems.missing(wanted, self.columns)
        check_closed([name for name in self.columns if name not in wanted], problems)
        if not any(map(len, self.columns.values())):
            problems.add("there are no rows")
        problems.stop("mend the data")

    def arrays(self, schema: Schema) -> Arrays:
        """The table, once every cell has a type that its column may hold: no "1.5", no true.

        Raises
        ------
        DataError
            Some have another; the message lists them all.
        """
        problems = Problems(self.where, 0)
        kinds = may_hold(schema)
        for name, cells in self.columns.items():
            allowed, what = kinds[name]
            if wrong := self.kinds[name] - allowed:
                rows = np.array([type(cell) in wrong for cell in cells])
                sample = orjson.dumps(cells[int(rows.argmax())]).decode()
                problems.add(f"column {name!r} has cells that are not {what}, such as {sample[:40]}", rows)
        problems.stop("mend the data")
        return Arrays({name: self._array(name) for name in self.columns}, len(next(iter(self.columns.values()))))

    def _array(self, name: str) -> np.ndarray:
        """A column; numbers stay numbers when all are missing."""
        if name in self.packed:
            return self.packed[name]
        kinds = self.kinds[name]
        return np.array(self.columns[name], dtype=None if kinds <= NUMBER else float if kinds <= _CELLS else object)


def may_hold(schema: Schema) -> Mapping[str | None, tuple[set[type], str]]:
    """Of each column, the types that its cells may have, and what such cells are called."""
    found: dict[str | None, tuple[set[type], str]] = defaultdict(lambda: (_CELLS, "numbers"))
    found.update(dict.fromkeys(schema.categorical, ({str, *NUMBER, MISSING}, "categories")))
    found[schema.id] = {str, int}, "names"
    found.update(dict.fromkeys(schema.stamp_columns, ({int}, "whole numbers")))
    found[schema.stamp] = {str}, "timestamps as text"
    return found


def check_keys(body: bytes, keys: int, tables: Iterable[Table]) -> None:
    """Refuse a key that is there twice, of which parsers keep the last: keys and text cells leave no quote over."""
    keys += sum(len(table.columns) * table.written + table.texts for table in tables)
    if body.count(b'"') != 2 * keys:
        check_once(body)


def check_once(body: bytes) -> None:
    """Refuse a key that is there twice."""
    json.loads(body, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise RequestError("a key is there twice", where="body", got=twice, fix="name each once")
    return found
