"""From a frame to a panel: columns by name, every problem of the frame reported at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from pandas.api import types
from pandas.tseries.api import guess_datetime_format

from tsforecast.errors import ConfigError, DataError, nearest
from tsforecast.frequency import Axis, infer, named_days, parse
from tsforecast.panel import Panel

log = logging.getLogger(__name__)
_SHOWN = 5  # rows or names listed in a message


@dataclass(frozen=True)
class Schema:
    """Which column of a frame is what.

    Parameters
    ----------
    layout
        `wide`: a timestamp and one column per channel, one series. `long`: one row per series and timestamp, as
        Nixtla's libraries have it.
    time
        The timestamp column, or the columns (`year, month, day, hour`) it is assembled from. None: `date` or `ds`.
    id
        The series column of a long frame. None: `unique_id`.
    target
        The channels. Empty: `y` in a long frame, all columns that are nothing else in a wide one.
    past, known, static
        Covariates known up to the cutoff, for the future too, and per series (in a file of their own, or the same
        in every row of a series).
    freq
        A pandas offset alias; None has it inferred.
    closed
        Whether a column without a role is an error. A bundle trained on every column of its file asks for it.
    """

    layout: Literal["wide", "long"] = "wide"
    time: str | Sequence[str] | None = None
    id: str | None = None
    target: Sequence[str] = ()
    past: Sequence[str] = ()
    known: Sequence[str] = ()
    static: Sequence[str] = ()
    freq: str | None = None
    closed: bool = False

    def __post_init__(self) -> None:
        if self.layout not in ("wide", "long"):
            raise ConfigError("there is no such layout", where="layout", got=self.layout, allowed="wide, long")
        long = self.layout == "long"
        time = self.time or ("ds" if long else "date")
        target, past, known, static = (
            (names,) if isinstance(names, str) else tuple(names or ())
            for names in (self.target, self.past, self.known, self.static)
        )
        chosen = {
            "time": time if isinstance(time, str) else tuple(time),
            "id": (self.id or "unique_id") if long else None,
            "target": target or (("y",) if long else ()),
            "past": past,
            "known": known,
            "static": static,
        }
        for name, value in chosen.items():
            object.__setattr__(self, name, value)
        if twice := sorted({c for c in self.columns if self.columns.count(c) > 1}):
            raise ConfigError("a column has two roles", where="dataset", got=", ".join(twice), fix="name it once")
        if self.freq is not None:
            parse(self.freq)

    @property
    def stamp(self) -> str:
        """Name of the one timestamp column, `date` where it is assembled from several."""
        return self.time if isinstance(self.time, str) else "date"

    @property
    def stamp_columns(self) -> tuple[str, ...]:
        """The columns the timestamp is read from."""
        return (self.time,) if isinstance(self.time, str) else tuple(self.time or ())

    def resolved(self, panel: Panel) -> Schema:
        """The schema of a forecast request to a model trained on `panel`: its channels and frequency, by name."""
        return replace(self, target=panel.channels, freq=panel.freq, closed=not self.target)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column named."""
        key = (self.id,) if self.id else ()
        return (*self.stamp_columns, *key, *self.target, *self.past, *self.known, *self.static)


@dataclass(frozen=True)
class Policy:
    """What is done about rows out of order, gaps and duplicates: nothing without being told.

    Parameters
    ----------
    unsorted
        `error`, or `sort` the rows by time.
    gaps
        `error`, or `fill` them with rows of missing values.
    duplicates
        `error`, or keep the `last` row of a timestamp.
    """

    unsorted: Literal["error", "sort"] = "error"
    gaps: Literal["error", "fill"] = "error"
    duplicates: Literal["error", "last"] = "error"

    def __post_init__(self) -> None:
        allowed = {"unsorted": ("error", "sort"), "gaps": ("error", "fill"), "duplicates": ("error", "last")}
        for f in fields(self):
            if (got := getattr(self, f.name)) not in allowed[f.name]:
                raise ConfigError("there is no such policy", where=f"dataset.{f.name}", got=got,
                                  allowed=", ".join(allowed[f.name]))  # fmt: skip


