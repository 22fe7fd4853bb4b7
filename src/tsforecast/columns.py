"""The columns of a frame as arrays: timestamps, series, numbers and categories, with every problem noted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float
from pandas.api import types
from pandas.tseries.api import guess_datetime_format

from tsforecast.errors import DataError, nearest
from tsforecast.schema import Schema

log = logging.getLogger(__name__)
FIRST_YEAR, LAST_YEAR = 1700, 2200  # of a timestamp
SHOWN = 5  # rows or names listed in a message
Categories = dict[str, tuple[str, ...]]  # column to its labels; the code of a label is its place


@dataclass
class Problems:
    """All that is wrong with one frame, whose rows count from `first`: 2 is below the header of a file."""

    where: str
    first: int = 2
    policies_help: bool = True
    found: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)

    def add(self, what: str, rows: np.ndarray | None = None, policy: str = "") -> None:
        """A problem, the rows it is in (numbers or a mask), and the policy that accepts it."""
        if rows is not None:
            index = np.flatnonzero(rows) if rows.dtype == bool else rows
            shown = ", ".join(str(i + self.first) for i in index[:SHOWN]) + (", ..." if len(index) > SHOWN else "")
            what += f" ({len(index)} row{'s' * (len(index) != 1)}: {shown})"
        self.found.append(what)
        self.policies += [f"dataset.{policy}"] if policy and self.policies_help else []

    def stop(self, fix: str | None = None) -> None:
        """Raise when anything was found."""
        if self.found:
            listing = "\n".join(f"  - {what}" for what in self.found)
            count = f"{len(self.found)} problem{'s' * (len(self.found) != 1)}"
            stated = f", or state a policy: {' '.join(dict.fromkeys(self.policies))}" if self.policies else ""
            raise DataError(f"{count} in the data\n{listing}", where=self.where, fix=fix or f"mend the data{stated}")


def missing_columns(wanted: Iterable[str], available: Iterable[object]) -> list[str]:
    """`column 'x' is missing` for each that is, with the nearest one there is."""
    there = [str(c) for c in available]
    spare = sorted(set(there) - set(wanted := list(wanted)))[:1000]  # of a table of nonsense not all are compared
    near = {name: nearest(name, spare) for name in wanted if name not in there}
    return [f"column {name!r} is missing" + (f"; did you mean {n!r}?" if n else "") for name, n in near.items()]


def text_columns(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The frame with text as column names, and an index that is a wanted column as a column."""
    if any(name in schema.columns and name not in frame.columns for name in frame.index.names):
        frame = frame.reset_index()
    return frame if all(isinstance(c, str) for c in frame.columns) else frame.set_axis(frame.columns.map(str), axis=1)


def stamp_columns(frame: pd.DataFrame, schema: Schema) -> tuple[str, ...]:
    """The parts of the timestamp, or the one column it stands in already."""
    whole = schema.stamp in frame.columns and not set(schema.stamp_columns) <= set(frame.columns)
    return (schema.stamp,) if whole else schema.stamp_columns


def channel_columns(frame: pd.DataFrame, schema: Schema, with_static: bool, problems: Problems) -> tuple[str, ...]:
    key = (schema.id,) if schema.id else ()
    named = [*stamp_columns(frame, schema), *key, *schema.target, *schema.past, *schema.known]
    named += schema.static if with_static else ()
    for missing in missing_columns(named, frame.columns):
        problems.add(missing)
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


