"""The rows of a frame: where each stands there, its series, its timestamp and its values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from tsforecast.data.arrays import Arrays
from tsforecast.data.columns import Problems, read_series, stamp_columns
from tsforecast.data.schema import Schema
from tsforecast.data.stamps import read_stamps


@dataclass(frozen=True)
class Rows:
    """R rows of a frame.

    Attributes
    ----------
    place
        Row number in the frame.
    codes
        Series of each row, -1 where it names none.
    time
        NaT where the timestamp cannot be read.
    values
        Arrays of R rows each.
    """

    place: Int[np.ndarray, " R"]
    codes: Int[np.ndarray, " R"]
    time: pd.DatetimeIndex
    values: tuple[Float[np.ndarray, "R X"], ...] = ()

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, index: np.ndarray) -> Rows:
        """The rows at `index` (a mask or numbers)."""
        values = tuple(array[index] for array in self.values)
        return Rows(self.place[index], self.codes[index], self.time[index], values)

    @property
    def same(self) -> Bool[np.ndarray, " R-1"]:
        """Whether the next row is of the same series."""
        return np.asarray(self.codes[1:] == self.codes[:-1])

    @property
    def longest(self) -> pd.DatetimeIndex:
        """Distinct timestamps of the series with the most rows."""
        return pd.DatetimeIndex(self.time[self.codes == np.bincount(self.codes).argmax()].unique())

    def in_order(self, schema: Schema, problems: Problems) -> Rows:
        """Those that can be read, by series and time; series may be interleaved, time that runs back is a problem."""
        rows, readable = self, self.time.notna() & (self.codes >= 0)
        if not readable.all():
            rows = rows.take(readable)
        if np.any(rows.codes[1:] < rows.codes[:-1]):
            rows = rows.take(np.argsort(rows.codes, kind="stable"))
        stamps = rows.time.asi8
        back = (stamps[1:] < stamps[:-1]) & rows.same
        if not back.any():
            return rows
        if schema.unsorted == "error":
            problems.add("timestamps are not sorted", rows.place[1:][back], "unsorted=sort")
        return rows.take(np.lexsort((stamps, rows.codes)))


def read_rows(
    frame: Arrays, schema: Schema, problems: Problems, tail: int | None = None
) -> tuple[Arrays, np.ndarray, Rows]:
    """A frame, the names of its series, and its rows; with `tail` those of the last timestamps of each series alone."""
    ids, codes = read_series(frame, schema)
    time = read_stamps(frame, codes, schema, problems)
    if tail is not None and tail < len(frame) and len(kept := recent(time, codes, tail)) < len(frame):
        problems.rows, frame, time, codes = kept, frame.take(kept), time[kept], codes[kept]
    if (bad := np.asarray(time.isna())).any() and schema.stamp_columns[0] not in problems.columns:
        never = f", or never were in {schema.localize}" if schema.localize else ""
        parts = pd.DataFrame({name: frame[name] for name in stamp_columns(frame.columns, schema)})
        sample = "-".join(map(str, parts.iloc[int(bad.argmax())]))
        problems.add(f"timestamps that cannot be read{never}, such as {sample!r}", bad)
    problems.nameless(codes, schema)
    return frame, ids, Rows(np.arange(len(frame), dtype=np.int32), codes, time)


def recent(time: pd.DatetimeIndex, codes: np.ndarray, count: int) -> np.ndarray:
    """Rows that hold the last `count` timestamps of a series, and those among them that cannot be read."""
    row, readable = np.arange(len(time)), np.asarray(time.notna() & (codes >= 0))
    if readable.all() and np.bincount(codes, minlength=1).max() <= count:
        return row
    order = row[readable][np.lexsort((time.asi8[readable], codes[readable]))]
    stamps, series = time.asi8[order], codes[order]
    new = np.append((stamps[1:] != stamps[:-1]) | (series[1:] != series[:-1]), True)[: len(order)]
    left = np.append(np.cumsum(new[::-1])[::-1], 0)  # timestamps from here to the end of the last series
    kept = order[left[:-1] - left[np.searchsorted(series, series, side="right")] <= count]
    first = np.full(codes.max(initial=0) + 1, len(time))
    np.minimum.at(first, codes[kept], kept)
    first[first == len(time)] = 0  # nothing of the series can be read, which is to be told
    among = np.where(codes >= 0, row >= first[codes], ~np.asarray(time < time[kept].min()) if len(kept) else True)
    return np.sort(np.append(kept, row[~readable & among]))