@dataclass
class _Problems:
    """All that is wrong with one frame."""

    where: str
    found: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)

    def add(self, what: str, rows: np.ndarray | None = None, policy: str = "") -> None:
        """A problem, the rows it is in (numbers or a mask), and the policy that accepts it.

        Row 2 is the first below the header, as a spreadsheet counts.
        """
        if rows is not None:
            index = np.flatnonzero(rows) if rows.dtype == bool else rows
            shown = ", ".join(str(i + 2) for i in index[:_SHOWN]) + (", ..." if len(index) > _SHOWN else "")
            what += f" ({len(index)} row{'s' * (len(index) != 1)}: {shown})"
        self.found.append(what)
        self.policies += [f"dataset.{policy}"] if policy else []

    def stop(self, fix: str | None = None) -> None:
        """Raise when anything was found."""
        if self.found:
            listing = "\n".join(f"  - {what}" for what in self.found)
            count = f"{len(self.found)} problem{'s' * (len(self.found) != 1)}"
            stated = f", or state a policy: {' '.join(dict.fromkeys(self.policies))}" if self.policies else ""
            raise DataError(f"{count} in the data\n{listing}", where=self.where, fix=fix or f"mend the data{stated}")


def to_panel(
    frame: pd.DataFrame,
    schema: Schema,
    policy: Policy | None = None,
    *,
    static: pd.DataFrame | None = None,
    where: str = "the frame",
    for_training: bool = True,
    min_rows: int = 1,
) -> Panel:
    """Check a frame and lay it out as a panel.

    Parameters
    ----------
    frame
        Wide or long, as `schema` says; columns in any order. Series of a long frame may be interleaved.
    static
        One row per series with the static covariates; None: they are columns of `frame`.
    where
        What to call the frame in messages.
    for_training
        Also refuse channels that are constant or all missing, which a forecast request may hold.
    min_rows
        Rows that every series must have.

    Raises
    ------
    DataError
        With all problems found, their counts and row numbers.
    """
    policy = policy or Policy()
    problems = _Problems(where)
    frame = _named(frame, schema)
    channels = _columns(frame, schema, static is None, problems)
    problems.stop()
    time = _stamps(frame, schema, problems)
    ids, codes = _series(frame, schema, problems)
    groups = (channels, schema.past, schema.known)
    arrays = [_numbers(frame, tuple(names), problems, known=i == 2) for i, names in enumerate(groups)]
    statics = _static(frame, codes, static, schema, ids, problems)

    rows = _order(time, codes, policy, problems)  # row i of the panel stands in row rows[i] of the frame
    if not len(rows):
        problems.stop()
    if rows[0] != 0 or rows[-1] != len(frame) - 1 or np.any(np.diff(rows) != 1):
        time, codes, arrays = time[rows], codes[rows], [array[rows] for array in arrays]
    same = codes[1:] == codes[:-1]
    twice = np.flatnonzero(same & (time.asi8[1:] == time.asi8[:-1])) + 1
    freq = _freq(time, codes, schema, problems)
    if len(twice):
        if policy.duplicates == "error":
            hour = Axis.of(time, parse(freq)).daylight(twice - 1)
            problems.add("duplicate timestamps", rows[twice], "duplicates=last")
            _daylight(time[twice[hour]], "told twice", problems)
        log.info("%s: %d rows with a duplicate timestamp", where, len(twice))
        unique = np.ones(len(rows), dtype=bool)
        unique[twice - 1] = False
        rows, time, codes, arrays = rows[unique], time[unique], codes[unique], [array[unique] for array in arrays]
        same = codes[1:] == codes[:-1]

    axis = Axis.of(time, parse(freq))
    steps, stray = axis.steps(codes, same)
    gaps = np.flatnonzero(same & (steps > 1))
    if stray.any():
        prevailing = infer(_longest(time, codes))
        hint = f"; the prevailing step is {prevailing!r}" if prevailing not in (None, freq) else ""
        problems.add(f"timestamps off the grid of freq {freq!r}{hint}", rows[stray])
    elif len(gaps):
        missing = int((steps[gaps] - 1).sum())
        too_many = missing > 10 * len(rows) + 1000
        if policy.gaps == "error" or too_many:
            what = f"gaps against freq {freq!r}, {missing} timestamps missing, {'too many to fill, ' * too_many}before"
            problems.add(what, rows[gaps + 1], "" if too_many else "gaps=fill")
            _daylight(time[gaps[axis.daylight(gaps)] + 1], "skipped", problems)
        else:
            for name in schema.known:
                problems.add(f"known covariate {name!r} has no value in the {missing} rows that gaps=fill inserts")
            time, codes, arrays = _fill(axis, codes, arrays, gaps, steps)
    offsets = np.searchsorted(codes, np.arange(len(ids) + 1))
    if for_training:
        _useless(channels, arrays[0], offsets, ids, problems)
    lengths = np.diff(offsets)
    if (short := lengths < min_rows).any():
        have = _listed(f"{i} has {n}" for i, n in zip(ids[short], lengths[short], strict=True))
        which = f"{int(short.sum())} series have fewer: {have}" if schema.id else f"there are {lengths[0]}"
        problems.add(f"too few rows: {min_rows} are needed, {which}")
    problems.stop()
    return Panel(
        ids=ids,
        offsets=offsets.astype(np.int64),
        time=time,
        target=arrays[0],
        past=arrays[1],
        known=arrays[2],
        static=statics,
        channels=channels,
        past_names=tuple(schema.past),
        known_names=tuple(schema.known),
        static_names=tuple(schema.static),
        freq=freq,
    )