def read_stamps(frame: pd.DataFrame, schema: Schema, problems: Problems) -> pd.DatetimeIndex:
    """Timestamps in nanoseconds, NaT where unreadable, in the time zone that `schema` names or else their own."""
    names = list(stamp_columns(frame, schema))
    source = frame[names[0]]
    if len(names) > 1:
        values = pd.to_datetime(frame[names], errors="coerce")
    elif types.is_numeric_dtype(source.dtype):
        problems.add(f"column {names[0]!r} holds numbers, not timestamps such as 2020-01-31 13:00:00")
        values = pd.Series(pd.NaT, index=frame.index)
    elif types.is_datetime64_any_dtype(source.dtype):
        values = source
    else:
        values = _parsed(source, schema.timezone, problems)
    stamps = pd.DatetimeIndex(values).rename(None)
    # What nanoseconds can hold, with room for the steps ahead.
    stamps = pd.DatetimeIndex(stamps.where((stamps.year >= FIRST_YEAR) & (stamps.year <= LAST_YEAR))).as_unit("ns")
    bad = np.flatnonzero(stamps.isna())
    if len(bad) and (len(names) > 1 or not types.is_numeric_dtype(source.dtype)):
        sample = "-".join(map(str, frame[names].iloc[bad[0]]))
        problems.add(f"timestamps that cannot be read, such as {sample!r}", bad)
    if len(bad) == len(stamps):
        return stamps
    local = schema.local(stamps)
    if local is None:
        found = "no time zone" if stamps.tz is None else f"a time zone, {stamps.tz}"
        problems.add(f"timestamps with {found}, where they {schema.wanted_zone}", np.asarray(stamps.notna()))
    return stamps if local is None else local


_OFFSET = r":\d\d(?:\.\d+)?\s*(?:[Zz]|[+-]\d\d(?::?\d\d)?)\s*$"


def _parsed(source: pd.Series, timezone: str | None, problems: Problems) -> pd.Series:
    """Text as timestamps: ISO 8601, or else one format, that of the first, for all."""
    utc = False
    try:
        values = pd.to_datetime(source, errors="coerce", format="ISO8601")
        mixed = not types.is_datetime64_any_dtype(values.dtype)
    except ValueError:  # how pandas says that UTC offsets differ
        mixed = True
    if mixed:  # local time with its offset, across a daylight-saving change
        utc = True
        values = pd.to_datetime(source, errors="coerce", format="ISO8601", utc=True)
        aware = source.astype(str).str.contains(_OFFSET)
        if (naive := values.notna() & ~aware).any():
            problems.add("timestamps without a UTC offset among others that have one", naive.to_numpy())
            return values
        if timezone is None:
            log.info("%s: timestamps of several UTC offsets are read as UTC; dataset.timezone=Europe/Berlin, say, makes"
                     " them local time", problems.where)  # fmt: skip
    first = source.first_valid_index()
    if values.notna().any() or first is None:
        return values
    numbers = source.astype(str).str.extract(r"^\s*(\d{1,2})\D(\d{1,2})\D\d{2}").astype(float)
    dayfirst = bool((numbers[0] > 12).any())
    if numbers.notna().all(axis=1).any() and not dayfirst and not (numbers[1] > 12).any():
        problems.add(f"timestamps such as {str(source.loc[first])!r} may begin with the day or the month: "
                     "write 2023-01-31")  # fmt: skip
        return values
    form = guess_datetime_format(str(source.loc[first]), dayfirst=dayfirst)
    return pd.to_datetime(source, errors="coerce", format=form, utc=utc) if form else values


def read_series(frame: pd.DataFrame, schema: Schema, problems: Problems) -> tuple[np.ndarray, np.ndarray]:
    """Series names in order of appearance, and the series of each row, -1 where it has no name."""
    if schema.id is None:
        return np.array(["0"], dtype=object), np.zeros(len(frame), dtype=np.int32)
    codes, found = pd.factorize(frame[schema.id])
    if (nameless := codes < 0).any():
        problems.add(f"column {schema.id!r} names no series", nameless)
    if types.is_float_dtype(found.dtype) and (found % 1 == 0).all():
        found = found.astype(np.int64)  # whole numbers that a missing cell made fractions
    same, names = pd.factorize(np.array([str(name) for name in found], dtype=object))  # 1 and "1" are one series
    codes = codes.astype(np.int32)
    return np.asarray(names, dtype=object), codes if len(names) == len(found) else np.append(same, -1).astype(np.int32)[
        codes
    ]


