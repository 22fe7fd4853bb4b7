"""From a frame to a panel: columns by name, every problem of the frame reported at once."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsforecast.data.arrays import Arrays
from tsforecast.data.columns import Categories, Problems, Reader, channel_columns, places, stamp_columns
from tsforecast.data.frequency import ALIASES, Axis, infer, nearest_alias, parse
from tsforecast.data.panel import Panel
from tsforecast.data.roles import by_name
from tsforecast.data.rows import Rows, read_rows
from tsforecast.data.schema import Schema
from tsforecast.errors import listed

log = logging.getLogger(__name__)


def to_panel(
    frame: pd.DataFrame | Arrays,
    schema: Schema,
    problems: Problems | None = None,
    *,
    static: pd.DataFrame | Arrays | None = None,
    for_training: bool = True,
    tail: int | None = None,
) -> Panel:
    """Check a frame and lay it out as a panel.

    Parameters
    ----------
    frame
        Wide or long, as `schema` says; columns in any order. Series of a long frame may be interleaved.
    problems
        What is wrong with the frame is added to these, which say what messages call it and its rows; None: "the frame",
        from 2 on, below a header, as a spreadsheet counts.
    static
        One row per series with the static covariates; None: they are columns of `frame`.
    for_training
        Also refuse channels that are constant or all missing, which a forecast request may hold.
    tail
        Timestamps of each series that are read, the last; what stands before is not looked at. None: all.

    Raises
    ------
    DataError
        With all problems found, their counts and row numbers.
    """
    problems = problems or Problems("the frame", keys="dataset." if for_training else None)
    indexed = [] if isinstance(frame, Arrays) else [name for name in frame.index.names if name is not None]
    nameless = not isinstance(frame, Arrays) and isinstance(frame.index, pd.DatetimeIndex) and not indexed
    frame = Arrays.of(frame, schema.columns)
    channels = channel_columns(frame, schema, static is None, problems)
    if problems.found:
        roles = "say which column is what: dataset.time=, dataset.target=" + (", dataset.id=" if schema.id else "")
        roles += f"; there are {listed([*indexed, *frame.columns])}" + ", and an index without a name" * nameless
        problems.stop(roles if for_training and len(frame.columns) else None)
    frame, ids, rows = read_rows(frame, schema, problems, tail)
    reader = Reader(schema, problems, dict.fromkeys(schema.categorical, ()))
    rows = replace(rows, values=reader.groups(frame, channels))
    own = static if schema.static else None
    statics = reader.static(frame, rows.codes, ids) if own is None else reader.own_static(own, ids)
    columns = frame.columns
    del frame  # the caller may have given its only reference: text takes more memory than all that was read from it
    rows = rows.in_order(schema, problems)
    if not len(rows):
        problems.stop()
    freq = _freq(rows, schema, problems)
    rows = _distinct(rows, freq, schema, problems, columns)
    offsets = np.searchsorted(rows.codes, np.arange(len(ids) + 1)).astype(np.int64)
    target, past, known = rows.values
    past_names, known_names, static_names = (tuple(names) for names in (schema.past, schema.known, schema.static))
    names = channels, past_names, known_names, static_names
    panel = Panel(ids, offsets, rows.time, target, past, known, statics, *names, freq, reader.categories)
    panel = _regular(panel, rows, schema, problems)
    if for_training:
        _useless(panel, problems)
    problems.stop()
    return panel


def read_known_future(
    frame: pd.DataFrame | Arrays, panel: Panel, schema: Schema, horizon: int, first_row: int | np.ndarray = 2
) -> tuple[Float[np.ndarray, "N*H K"], Categories]:
    """The known covariates of the `horizon` rows after each series, in panel order; other rows are ignored.

    With them come the panel's categories, and what labels are new behind them.

    Raises
    ------
    DataError
        A column, a row, or a value in one of these rows, is missing or unreadable.
    """
    problems = Problems("known_future", first_row, None)
    frame = Arrays.of(frame, schema.columns)
    wanted = (*stamp_columns(frame.columns, schema), *schema.key, *panel.known_names)
    fix = f"give {', '.join(wanted)} for the {horizon} rows after the last row of every series"
    problems.missing(wanted, frame.columns, frame.twice)
    problems.stop(fix)
    frame, ids, rows = read_rows(frame, schema, problems)
    if not problems.found and (rows.time.tz is None) != (panel.time.tz is None):
        problems.add(f"their timestamps have time zone {rows.time.tz}, the history's {panel.time.tz}")
    problems.stop(fix)
    ahead = panel.future_time(horizon)  # sorted within a series
    future, stamps = ahead.as_unit("ns").asi8, rows.time.asi8
    if schema.id:  # a number for each series and timestamp
        moments = np.unique(future)
        place = places(panel.ids, ids)[rows.codes]
        at = np.searchsorted(moments, stamps).clip(max=len(moments) - 1)
        stamps = np.where((place >= 0) & (moments[at] == stamps), place * len(moments) + at, -1)
        future = np.repeat(np.arange(len(panel)) * len(moments), horizon) + np.searchsorted(moments, future)
    order = np.argsort(stamps, kind="stable")
    first, last = (np.searchsorted(stamps[order], future, side=side) for side in ("left", "right"))
    found = np.append(order, -1)[last - 1]
    if (last > first + 1).any():
        again = np.isin(stamps, future)
        again[found[last > first]] = False
        problems.add("forecast rows that are there twice", again)
    if (gone := last == first).any():
        names = np.repeat(panel.ids, horizon)[gone]
        when = listed(f"{t} of {i}" if schema.id else t for i, t in zip(names[:6], ahead[gone][:6], strict=True))
        problems.add(f"{int(gone.sum())} of {len(future)} forecast rows are missing: {when}")
    problems.stop(fix)
    problems.rows, reader = found, Reader(schema, problems, dict(panel.categories))
    values = reader.numbers(frame.take(found), panel.known_names, known=True)
    problems.stop(fix)
    return values, reader.categories


def _freq(rows: Rows, schema: Schema, problems: Problems) -> str:
    if schema.freq is not None:
        return schema.freq
    freq = infer(rows.longest)
    if freq is None:
        problems.add("the frequency cannot be inferred: too few rows, or no step prevails")
        problems.stop(f"say which: dataset.freq={nearest_alias(rows.longest)}, as it seems ({', '.join(ALIASES)}, ...)")
    log.info("%s: freq inferred as %r (set dataset.freq to state it)", problems.where, freq)
    return str(freq)


def _distinct(rows: Rows, freq: str, schema: Schema, problems: Problems, columns: Collection[str]) -> Rows:
    """The last of the rows of each timestamp."""
    stamps = rows.time.asi8
    again = np.flatnonzero(rows.same & (stamps[1:] == stamps[:-1]))  # the next row has the same timestamp
    if not len(again):
        return rows
    if schema.duplicates == "error":
        if not schema.id and 2 * len(again) >= len(rows):  # keeping the last ones would drop all series but one
            problems.add("most timestamps are there more than once, as of several series", rows.place[again + 1])
            key = by_name(Schema(id="unique_id"), columns).get("id", "unique_id")
            words = f"dataset=long dataset.id={key if key in columns else 'COLUMN'}"
            problems.stop(problems.keys and f"say which column tells the series apart: {words}")
        _note_changes("duplicate timestamps", again, "duplicates=last", rows, Axis.of(rows.time, parse(freq)), problems)
    log.info("%s: %d rows with a duplicate timestamp", problems.where, len(again))
    return rows.take(np.delete(np.arange(len(rows)), again))


def _regular(panel: Panel, rows: Rows, schema: Schema, problems: Problems) -> Panel:
    """The panel with a row for every step: gaps are filled or a problem, as are rows between the steps."""
    freq, axis = panel.freq, Axis.of(panel.time, parse(panel.freq))
    steps, stray = axis.steps(rows.same)
    gaps = np.flatnonzero(steps > 1)
    if stray.any():
        prevailing = infer(rows.longest)
        hint = f"; the prevailing step is {prevailing!r}" if prevailing not in (None, freq) else ""
        problems.add(f"timestamps off the grid of freq {freq!r}{hint}", rows.place[stray])
        return panel
    if (off := schema.off_grid(axis)).any():
        phases = listed(pd.Timedelta(each) for each in schema.phase)
        problems.add(f"timestamps off the grid of training: every {freq}, {phases} after a whole step", rows.place[off])
        return panel
    if not len(gaps):
        return panel
    count = steps[gaps] - 1
    missing = int(count.sum())
    too_many = missing > 10 * len(rows) + 1000
    if schema.gaps == "error" or too_many:
        what = f"gaps against freq {freq!r}, {missing} timestamps missing{', too many to fill' * too_many}, before"
        _note_changes(what, gaps, "" if too_many else "gaps=fill", rows, axis, problems)
        return panel
    for name in schema.known:
        what = f"known covariate {name!r} has no value in the {missing} rows that gaps=fill inserts"
        problems.add(f"{what}: write them into the file with it, or name it in past")
    log.info("%d rows filled in for %d gaps", missing, len(gaps))
    before = np.repeat(gaps, count)
    ahead = np.arange(missing) - np.repeat(np.cumsum(count) - count, count) + 1
    return panel.insert(before + 1, axis.ahead(before, ahead).asi8)


def _note_changes(what: str, before: np.ndarray, policy: str, rows: Rows, axis: Axis, problems: Problems) -> None:
    """A problem behind the rows `before`; no policy mends the hours that a daylight-saving change explains."""
    hour, time = axis.daylight(before), rows.time[before + 1]
    days = listed(dict.fromkeys(time[hour].date), 3)
    zone = f" in {time.tz}" if time.tz is not None else ""
    explained = f", of which a daylight-saving change explains {hour.sum()}{zone}: {days}"
    policies = [policy] if policy and (zone or not hour.all()) else []
    policies += ["localize=Europe/Berlin"] if hour.any() and not zone else []
    problems.add(what + explained * bool(hour.any()), rows.place[before + 1], *policies)


def _useless(panel: Panel, problems: Problems) -> None:
    """A problem for channels that are constant or all missing, and for series of which all is missing."""
    ids, target = panel.ids, panel.target
    low, high = np.fmin.reduce(target), np.fmax.reduce(target)  # NaN only where all are
    for j, name in enumerate(panel.channels):
        if name in problems.columns:
            continue
        if np.isnan(low[j]):
            problems.add(f"channel {name!r} is all missing")
        elif low[j] == high[j]:
            problems.add(f"channel {name!r} is constant ({low[j]:g})")
    if len(ids) > 1 and panel.lengths.all():
        low, high = (each.reduceat(target, panel.offsets[:-1], axis=0) for each in (np.fmin, np.fmax))
        if (empty := np.isnan(low).all(axis=1)).any():
            problems.add(f"{int(empty.sum())} series are all missing: {listed(ids[empty])}")
        if (flat := (low == high).any(axis=1)).any():
            names = listed(ids[flat])
            log.warning("%s: in float32 %d of %d series are constant: %s", problems.where, flat.sum(), len(ids), names)