def read_known_future(frame: pd.DataFrame, panel: Panel, schema: Schema, horizon: int) -> Float[np.ndarray, "N*H K"]:
    """The known covariates of the `horizon` rows after each series, in panel order; other rows are ignored.

    Raises
    ------
    DataError
        A column, a row, or a value in one of these rows, is missing or unreadable.
    """
    problems = _Problems("the known covariates of the future")
    frame = _named(frame, schema)
    stamp = _stamp_columns(frame, schema)
    wanted = (*stamp, *((schema.id,) if schema.id else ()), *panel.known_names)
    fix = f"give {', '.join(wanted)} for the {horizon} rows after the last row of every series"
    for name in missing_columns(wanted, frame.columns):
        problems.add(name)
    problems.stop(fix)
    time = _stamps(frame, schema, problems)
    ids, codes = _series(frame, schema, problems)
    if problems.found or (time.tz is None) != (panel.time.tz is None):
        if not problems.found:
            problems.add(f"their timestamps have time zone {time.tz}, the history's {panel.time.tz}")
        problems.stop(fix)
    stamps = panel.future_time(horizon)
    names = ids[codes] if schema.id else np.repeat(panel.ids, len(frame))
    given = pd.MultiIndex.from_arrays([names, time])
    last = np.flatnonzero(~given.duplicated(keep="last"))
    future = pd.MultiIndex.from_arrays([np.repeat(panel.ids, horizon), stamps[0].append(list(stamps[1:]))])
    found = given[last].get_indexer(future)
    if (gone := found < 0).any():
        when = _listed(f"{t} of {i}" if schema.id else str(t) for i, t in future[gone][: _SHOWN + 1])
        problems.add(f"{int(gone.sum())} of {len(future)} forecast rows are missing: {when}")
        problems.stop(fix)
    values = _numbers(frame.iloc[last[found]], panel.known_names, problems, known=True, rows=last[found])
    problems.stop(fix)
    return values


