"""From a frame to a panel: columns by name, every problem of the frame reported at once."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsforecast.data.columns import (
    SHOWN,
    Categories,
    Problems,
    channel_columns,
    check_named,
    missing_columns,
    read_numbers,
    read_series,
    read_static,
    stamp_columns,
    text_columns,
)
from tsforecast.data.frequency import ALIASES, Axis, infer, named_days, nearest_alias, parse
from tsforecast.data.panel import Panel
from tsforecast.data.schema import Schema
from tsforecast.data.stamps import check_stamps, read_stamps, recent
from tsforecast.errors import listed

log = logging.getLogger(__name__)


def to_panel(
    frame: pd.DataFrame,
    schema: Schema,
    *,
    first_row: int = 2,
    static: pd.DataFrame | None = None,
    where: str = "the frame",
    for_training: bool = True,
    keys: str | None = None,
    min_rows: int = 1,
    tail: int | None = None,
) -> Panel:
    """Check a frame and lay it out as a panel.

    Parameters
    ----------
    frame
        Wide or long, as `schema` says; columns in any order. Series of a long frame may be interleaved.
    first_row
        Number of the first row in messages; 2 is the one below a header, as a spreadsheet counts.
    static
        One row per series with the static covariates; None: they are columns of `frame`.
    where
        What to call the frame in messages.
    for_training
        Also refuse channels that are constant or all missing, which a forecast request may hold.
    keys
        As in `Problems`; of training they begin with `dataset.`.
    min_rows
        Rows that every series must have.
    tail
        Timestamps of each series that are read, the last; what stands before is not looked at. None: all.

    Raises
    ------
    DataError
        With all problems found, their counts and row numbers.
    """
    problems = Problems(where, first_row, "dataset." if for_training else keys)
    frame = text_columns(frame, schema)
    channels = channel_columns(frame, schema, static is None, problems)
    roles = "say which column is what: dataset.time=, dataset.target=" + (", dataset.id=" if schema.id else "")
    problems.stop(f"{roles}; there are {listed(frame.columns)}" if for_training and len(frame.columns) else None)
    ids, codes = read_series(frame, schema)
    time = read_stamps(frame, codes, schema, problems)
    if tail is not None and tail < len(frame):
        problems.rows = recent(time, codes, tail)
        frame, time, codes = frame.iloc[problems.rows], time[problems.rows], codes[problems.rows]
    check_stamps(frame, time, schema, problems)
    check_named(codes, schema, problems)
    groups = (channels, schema.past, schema.known)
    categories: Categories = dict.fromkeys(schema.categorical, ())
    arrays = [
        read_numbers(frame, tuple(names), schema, problems, categories, known=i == 2, covariates=i > 0)
        for i, names in enumerate(groups)
    ]
    statics = read_static(frame, codes, static, schema, ids, problems, categories)

    height = len(frame)
    del frame  # the caller may have given its only reference: text takes more memory than all that was read from it
    rows = _order(time, codes, schema, problems)  # row i of the panel stands in row rows[i] of the frame
    if not len(rows):
        problems.stop()
    if rows[0] != 0 or rows[-1] != height - 1 or np.any(np.diff(rows) != 1):
        time, codes, arrays = time[rows], codes[rows], [array[rows] for array in arrays]
    same = codes[1:] == codes[:-1]
    twice = np.flatnonzero(same & (time.asi8[1:] == time.asi8[:-1])) + 1
    freq = _freq(time, codes, schema, problems)
    if len(twice):
        if schema.duplicates == "error":
            hour = Axis.of(time, parse(freq)).daylight(twice - 1)
            _daylight("duplicate timestamps", rows[twice], "duplicates=last", hour, time[twice], problems)
        log.info("%s: %d rows with a duplicate timestamp", where, len(twice))
        unique = np.ones(len(rows), dtype=bool)
        unique[twice - 1] = False
        rows, time, codes, arrays = rows[unique], time[unique], codes[unique], [array[unique] for array in arrays]
        same = codes[1:] == codes[:-1]

    axis = Axis.of(time, parse(freq))
    steps, stray = axis.steps(same)
    gaps = np.flatnonzero(same & (steps > 1))
    if stray.any():
        prevailing = infer(_longest(time, codes))
        hint = f"; the prevailing step is {prevailing!r}" if prevailing not in (None, freq) else ""
        problems.add(f"timestamps off the grid of freq {freq!r}{hint}", rows[stray])
    elif (off := schema.off_grid(axis)).any():
        told = listed(pd.Timedelta(each) for each in schema.phase)
        problems.add(f"timestamps off the grid of training: every {freq}, {told} after a whole step", rows[off])
    elif len(gaps):
        missing = int((steps[gaps] - 1).sum())
        too_many = missing > 10 * len(rows) + 1000
        if schema.gaps == "error" or too_many:
            what = f"gaps against freq {freq!r}, {missing} timestamps missing{', too many to fill' * too_many}, before"
            policy = "" if too_many else "gaps=fill"
            _daylight(what, rows[gaps + 1], policy, axis.daylight(gaps), time[gaps + 1], problems)
        else:
            for name in schema.known:
                problems.add(f"known covariate {name!r} has no value in the {missing} rows that gaps=fill inserts")
            time, codes, arrays = _fill(axis, codes, arrays, gaps, steps)
    offsets = np.searchsorted(codes, np.arange(len(ids) + 1))
    if for_training:
        _useless(channels, arrays[0], offsets, ids, problems)
    _short(offsets, ids, schema, min_rows, problems)
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
        categories=categories,
    )


def read_known_future(
    frame: pd.DataFrame, panel: Panel, schema: Schema, horizon: int, first_row: int = 2
) -> tuple[Float[np.ndarray, "N*H K"], Categories]:
    """The known covariates of the `horizon` rows after each series, in panel order; other rows are ignored.

    With them come the panel's categories, and what labels are new behind them.

    Raises
    ------
    DataError
        A column, a row, or a value in one of these rows, is missing or unreadable.
    """
    problems = Problems("known_future", first_row, None)
    frame = text_columns(frame, schema)
    stamp = stamp_columns(frame, schema)
    wanted = (*stamp, *((schema.id,) if schema.id else ()), *panel.known_names)
    fix = f"give {', '.join(wanted)} for the {horizon} rows after the last row of every series"
    for name in missing_columns(wanted, frame.columns):
        problems.add(name)
    problems.stop(fix)
    ids, codes = read_series(frame, schema)
    time = read_stamps(frame, codes, schema, problems)
    check_stamps(frame, time, schema, problems)
    check_named(codes, schema, problems)
    if problems.found or (time.tz is None) != (panel.time.tz is None):
        if not problems.found:
            problems.add(f"their timestamps have time zone {time.tz}, the history's {panel.time.tz}")
        problems.stop(fix)
    stamps = panel.future_time(horizon)
    series = ids[codes] if schema.id else np.repeat(panel.ids, len(frame))
    given = pd.MultiIndex.from_arrays([series, time])
    future = pd.MultiIndex.from_arrays([np.repeat(panel.ids, horizon), stamps[0].append(list(stamps[1:]))])
    last = np.flatnonzero(~given.duplicated(keep="last"))
    if (twice := given.duplicated(keep="last") & given.isin(future)).any():
        problems.add("forecast rows that are there twice", np.flatnonzero(twice))
        problems.stop(fix)
    found = given[last].get_indexer(future)
    if (gone := found < 0).any():
        when = listed(f"{t} of {i}" if schema.id else str(t) for i, t in future[gone][: SHOWN + 1])
        problems.add(f"{int(gone.sum())} of {len(future)} forecast rows are missing: {when}")
        problems.stop(fix)
    categories = dict(panel.categories)
    names = panel.known_names
    problems.rows = last[found]
    values = read_numbers(frame.iloc[problems.rows], names, schema, problems, categories, known=True)
    problems.stop(fix)
    return values, categories


def _order(time: pd.DatetimeIndex, codes: np.ndarray, schema: Schema, problems: Problems) -> np.ndarray:
    """Readable rows by series and time. Series may be interleaved; time that runs backward within one is a problem."""
    rows, stamps = np.arange(len(codes), dtype=np.int32), time.asi8
    if time.hasnans or codes.min(initial=0) < 0:
        rows = rows[time.notna() & (codes >= 0)]
        stamps, codes = stamps[rows], codes[rows]
    if np.any(codes[1:] < codes[:-1]):
        grouped = np.argsort(codes, kind="stable")
        rows, stamps, codes = rows[grouped], stamps[grouped], codes[grouped]
    back = (stamps[1:] < stamps[:-1]) & (codes[1:] == codes[:-1])
    if not back.any():
        return rows
    if schema.unsorted == "error":
        problems.add("timestamps are not sorted", rows[1:][back], "unsorted=sort")
    return rows[np.lexsort((stamps, codes))]


def _longest(time: pd.DatetimeIndex, codes: np.ndarray) -> pd.DatetimeIndex:
    longest = int(np.bincount(codes).argmax())
    return time[slice(*np.searchsorted(codes, [longest, longest + 1]))].unique()


def _freq(time: pd.DatetimeIndex, codes: np.ndarray, schema: Schema, problems: Problems) -> str:
    if schema.freq is not None:
        return schema.freq
    freq = infer(_longest(time, codes))
    if freq is None:
        problems.add("the frequency cannot be inferred: too few rows, or no step prevails")
        problems.stop(f"say which: dataset.freq={nearest_alias(time)}, as it seems ({', '.join(ALIASES)}, ...)")
    log.info("%s: freq inferred as %r (set dataset.freq to state it)", problems.where, freq)
    return str(freq)


def _daylight(
    what: str, rows: np.ndarray, policy: str, hour: np.ndarray, time: pd.DatetimeIndex, problems: Problems
) -> None:
    """A problem with `time[i]` in `rows[i]`; no policy mends the hours that a daylight-saving change explains."""
    zone = f" in {time.tz}" if time.tz is not None else ""
    explained = f", of which a daylight-saving change explains {hour.sum()}{zone}: {named_days(time[hour])}"
    policies = [policy] if policy and (zone or not hour.all()) else []
    policies += ["localize=Europe/Berlin"] if hour.any() and not zone else []
    problems.add(what + explained * bool(hour.any()), rows, *policies)


def _fill(
    axis: Axis, codes: np.ndarray, arrays: list[np.ndarray], gaps: np.ndarray, steps: np.ndarray
) -> tuple[pd.DatetimeIndex, np.ndarray, list[np.ndarray]]:
    """Rows of missing values in every gap."""
    count = steps[gaps] - 1
    row = np.repeat(gaps, count)
    ahead = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + 1
    place = np.insert(np.arange(len(codes)), row + 1, -1)  # -1: a new row
    time = axis.time.append(axis.ahead(row, ahead))
    order = place.copy()
    order[place < 0] = len(codes) + np.arange(len(row))
    grown = []
    for array in arrays:
        new = np.full((len(place), array.shape[1]), np.nan, dtype=array.dtype)
        new[place >= 0] = array
        grown.append(new)
    log.info("%d rows filled in for %d gaps", len(row), len(gaps))
    return pd.DatetimeIndex(time[order]), np.insert(codes, row + 1, codes[row]), grown


def _short(offsets: np.ndarray, ids: np.ndarray, schema: Schema, min_rows: int, problems: Problems) -> None:
    lengths = np.diff(offsets)
    if (short := lengths < min_rows).any():
        have = listed(f"{i} has {n}" for i, n in zip(ids[short], lengths[short], strict=True))
        which = f"{int(short.sum())} series have fewer: {have}" if schema.id else f"there are {lengths[0]}"
        problems.add(f"too few rows: {min_rows} are needed, {which}")


def _useless(
    channels: tuple[str, ...], target: np.ndarray, offsets: np.ndarray, ids: np.ndarray, problems: Problems
) -> None:
    low, high = np.fmin.reduce(target), np.fmax.reduce(target)  # NaN only where all are
    for j, name in enumerate(channels):
        if name in problems.columns:
            continue
        if np.isnan(low[j]):
            problems.add(f"channel {name!r} is all missing")
        elif low[j] == high[j]:
            problems.add(f"channel {name!r} is constant ({low[j]:g})")
    if len(ids) > 1 and np.diff(offsets).all():
        low, high = (each.reduceat(target, offsets[:-1], axis=0) for each in (np.fmin, np.fmax))
        if (empty := np.isnan(low).all(axis=1)).any():
            problems.add(f"{int(empty.sum())} series are all missing: {listed(ids[empty])}")
        if (flat := (low == high).any(axis=1)).any():
            names = listed(ids[flat])
            log.warning("%s: in float32 %d of %d series are constant: %s", problems.where, flat.sum(), len(ids), names)
