"""Regular time series, back to back in contiguous arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from tsforecast.data.frequency import DAY, FIRST, ahead, in_unit, is_clock, length, parse
from tsforecast.errors import DataError

# A panel's arrays, as a schema calls their columns, and what the panel calls them.
GROUPS = {"target": "channels", "past": "past_names", "known": "known_names", "static": "static_names"}


def seasonality(freq: str) -> int:
    """Rows of the season that belongs to a frequency: a day below a day, a week of days, a year above.

    Hourly 24, 15 minutes 96, daily 7, business days 5, weekly 52, monthly 12, quarterly 4, yearly 1.
    """
    step = parse(freq)
    if is_clock(step):
        return max(1, round(DAY / int(step.nanos)))
    name = step.rule_code.removeprefix("B") or "B"  # of business months those of months
    return max(1, {"D": 7, "B": 5, "W": 52, "M": 12, "Q": 4, "Y": 1}.get(name[0], 1) // step.n)


@dataclass(frozen=True)
class Panel:
    """N regular series back to back; ETTh1 is N=1, C=7, a retail panel N=30,000, C=1.

    Every series is sorted and has a row for every step of `freq`: `tsforecast.data.frames.to_panel` sees to it.

    Attributes
    ----------
    ids
        Series names as strings, [N].
    offsets
        Series i holds rows `offsets[i]:offsets[i+1]`, [N+1].
    time
        Timestamps, [T]; time-zone aware when the source was.
    target
        Values in original units, NaN where missing, [T C] float32.
    past, known
        Covariates known up to the cutoff only, and covariates known for the future too, [T P] and [T K] float32.
    static
        One row per series, [N S] float32.
    freq
        A pandas offset alias such as `h`, `15min`, `D`, `MS`, `QS-OCT`.
    categories
        Labels of each categorical covariate; its cells hold their places, 0, 1, ...
    padding
        How many rows in front of each series are none of its own, [N], as `padded` put them there; None: none are.
    """

    ids: np.ndarray
    offsets: Int[np.ndarray, " N+1"]
    time: pd.DatetimeIndex
    target: Float[np.ndarray, "T C"]
    past: Float[np.ndarray, "T P"]
    known: Float[np.ndarray, "T K"]
    static: Float[np.ndarray, "N S"]
    channels: tuple[str, ...]
    past_names: tuple[str, ...]
    known_names: tuple[str, ...]
    static_names: tuple[str, ...]
    freq: str
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    padding: Int[np.ndarray, " N"] | None = None

    @property
    def lengths(self) -> Int[np.ndarray, " N"]:
        """Rows of each series."""
        return np.asarray(self.offsets[1:] - self.offsets[:-1])

    @property
    def first(self) -> Int[np.ndarray, " N"]:
        """The first row of each series that is its own."""
        return np.asarray(self.offsets[:-1] + (0 if self.padding is None else self.padding))

    @property
    def unseen(self) -> Int[np.ndarray, " N"]:
        """Rows of each series before the first that has a value; all, where none has."""
        rows = np.append(np.flatnonzero(~np.isnan(self.target).all(axis=1)), len(self.target))
        first = rows[np.searchsorted(rows, self.offsets[:-1])]
        return np.asarray(np.minimum(first, self.offsets[1:]) - self.offsets[:-1])

    @staticmethod
    def joined(panels: Sequence[Panel]) -> Panel:
        """The series of panels whose columns, categories and frequency are the same."""
        first = panels[0]
        if len(panels) == 1:
            return first
        names = ("ids", "target", "past", "known", "static")
        rows: dict[str, Any] = {name: np.concatenate([getattr(panel, name) for panel in panels]) for name in names}
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([panel.lengths for panel in panels]))])
        time = pd.DatetimeIndex(first.time.append([panel.time for panel in panels[1:]]))
        return replace(first, offsets=offsets, time=time, padding=None, **rows)

    @property
    def observed(self) -> Bool[np.ndarray, " N"]:
        """Whether every channel of a series has a value."""
        seen = np.concatenate([np.zeros((1, len(self.channels)), int), np.cumsum(~np.isnan(self.target), axis=0)])
        return np.asarray((seen[self.offsets[1:]] > seen[self.offsets[:-1]]).all(axis=1))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def summary(self) -> str:
        """Series, frequency, rows and dates, in a line."""
        zone = f" in {self.time.tz}" if self.time.tz is not None else ""
        rows = f"{len(self)} series, freq {self.freq}{zone}, {len(self.time):,} rows"
        return f"{rows}, {self.time.min()} to {self.time.max()}"

    def rows(self, begin: Int[np.ndarray, " N"], end: Int[np.ndarray, " N"]) -> Panel:
        """Rows `begin[i]:end[i]` (absolute row numbers) of each series i."""
        lengths = np.asarray(end) - np.asarray(begin)
        if np.any(lengths < 0) or np.any(begin < self.offsets[:-1]) or np.any(end > self.offsets[1:]):
            raise ValueError("row range outside its series")
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if len(self) == 1:  # a view, not a copy
            take: slice | np.ndarray = slice(int(begin[0]), int(end[0]))
        else:
            take = np.repeat(np.asarray(begin) - offsets[:-1], lengths) + np.arange(offsets[-1])
        taken: dict[str, Any] = {name: getattr(self, name)[take] for name in ("time", "target", "past", "known")}
        return replace(self, offsets=offsets, padding=None, **taken)

    def select(self, series: Bool[np.ndarray, " N"]) -> Panel:
        """The series where the mask is true."""
        begin, end = self.offsets[:-1], self.offsets[1:]
        kept = self.rows(begin, np.where(series, end, begin))
        offsets = np.concatenate([[0], np.cumsum(self.lengths[series])])
        padding = None if self.padding is None else self.padding[series]
        return replace(kept, ids=self.ids[series], offsets=offsets, static=self.static[series], padding=padding)

    def tail(self, rows: int) -> Panel:
        """The last `rows` rows of each series (all of a shorter one)."""
        if (self.lengths <= rows).all():
            return self
        return self.rows(np.maximum(self.offsets[1:] - rows, self.offsets[:-1]), self.offsets[1:])

    def missing_rows(self, rows: int, least: int) -> dict[str, int]:
        """The most missing values in any `rows` rows of a series, or its first `least` or more, of columns with any."""
        most, ends = {}, np.arange(1, len(self.time) + 1)
        first = np.repeat(self.offsets[:-1], self.lengths)
        begin, inside = np.maximum(ends - rows, first), ends - first >= least
        for names, values in ((self.channels, self.target), (self.past_names, self.past)):
            for j in np.flatnonzero(np.isnan(values.sum(axis=0))):
                count = np.concatenate([[0], np.cumsum(np.isnan(values[:, j]))])
                most[names[j]] = int((count[ends] - count[begin])[inside].max(initial=0))
        return most

    def future_time(self, horizon: int) -> pd.DatetimeIndex:
        """The `horizon` timestamps after each series' last row, back to back, [N*horizon]."""
        return self._index(self._beyond(self.offsets[1:] - 1, horizon))

    def _index(self, stamps: Int[np.ndarray, " R"]) -> pd.DatetimeIndex:
        """Timestamps in nanoseconds, as those of the panel are."""
        return in_unit(pd.DatetimeIndex(stamps, tz=self.time.tz), self.time.unit)

    def _beyond(self, rows: Int[np.ndarray, " R"], steps: int) -> Int[np.ndarray, " R*steps"]:
        """Nanoseconds of the `steps` rows after each of `rows`, or before it where they are negative, in order."""
        step, places = parse(self.freq), np.arange(abs(steps))
        if (nanos := length(step)) and (self.time.tz is None or is_clock(step)):
            off = (places + (1 if steps > 0 else steps)) * nanos
            stamps = in_unit(self.time, "ns").asi8[rows][:, None]
            if steps < 0:
                stamps = np.maximum(stamps, FIRST.as_unit("ns").value - off)
            return np.asarray((stamps + off).ravel())
        codes, found = pd.factorize(self.time[rows])
        each = np.concatenate([in_unit(ahead(stamp, steps, step), "ns").asi8 for stamp in found])
        return np.asarray(each[(codes[:, None] * len(places) + places).ravel()])

    def padded(self, rows: Int[np.ndarray, " N"]) -> Panel:
        """With so many rows of NaN target and past before each series, their `known` that of its first row."""
        if not (most := int(rows.max(initial=0))):
            return self
        at, there = np.repeat(self.offsets[:-1], rows), np.arange(most) >= most - rows[:, None]
        longer = self.insert(at, self._beyond(self.offsets[:-1], -most)[there.ravel()], self.known[at])
        return replace(longer, offsets=self.offsets + np.concatenate([[0], np.cumsum(rows)]), padding=rows)

    def extend(self, horizon: int, known_future: Float[np.ndarray, "N*H K"] | None = None) -> Panel:
        """The panel with `horizon` future rows appended to each series: NaN target and past, `known` as given.

        Raises
        ------
        DataError
            The panel has known covariates and `known_future` is None.
        """
        if self.known_names and known_future is None:
            what = f"the future values of {len(self.known_names)} known covariates are needed"
            fix = f"give known_future, with the {horizon} rows after the last of every series"
            raise DataError(what, where=", ".join(self.known_names), fix=fix)
        at = np.repeat(self.offsets[1:], horizon)
        ahead = self._beyond(self.offsets[1:] - 1, horizon)
        return self.insert(at, ahead, 0.0 if known_future is None else known_future)

    def insert(
        self,
        at: Int[np.ndarray, " R"],
        stamps: Int[np.ndarray, " R"],
        known: Float[np.ndarray, "R K"] | float = np.nan,
    ) -> Panel:
        """The panel with R rows of NaN target and past before its rows `at`; those behind a series belong to it.

        `stamps` are their timestamps in nanoseconds.
        """
        rows = len(self.time)
        order: Any = slice(None)
        if at.min(initial=rows) < rows:  # else all are behind what is there
            order = np.insert(np.arange(rows), at, rows + np.arange(len(at)))
        given = {"target": np.nan, "past": np.nan, "known": known}
        stamps = np.concatenate([in_unit(self.time, "ns").asi8, stamps])[order]
        changed: dict[str, Any] = {"time": self._index(stamps)}
        for name, values in given.items():
            before = getattr(self, name)
            longer = np.empty((rows + len(at), before.shape[1]), before.dtype)
            longer[:rows], longer[rows:] = before, values
            changed[name] = longer[order]
        return replace(self, offsets=self.offsets + np.searchsorted(at, self.offsets, side="right"), **changed)

    def to_frame(self, *, id: str = "unique_id", time: str = "ds") -> pd.DataFrame:
        """The Nixtla long frame: `unique_id, ds`, one column per channel (`y` when there is one) and covariate."""
        names = ("y",) if len(self.channels) == 1 else self.channels
        return pd.DataFrame({id: np.repeat(self.ids, self.lengths), time: self.time, **self._cells(names)})

    def to_wide(self, *, time: str = "date") -> pd.DataFrame:
        """`date` + one column per channel and covariate, for a panel of one series.

        Raises
        ------
        DataError
            The panel has more than one series.
        """
        if len(self) != 1:
            raise DataError("a wide frame holds one series", got=f"{len(self)} series", fix="use to_frame()")
        return pd.DataFrame({time: self.time, **self._cells(self.channels)})

    def _cells(self, channels: Sequence[str]) -> dict[str, Any]:
        """Column by column; categories as their labels, static covariates repeated in every row."""
        groups = (
            (channels, self.target),
            (self.past_names, self.past),
            (self.known_names, self.known),
            (self.static_names, np.repeat(self.static, self.lengths, axis=0)),
        )
        cells = {name: values[:, j] for names, values in groups for j, name in enumerate(names)}
        for name, labels in self.categories.items():
            codes = np.nan_to_num(cells[name], nan=-1).astype(np.int64)
            cells[name] = np.array([*labels, None], dtype=object)[codes]
        return cells