def missing_columns(wanted: Iterable[str], available: Iterable[object]) -> list[str]:
    """`column 'x' is missing` for each that is, with the nearest one there is."""
    there = [str(c) for c in available]
    spare = sorted(set(there) - set(wanted := list(wanted)))
    near = {name: nearest(name, spare) for name in wanted if name not in there}
    return [f"column {name!r} is missing" + (f"; did you mean {n!r}?" if n else "") for name, n in near.items()]


def _named(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The frame with text as column names, and an index that is a wanted column as a column."""
    if any(name in schema.columns and name not in frame.columns for name in frame.index.names):
        frame = frame.reset_index()
    return frame if all(isinstance(c, str) for c in frame.columns) else frame.set_axis(frame.columns.map(str), axis=1)


def _stamp_columns(frame: pd.DataFrame, schema: Schema) -> tuple[str, ...]:
    """The parts of the timestamp, or the one column it stands in already."""
    whole = schema.stamp in frame.columns and not set(schema.stamp_columns) <= set(frame.columns)
    return (schema.stamp,) if whole else schema.stamp_columns


def _columns(frame: pd.DataFrame, schema: Schema, with_static: bool, problems: _Problems) -> tuple[str, ...]:
    key = (schema.id,) if schema.id else ()
    named = [*_stamp_columns(frame, schema), *key, *schema.target, *schema.past, *schema.known]
    named += schema.static if with_static else ()
    for missing in missing_columns(named, frame.columns):
        hint = ""
        if len(frame.columns) == 1 and ";" in str(frame.columns[0]):
            hint = "; the file is separated by ';', and ',' is wanted"
        problems.add(missing + hint)
    if (twice := frame.columns[frame.columns.duplicated()].unique()).size:
        problems.add(f"columns are there more than once: {_listed(twice)}")
    if not len(frame):
        problems.add("there are no rows")
    others = [c for c in frame.columns if c not in {*named, *schema.static}]
    if schema.target:
        if schema.closed:
            for name in others:
                problems.add(f"column {name!r} is not one the model was trained on; leave it out")
        return tuple(schema.target)
    if not others:
        problems.add("there is no channel column besides the timestamp")
    return tuple(others)


def _stamps(frame: pd.DataFrame, schema: Schema, problems: _Problems) -> pd.DatetimeIndex:
    """Timestamps in nanoseconds, NaT where unreadable; a time zone is kept."""
    names = list(_stamp_columns(frame, schema))
    source = frame[names[0]]
    if len(names) > 1:
        values = pd.to_datetime(frame[names], errors="coerce")
    elif types.is_numeric_dtype(source.dtype):
        problems.add(f"column {names[0]!r} holds numbers, not timestamps such as 2020-01-31 13:00:00")
        values = pd.Series(pd.NaT, index=frame.index)
    elif types.is_datetime64_any_dtype(source.dtype):
        values = source
    else:
        values = _parsed(source, problems)
    stamps = pd.DatetimeIndex(values).rename(None)
    try:
        stamps = stamps.as_unit("ns")
    except pd.errors.OutOfBoundsDatetime:
        stamps = pd.DatetimeIndex(stamps.where((stamps.year > 1677) & (stamps.year < 2262))).as_unit("ns")
    bad = np.flatnonzero(stamps.isna())
    if len(bad) and (len(names) > 1 or not types.is_numeric_dtype(source.dtype)):
        sample = "-".join(map(str, frame[names].iloc[bad[0]]))
        problems.add(f"timestamps that cannot be read, such as {sample!r}", bad)
    return stamps


def _parsed(source: pd.Series, problems: _Problems) -> pd.Series:
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
        log.info("%s: timestamps of several UTC offsets are read as UTC", problems.where)
    first = source.first_valid_index()
    if values.notna().any() or first is None:
        return values
    form = guess_datetime_format(str(source.loc[first]))
    return pd.to_datetime(source, errors="coerce", format=form, utc=utc) if form else values


def _series(frame: pd.DataFrame, schema: Schema, problems: _Problems) -> tuple[np.ndarray, np.ndarray]:
    """Series names in order of appearance, and the series of each row, -1 where it has no name."""
    if schema.id is None:
        return np.array(["0"], dtype=object), np.zeros(len(frame), dtype=np.int64)
    codes, found = pd.factorize(frame[schema.id])
    if (nameless := codes < 0).any():
        problems.add(f"column {schema.id!r} names no series", nameless)
    if types.is_float_dtype(found.dtype) and (found % 1 == 0).all():
        found = found.astype(np.int64)  # whole numbers that a missing cell made fractions
    same, names = pd.factorize(np.array([str(name) for name in found], dtype=object))  # 1 and "1" are one series
    codes = codes.astype(np.int64)
    return np.asarray(names, dtype=object), codes if len(names) == len(found) else np.append(same, -1)[codes]


def _numbers(
    frame: pd.DataFrame, names: Sequence[str], problems: _Problems, *, known: bool, rows: np.ndarray | None = None
) -> np.ndarray:
    """Columns as float32; `rows` are the rows of the file, where they are not those of the frame."""
    values = np.empty((len(frame), len(names)), dtype=np.float32)
    rows = np.arange(len(frame)) if rows is None else rows
    for j, name in enumerate(names):
        column = frame[name]
        if types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype):
            numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            text = column.astype(str).where(column.notna())  # not as it is: pandas takes a timestamp for a number
            numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
            if (bad := np.isnan(numbers) & column.notna().to_numpy()).any():
                sample = str(column[bad].iloc[0])
                problems.add(f"column {name!r} has cells that are not numbers, such as {sample!r}", rows[bad])
                known = False  # said once
        with np.errstate(over="ignore"):  # beyond float32 is infinite
            values[:, j] = numbers
        if not np.isfinite(values[:, j].sum(dtype=np.float64)):
            if (infinite := np.isinf(values[:, j])).any():
                problems.add(f"column {name!r} has infinite values", rows[infinite])
            if known and (gone := np.isnan(values[:, j])).any():
                problems.add(f"covariate {name!r} has missing values, and is to be known in every row", rows[gone])
    return values


def _order(time: pd.DatetimeIndex, codes: np.ndarray, policy: Policy, problems: _Problems) -> np.ndarray:
    """Readable rows by series and time. Series may be interleaved; time that runs backward within one is a problem."""
    rows, stamps = np.arange(len(codes)), time.asi8
    if time.hasnans or codes.min(initial=0) < 0:
        rows = rows[time.notna() & (codes >= 0)]
        stamps, codes = stamps[rows], codes[rows]
    if np.any(codes[1:] < codes[:-1]):
        grouped = np.argsort(codes, kind="stable")
        rows, stamps, codes = rows[grouped], stamps[grouped], codes[grouped]
    back = (stamps[1:] < stamps[:-1]) & (codes[1:] == codes[:-1])
    if not back.any():
        return rows
    if policy.unsorted == "error":
        problems.add("timestamps are not sorted", rows[1:][back], "unsorted=sort")
    return rows[np.lexsort((stamps, codes))]


def _longest(time: pd.DatetimeIndex, codes: np.ndarray) -> pd.DatetimeIndex:
    longest = int(np.bincount(codes).argmax())
    return time[slice(*np.searchsorted(codes, [longest, longest + 1]))].unique()


def _freq(time: pd.DatetimeIndex, codes: np.ndarray, schema: Schema, problems: _Problems) -> str:
    if schema.freq is not None:
        return schema.freq
    freq = infer(_longest(time, codes))
    if freq is None:
        problems.add("the frequency cannot be inferred: too few rows, or no step prevails")
        problems.stop("set dataset.freq=h (or 15min, D, MS, ...)")
    log.info("%s: freq inferred as %r (set dataset.freq to state it)", problems.where, freq)
    return str(freq)


def _daylight(time: pd.DatetimeIndex, happened: str, problems: _Problems) -> None:
    if len(time):
        zone = "" if time.tz is None else f" in {time.tz}"
        problems.add(f"of these a daylight-saving change explains {len(time)}, its hour is {happened}{zone}: "
                     f"{named_days(time)}; write the timestamps in UTC")  # fmt: skip


def _fill(
    axis: Axis, codes: np.ndarray, arrays: list[np.ndarray], gaps: np.ndarray, steps: np.ndarray
) -> tuple[pd.DatetimeIndex, np.ndarray, list[np.ndarray]]:
    """Rows of missing values in every gap."""
    count = steps[gaps] - 1
    row = np.repeat(gaps, count)
    ahead = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + 1
    place = np.insert(np.arange(len(codes)), row + 1, -1)  # -1: a new row
    time = axis.time.append(axis.fill(row, ahead))
    order = place.copy()
    order[place < 0] = len(codes) + np.arange(len(row))
    grown = []
    for array in arrays:
        new = np.full((len(place), array.shape[1]), np.nan, dtype=array.dtype)
        new[place >= 0] = array
        grown.append(new)
    log.info("%d rows filled in for %d gaps", len(row), len(gaps))
    return pd.DatetimeIndex(time[order]), np.insert(codes, row + 1, codes[row]), grown


def _useless(
    channels: tuple[str, ...], target: np.ndarray, offsets: np.ndarray, ids: np.ndarray, problems: _Problems
) -> None:
    low, high = np.fmin.reduce(target), np.fmax.reduce(target)  # NaN only where all are
    for j, name in enumerate(channels):
        if np.isnan(low[j]):
            problems.add(f"channel {name!r} is all missing")
        elif low[j] == high[j]:
            problems.add(f"channel {name!r} is constant ({low[j]:g})")
    if len(ids) > 1 and np.isnan(target.sum(dtype=np.float64)) and np.diff(offsets).all():
        empty = ~np.logical_or.reduceat((~np.isnan(target)).any(axis=1), offsets[:-1])
        if empty.any():
            problems.add(f"{int(empty.sum())} series are all missing: {_listed(ids[empty])}")


def _static(
    frame: pd.DataFrame, codes: np.ndarray, own: pd.DataFrame | None, schema: Schema, ids: np.ndarray,
    problems: _Problems,
) -> Float[np.ndarray, "N S"]:  # fmt: skip
    """Static covariates, one row per series, from a frame of their own or from the columns that repeat them."""
    names = tuple(schema.static)
    table = np.full((len(ids), len(names)), np.nan, dtype=np.float32)
    if not names:
        return table
    if own is not None:
        inner = _Problems(f"the static covariates of {problems.where}")
        frame = _named(own, schema)
        for missing in missing_columns((*((schema.id,) if schema.id else ()), *names), frame.columns):
            inner.add(missing)
        inner.stop()
        theirs, codes = _series(frame, schema, inner)
        codes = np.where(codes < 0, -1, pd.Index(ids).get_indexer(pd.Index(theirs))[codes])
        inner.stop()
    values = _numbers(frame, names, problems, known=False)
    kept = np.flatnonzero(codes >= 0)
    series, first = np.unique(codes[kept], return_index=True)
    table[series] = values[kept[first]]
    for j, name in enumerate(names):
        if (varies := values[kept, j] != table[codes[kept], j]).any() and not np.isnan(table[:, j]).any():
            problems.add(f"static covariate {name!r} changes within a series", kept[varies])
        if (gone := np.isnan(table[:, j])).any():
            problems.add(f"static covariate {name!r} is missing for {int(gone.sum())} series: {_listed(ids[gone])}")
    return table


def _listed(names: Iterable[object]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")
