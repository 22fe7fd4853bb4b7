"""Which rows are trained on, which choose, which judge.

    | begin ............. train_end | ........ val_end | ........ test_end |
      train                           validation         test

A window belongs to the part its targets lie in. Its lookback may reach back across a border; its targets may not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from tsforecast.errors import ConfigError, DataError
from tsforecast.panel import Panel


@dataclass(frozen=True)
class Borders:
    """Absolute panel rows, [N] each."""

    begin: Int[np.ndarray, " N"]
    train_end: Int[np.ndarray, " N"]
    val_end: Int[np.ndarray, " N"]
    test_end: Int[np.ndarray, " N"]

    def check(self, panel: Panel, lookback: int, horizon: int) -> Borders:
        """Itself, when every series has a train, a validation and a test window.

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
        for part, need in needs.items():
            if (short := has[part] < need).any():
                names = ", ".join(f"{i} has {n}" for i, n in zip(panel.ids[short][:3], has[part][short], strict=False))
                which = f"it has {has[part][0]}" if len(panel) == 1 else f"{short.sum()} series are short: {names}"
                problems.append(f"{part} needs {need} rows, {which}")
        if problems:
            raise DataError(
                "too few rows for the split and windows: " + "; ".join(problems),
                where=f"split, with lookback {lookback} and horizon {horizon}",
                fix="shorten lookback or horizon, change the split, or give more rows",
            )
        return self


@dataclass(frozen=True)
class FractionSplit:
    """Shares of each series' rows, in time order; what is left after the three is not used."""

    train: float = 0.7
    val: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        shares = (self.train, self.val, self.test)
        if min(shares) <= 0 or sum(shares) > 1 + 1e-9:
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
        return Borders(panel.offsets[:-1], *ends).check(panel, lookback, horizon)


@dataclass(frozen=True)
class RowSplit:
    """Numbers of rows; the LTSF protocol on hourly ETT is 8640, 2880, 2880 (12, 4 and 4 months of 30 days)."""

    train: int = 8640
    val: int = 2880
    test: int = 2880

    def __post_init__(self) -> None:
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
        return Borders(panel.offsets[:-1], *ends).check(panel, lookback, horizon)


@dataclass(frozen=True)
class DateSplit:
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
        return Borders(panel.offsets[:-1], *ends).check(panel, lookback, horizon)
