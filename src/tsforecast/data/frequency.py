"""The time axis in whole steps of a frequency: inference, gaps, filling and daylight-saving changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset, Day, Tick

from tsforecast.errors import ConfigError, nearest

_HOUR = 3_600_000_000_000
DAY = 24 * _HOUR
FIRST = pd.Timestamp("1677-09-23")  # before it nanoseconds tell no time: there it stands still
_RUN = 8  # stamps in a row; a run this long crosses a weekend, so business days are not taken for days
ALIASES = ("min", "15min", "30min", "h", "D", "B", "W", "MS", "ME", "QS", "QE", "YS", "YE")


@lru_cache
def parse(freq: str) -> BaseOffset:
    """The pandas offset that `freq` names.

    Raises
    ------
    ConfigError
        It names none, or one that does not go forward.
    """
    try:
        step = to_offset(freq)
    except ValueError as error:
        near = nearest(freq, ALIASES) or nearest(freq.lower(), ALIASES)
        fix = f"did you mean {near!r}?" if near else "leave freq out to have it inferred"
        what, allowed = "freq is not a pandas offset alias", ", ".join(ALIASES) + ", ..."
        raise ConfigError(what, where="dataset.freq", got=freq, allowed=allowed, fix=fix) from error
    if step is None or step.n < 1:
        allowed = "a positive step such as h or 15min"
        raise ConfigError("freq must go forward", where="dataset.freq", got=freq, allowed=allowed)
    return step


def is_clock(step: BaseOffset) -> bool:
    """Whether it is a step of the clock: hours and less, which a daylight-saving change neither stretches nor cuts."""
    return isinstance(step, Tick) and not isinstance(step, Day)


def length(step: BaseOffset) -> int | None:
    """Nanoseconds of a step; None where it varies, as that of months does."""
    if isinstance(step, Day):
        return int(step.n) * DAY
    return int(step.nanos) if isinstance(step, Tick) else None


def in_unit(time: pd.DatetimeIndex, unit: Literal["s", "ms", "us", "ns"]) -> pd.DatetimeIndex:
    """Timestamps in a unit; `as_unit` copies them where it is theirs."""
    return time if time.unit == unit else time.as_unit(unit)


def infer(time: pd.DatetimeIndex) -> str | None:
    """The frequency of sorted unique stamps, gaps allowed; None when there are too few or no step prevails."""
    if len(time) < 3:
        return None
    if 1 < (day := time.day[0]) <= 28 and (time.day == day).all():  # such as the 15th of each month
        return infer(time.tz_localize(None) - pd.Timedelta(days=day - 1))
    if whole := _inferred(time):
        return whole
    starts = np.unique(np.linspace(0, max(0, len(time) - _RUN), 64).astype(int))
    runs = Counter(freq for i in starts if (freq := _inferred(time[i : i + _RUN])))
    if runs:
        return runs.most_common(1)[0][0]
    steps, counts = np.unique(np.diff(time.asi8), return_counts=True)
    commonest = pd.Timedelta(int(steps[counts.argmax()]), unit=time.unit)
    prevails = counts.max() * 2 > counts.sum() and commonest < pd.Timedelta(days=28)  # months are no step of the clock
    return str(to_offset(commonest).freqstr) if prevails else None


def nearest_alias(time: pd.DatetimeIndex) -> str:
    """The alias whose step is nearest to the median one."""
    step = float(np.median(np.abs(np.diff(time.asi8)))) if len(time) > 1 else DAY
    days = {"min": 1 / 1440, "15min": 1 / 96, "h": 1 / 24, "D": 1, "W": 7, "MS": 30, "QS": 91, "YS": 365}
    return min(days, key=lambda alias: abs(np.log(max(step, 1) / (days[alias] * DAY))))


def _inferred(time: pd.DatetimeIndex) -> str | None:
    found = pd.infer_freq(time)
    return getattr(found, "freqstr", found)  # later versions of pandas give the offset, not its name


@dataclass(frozen=True)
class Axis:
    """Timestamps counted in steps: in UTC for steps of the clock, in local wall time for a day and longer.

    A day of 23 hours is one day, and an hour is one hour on any day.

    Attributes
    ----------
    time
        [T], series back to back and sorted.
    position
        Number of the last whole step that is not after each stamp.
    rest
        Nanoseconds from there to the stamp. A series keeps its distance: the 15th of each month is 14 days behind `MS`.
    calendar
        For steps of varying length (months, quarters, business days): every stamp of the step in the span.
    """

    time: pd.DatetimeIndex
    step: BaseOffset
    position: Int[np.ndarray, " T"]
    rest: Int[np.ndarray, " T"]
    calendar: Int[np.ndarray, " D"] | None

    @classmethod
    def of(cls, time: pd.DatetimeIndex, step: BaseOffset) -> Axis:
        """The axis of `time` (nanoseconds) in units of `step`."""
        wall = time if is_clock(step) or time.tz is None else time.tz_localize(None)
        if nanos := length(step):
            position = wall.asi8 // nanos
            return cls(time, step, position, wall.asi8 - position * nanos, None)
        calendar = pd.date_range(step.rollback(wall.min().normalize()), wall.max(), freq=step).as_unit("ns").asi8
        position = np.searchsorted(calendar, wall.asi8, side="right") - 1
        return cls(time, step, position, wall.asi8 - calendar[position], calendar)

    @property
    def phase(self) -> Int[np.ndarray, " T"]:
        """Nanoseconds of each stamp after the last whole step, or after midnight where the steps vary."""
        return self.rest if self.calendar is None else self.rest % DAY

    def steps(self, same: Bool[np.ndarray, " T-1"]) -> tuple[Int[np.ndarray, " T-1"], Bool[np.ndarray, " T"]]:
        """Steps from each row to the next, 1 where that is of another series, and which rows are off the grid.

        The grid of a series is that of its first row.
        """
        steps = np.diff(self.position)
        steps[~same] = 1
        if not (same & (self.rest[1:] != self.rest[:-1])).any():
            return steps, np.zeros(len(self.rest), dtype=bool)
        first = np.flatnonzero(np.append(True, ~same))
        return steps, self.rest != np.repeat(self.rest[first], np.diff(np.append(first, len(self.rest))))

    def ahead(self, row: Int[np.ndarray, " G"], steps: Int[np.ndarray, " G"]) -> pd.DatetimeIndex:
        """The stamps `steps` after each `row`, none of them after the last."""
        position = self.position[row] + steps
        start = position * (length(self.step) or 0) if self.calendar is None else self.calendar[position]
        stamps = pd.DatetimeIndex((start + self.rest[row]).view("datetime64[ns]"))
        if self.time.tz is None:
            return stamps
        if is_clock(self.step):
            return stamps.tz_localize("UTC").tz_convert(self.time.tz)
        first = np.ones(len(stamps), dtype=bool)  # of a wall time that occurs twice, the first
        return stamps.tz_localize(self.time.tz, ambiguous=first, nonexistent="shift_forward")

    def daylight(self, row: Int[np.ndarray, " G"]) -> Bool[np.ndarray, " G"]:
        """Which rows have a daylight-saving change between them and the next.

        With a time zone this is known. Without one it is recognised: an hour skipped or told twice, early on a Sunday
        of March, April, September, October or November.
        """
        if not is_clock(self.step):
            return np.zeros(len(row), dtype=bool)
        before, after = self.time[row], self.time[row + 1]
        ahead = after.asi8 - before.asi8
        if after.tz is not None:
            return np.asarray(after.tz_localize(None).asi8 - before.tz_localize(None).asi8 != ahead)
        early = (after.day_of_week == 6) & after.month.isin([3, 4, 9, 10, 11]) & (after.hour <= 3)
        return np.asarray(early & ((ahead == 0) | (ahead == int(self.step.nanos) + _HOUR)))


def ahead(stamp: pd.Timestamp, steps: int, step: BaseOffset) -> pd.DatetimeIndex:
    """The `steps` timestamps after one, before it if they are negative, as far from those of the step as it is."""
    start = stamp if step.is_on_offset(stamp) else step.rollback(stamp)
    if steps > 0:
        found = pd.date_range(start, periods=steps + 1, freq=step)[1:]
    else:
        found = pd.date_range(end=start.as_unit("us"), periods=1 - steps, freq=step)[:-1]
        found = found.where(found >= (first := FIRST.tz_localize(start.tz)), first).as_unit(start.unit)
    return found if start == stamp else found + pd.DateOffset(days=(stamp.date() - start.date()).days)
