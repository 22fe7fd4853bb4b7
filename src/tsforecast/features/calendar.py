"""Calendar and Fourier terms: functions of the local timestamp, hence known for every future row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsforecast.data.frequency import is_clock, parse
from tsforecast.errors import ConfigError, count, each_of, one_of

# field -> (value of a stamp, counted from 0; how many values there are)
FIELDS: dict[str, tuple[Callable[[pd.DatetimeIndex], Any], int]] = {
    "minute": (lambda time: time.minute, 60),
    "hour": (lambda time: time.hour, 24),
    "weekday": (lambda time: time.day_of_week, 7),
    "day": (lambda time: time.day - 1, 31),
    "dayofyear": (lambda time: time.day_of_year - 1, 366),
    "week": (lambda time: time.isocalendar().week.to_numpy(dtype=np.int64) - 1, 53),
    "month": (lambda time: time.month - 1, 12),
    "quarter": (lambda time: time.quarter - 1, 4),
}
# what rows differ in, by the name of their step; of steps of the clock, and of those not here
_AUTO = {"D": ("weekday", "day", "dayofyear"), "W": ("week",)}
_CLOCK, _LONG = ("hour", "weekday", "month"), ("month",)


class _OfStamp(ABC):
    """Computed on the distinct stamps only: a panel repeats them once per series."""

    def transform(self, time: pd.DatetimeIndex, freq: str) -> Float[np.ndarray, "T F"]:
        """One float32 row per timestamp, of its wall-clock time."""
        codes, unique = pd.factorize(time.tz_localize(None))
        values = self._compute(pd.DatetimeIndex(unique)).astype(np.float32)
        return values if len(unique) == len(time) else values[codes]

    @abstractmethod
    def _compute(self, wall: pd.DatetimeIndex) -> Float[np.ndarray, "T F"]: ...


@dataclass(frozen=True)
class Calendar(_OfStamp):
    """Fields of the timestamp, each as sine and cosine of its cycle or scaled to [-0.5, 0.5].

    Parameters
    ----------
    fields
        Of `minute, hour, weekday, day, dayofyear, week, month, quarter`; `auto`: those in which rows of the frequency
        differ, once it is known.
    encoding
        `cyclical` gives two columns a field, so that hour 23 is next to hour 0; `scaled` gives one.
    """

    fields: Sequence[str] = _CLOCK
    encoding: Literal["cyclical", "scaled"] = "cyclical"

    def __post_init__(self) -> None:
        if self.fields != "auto":
            object.__setattr__(self, "fields", tuple(self.fields))
            each_of("feature.calendar.fields", self.fields, FIELDS)
        one_of("feature.calendar.encoding", self.encoding, ("cyclical", "scaled"))

    def of(self, freq: str) -> Calendar:
        """With the fields for rows of this frequency, where they are `auto`: of days 7, 31 and 366, of weeks 53."""
        step = parse(freq)
        name = step.rule_code.partition("-")[0].removeprefix("B") or "D"
        fields = _CLOCK if is_clock(step) else _AUTO.get(name, _LONG)
        return replace(self, fields=fields) if self.fields == "auto" else self

    def names(self) -> tuple[str, ...]:
        """`hour sin, hour cos, ...` or `hour, ...`."""
        if self.encoding == "scaled":
            return tuple(self.fields)
        return tuple(f"{name} {wave}" for name in self.fields for wave in ("sin", "cos"))

    def _compute(self, wall: pd.DatetimeIndex) -> np.ndarray:
        columns: list[np.ndarray] = []
        for name in self.fields:
            value, count = FIELDS[name]
            position = np.asarray(value(wall), dtype=np.float64)
            if self.encoding == "scaled":
                columns.append(position / (count - 1) - 0.5)
            else:
                columns += [np.sin(2 * np.pi * position / count), np.cos(2 * np.pi * position / count)]
        return np.stack(columns, axis=1) if columns else np.zeros((len(wall), 0))


@dataclass(frozen=True)
class Fourier(_OfStamp):
    """`order` sines and cosines of a period, counted from 1970-01-01 in local time.

    Parameters
    ----------
    period
        A length such as `1D`, `7D` or `365.25D`.
    order
        Harmonics; 2 columns each (Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 7.4).
    """

    period: str = "365.25D"
    order: int = 3

    def __post_init__(self) -> None:
        try:
            positive = pd.Timedelta(self.period) > pd.Timedelta(0)
        except ValueError:
            positive = False
        if not positive:
            what, allowed = "this is no length of time", "1D, 7D, 365.25D, 12h, ..."
            raise ConfigError(what, where="feature.fourier.period", got=self.period, allowed=allowed)
        count("feature.fourier.order", self.order)

    def names(self) -> tuple[str, ...]:
        """`7D sin 1, 7D cos 1, ...`."""
        return tuple(f"{self.period} {wave} {k}" for k in range(1, self.order + 1) for wave in ("sin", "cos"))

    def _compute(self, wall: pd.DatetimeIndex) -> np.ndarray:
        length = pd.Timedelta(self.period).as_unit("ns").value
        # The remainder is taken in whole nanoseconds: a float would lose the hours of a date far from 1970.
        phase = (wall.as_unit("ns").asi8 % length) / length
        waves = [f(2 * np.pi * k * phase) for k in range(1, self.order + 1) for f in (np.sin, np.cos)]
        return np.stack(waves, axis=1)


@dataclass(frozen=True)
class Holidays(_OfStamp):
    """Public holidays of a country (package `holidays`): 1 on the day, 0 otherwise.

    Parameters
    ----------
    country, subdiv
        ISO codes, such as `DE` and `BY`.
    """

    country: str = "US"
    subdiv: str | None = None

    def __post_init__(self) -> None:
        self._days([2020])

    def names(self) -> tuple[str, ...]:
        """`holiday DE`."""
        return (f"holiday {self.country}" + (f"-{self.subdiv}" if self.subdiv else ""),)

    def _compute(self, wall: pd.DatetimeIndex) -> np.ndarray:
        days = pd.DatetimeIndex(sorted(self._days(sorted(set(wall.year)))))
        return wall.normalize().isin(days)[:, None]

    def _days(self, years: list[int]) -> list[pd.Timestamp]:
        import holidays

        try:
            return [pd.Timestamp(day) for day in holidays.country_holidays(self.country, self.subdiv, years=years)]
        except NotImplementedError as error:
            what, got = "the package holidays does not know this place", f"{self.country} {self.subdiv or ''}".strip()
            where, allowed = "feature.holidays", "ISO codes, such as DE and BY"
            raise ConfigError(what, where=where, got=got, allowed=allowed, fix=str(error)) from error
