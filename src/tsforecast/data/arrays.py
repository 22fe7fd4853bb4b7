"""The columns of a frame by name: the rest of what a frame does takes a request longer than the reading of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from pandas.api import types

from tsforecast.errors import DataError


@dataclass(frozen=True)
class Arrays:
    """Columns of one length.

    Attributes
    ----------
    columns
        By name: numbers and objects as numpy has them, others (text, timestamps) as an array of pandas.
    rows
        How many there are.
    twice
        Names that more than one column has.
    """

    columns: Mapping[str, Any]
    rows: int
    twice: tuple[str, ...] = ()

    @classmethod
    def of(cls, frame: Any, wanted: Iterable[str] = ()) -> Arrays:
        """Of a frame of any library, its names as text; an index that is a `wanted` column is one."""
        frame = as_frame(frame)
        if isinstance(frame, Arrays):
            return frame
        if any(name in wanted and name not in frame.columns for name in frame.index.names):
            frame = frame.reset_index()
        names = frame.columns.map(str)
        cells = {name: _array(column) for name, (_, column) in zip(names, frame.items(), strict=True)}
        return cls(cells, len(frame), tuple(names[names.duplicated()].unique()))

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def take(self, index: np.ndarray) -> Arrays:
        """The rows at `index`."""
        return Arrays({name: cells[index] for name, cells in self.columns.items()}, len(index), self.twice)


def _array(column: pd.Series) -> Any:
    plain = isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufcO"
    return column.to_numpy() if plain else column.array


def is_text(cells: Any) -> bool:
    """Whether every cell of an array of objects is text."""
    return cells.dtype == object and types.infer_dtype(cells, skipna=False) == "string"


def as_frame(frame: Any, where: str = "data") -> Any:
    """A table of any library as a pandas frame, through the Arrow C stream interface; pandas' own and `Arrays` as is.

    Raises
    ------
    DataError
        It has no such interface.
    """
    if isinstance(frame, pd.DataFrame | Arrays):
        return frame
    if not hasattr(frame, "__arrow_c_stream__"):
        allowed = "a frame of pandas, Polars, DuckDB, pyarrow or another with __arrow_c_stream__"
        raise DataError("this is no table", where=where, got=type(frame).__name__, allowed=allowed)
    return pyarrow.table(frame).to_pandas()
