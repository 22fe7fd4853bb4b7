"""The columns of a frame as arrays: series, numbers and categories, with every problem noted."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from jaxtyping import Float
from pandas.api import types

from tsforecast.data.schema import Schema
from tsforecast.errors import DataError, listed, nearest

LARGEST = 1e18  # of a number: float32 holds its square
SHOWN = 5  # rows or names listed in a message
Categories = dict[str, tuple[str, ...]]  # column to its labels; the code of a label is its place


@dataclass
class Problems:
    """All that is wrong with one frame, whose rows count from `first`: 2 is below the header of a file.

    Attributes
    ----------
    keys
        What stands before the keys that have a frame read otherwise: `dataset.` for training, nothing for `predict`,
        None where there are none.
    rows
        Where the rows of the frame stood before others were left out; None: all are there.
    columns
        Of which something is said already, so that what follows from it is not said too.
    """

    where: str
    first: int = 2
    keys: str | None = "dataset."
    rows: np.ndarray | None = None
    found: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)

    def add(self, what: str, rows: np.ndarray | None = None, *policies: str, column: str | None = None) -> None:
        """A problem, the rows (numbers or a mask) and the column it is in, and the policies that accept it."""
        self.columns |= {column} if column else set()
        if rows is not None:
            index = np.flatnonzero(rows) if rows.dtype == bool else rows
            index = index if self.rows is None else self.rows[index]
            shown = ", ".join(str(i + self.first) for i in index[:SHOWN]) + (", ..." if len(index) > SHOWN else "")
            what += f" ({len(index)} row{'s' * (len(index) != 1)}: {shown})"
        self.found.append(what)
        self.policies += [shlex.quote(f"{self.keys}{each}") for each in policies if self.keys is not None]

    def missing(self, wanted: Sequence[str], available: Iterable[object]) -> None:
        """A problem for each column that is not there, with the nearest one that is."""
        there = {str(c) for c in available}
        spare = sorted(there - set(wanted))[:100]  # of a table of nonsense not all are compared
        for i, name in enumerate(name for name in dict.fromkeys(wanted) if name not in there):
            near = nearest(name, spare) if i < SHOWN else None
            self.add(f"column {name!r} is missing" + (f"; did you mean {near!r}?" if near else ""))

    def nameless(self, codes: np.ndarray, schema: Schema) -> None:
        """A problem for rows that name no series."""
        if (bad := codes < 0).any():
            self.add(f"column {schema.id!r} names no series", bad)

    def stop(self, fix: str | None = None) -> None:
        """Raise when anything was found."""
        if self.found:
            listing = "\n".join(f"  - {what}" for what in self.found)
            count = f"{len(self.found)} problem{'s' * (len(self.found) != 1)}"
            stated = f", or say how it is read: {' '.join(dict.fromkeys(self.policies))}" if self.policies else ""
            raise DataError(f"{count} in the data\n{listing}", where=self.where, fix=fix or f"mend the data{stated}")


def as_frame(frame: Any, where: str = "data") -> pd.DataFrame:
    """A table of any library as a pandas frame, through the Arrow C stream interface; pandas' own as it is.

    Raises
    ------
    DataError
        It has no such interface.
    """
    if isinstance(frame, pd.DataFrame):
        return frame
    if not hasattr(frame, "__arrow_c_stream__"):
        allowed = "a frame of pandas, Polars, DuckDB, pyarrow or another with __arrow_c_stream__"
        raise DataError("this is no table", where=where, got=type(frame).__name__, allowed=allowed)
    table: pd.DataFrame = pyarrow.table(frame).to_pandas()
    return table


def text_columns(given: Any, schema: Schema) -> pd.DataFrame:
    """The frame with text as column names, and an index that is a wanted column as a column."""
    frame = as_frame(given)
    if any(name in schema.columns and name not in frame.columns for name in frame.index.names):
        frame = frame.reset_index()
    return frame if all(isinstance(c, str) for c in frame.columns) else frame.set_axis(frame.columns.map(str), axis=1)


def stamp_columns(frame: pd.DataFrame, schema: Schema) -> tuple[str, ...]:
    """The parts of the timestamp, or the one column it stands in already."""
    whole = schema.stamp in frame.columns and not set(schema.stamp_columns) <= set(frame.columns)
    return (schema.stamp,) if whole else schema.stamp_columns


def channel_columns(frame: pd.DataFrame, schema: Schema, with_static: bool, problems: Problems) -> tuple[str, ...]:
    """The targets, every column without a role where none is named; a problem for each that is not as it should be."""
    named = [*stamp_columns(frame, schema), *schema.key, *schema.target, *schema.past, *schema.known]
    named += schema.static if with_static else ()
    problems.missing(named, frame.columns)
    if (twice := frame.columns[frame.columns.duplicated()].unique()).size:
        problems.add(f"columns are there more than once: {listed(twice)}")
    if not len(frame):
        problems.add("there are no rows")
    others = [c for c in frame.columns if c not in {*named, *schema.static}]
    if schema.target:
        if schema.closed:
            check_closed(others, problems)
        return tuple(schema.target)
    if not others:
        problems.add("there is no channel column besides the timestamp")
    return tuple(others)


def check_closed(others: Sequence[str], problems: Problems) -> None:
    """A problem for columns that would not be read."""
    if others:
        which = f"column {others[0]!r} is" if len(others) == 1 else f"columns {listed(others)} ({len(others)}) are"
        problems.add(f"{which} not to be here: leave out what the model was not trained on, or what stands elsewhere")


def read_series(frame: pd.DataFrame, schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    """Series names in order of appearance, and the series of each row, -1 where it has no name."""
    if schema.id is None:
        return np.array(["0"], dtype=object), np.zeros(len(frame), dtype=np.int32)
    codes, found = pd.factorize(frame[schema.id])
    if types.is_float_dtype(found.dtype) and (found % 1 == 0).all():
        found = found.astype(np.int64)  # whole numbers that a missing cell made fractions
    same, names = pd.factorize(np.array([str(name) or None for name in found], dtype=object))  # 1 and "1" are one
    return np.asarray(names, dtype=object), np.append(same, -1).astype(np.int32)[codes]


def read_numbers(
    frame: pd.DataFrame,
    names: Sequence[str],
    schema: Schema,
    problems: Problems,
    categories: Categories,
    *,
    known: bool = False,
    covariates: bool = True,
) -> Float[np.ndarray, "R X"]:
    """Columns as float32; those that are `known` have no missing values.

    A column among `categories` becomes codes into its labels, to which new ones are appended in sorted order.
    """
    values = np.empty((len(frame), len(names)), dtype=np.float32)
    for j, name in enumerate(names):
        if name in categories:
            labels = _labels(frame[name])
            categories[name] = (*categories[name], *sorted(set(labels.unique()) - set(categories[name])))
            values[:, j] = pd.Index(categories[name]).get_indexer(pd.Index(labels))
            continue
        if types.is_bool_dtype(frame[name].dtype) and not covariates:
            problems.add(f"column {name!r} holds true and false, and numbers are wanted", column=name)
        numbers = _numbers(frame, name, schema, problems, covariates=covariates)
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinite
            values[:, j] = numbers
            finite = np.isfinite(values[:, j].sum(dtype=np.float64))
        if problems.keys == "dataset.":  # of data to train on: a request may well hold the same number throughout
            _check_resolution(name, numbers, values[:, j], problems)
        if (huge := np.abs(values[:, j]) > LARGEST).any():
            sample = f"{numbers[huge.argmax()]:g}"
            problems.add(f"column {name!r} has values beyond {LARGEST:g}, such as {sample}", huge, column=name)
        if not finite and known and name not in problems.columns and (gone := np.isnan(values[:, j])).any():
            problems.add(f"covariate {name!r} has missing values, and is to be known in every row", gone)
    return values


def _numbers(
    frame: pd.DataFrame, name: str, schema: Schema, problems: Problems, *, covariates: bool
) -> Float[np.ndarray, " R"]:
    """A column as float64, NaN for cells that are empty or no numbers."""
    column = frame[name]
    if types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    text = column.astype(str).where(column.notna())  # not as it is: pandas takes a timestamp for a number
    for mark, meant in ((schema.thousands, ""), (schema.decimal, ".")):
        text = text.str.replace(mark, meant, regex=False) if mark not in (None, meant) else text
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if (bad := np.isnan(numbers) & column.notna().to_numpy()).any():
        cells = column[bad].astype(str)
        marks = next((keys for form, keys in _MARKED.items() if cells.str.fullmatch(form).all()), [])
        other = [f"categorical=[{name}]"] if covariates else _leave_out(frame, schema)
        what = f"column {name!r} has cells that are not numbers, such as {cells.iloc[0]!r}"
        problems.add(what, bad, *(marks or other), column=name)
    return numbers


# How numbers are written elsewhere, and what to say of it.
_MARKED = {
    r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?": ["thousands=comma"],
    r"[+-]?\d+,\d+": ["decimal=comma"],
    r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?": ["thousands=point", "decimal=comma"],
    r"[+-]?\d{1,3}( \d{3})+(\.\d+)?": ["thousands=space"],
    r"[+-]?\d{1,3}( \d{3})*(,\d+)?": ["thousands=space", "decimal=comma"],
}


def _leave_out(frame: pd.DataFrame, schema: Schema) -> list[str]:
    """The targets that are numbers, where every column was taken for one."""
    numbers = [str(c) for c in frame.select_dtypes("number") if c not in schema.columns]
    return [f"target=[{','.join(numbers)}]"] if numbers and not schema.target else []


def _check_resolution(name: str, numbers: np.ndarray, stored: np.ndarray, problems: Problems) -> None:
    """A problem when float32 cannot tell the values of a column apart, as those of a meter that counts up."""
    high, low = np.fmax.reduce(stored, initial=-np.inf), np.fmin.reduce(stored, initial=np.inf)
    step = float(np.spacing(np.float32(max(abs(high), abs(low)))))  # NaN when it is infinite, which is told elsewhere
    if (step > 1e-3 or high - low < 100 * step) and np.any(numbers != stored):
        seen = numbers[np.isfinite(stored)]
        spread = float(np.std(seen)) if seen.min() < seen.max() else np.inf
        if step > 0.1 * spread:
            what = (
                f"column {name!r} is too large for its variation: float32 keeps steps of {step:.3g} there, the standard"
            )
            fix = "subtract a constant, or take differences first"
            problems.add(f"{what} deviation is {spread:.3g}; {fix}", column=name)


def _labels(column: pd.Series) -> pd.Series:
    """Categories as text: 1 and 1.0 are one, a cell without one is the category `missing`."""
    if types.is_float_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype(str).where(column.notna(), "missing")
