"""The timestamps of a frame: as text, in parts or as they are, with or without a zone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api import types
from pandas.tseries.api import guess_datetime_format

from tsforecast.data.arrays import Arrays, is_text
from tsforecast.data.columns import Problems, stamp_columns
from tsforecast.data.frequency import in_unit
from tsforecast.data.schema import NAIVE, Schema

log = logging.getLogger(__name__)
FIRST_YEAR, LAST_YEAR = 1700, 2200  # of a timestamp
_PLAIN, _MARKS = 19, (4, 7, 10, 13, 16)  # characters of `2024-12-31T22:00:00`, and which of them are no digits
_CLOCK = {"hour": (0, 23), "minute": (0, 59), "second": (0, 59)}
_LIMITS = {"year": (FIRST_YEAR, LAST_YEAR), "month": (1, 12), "day": (1, 31)} | _CLOCK


def read_stamps(frame: Arrays, codes: np.ndarray, schema: Schema, problems: Problems) -> pd.DatetimeIndex:
    """Timestamps in nanoseconds, in the time zone that `schema` names or else their own; NaT where unreadable.

    `codes` are the series of the rows: of a local time told twice, a series has the earlier first.
    """
    names = list(stamp_columns(frame.columns, schema))
    source: Any = frame[names[0]]
    values: Any
    if len(names) > 1:
        values = _assembled(frame, names)
    elif types.is_datetime64_any_dtype(source.dtype):
        values = source
    elif schema.date_format is not None:
        text, utc = pd.Series(source), "%z" in schema.date_format
        text = text.astype(str).where(text.notna())
        values = pd.to_datetime(text, errors="coerce", format=schema.date_format, utc=utc)
    elif types.is_numeric_dtype(source.dtype):
        what = f"column {names[0]!r} holds numbers such as {next(iter(source), '')}, not timestamps such as 2020-01-31"
        problems.add(what, None, "date_format=%Y%m%d", column=names[0])
        values = np.full(len(source), "NaT", "datetime64[ns]")
    elif (values := _iso(source, codes, schema.timezone not in (None, NAIVE))) is None:
        values = _parsed(pd.Series(source, name=names[0]), schema.timezone, problems)
    stamps = values if isinstance(values, pd.DatetimeIndex) else pd.DatetimeIndex(values).rename(None)
    if schema.localize and stamps.tz is None:
        again = pd.DataFrame({"series": codes, "time": stamps}).duplicated().to_numpy()
        stamps = stamps.tz_localize(schema.localize, ambiguous=~again, nonexistent="NaT")
    # What nanoseconds can hold, with room for the steps ahead.
    if not _within(stamps):
        stamps = pd.DatetimeIndex(stamps.where((stamps.year >= FIRST_YEAR) & (stamps.year <= LAST_YEAR)))
        if stamps.isna().all():
            return stamps.as_unit("ns")
    stamps = in_unit(stamps, "ns")
    local = schema.local(stamps)
    if local is None:
        found = "no time zone" if stamps.tz is None else f"a time zone, {stamps.tz}"
        policies = (f"localize={schema.timezone}",) if stamps.tz is None else ()
        problems.add(f"timestamps with {found}, where they {schema.wanted_zone}", np.asarray(stamps.notna()), *policies)
    return stamps if local is None else local


def _iso(cells: Any, codes: np.ndarray, zoned: bool) -> pd.DatetimeIndex | None:
    """ISO 8601, all of one kind, in a tenth of the time that pandas takes; None: it is something else."""
    series = int(codes[-1]) + 1 if len(codes) else 1  # each with the timestamps of the first, as most have: read once
    if series > 1 and len(cells) % series == 0 and is_text(cells):
        first = cells[: len(cells) // series]
        if (cells.reshape(series, -1) == first).all():
            once = _iso(first, codes[:1] * 0, zoned)
            return once if once is None else once[np.tile(np.arange(len(first)), series)]
    if not zoned and (plain := _plain(cells)) is not None:
        return plain
    try:
        text = pa.array(cells, pa.string())
        time = text.cast(pa.timestamp("ns", "UTC" if zoned else None)).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, UnicodeError):
        return None
    if zoned and not all(cell and cell[13:14] == ":" for cell in text.to_pylist()):  # without minutes: `_parsed` knows
        return None
    return pd.DatetimeIndex(time, tz="UTC" if zoned else None)


def _plain(cells: Any) -> pd.DatetimeIndex | None:
    """`2024-12-31T22:00:00`, all of them, in a third of the time that Arrow takes; None: something else."""
    if not isinstance(cells, np.ndarray) or not len(cells):
        return None
    try:
        text = np.frombuffer("".join(cells).encode("ascii"), np.uint8)
        if len(text) != _PLAIN * len(cells) or (text.reshape(-1, _PLAIN)[:, _MARKS] != tuple(b"--T::")).any():
            return None
        seconds, (low, high) = cells.astype("datetime64[s]").view(np.int64), _bounds("s")
    except (TypeError, ValueError):
        return None
    within = low <= seconds.min() and seconds.max() < high
    return pd.DatetimeIndex((seconds * 10**9).view("datetime64[ns]")) if within else None


def _assembled(frame: Arrays, names: Sequence[str]) -> pd.DatetimeIndex | pd.Series:
    """Timestamps from their parts; NaT where one is out of its limits: pandas takes hour 24 for the next day."""
    parts = {name: np.asarray(frame[name]) for name in names}
    if {"year", "month", "day"} <= parts.keys() <= _LIMITS.keys() and all(
        cells.dtype.kind == "i" and ((cells >= _LIMITS[name][0]) & (cells <= _LIMITS[name][1])).all()
        for name, cells in parts.items()
    ):
        parts = {name: cells.astype(np.int64) for name, cells in parts.items()}
        month = ((parts["year"] - 1970) * 12 + parts["month"] - 1).astype("datetime64[M]")
        date = month.astype("datetime64[D]") + (parts["day"] - 1)
        hour, minute, second = (parts.get(name, 0) for name in _CLOCK)
        if (date.astype("datetime64[M]") == month).all():
            return pd.DatetimeIndex(date.astype("datetime64[ns]") + (hour * 3600 + minute * 60 + second) * 10**9)
    values = pd.to_datetime(pd.DataFrame({name: frame[name] for name in names}), errors="coerce")
    for part in {*_CLOCK} & {*names}:
        values = values.where(getattr(values.dt, part) == pd.to_numeric(pd.Series(frame[part]), errors="coerce"))
    return values


def _within(stamps: pd.DatetimeIndex) -> bool:
    """Whether there are some, all in years that a timestamp may be of, whatever their zone."""
    low, high = _bounds(stamps.unit)
    return bool(len(stamps) and stamps.asi8.min() >= low and stamps.asi8.max() < high)


@cache
def _bounds(unit: Any) -> tuple[int, int]:
    low, high = (int(np.datetime64(f"{year}", unit).astype(np.int64)) for year in (FIRST_YEAR + 1, LAST_YEAR))
    return low, high


_MONTHS = ("%b %Y", "%B %Y", "%b-%y", "%m/%Y", "%Y/%m")  # alone, as spreadsheets write them
_OFFSET = r":\d\d(?:\.\d+)?\s*(?:Z|[+-]\d\d(?::?\d\d)?)\s*$"


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
            what = "timestamps without a UTC offset among others that have one"
            problems.add(what, naive.to_numpy(), column=str(source.name))
            return values
        if timezone is None:
            fix = "dataset.timezone=Europe/Berlin, say, makes them local time"
            log.info("%s: timestamps of several UTC offsets are read as UTC; %s", problems.where, fix)
    first = source.first_valid_index()
    if values.notna().any() or first is None:
        return values
    numbers = source.astype(str).str.extract(r"^\s*(\d{1,2})\D(\d{1,2})\D\d{2}").astype(float)
    dayfirst = bool((numbers[0] > 12).any())
    if numbers.notna().all(axis=1).any() and not dayfirst and not (numbers[1] > 12).any():
        form = guess_datetime_format(str(source.loc[first]), dayfirst=True)
        what = f"timestamps such as {str(source.loc[first])!r} may begin with the day (%d) or the month (%m)"
        problems.add(what, None, *([f"date_format={form}"] if form else []), column=str(source.name))
        return values
    form = guess_datetime_format(str(source.loc[first]), dayfirst=dayfirst)
    source = source.where(~source.astype(str).str.endswith("z"))  # which %z takes for Z, and ISO 8601 does not
    read = (pd.to_datetime(source, errors="coerce", format=each, utc=utc) for each in ([form] if form else _MONTHS))
    return max(read, key=lambda values: values.notna().sum())
