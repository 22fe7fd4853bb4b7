"""The columns of a frame as arrays: series, numbers and categories, with every problem noted."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from pandas.api import types

from tsforecast.data.arrays import Arrays, is_text
from tsforecast.data.schema import Schema
from tsforecast.errors import DataError, listed, nearest

log = logging.getLogger(__name__)
LARGEST = 1e18  # of a number: float32 holds its square
SHOWN = 5  # rows or names listed in a message
Categories = dict[str, tuple[str, ...]]  # column to its labels; the code of a label is its place


@dataclass
class Problems:
    """All that is wrong with one frame, whose rows count from `first`: 2 is below the header of a file.

    Attributes
    ----------
    first
        What messages call the first row, or each of them: a frame that was cut out of a file has its rows.
    keys
        What stands before the keys that have a frame read otherwise: `dataset.` for training, nothing for `predict`,
        None where there are none.
    rows
        Where the rows of the frame stood before others were left out; None: all are there.
    columns
        Of which something is said already, so that what follows from it is not said too.
    """

    where: str
    first: int | np.ndarray = 2
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
            shown = index[: SHOWN + 1]
            shown = listed(shown + self.first if isinstance(self.first, int) else self.first[shown], SHOWN)
            what += f" ({len(index)} row{'s' * (len(index) != 1)}: {shown})"
        self.found.append(what)
        self.policies += [shlex.quote(f"{self.keys}{each}") for each in policies if self.keys is not None]

    def missing(self, wanted: Sequence[str], available: Iterable[object], twice: Sequence[str] = ()) -> None:
        """A problem for each column that is not there, with the nearest one that is, and for those there `twice`."""
        there = {str(c) for c in available}
        spare = sorted(there - set(wanted))[:100]  # of a table of nonsense not all are compared
        for i, name in enumerate(name for name in dict.fromkeys(wanted) if name not in there):
            near = nearest(name, spare) if i < SHOWN else None
            self.add(f"column {name!r} is missing" + (f"; did you mean {near!r}?" if near else ""))
        if twice:
            self.add(f"columns are there more than once: {listed(twice)}")

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


def stamp_columns(names: Iterable[str], schema: Schema) -> tuple[str, ...]:
    """Of the columns that are there: the parts of the timestamp, or the one it stands in already."""
    whole = schema.stamp in (there := set(names)) and not there.issuperset(schema.stamp_columns)
    return (schema.stamp,) if whole else schema.stamp_columns


def channel_columns(frame: Arrays, schema: Schema, with_static: bool, problems: Problems) -> tuple[str, ...]:
    """The targets, every column without a role where none is named; a problem for each that is not as it should be."""
    named = [*stamp_columns(frame.columns, schema), *schema.key, *schema.target, *schema.past, *schema.known]
    named += schema.static if with_static else ()
    problems.missing(named, frame.columns, frame.twice)
    if not len(frame):
        problems.add("there are no rows")
    others = [c for c in frame.columns if c not in {*named, *schema.static}]
    if index := [c for c in others if c.startswith("Unnamed: ")]:  # as pandas calls a column without a name
        if problems.keys == "dataset." and not problems.found:
            log.info("%s: a column without a name is not read: %s", problems.where, listed(index))
        others = [c for c in others if c not in index]
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


def read_series(frame: Arrays, schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    """Series names in order of appearance, and the series of each row, -1 where it has no name."""
    if schema.id is None:
        return np.array(["0"], dtype=object), np.zeros(len(frame), dtype=np.int32)
    cells = frame[schema.id]
    heads = np.flatnonzero(np.append(True, cells[1:] != cells[:-1])) if is_text(cells) else np.arange(len(cells))
    codes, found = pd.factorize(cells[heads])
    codes = np.repeat(codes, np.diff(np.append(heads, len(cells))))
    if types.is_float_dtype(found.dtype) and (found % 1 == 0).all():
        found = found.astype(np.int64)  # whole numbers that a missing cell made fractions
    same, names = pd.factorize(np.array([str(name) or None for name in found], dtype=object))  # 1 and "1" are one
    return np.asarray(names, dtype=object), np.append(same, -1).astype(np.int32)[codes]


def places(known: Iterable[str], names: Iterable[str]) -> Int[np.ndarray, " X"]:
    """Where each name stands among those known, -1 for one that does not."""
    place = {name: i for i, name in enumerate(known)}
    return np.array([place.get(name, -1) for name in names], dtype=np.int64)


# How numbers are written elsewhere, and what to say of it.
_MARKED = {
    r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?": ["thousands=comma"],
    r"[+-]?\d+,\d+": ["decimal=comma"],
    r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?": ["thousands=point", "decimal=comma"],
    r"[+-]?\d{1,3}( \d{3})+(\.\d+)?": ["thousands=space"],
    r"[+-]?\d{1,3}( \d{3})*(,\d+)?": ["thousands=space", "decimal=comma"],
}


@dataclass(frozen=True)
class Reader:
    """Columns of frames as arrays, as a schema says; what is wrong with them is noted.

    Attributes
    ----------
    categories
        Labels of each categorical column; new ones are appended, in sorted order, when they are read.
    """

    schema: Schema
    problems: Problems
    categories: Categories

    def numbers(
        self, frame: Arrays, names: Sequence[str], *, known: bool = False, covariates: bool = True
    ) -> Float[np.ndarray, "R X"]:
        """Columns as float32, categories as codes into their labels; those that are `known` have no missing values."""
        values, problems = np.empty((len(frame), len(names)), dtype=np.float32), self.problems
        numbers = dict[str, np.ndarray]()
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinite
            for j, name in enumerate(names):
                if name in self.categories:
                    values[:, j] = self._codes(frame[name], name)
                    continue
                if not covariates and frame[name].dtype.kind not in "iuf" and types.is_bool_dtype(frame[name].dtype):
                    problems.add(f"column {name!r} holds true and false, and numbers are wanted", column=name)
                values[:, j] = numbers[name] = self._numbers(frame, name, covariates=covariates)
        for_training = problems.keys == "dataset."  # a request may well hold the same number throughout
        if not for_training and np.abs(values).max(initial=0) <= LARGEST:  # not so where any is missing
            return values
        for j, name in ((j, name) for j, name in enumerate(names) if name in numbers):
            if for_training:
                _check_resolution(name, numbers[name], values[:, j], problems)
            size = np.abs(values[:, j])
            if (huge := size > LARGEST).any():
                sample = f"{numbers[name][huge.argmax()]:g}"
                problems.add(f"column {name!r} has values beyond {LARGEST:g}, such as {sample}", huge, column=name)
            if known and name not in problems.columns and (gone := np.isnan(size)).any():
                problems.add(f"covariate {name!r} has missing values, and is to be known in every row", gone)
        return values

    def groups(self, frame: Arrays, channels: Sequence[str]) -> tuple[Float[np.ndarray, "R X"], ...]:
        """Targets, past and known covariates."""
        target, past = self.numbers(frame, channels, covariates=False), self.numbers(frame, self.schema.past)
        return target, past, self.numbers(frame, self.schema.known, known=True)

    def _codes(self, labels: Any, name: str) -> Int[np.ndarray, " R"]:
        """Categories as text: 1 and 1.0 are one, a cell without one is the category `missing`."""
        if not is_text(labels):
            column = pd.Series(labels)
            if types.is_float_dtype(column.dtype):
                cells = column.dropna()
                if ((cells % 1 == 0) & (cells.abs() < 2**63)).all():
                    column = column.astype("Int64")
            labels = column.astype(str).where(column.notna(), "missing")
        seen = self.categories[name]
        codes, found = pd.factorize(labels)
        self.categories[name] = seen = (*seen, *sorted(set(found) - set(seen)))
        return places(seen, found)[codes]

    def _numbers(self, frame: Arrays, name: str, *, covariates: bool) -> Float[np.ndarray, " R"]:
        """A column as float64, NaN for cells that are empty or no numbers."""
        cells, schema = frame[name], self.schema
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "biuf":
            return cells.astype(np.float64, copy=False)
        column = pd.Series(cells)
        if types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype):
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        text = column.astype(str).where(column.notna())  # not as it is: pandas takes a timestamp for a number
        for mark, meant in ((schema.thousands, ""), (schema.decimal, ".")):
            text = text.str.replace(mark, meant, regex=False) if mark not in (None, meant) else text
        numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        if (bad := np.isnan(numbers) & column.notna().to_numpy()).any():
            cells = column[bad].astype(str)
            keys = next((keys for form, keys in _MARKED.items() if cells.str.fullmatch(form).all()), [])
            if not keys and covariates:
                keys = [f"categorical=[{name}]"]
            elif not keys and not schema.target:  # every column was taken for one: leave those that are no numbers out
                targets = [c for c in frame.columns if _is_number(frame[c].dtype) and c not in schema.columns]
                keys = [f"target=[{','.join(targets)}]"] if targets else []
            what = f"column {name!r} has cells that are not numbers, such as {cells.iloc[0]!r}"
            self.problems.add(what, bad, *keys, column=name)
        return numbers

    def static(self, frame: Arrays, codes: Int[np.ndarray, " R"], ids: np.ndarray) -> Float[np.ndarray, "N S"]:
        """Static covariates from columns that repeat them; `codes` are the series of the rows, -1 for none."""
        names, problems = self.schema.static, self.problems
        table = np.full((len(ids), len(names)), np.nan, dtype=np.float32)
        if not names:
            return table
        values = self.numbers(frame, names)
        kept = np.flatnonzero(codes >= 0)
        series, first = np.unique(codes[kept], return_index=True)
        table[series] = values[kept[first]]
        for j, name in enumerate(names):
            if (varies := values[kept, j] != table[codes[kept], j]).any() and not np.isnan(table[:, j]).any():
                problems.add(f"static covariate {name!r} changes within a series", kept[varies])
            if (gone := np.isnan(table[:, j])).any():
                problems.add(f"static covariate {name!r} is missing for {gone.sum()} series: {listed(ids[gone])}")
        return table

    def own_static(self, given: Any, ids: np.ndarray) -> Float[np.ndarray, "N S"]:
        """Static covariates from a frame of their own; what is wrong with the rows of the series is told first."""
        own, frame = Problems("static", self.problems.first, self.problems.keys), Arrays.of(given, self.schema.columns)
        own.missing((*self.schema.key, *self.schema.static), frame.columns, frame.twice)
        own.stop()
        theirs, codes = read_series(frame, self.schema)
        own.nameless(codes, self.schema)
        own.stop()
        codes = np.where(codes < 0, -1, places(ids, theirs)[codes])
        table = replace(self, problems=own).static(frame, codes, ids)
        if own.found:
            self.problems.stop()
        own.stop()
        return table


def _is_number(dtype: Any) -> bool:
    return types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype)


def _check_resolution(name: str, numbers: np.ndarray, stored: np.ndarray, problems: Problems) -> None:
    """A problem when float32 cannot tell the values of a column apart, as those of a meter that counts up."""
    high, low = np.fmax.reduce(stored, initial=-np.inf), np.fmin.reduce(stored, initial=np.inf)
    step = float(np.spacing(np.float32(max(abs(high), abs(low)))))  # NaN when it is infinite, which is told elsewhere
    if (step > 1e-3 or high - low < 100 * step) and np.any(numbers != stored):
        seen = numbers[np.isfinite(stored)]
        spread = float(np.std(seen)) if seen.min() < seen.max() else np.inf
        if step > 0.1 * spread:
            what = f"column {name!r} is too large for its variation: float32 keeps steps of {step:.3g} there"
            fix = "subtract a constant, or take differences first"
            problems.add(f"{what}, the standard deviation is {spread:.3g}; {fix}", column=name)
