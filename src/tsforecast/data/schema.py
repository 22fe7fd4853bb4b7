"""Which column of a frame is what, how its text is read, and what is done about its flaws."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsforecast.data.frequency import Axis, parse
from tsforecast.data.panel import GROUPS, Panel
from tsforecast.errors import ConfigError, DataError, one_of

NAIVE = "naive"  # the time zone of timestamps that have none
READING = ("sep", "decimal", "thousands", "date_format", "localize", "unsorted", "gaps", "duplicates")  # of a Schema
COVARIATES = (  # what can be made of a column without a role
    "dataset.past=[...] if known up to now, dataset.known=[...] if known ahead; dataset.categorical=[...] if text"
)
MARKS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "point": ".", "space": " ", "apostrophe": "'"}
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "unsorted": ("error", "sort"),
    "gaps": ("error", "fill"),
    "duplicates": ("error", "last"),
    "sep": (",", ";", "\t", "|"),
    "decimal": (".", ","),
    "thousands": (None, ",", ".", " ", "'"),
}


@dataclass(frozen=True)
class Schema:
    """Which column of a frame is what, and how it is read; a bundle keeps it, and reads later frames alike.

    Parameters
    ----------
    time
        The timestamp column, or the columns (`year, month, day, hour`) it is assembled from. None: `date`, or `ds` of a
        long frame.
    id
        The column that tells series apart: one row per series and timestamp, a long frame, as Nixtla's libraries have
        it. None: a wide one, a timestamp and one column per channel, one series.
    target
        The channels. Empty: `y` in a long frame, all columns that are nothing else in a wide one.
    past, known, static
        Covariates known up to the cutoff, for the future too, and per series (in a file of their own, or the same
        in every row of a series).
    categorical
        Those of the covariates that are categories, as text or numbers.
    freq
        A pandas offset alias; None has it inferred.
    timezone
        The zone that timestamps are in, such as `Europe/Berlin`: those with a UTC offset are converted to it, those
        without one are refused. `naive`: the other way round. None: as the data has it. A bundle keeps the zone it
        was trained in, since the hour of the day is local time.
    closed
        Whether a column without a role is an error. A bundle trained on every column of its file asks for it.
    phase
        Nanoseconds after a whole step of `freq` at which timestamps stand, which a bundle learns; empty: any.
    units
        What each channel is measured in: `{load: MW}`; plots say it.
    bounds
        The least and the greatest value of a channel, `{sales: [0, null]}`: no forecast and no interval crosses them.
    sep, decimal, thousands
        Marks between the cells of a CSV file and within the numbers of text: themselves, or by name (`MARKS`), which
        neither a shell nor hydra takes for anything else.
    date_format
        How timestamps are written, such as `%d.%m.%Y %H:%M`; None: ISO 8601, or what only one reading fits.
    localize
        The zone of timestamps without an offset that are local time. Of an hour told twice, when clocks go back, what
        stands first in a series is the earlier.
    unsorted
        `error`, or `sort` the rows by time.
    gaps
        `error`, or `fill` them with rows of missing values.
    duplicates
        `error`, or keep the `last` row of a timestamp.
    """

    time: str | Sequence[str] | None = None
    id: str | None = None
    target: Sequence[str] = ()
    past: Sequence[str] = ()
    known: Sequence[str] = ()
    static: Sequence[str] = ()
    categorical: Sequence[str] = ()
    freq: str | None = None
    timezone: str | None = None
    closed: bool = False
    phase: Sequence[int] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    sep: str = ","
    decimal: str = "."
    thousands: str | None = None
    date_format: str | None = None
    localize: str | None = None
    unsorted: Literal["error", "sort"] = "error"
    gaps: Literal["error", "fill"] = "error"
    duplicates: Literal["error", "last"] = "error"

    def __post_init__(self) -> None:
        chosen: dict[str, Any] = {name: _chosen(name, getattr(self, name)) for name in _CHOICES}
        for name in ("target", "past", "known", "static", "categorical", "phase"):
            names = getattr(self, name)
            chosen[name] = (names,) if isinstance(names, str) else tuple(names or ())
        time = self.time or ("ds" if self.id else "date")
        chosen["time"] = time if isinstance(time, str) else tuple(time)
        chosen["target"] = chosen["target"] or (("y",) if self.id else ())
        chosen["units"] = dict(self.units)
        chosen["bounds"] = {name: tuple(ends or ()) for name, ends in self.bounds.items()}
        for name, value in chosen.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        """Raise a ConfigError when the parts do not fit together, or name what is not there."""
        if self.thousands == self.decimal:
            raise ConfigError("thousands and decimal are the same mark", where="dataset.thousands", got=self.thousands)
        if self.localize and self.unsorted == "sort":
            what = "hours told twice are told apart by their order, which unsorted=sort does not know"
            raise ConfigError(what, where="dataset.localize", got=self.localize, fix="sort the file itself")
        if twice := sorted({c for c in self.columns if self.columns.count(c) > 1}):
            raise ConfigError("a column has two roles", where="dataset", got=", ".join(twice), fix="name it once")
        covariates = (*self.past, *self.known, *self.static)
        if stray := [name for name in self.categorical if name not in covariates]:
            what, fix = "only covariates can be categorical", "name it under past, known or static too"
            allowed = covariates or "none: there are no covariates"
            raise ConfigError(what, where="dataset.categorical", got=stray, allowed=allowed, fix=fix)
        for name, ends in self.bounds.items():
            told = [end for end in ends if end is not None]
            if len(ends) != 2 or any(type(end) not in (int, float) for end in told) or told != sorted(set(told)):
                what, allowed = "bounds are the least and the greatest value", "[0, null], [null, 100], [0, 100]"
                raise ConfigError(what, where=f"dataset.bounds.{name}", got=[*ends], allowed=allowed)
        if self.freq is not None:
            parse(self.freq)
        _check_zone("dataset.timezone", None if self.timezone == NAIVE else self.timezone)
        _check_zone("dataset.localize", self.localize)
        try:
            pd.to_datetime([""], format=self.date_format, errors="coerce")
        except ValueError as error:
            what, allowed = "there is no such date format", "one of strptime: %d.%m.%Y %H:%M"
            where, got = "dataset.date_format", self.date_format
            raise ConfigError(what, where=where, got=got, allowed=allowed, fix=str(error)) from None

    @property
    def layout(self) -> Literal["wide", "long"]:
        """Of the frames: a series in columns, or many in rows."""
        return "long" if self.id else "wide"

    @property
    def stamp(self) -> str:
        """Name of the one timestamp column, `date` where it is assembled from several."""
        return self.time if isinstance(self.time, str) else "date"

    @property
    def stamp_columns(self) -> tuple[str, ...]:
        """The columns the timestamp is read from."""
        return (self.time,) if isinstance(self.time, str) else tuple(self.time or ())

    @property
    def key(self) -> tuple[str, ...]:
        """The series column, where there is one."""
        return (self.id,) if self.id else ()

    def resolved(self, panel: Panel) -> Schema:
        """The schema of a request to a model trained on `panel`: its channels, its frequency, its time zone.

        Raises
        ------
        ConfigError
            A unit is of no column, or bounds are of no channel.
        DataError
            A value lies outside its bounds.
        """
        columns = (*panel.channels, *self.past, *self.known, *self.static)
        if stray := [name for name in self.units if name not in columns]:
            raise ConfigError("a unit is that of a column", where="dataset.units", got=stray, allowed=columns)
        if stray := [name for name in self.bounds if name not in panel.channels]:
            raise ConfigError(
                "bounds are those of a channel", where="dataset.bounds", got=stray, allowed=panel.channels
            )
        low, high = self.limits(panel.channels)
        if (outside := (panel.target < low) | (panel.target > high)).any():
            name = panel.channels[int(outside.any(axis=0).argmax())]
            what, got = "values lie outside their bounds", panel.target[outside][:3].tolist()
            fix = "mend the data, or widen the bounds"
            raise DataError(what, where=f"column {name!r}", got=got, allowed=[*self.bounds[name]], fix=fix)
        zone = NAIVE if panel.time.tz is None else str(panel.time.tz)
        phase = np.unique(Axis.of(panel.time[panel.offsets[:-1]], parse(panel.freq)).phase).tolist()
        phase = phase if len(phase) < 100 else []
        closed = not self.target
        return replace(self, target=panel.channels, freq=panel.freq, timezone=zone, closed=closed, phase=phase)

    @property
    def roles(self) -> dict[str, Any]:
        """Which columns are what: what is read, not how."""
        return {name: getattr(self, name) for name in (*GROUPS, "categorical")}

    def limits(self, channels: Sequence[str]) -> Float[np.ndarray, "2 C"]:
        """Least and greatest value of each channel, infinite where there is none."""
        ends = [self.bounds.get(name, (None, None)) for name in channels]
        far = ((-np.inf if low is None else low, np.inf if high is None else high) for low, high in ends)
        return np.array([*far], dtype=np.float32).reshape(-1, 2).T

    def off_grid(self, axis: Axis) -> np.ndarray:
        """Which stamps stand between those of training: half past, where training had whole hours."""
        odd = axis.phase != (self.phase[0] if self.phase else axis.phase)
        return np.asarray(np.isin(axis.phase, self.phase, invert=True) if odd.any() else odd)

    def local(self, time: pd.DatetimeIndex) -> pd.DatetimeIndex | None:
        """Timestamps in `timezone`; None when either has one and the other has not."""
        if self.timezone is None:
            return time
        if (time.tz is None) != (self.timezone == NAIVE):
            return None
        return time if time.tz is None else time.tz_convert(self.timezone)

    @property
    def wanted_zone(self) -> str:
        """What timestamps are to be, in words."""
        return "are to have none" if self.timezone == NAIVE else f"are in {self.timezone}: write their UTC offset"

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column named."""
        return (*self.stamp_columns, *self.key, *self.target, *self.past, *self.known, *self.static)

    def unread(self, names: Iterable[object]) -> list[str]:
        """Those columns of a file that have no role; none where each is a channel that is nothing else."""
        return [name for name in map(str, names) if name not in self.columns] if self.target else []

    def of_file(self, names: Iterable[str]) -> list[str] | None:
        """Which columns of a file to read, None: all; of those that an error is to tell about, no more than 100."""
        if not self.target:
            return None
        wanted, names = set(self.columns), list(names)
        told = 100 if self.closed or not wanted <= set(names) else 0
        others = itertools.islice((name for name in names if name not in wanted), told)
        return [*(name for name in names if name in wanted), *others]


def mark_name(mark: str | None) -> str:
    """What a mark is called on a command line; other text as it is."""
    return next((name for name, each in MARKS.items() if each == mark), str(mark))


def _chosen(name: str, got: str | None) -> str | None:
    """One of the choices, by its name or as it is."""
    options = {mark_name(each): each for each in _CHOICES[name]}
    if got not in options.values():
        one_of(f"dataset.{name}", got, options)
    return options.get(str(got), got)


def _check_zone(where: str, zone: str | None) -> None:
    try:
        if zone is not None and not re.fullmatch(r"(?i:utc)|(UTC)?[+-]\d\d:\d\d", zone):
            ZoneInfo(zone)  # which stays among the zones: pandas opens what dateutil/ leads to
        pd.Timestamp(0, tz=zone)
    except (KeyError, ValueError, TypeError, OSError):
        allowed = f"a name such as Europe/Berlin or UTC, or {NAIVE}"
        raise ConfigError("there is no such time zone", where=where, got=zone, allowed=allowed) from None
