"""The timestamps of a frame: as text, in parts or as they are, with or without a zone."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from pandas.api import types
from pandas.tseries.api import guess_datetime_format

from tsforecast.data.columns import Problems, stamp_columns
from tsforecast.data.schema import Schema

log = logging.getLogger(__name__)
FIRST_YEAR, LAST_YEAR = 1700, 2200  # of a timestamp


def read_stamps(frame: pd.DataFrame, codes: np.ndarray, schema: Schema, problems: Problems) -> pd.DatetimeIndex:
    """Timestamps in nanoseconds, in the time zone that `schema` names or else their own; NaT where unreadable.

    `codes` are the series of the rows: of a local time told twice, a series has the earlier first.
    """
    names = list(stamp_columns(frame.columns, schema))
    source = frame[names[0]]
    if len(names) > 1:
        values = pd.to_datetime(frame[names], errors="coerce")
        for part in {"hour", "minute", "second"} & set(names):  # pandas takes hour 24 for the next day
            values = values.where(getattr(values.dt, part) == pd.to_numeric(frame[part], errors="coerce"))
    elif types.is_datetime64_any_dtype(source.dtype):
        values = source
    elif schema.date_format is not None:
        utc = "%z" in schema.date_format
        text = source.astype(str).where(source.notna())
        values = pd.to_datetime(text, errors="coerce", format=schema.date_format, utc=utc)
    elif types.is_numeric_dtype(source.dtype):
        what = f"column {names[0]!r} holds numbers such as {next(iter(source), '')}, not timestamps such as 2020-01-31"
        problems.add(what, None, "date_format=%Y%m%d", column=names[0])
        values = pd.Series(pd.NaT, index=frame.index)
    else:
        values = _parsed(source, schema.timezone, problems)
    stamps = pd.DatetimeIndex(values).rename(None)
    if schema.localize and stamps.tz is None:
        again = pd.DataFrame({"series": codes, "time": stamps}).duplicated().to_numpy()
        stamps = stamps.tz_localize(schema.localize, ambiguous=~again, nonexistent="NaT")
    # What nanoseconds can hold, with room for the steps ahead.
    stamps = pd.DatetimeIndex(stamps.where((stamps.year >= FIRST_YEAR) & (stamps.year <= LAST_YEAR))).as_unit("ns")
    if stamps.isna().all():
        return stamps
    local = schema.local(stamps)
    if local is None:
        found = "no time zone" if stamps.tz is None else f"a time zone, {stamps.tz}"
        policies = (f"localize={schema.timezone}",) if stamps.tz is None else ()
        problems.add(f"timestamps with {found}, where they {schema.wanted_zone}", np.asarray(stamps.notna()), *policies)
    return stamps if local is None else local


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
        what = f"timestamps such as {str(source.loc[first])!r} may begin with the day or the month"
        problems.add(what, None, *([f"date_format={form}"] if form else []), column=str(source.name))
        return values
    form = guess_datetime_format(str(source.loc[first]), dayfirst=dayfirst)
    source = source.where(~source.astype(str).str.endswith("z"))  # which %z takes for Z, and ISO 8601 does not
    return pd.to_datetime(source, errors="coerce", format=form, utc=utc) if form else values
