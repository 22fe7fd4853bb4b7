"""Which rows are trained on, which choose, which judge.

    | begin ............. train_end | ........ val_end | ........ test_end |
      train                           validation         test
                                     | cal_start ... |
                                       calibration, where it is asked for, taken from the end of validation

A window belongs to the part its targets lie in. Its lookback may reach back across a border; its targets may not.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Int

from tsforecast.data.panel import Panel, seasonality
from tsforecast.errors import ConfigError, DataError, count, listed, one_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Borders:
    """Absolute panel rows, [N] each."""

    begin: Int[np.ndarray, " N"]
    train_end: Int[np.ndarray, " N"]
    val_end: Int[np.ndarray, " N"]
    test_end: Int[np.ndarray, " N"]
    calibration: float = field(default=0.0, kw_only=True)  # share of the validation rows, the last of them

    @property
    def ends(self) -> tuple[Int[np.ndarray, " N"], ...]:
        """Where train, validation and test end."""
        return self.train_end, self.val_end, self.test_end

    @property
    def cal_start(self) -> Int[np.ndarray, " N"]:
        """Where validation ends and calibration starts."""
        share = np.round((self.val_end - self.train_end) * self.calibration)
        return np.asarray(self.val_end - share.astype(np.int64))

    def rows(self, part: str) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
        """First row and end of `train`, `val`, `cal` or `test`."""
        return {
            "train": (self.begin, self.train_end),
            "val": (self.train_end, self.cal_start),
            "cal": (self.cal_start, self.val_end),
            "test": (self.val_end, self.test_end),
        }[part]

    def fitting(self, panel: Panel) -> str:
        """`lookback=... horizon=...` that fit into the rows of the parts: at most a season ahead, some three back."""
        train, val, test = (int(has.min()) for has in np.diff([self.begin, *self.ends], axis=0))
        season = seasonality(panel.freq)
        ahead, back = (season, 3 * season) if season > 1 else (12, 24)
        horizon = min(ahead, val, test, train - season)
        lookback = max(min(back, (train - horizon) // 2), season)
        return f"lookback={lookback} horizon={horizon}" if horizon > 0 else ""

    def kept(self, panel: Panel) -> tuple[Panel, Borders]:
        """The panel and the borders without the series that were dropped; rows in no part of the split are told."""
        kept = self.test_end > self.begin
        unused = np.where(kept, panel.offsets[1:] - self.test_end, 0)
        if most := int(unused.max()):
            i = int(unused.argmax())
            which = f" of series {panel.ids[i]}, and some of {np.count_nonzero(unused) - 1} others" * (len(panel) > 1)
            first, last = panel.time[self.test_end[i]], panel.time[panel.offsets[i + 1] - 1]
            log.info("Behind the test rows, unused: %d of %d, %s to %s%s", most, panel.lengths[i], first, last, which)
        if kept.all():
            return panel, self
        subset = panel.select(kept)
        moved = subset.offsets[:-1] - panel.offsets[:-1][kept]
        edges = [rows[kept] + moved for rows in (self.begin, *self.ends)]
        return subset, Borders(*edges, calibration=self.calibration)


@dataclass(frozen=True, kw_only=True)
class Split:
    """What the splits share: each says how many rows of a series lie before the ends of its three parts.

    Parameters
    ----------
    short
        `error`, or `drop` the series without a window in every part; of `naive`, which does, the bundle forecasts such
        series all the same: by seasonal naive, and says so. `pad`: their windows reach back before their first row.
    """

    short: Literal["error", "drop", "naive", "pad"] = "error"

    def __post_init__(self) -> None:
        one_of("split.short", self.short, ("error", "drop", "naive", "pad"))

    @property
    def leaves_out(self) -> bool:
        """Whether series that are too short are neither trained on nor scored."""
        return self.short in ("drop", "naive")

    def ends(self, panel: Panel, lookback: int, horizon: int) -> Sequence[np.ndarray]:
        """Rows of each series before the end of train, of validation and of test, [N] each; cut to what it has."""
        raise NotImplementedError

    def rows(self, panel: Panel, lookback: int, horizon: int) -> Int[np.ndarray, "3 N"]:
        """What `ends` says, of the rows that there are.

        Raises
        ------
        ConfigError
            It says something else.
        """
        ends = [np.asarray(rows) for rows in self.ends(panel, lookback, horizon)]
        if len(ends) != 3 or any(rows.shape != (len(panel),) or rows.dtype.kind not in "iu" for rows in ends):
            what, where = "a split says of every series how many rows lie before three ends", type(self).__name__
            got = ", ".join(f"{rows.dtype} {list(rows.shape)}" for rows in ends) or "none"
            raise ConfigError(what, where=f"{where}.ends", got=got, allowed=f"three arrays of int64 [{len(panel)}]")
        return np.asarray(np.clip(ends, 0, panel.lengths))

    def __call__(self, panel: Panel, lookback: int, horizon: int) -> Borders:
        """Borders between which every series has a window in every part; nothing of those left out lies between them.

        Parameters
        ----------
        lookback
            What a window has at least of the rows of its series.

        Raises
        ------
        DataError
            Naming the parts, the series and how many rows they would need.
        """
        first = panel.offsets[:-1]
        borders = Borders(first, *(first + self.rows(panel, lookback, horizon)))
        needs = {"train": lookback + horizon, "validation": horizon, "test": horizon}
        rows = np.diff([first, *borders.ends], axis=0)  # [parts N]
        seen = np.append(0, np.cumsum(~np.isnan(panel.target).all(axis=1)))
        rows[0] *= seen[borders.train_end] > seen[first]  # of missing rows alone nothing is learned, not even a scale
        few = rows < np.array([*needs.values()])[:, None]
        lacking = few.any(axis=0)
        if not lacking.any():
            return borders
        if self.leaves_out and not lacking.all():
            names = listed(panel.ids[lacking])
            behind = ", and will be forecast by seasonal naive" * (self.short == "naive")
            log.info("%d of %d series are too short and left out: %s%s", lacking.sum(), len(panel), names, behind)
            return Borders(first, *[np.where(lacking, first, end) for end in borders.ends])
        problems = []
        for (part, need), has, which in zip(needs.items(), rows, few, strict=True):
            if which.any():
                held = [n or (0 if part != "train" else "none with a value") for n in has[which]]
                names = listed((f"{i} has {n}" for i, n in zip(panel.ids[which], held, strict=True)), 3)
                said = f"it has {held[0]}" if len(panel) == 1 else f"{which.sum()} series are short: {names}"
                problems.append(f"{part} needs {need} rows, {said}")
        fits, reaches = borders.fitting(panel) * bool(rows.all()), lookback > seasonality(panel.freq)
        raise DataError(
            "too few rows for the split and windows: " + "; ".join(problems),
            where=f"split, with lookback {lookback} and horizon {horizon}",
            fix=(f"{fits}, say, fit into rows of freq {panel.freq!r}" if fits else "give more rows")
            + ", or change the split"
            + ", or let windows reach back before the first row: split.short=pad" * (reaches and self.short != "pad")
            + (", or leave short series out: split.short=drop, or =naive, by which they are forecast all the same")
            * (len(panel) > 1),
        )


@dataclass(frozen=True)
class FractionSplit(Split):
    """Shares of each series' rows, in time order; what is left after the three is not used.

    Of a short series validation and test have a horizon of rows at least, which train goes without.
    """

    train: float = 0.7
    val: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = (self.train, self.val, self.test)
        if not all(share > 0 for share in shares) or sum(shares) > 1 + 1e-9:
            what = "split shares must be positive and add up to 1 at most"
            got = f"train={self.train} val={self.val} test={self.test}"
            raise ConfigError(what, where="split", got=got, fix="0.7, 0.1, 0.2, say")

    def ends(self, panel: Panel, lookback: int, horizon: int) -> Sequence[np.ndarray]:
        """See `Split`."""
        shares = np.cumsum([self.train, self.val, self.test])
        train, val, test = (np.round(panel.lengths * share).astype(np.int64) for share in shares)
        later = np.minimum(val, test - horizon)
        earlier = np.minimum(train, later - horizon)
        fits = earlier >= lookback + horizon
        return [np.where(fits, earlier, train), np.where(fits, later, val), test]


@dataclass(frozen=True)
class RowSplit(Split):
    """Numbers of rows; the LTSF protocol on hourly ETT is 8640, 2880, 2880 (12, 4 and 4 months of 30 days)."""

    train: int = 8640
    val: int = 2880
    test: int = 2880

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in ("train", "val", "test"):
            count(f"split.{part}", getattr(self, part))

    def ends(self, panel: Panel, lookback: int, horizon: int) -> Sequence[np.ndarray]:
        """See `Split`."""
        return [np.full(len(panel), rows) for rows in np.cumsum([self.train, self.val, self.test])]


@dataclass(frozen=True)
class TailSplit(Split):
    """Rows counted from each series' end: the last `test` are test, the `val` before them validation, the rest train.

    The split of a panel whose series start at different times.
    """

    val: int
    test: int

    def __post_init__(self) -> None:
        super().__post_init__()
        count("split.val", self.val)
        count("split.test", self.test)

    def ends(self, panel: Panel, lookback: int, horizon: int) -> Sequence[np.ndarray]:
        """See `Split`."""
        return [panel.lengths - rows for rows in (self.test + self.val, self.test, 0)]


@dataclass(frozen=True)
class DateSplit(Split):
    """Dates: train before `val_start`, validation before `test_start`, test before `test_end` (None: to the end)."""

    val_start: str
    test_start: str
    test_end: str | None = None

    def ends(self, panel: Panel, lookback: int, horizon: int) -> Sequence[np.ndarray]:
        """See `Split`.

        Raises
        ------
        ConfigError
            A date cannot be read, or they are out of order.
        """
        dates = {name: getattr(self, name) for name in ("val_start", "test_start", "test_end")}
        stamps = [_moment(f"split.{name}", date, panel.time.tz) for name, date in dates.items() if date is not None]
        if stamps != sorted(stamps):
            raise ConfigError("split dates must go forward", where="split", got=" ".join(map(str, stamps)))
        before = [np.add.reduceat(panel.time < stamp, panel.offsets[:-1], dtype=np.int64) for stamp in stamps]
        return [*before, panel.lengths][:3]


def _moment(where: str, date: str, zone: datetime.tzinfo | None) -> pd.Timestamp:
    """A date in a time zone."""
    try:
        stamp = pd.Timestamp(date)
    except ValueError as error:
        raise ConfigError("a date cannot be read", where=where, got=date, fix="write 2014-07-01") from error
    if stamp.tz is not None and zone is None:
        what = "a date has a time zone and the data has none"
        raise ConfigError(what, where=where, got=date, fix="leave the zone out")
    return stamp.tz_localize(zone) if stamp.tz is None else stamp