def read_numbers(
    frame: pd.DataFrame,
    names: Sequence[str],
    problems: Problems,
    categories: Categories,
    *,
    known: bool,
    covariates: bool = True,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Columns as float32; `rows` are the rows of the file, where they are not those of the frame.

    A column among `categories` becomes codes into its labels, to which new ones are appended in sorted order.
    """
    values = np.empty((len(frame), len(names)), dtype=np.float32)
    rows = np.arange(len(frame)) if rows is None else rows
    for j, name in enumerate(names):
        column = frame[name]
        if name in categories:
            labels = _labels(column)
            new = sorted(set(labels.unique()) - set(categories[name]))
            categories[name] = (*categories[name], *new)
            values[:, j] = pd.Index(categories[name]).get_indexer(pd.Index(labels))
            continue
        if types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype):
            numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            text = column.astype(str).where(column.notna())  # not as it is: pandas takes a timestamp for a number
            numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
            if (bad := np.isnan(numbers) & column.notna().to_numpy()).any():
                sample = str(column[bad].iloc[0])
                policy = f"categorical=[{name}]" if covariates else ""
                problems.add(f"column {name!r} has cells that are not numbers, such as {sample!r}", rows[bad], policy)
                known = False  # said once
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinite
            values[:, j] = numbers
            finite = np.isfinite(values[:, j].sum(dtype=np.float64))
        if problems.policies_help:  # of data to train on: a request may well hold the same number throughout
            _check_resolution(name, numbers, values[:, j], problems)
        if not finite:
            if (infinite := np.isinf(values[:, j])).any():
                problems.add(f"column {name!r} has infinite values", rows[infinite])
            if known and (gone := np.isnan(values[:, j])).any():
                problems.add(f"covariate {name!r} has missing values, and is to be known in every row", rows[gone])
    return values


def _check_resolution(name: str, numbers: np.ndarray, stored: np.ndarray, problems: Problems) -> None:
    """A problem when float32 cannot tell the values of a column apart, as those of a meter that counts up."""
    most = max(np.fmax.reduce(stored, initial=0), -np.fmin.reduce(stored, initial=0))
    step = float(np.spacing(np.float32(most)))  # NaN when it is infinite, which is told elsewhere
    if step > 1e-3 and np.any(numbers != stored):
        spread = float(np.std(numbers[np.isfinite(stored)]))
        if step > 0.1 * spread:
            problems.add(
                f"column {name!r} is too large for its variation: float32 keeps steps of {step:g} there, the standard "
                f"deviation is {spread:.3g}; subtract a constant, or take differences first"
            )


def _labels(column: pd.Series) -> pd.Series:
    """Categories as text: 1 and 1.0 are one, a cell without one is the category `missing`."""
    if types.is_float_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype(str).where(column.notna(), "missing")


def read_static(
    frame: pd.DataFrame, codes: np.ndarray, own: pd.DataFrame | None, schema: Schema, ids: np.ndarray,
    problems: Problems, categories: Categories,
) -> Float[np.ndarray, "N S"]:  # fmt: skip
    """Static covariates, one row per series, from a frame of their own or from the columns that repeat them."""
    names = tuple(schema.static)
    table = np.full((len(ids), len(names)), np.nan, dtype=np.float32)
    if not names:
        return table
    if own is not None:
        outer, problems = problems, Problems("static", problems.first, problems.policies_help)
        frame = text_columns(own, schema)
        for missing in missing_columns((*((schema.id,) if schema.id else ()), *names), frame.columns):
            problems.add(missing)
        problems.stop()
        theirs, codes = read_series(frame, schema, problems)
        codes = np.where(codes < 0, -1, pd.Index(ids).get_indexer(pd.Index(theirs))[codes])
        problems.stop()
    values = read_numbers(frame, names, problems, categories, known=False)
    kept = np.flatnonzero(codes >= 0)
    series, first = np.unique(codes[kept], return_index=True)
    table[series] = values[kept[first]]
    for j, name in enumerate(names):
        if (varies := values[kept, j] != table[codes[kept], j]).any() and not np.isnan(table[:, j]).any():
            problems.add(f"static covariate {name!r} changes within a series", kept[varies])
        if (gone := np.isnan(table[:, j])).any():
            problems.add(f"static covariate {name!r} is missing for {int(gone.sum())} series: {listed(ids[gone])}")
    if own is not None and problems.found:
        outer.stop()  # first what is wrong with the series themselves
        problems.stop()
    return table


def listed(names: Iterable[object]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:SHOWN]) + (", ..." if len(shown) > SHOWN else "")
