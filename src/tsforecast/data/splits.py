"""Which rows are trained on, which choose, which judge.

    | begin ............. train_end | ........ val_end | ........ test_end |
      train                           validation         test
                                     | cal_start ... |
                                       calibration, where it is asked for, taken from the end of validation

A window belongs to the part its targets lie in. Its lookback may reach back across a border; its targets may not.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Int

from tsforecast.data.panel import Panel, seasonality
from tsforecast.errors import ConfigError, DataError, one_of

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

    def check(self, panel: Panel, lookback: int, horizon: int, short: str = "error") -> Borders:
        """Itself, when every series has a train, a validation and a test window; `short` series may be dropped.

        Raises
        ------
        DataError
            Naming the parts, the series and how many rows they would need.
        """
        needs = {"train": lookback + horizon, "validation": horizon, "test": horizon}
        has = {
            "train": self.train_end - self.begin,
            "validation": self.val_end - self.train_end,
            "test": self.test_end - self.val_end,
        }
        problems = []
        if short == "drop":
            lacking = np.any([has[part] < need for part, need in needs.items()], axis=0)
            if lacking.any() and not lacking.all():
                names = ", ".join(map(str, panel.ids[lacking][:5])) + ", ..." * (int(lacking.sum()) > 5)
                log.info("%d of %d series are too short and left out: %s", lacking.sum(), len(panel), names)
                parts = (self.train_end, self.val_end, self.test_end)
                return Borders(self.begin, *[np.where(lacking, self.begin, end) for end in parts])
        for part, need in needs.items():
            if (few := has[part] < need).any():
                names = ", ".join(f"{i} has {n}" for i, n in zip(panel.ids[few][:3], has[part][few], strict=False))
                which = f"it has {has[part][0]}" if len(panel) == 1 else f"{few.sum()} series are short: {names}"
                problems.append(f"{part} needs {need} rows, {which}")
        if problems:
            train, val, test = (int(has[part].min()) for part in needs)
            fits = _fitting(train, val, test, seasonality(panel.freq))
            raise DataError(
                "too few rows for the split and windows: " + "; ".join(problems),
                where=f"split, with lookback {lookback} and horizon {horizon}",
                fix=(f"{fits}, say, fit into rows of freq {panel.freq!r}" if fits else "give more rows")
                + ", or change the split"
                + (", or leave short series out: split.short=drop" if len(panel) > 1 else ""),
            )
        return self

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
        parts = (self.begin, self.train_end, self.val_end, self.test_end)
        return subset, Borders(*[rows[kept] + moved for rows in parts], calibration=self.calibration)


def _fitting(train: int, val: int, test: int, season: int) -> str:
    """Sizes of windows that fit into the rows of the parts: at most a season ahead, and some three back."""
    ahead, back = (season, 3 * season) if season > 1 else (12, 24)
    horizon = min(ahead, val, test, train - season)
    lookback = max(min(back, (train - horizon) // 2), season)
    return f"lookback={lookback} horizon={horizon}" if horizon > 0 else ""


@dataclass(frozen=True, kw_only=True)
class _Split:
    """What the splits share.

    Parameters
    ----------
    short
        `error`, or `drop` the series without a window in every part.
    """

    short: Literal["error", "drop"] = "error"

    def __post_init__(self) -> None:
        one_of("split.short", self.short, ("error", "drop"))


@dataclass(frozen=True)
class FractionSplit(_Split):
    """Shares of each series' rows, in time order; what is left after the three is not used."""

    train: float = 0.7
    val: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = (self.train, self.val, self.test)
        if not all(share > 0 for share in shares) or sum(shares) > 1 + 1e-9:
            raise ConfigError(
                "split shares must be positive and add up to 1 at most",
                where="split",
                got=f"train={self.train} val={self.val} test={self.test}",
                fix="0.7, 0.1, 0.2, say",
            )

    def __call__(self, panel: Panel, lookback: int, horizon: int) -> Borders:
        """Borders of each series, checked."""
        ends = [
            panel.offsets[:-1] + np.round(panel.lengths * share).astype(np.int64)
            for share in (self.train, self.train + self.val, min(1.0, self.train + self.val + self.test))
        ]
        return Borders(panel.offsets[:-1], *ends).check(panel, lookback, horizon, self.short)


@dataclass(frozen=True)
class RowSplit(_Split):
    """Numbers of rows; the LTSF protocol on hourly ETT is 8640, 2880, 2880 (12, 4 and 4 months of 30 days)."""

    train: int = 8640
    val: int = 2880
    test: int = 2880

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.train, self.val, self.test) < 1:
            raise ConfigError(
                "split rows must be positive",
                where="split",
                got=f"train={self.train} val={self.val} test={self.test}",
                allowed="1 or more",
            )

    def __call__(self, panel: Panel, lookback: int, horizon: int) -> Borders:
        """Borders of each series, checked."""
        counts = np.cumsum([self.train, self.val, self.test])
        ends = [np.minimum(panel.offsets[:-1] + count, panel.offsets[1:]) for count in counts]
        return Borders(panel.offsets[:-1], *ends).check(panel, lookback, horizon, self.short)


@dataclass(frozen=True)
class TailSplit(_Split):
    """Rows counted from each series' end: the last `test` are test, the `val` before them validation, the rest train.

    The split of a panel whose series start at different times.
    """

    val: int
    test: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.val, self.test) < 1:
            raise ConfigError("split rows must be positive", where="split", got=f"val={self.val} test={self.test}",
                              allowed="1 or more")  # fmt: skip

    def __call__(self, panel: Panel, lookback: int, horizon: int) -> Borders:
        """Borders of each series, checked."""
        first, end = panel.offsets[:-1], panel.offsets[1:]
        parts = (np.maximum(end - self.test - self.val, first), np.maximum(end - self.test, first), end)
        return Borders(first, *parts).check(panel, lookback, horizon, self.short)


@dataclass(frozen=True)
class DateSplit(_Split):
    """Dates: train before `val_start`, validation before `test_start`, test before `test_end` (None: to the end)."""

    val_start: str
    test_start: str
    test_end: str | None = None

    def __call__(self, panel: Panel, lookback: int, horizon: int) -> Borders:
        """Borders of each series, checked.

        Raises
        ------
        ConfigError
            A date cannot be read, or they are out of order.
        """
        dates = []
        for name in ("val_start", "test_start", "test_end"):
            given = getattr(self, name)
            if given is None:
                continue
            try:
                stamp = pd.Timestamp(given)
            except ValueError as error:
                raise ConfigError("a date cannot be read", where=f"split.{name}", got=given,
                                  fix="write 2014-07-01") from error  # fmt: skip
            if stamp.tz is None and panel.time.tz is not None:
                stamp = stamp.tz_localize(panel.time.tz)
            elif stamp.tz is not None and panel.time.tz is None:
                raise ConfigError("a date has a time zone and the data has none", where=f"split.{name}", got=given,
                                  fix="leave the zone out")  # fmt: skip
            dates.append(stamp)
        if dates != sorted(dates):
            raise ConfigError("split dates must go forward", where="split", got=" ".join(map(str, dates)))
        ends = [
            panel.offsets[:-1] + np.add.reduceat(np.asarray(panel.time < stamp, dtype=np.int64), panel.offsets[:-1])
            for stamp in dates
        ]
        if len(ends) < 3:
            ends.append(panel.offsets[1:])
        return Borders(panel.offsets[:-1], *ends).check(panel, lookback, horizon, self.short)
