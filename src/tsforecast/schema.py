"""Which column of a frame is what, and what is done about its flaws."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal
from zoneinfo import ZoneInfo

import pandas as pd

from tsforecast.errors import ConfigError
from tsforecast.frequency import parse
from tsforecast.panel import Panel

NAIVE = "naive"  # the time zone of timestamps that have none


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
    """

    layout: Literal["wide", "long"] = "wide"
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

    def __post_init__(self) -> None:
        if self.layout not in ("wide", "long"):
            raise ConfigError("there is no such layout", where="dataset.layout", got=self.layout, allowed="wide, long")
        long = self.layout == "long"
        time = self.time or ("ds" if long else "date")
        target, past, known, static, categorical = (
            (names,) if isinstance(names, str) else tuple(names or ())
            for names in (self.target, self.past, self.known, self.static, self.categorical)
        )
        chosen = {
            "time": time if isinstance(time, str) else tuple(time),
            "id": (self.id or "unique_id") if long else None,
            "target": target or (("y",) if long else ()),
            "past": past,
            "known": known,
            "static": static,
            "categorical": categorical,
        }
        for name, value in chosen.items():
            object.__setattr__(self, name, value)
        if twice := sorted({c for c in self.columns if self.columns.count(c) > 1}):
            raise ConfigError("a column has two roles", where="dataset", got=", ".join(twice), fix="name it once")
        if stray := [name for name in categorical if name not in (*past, *known, *static)]:
            raise ConfigError("only covariates can be categorical", where="dataset.categorical", got=", ".join(stray),
                              allowed=", ".join((*past, *known, *static)) or "none: there are no covariates",
                              fix="name it under past, known or static too")  # fmt: skip
        if self.freq is not None:
            parse(self.freq)
        if self.timezone not in (None, NAIVE):
            try:
                if not re.fullmatch(r"(?i:utc)|(UTC)?[+-]\d\d:\d\d", self.timezone):
                    ZoneInfo(self.timezone)  # which stays among the zones: pandas opens what dateutil/ leads to
                pd.Timestamp(0, tz=self.timezone)
            except (KeyError, ValueError, TypeError, OSError):
                raise ConfigError("there is no such time zone", where="dataset.timezone", got=self.timezone,
                                  allowed=f"a name such as Europe/Berlin or UTC, or {NAIVE}") from None  # fmt: skip

    @property
    def stamp(self) -> str:
        """Name of the one timestamp column, `date` where it is assembled from several."""
        return self.time if isinstance(self.time, str) else "date"

    @property
    def stamp_columns(self) -> tuple[str, ...]:
        """The columns the timestamp is read from."""
        return (self.time,) if isinstance(self.time, str) else tuple(self.time or ())

    def resolved(self, panel: Panel) -> Schema:
        """The schema of a request to a model trained on `panel`: its channels, its frequency, its time zone."""
        zone = NAIVE if panel.time.tz is None else str(panel.time.tz)
        return replace(self, target=panel.channels, freq=panel.freq, timezone=zone, closed=not self.target)

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
