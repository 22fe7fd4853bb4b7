"""From a frame to a panel: columns by name, every problem of the frame reported at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from tsforecast.errors import ConfigError, DataError, nearest
from tsforecast.frequency import Axis, daylight, infer, named_days, parse
from tsforecast.panel import Panel

log = logging.getLogger(__name__)


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
        Covariates known up to the cutoff, for the future too, and per series.
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
        chosen = {
            "time": time if isinstance(time, str) else tuple(time),
            "id": (self.id or "unique_id") if long else None,
            "target": tuple(self.target) or (("y",) if long else ()),
            **{name: tuple(getattr(self, name)) for name in ("past", "known", "static")},
        }
        for name, value in chosen.items():
            object.__setattr__(self, name, value)
        columns = [*self.target, *self.past, *self.known, *self.static]
        if twice := sorted({c for c in columns if columns.count(c) > 1}):
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
        return (*self.stamp_columns, *((self.id,) if self.id else ()), *self.target, *self.past, *self.known)


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

    def add(self, what: str, rows: Bool[np.ndarray, "T"] | Int[np.ndarray, "G"] | None = None) -> None:
        """A problem and the rows it is in; row 2 is the first below the header, as a spreadsheet counts."""
        if rows is not None:
            index = np.flatnonzero(rows) if rows.dtype == bool else rows
            shown = ", ".join(str(i + 2) for i in index[:5]) + (", ..." if len(index) > 5 else "")
            what += f" ({len(index)} row{'s' * (len(index) != 1)}: {shown})"
        self.found.append(what)

    def stop(self, fix: str | None = None) -> None:
        """Raise when anything was found."""
        if self.found:
            listing = "\n".join(f"  - {what}" for what in self.found)
            count = f"{len(self.found)} problem{'s' * (len(self.found) != 1)}"
            raise DataError(f"{count} in the data\n{listing}", where=self.where, fix=fix)


def to_panel(
    frame: pd.DataFrame,
    schema: Schema,
    policy: Policy | None = None,
    *,
    static: pd.DataFrame | None = None,
    where: str = "the frame",
    for_training: bool = True,
) -> Panel:
    """Check a frame and lay it out as a panel.

    Parameters
    ----------
    frame
        Wide or long, as `schema` says; columns in any order.
    static
        One row per series with the static covariates, when `schema.static` names any.
    where
        What to call the frame in messages.
    for_training
        Also refuse channels that are constant or all missing, which a forecast request may hold.

    Raises
    ------
    DataError
        With all problems found, their counts and row numbers.
    """
    policy = policy or Policy()
    problems = _Problems(where)
    channels = _columns(frame, schema, problems)
    problems.stop()
    time = _stamps(frame, schema, problems)
    ids, codes = _series(frame, schema)
    groups = (channels, schema.past, schema.known)
    arrays = [_numbers(frame, tuple(names), problems, known=i == 2) for i, names in enumerate(groups)]
    problems.stop()

    order = None
    same = codes[1:] == codes[:-1]
    grouped = len(codes) == 0 or int((~same).sum()) + 1 == len(ids)
    raw = time.asi8
    if not grouped or bool(np.any(same & (np.diff(raw) < 0))):
        backward = np.flatnonzero(same & (np.diff(raw) < 0)) + 1
        if policy.unsorted == "error" and len(backward):
            problems.add("timestamps are not sorted", backward)
            note = daylight(time[backward - 1], time[backward])
            if note.any():
                problems.add(f"an hour told twice by a daylight-saving change: {named_days(time[backward[note]])}")
        order = np.lexsort((raw, codes))
        time, codes, raw = time[order], codes[order], raw[order]
        same = codes[1:] == codes[:-1]
    rows = np.arange(len(codes)) if order is None else order
    twice = np.flatnonzero(same & (np.diff(raw) == 0)) + 1
    keep = np.ones(len(codes), dtype=bool)
    if len(twice):
        if policy.duplicates == "error":
            problems.add("duplicate timestamps", rows[twice])
        keep[twice - 1] = False
        log.info("%s: %d rows with a duplicate timestamp", where, len(twice))
    if not keep.all() or order is not None:
        rows = rows[keep]
        time, codes = time[keep], codes[keep]
        arrays = [array[rows] for array in arrays]
        same = codes[1:] == codes[:-1]

    freq = schema.freq
    if freq is None:
        longest = np.bincount(codes).argmax() if len(codes) else 0
        freq = infer(time[codes == longest] if len(ids) > 1 else time)
        if freq is None:
            problems.add("the frequency cannot be inferred: too few rows, or no step prevails")
            problems.stop("set dataset.freq=h (or 15min, D, MS, ...)")
        log.info("%s: freq inferred as %r (set dataset.freq to state it)", where, freq)
    assert freq is not None
    axis = Axis.of(time, parse(freq))
    steps, stray = axis.steps(codes, same)
    if stray.any():
        problems.add(f"timestamps off the grid of freq {freq!r}", rows[stray])
    gaps = np.flatnonzero(same & (steps > 1))
    if len(gaps) and not stray.any():
        if policy.gaps == "error":
            missing = int((steps[gaps] - 1).sum())
            problems.add(f"gaps against freq {freq!r}, {missing} timestamps missing, before", rows[gaps + 1])
            saving = daylight(time[gaps], time[gaps + 1])
            if saving.any():
                problems.add(f"of these a daylight-saving change explains {int(saving.sum())}: "
                             f"{named_days(time[gaps[saving] + 1])}")  # fmt: skip
        else:
            time, codes, arrays = _fill(axis, codes, arrays, gaps, steps)
    if for_training:
        _useless(channels, arrays[0], codes, len(ids), problems)
    statics = _static(static, schema, ids, problems)
    problems.stop("mend the file, or state a policy: dataset.unsorted=sort dataset.gaps=fill dataset.duplicates=last")
    return Panel(
        ids=ids,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(ids)))]).astype(np.int64),
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


def read_known_future(
    frame: pd.DataFrame, panel: Panel, schema: Schema, horizon: int
) -> Float[np.ndarray, "N*H K"]:
    """The known covariates of the `horizon` rows after each series, in panel order.

    Raises
    ------
    DataError
        A column, or a value for one of these rows, is missing.
    """
    problems = _Problems("the known covariates of the future")
    wanted = (schema.stamp, *((schema.id,) if schema.id else ()), *panel.known_names)
    for name in wanted:
        if name not in frame.columns:
            problems.add(f"column {name!r} is missing")
    problems.stop(f"give {', '.join(wanted)} for the {horizon} rows after the last row of every series")
    stamps = panel.future_time(horizon)
    keys: dict[str, Any] = {schema.stamp: stamps[0].append(list(stamps[1:]))}
    given = frame[list(wanted)].copy()
    given[schema.stamp] = pd.to_datetime(given[schema.stamp])
    if schema.id:
        keys[schema.id] = np.repeat(panel.ids, horizon)
        given[schema.id] = given[schema.id].astype(str)
    found = pd.DataFrame(keys).merge(given.drop_duplicates(list(keys), keep="last"), how="left", on=list(keys))
    values = _numbers(found, panel.known_names, problems, known=False)
    for j, name in enumerate(panel.known_names):
        if (gone := np.isnan(values[:, j])).any():
            when = ", ".join(str(t) for t in found.loc[gone, schema.stamp][:3])
            problems.add(f"column {name!r} has no value for {int(gone.sum())} forecast rows, first {when}")
    problems.stop(f"give them for the {horizon} rows after the last row of every series")
    return values


def _columns(frame: pd.DataFrame, schema: Schema, problems: _Problems) -> tuple[str, ...]:
    stamp = schema.stamp_columns if not set(schema.stamp_columns) - set(frame.columns) else (schema.stamp,)
    named = [*stamp, *((schema.id,) if schema.id else ()), *schema.target, *schema.past, *schema.known]
    for name in named:
        if name not in frame.columns:
            near = nearest(name, map(str, frame.columns))
            problems.add(f"column {name!r} is missing" + (f"; did you mean {near!r}?" if near else ""))
    others = [str(c) for c in frame.columns if c not in named]
    if schema.target:
        if schema.closed:
            for name in others:
                problems.add(f"column {name!r} is not one the model was trained on; leave it out")
        return tuple(schema.target)
    if not others:
        problems.add("there is no channel column besides the timestamp")
    return tuple(others)


def _stamps(frame: pd.DataFrame, schema: Schema, problems: _Problems) -> pd.DatetimeIndex:
    if not len(frame):
        problems.add("there are no rows")
        return pd.DatetimeIndex([])
    parts = schema.stamp_columns
    if len(parts) > 1 and not set(parts) - set(frame.columns):
        values = pd.to_datetime(frame[list(parts)], errors="coerce")
        source: pd.Series = frame[list(parts)].astype(str).agg("-".join, axis=1) if values.isna().any() else values
    else:
        source = frame[schema.stamp]
        try:
            values = pd.to_datetime(source, errors="coerce")
        except ValueError:  # offsets of a daylight-saving zone change within the column
            values = pd.to_datetime(source, errors="coerce", utc=True)
            log.info("%s: timestamps of several UTC offsets are read as UTC", problems.where)
    if (bad := values.isna().to_numpy()).any():
        sample = source[bad].iloc[0]
        problems.add(f"timestamps that cannot be read, such as {sample!r}", bad)
    return pd.DatetimeIndex(values).as_unit("ns").rename(None)


def _series(frame: pd.DataFrame, schema: Schema) -> tuple[np.ndarray, Int[np.ndarray, "T"]]:
    """Series names in order of appearance, and the series of each row."""
    if schema.id is None:
        return np.array(["0"], dtype=object), np.zeros(len(frame), dtype=np.int64)
    codes, uniques = pd.factorize(frame[schema.id])
    return np.array([str(u) for u in uniques], dtype=object), codes.astype(np.int64)


def _numbers(frame: pd.DataFrame, names: tuple[str, ...], problems: _Problems, *, known: bool) -> np.ndarray:
    values = np.empty((len(frame), len(names)), dtype=np.float32)
    for j, name in enumerate(names):
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column.dtype):
            numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
            if (bad := np.isnan(numbers) & column.notna().to_numpy()).any():
                problems.add(f"column {name!r} has cells that are not numbers, such as {column[bad].iloc[0]!r}", bad)
        total = numbers.sum() if len(numbers) else 0.0
        if not np.isfinite(total):
            if (infinite := np.isinf(numbers)).any():
                problems.add(f"column {name!r} has infinite values", infinite)
            if known and (gone := np.isnan(numbers)).any():
                problems.add(f"known covariate {name!r} has missing values", gone)
        with np.errstate(over="ignore"):
            values[:, j] = numbers
    return values


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
    return time[order], np.insert(codes, row + 1, codes[row]), grown


def _useless(channels: tuple[str, ...], target: np.ndarray, codes: np.ndarray, n: int, problems: _Problems) -> None:
    for j, name in enumerate(channels):
        values = target[:, j]
        observed = values[~np.isnan(values)]
        if not len(observed):
            problems.add(f"channel {name!r} is all missing")
        elif observed[0] == observed[-1] and np.all(observed == observed[0]):
            problems.add(f"channel {name!r} is constant ({observed[0]:g})")
    if n > 1 and np.isnan(target).any():
        empty = np.bincount(codes, weights=~np.isnan(target).all(axis=1), minlength=n) == 0
        if empty.any():
            problems.add(f"{int(empty.sum())} series are all missing")


def _static(frame: pd.DataFrame | None, schema: Schema, ids: np.ndarray, problems: _Problems) -> np.ndarray:
    if not schema.static:
        return np.zeros((len(ids), 0), dtype=np.float32)
    key = schema.id or "unique_id"
    if frame is None:
        problems.add(f"static covariates {', '.join(schema.static)} are needed, and no static frame is given")
        return np.zeros((len(ids), len(schema.static)), dtype=np.float32)
    for name in (key, *schema.static):
        if name not in frame.columns:
            problems.add(f"static column {name!r} is missing")
    problems.stop()
    indexed = frame.assign(**{key: frame[key].astype(str)}).drop_duplicates(key).set_index(key)
    if len(gone := [i for i in ids if i not in indexed.index]):
        problems.add(f"static covariates are missing for {len(gone)} series, such as {', '.join(gone[:3])}")
    return _numbers(indexed.reindex(ids), tuple(schema.static), problems, known=True)
