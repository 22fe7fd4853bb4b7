"""Cross-validation over time: several cutoffs, each forecast from the rows before it alone.

    expanding (train=null)                        sliding (train=8)
    fold 0  ========++.##------                   ========++.##------
    fold 1  ==========++.##----                   --========++.##----        = train    + validation
    fold 2  ============++.##--                   ----========++.##--        . gap      # test     - never seen

Behind the cutoff come `gap` rows that are not yet known when the forecast is made, then the `horizon` rows to score.
(Tashman, Out-of-sample tests of forecasting accuracy, International Journal of Forecasting 16, 2000.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from jaxtyping import Int

from tsforecast.data.panel import Panel
from tsforecast.data.splits import Borders, Split
from tsforecast.errors import ConfigError, DataError, count, listed

WIDTH = 48  # characters of a fold in the diagram


@dataclass(frozen=True)
class Fold(Split):
    """One cutoff of each series, as a split: the first row behind it is `borders.val_end`.

    Attributes
    ----------
    number
        0, 1, ..., the earliest cutoff first.
    fitted
        The number of the fold whose fit forecasts here: its own where it is refitted.
    """

    number: int
    fitted: int
    borders: Borders

    def __call__(self, panel: Panel, lookback: int, horizon: int) -> Borders:
        """The borders, whatever fits between them."""
        return self.borders


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Where the folds of a backtest lie, counted from the end of each series.

    Parameters
    ----------
    windows
        How many.
    step
        Rows from one cutoff to the next; None: the horizon, so that no row is scored twice.
    gap
        Rows between what is known and what is forecast.
    train
        Train rows of each fold, which slide along; None: all from the first row on.
    val
        Rows before the cutoff that choose (early stopping, lambda, calibration); None: as many as the split has.
    refit
        `every` fold, `never` again after the first, or every k-th.

    Raises
    ------
    ConfigError
        A number is not a number of things, or `refit` is none of these.
    """

    windows: int = 5
    step: int | None = None
    gap: int = 0
    train: int | None = None
    val: int | None = None
    refit: str | int = "every"

    def __post_init__(self) -> None:
        for name, least in (("windows", 1), ("step", 1), ("gap", 0), ("train", 1), ("val", 0)):
            if name == "windows" or getattr(self, name) is not None:
                count(f"backtest.{name}", getattr(self, name), least)
        number = isinstance(self.refit, int) and not isinstance(self.refit, bool) and self.refit > 0
        if self.refit not in ("every", "never") and not number:
            allowed = "every, never, or k to refit every k-th fold"
            raise ConfigError("there is no such refit", where="backtest.refit", got=self.refit, allowed=allowed)

    @classmethod
    def of(cls, keys: Mapping[str, Any]) -> Self:
        """Those that the keys of `backtest` describe."""
        return cls(**{each.name: keys[each.name] for each in fields(cls)})

    def fitting(self, panel: Panel, val: Int[np.ndarray, " N"], lookback: int, horizon: int) -> Int[np.ndarray, " N"]:
        """How many folds each series holds, none or less where it is too short; parameters as of a call."""
        ahead = self.gap + horizon
        needed = np.maximum(lookback + ahead if self.train is None else self.train, panel.unseen + 1)  # to be scaled by
        chosen = np.minimum(val, panel.lengths) if self.val is None else self.val
        return np.asarray((panel.lengths - ahead - chosen - needed) // (self.step or horizon) + 1)

    def __call__(self, panel: Panel, val: Int[np.ndarray, " N"], lookback: int, horizon: int) -> list[Fold]:
        """The folds of a panel.

        Parameters
        ----------
        val
            Validation rows of each series, where `val` does not say.

        Raises
        ------
        DataError
            They do not fit; it says how many would.
        """
        step, ahead = self.step or horizon, self.gap + horizon
        chosen = np.minimum(val, panel.lengths) if self.val is None else np.full(len(panel), self.val)
        first, latest = panel.offsets[:-1], panel.offsets[1:] - ahead  # the last cutoff
        needed = lookback + ahead if self.train is None else self.train
        fitting = self.fitting(panel, val, lookback, horizon)
        fits = int(fitting.min())
        if self.train is not None and self.train < lookback + ahead:
            what = "the train rows of a fold do not hold one window"
            raise ConfigError(what, where="backtest.train", got=self.train, allowed=f"{lookback + ahead} or more")
        if fits < self.windows:
            few = fitting < self.windows
            got = f"{self.windows} folds every {step} rows, of {needed}+ train, {chosen.max()} val, {ahead} ahead"
            pairs = zip(panel.lengths, panel.unseen.tolist(), strict=True)
            held = [f"{n} rows" + f", the first {m} without a value" * (m > 0) for n, m in pairs]
            rows = listed(f"{i} has {each}" for i, each in zip(panel.ids[few], np.array(held)[few], strict=True))
            which = f"it has {held[0]}" if len(panel) == 1 else f"{few.sum()} series: {rows}"
            fix = f"backtest.windows={fits}" if fits > 0 else "fewer rows: lookback=, horizon=, backtest.gap=, .val="
            what = f"the folds do not fit into the data: {max(0, fits)} would ({which})"
            raise DataError(what, where="backtest", got=got, fix=fix)
        every = {"every": 1, "never": self.windows}.get(str(self.refit)) or int(self.refit)
        folds = []
        for i in range(self.windows):
            cutoff = latest - (self.windows - 1 - i) * step
            begin = first if self.train is None else cutoff - chosen - self.train
            borders = Borders(begin, cutoff - chosen, cutoff, cutoff + ahead)
            folds.append(Fold(i, i - i % every, borders))
        return folds


def diagram(panel: Panel, folds: Sequence[Fold], gap: int, title: str) -> str:
    """The folds of the first series, drawn to scale, with the dates of what each scores."""
    rows, start = int(panel.lengths[0]), int(panel.offsets[0])
    lines = [title]
    for fold in folds:
        each = fold.borders
        ends = [int(x[0]) for x in (each.begin, each.train_end, each.val_end, each.val_end + gap, each.test_end)]
        places = [round((end - start) * WIDTH / rows) for end in ends]
        for i in range(len(ends) - 2, -1, -1):  # whatever has rows is seen
            places[i] = min(places[i], places[i + 1] - (ends[i + 1] > ends[i]))
        bar = "-" * places[0] + "".join(m * (b - a) for m, a, b in zip("=+.#", places, places[1:], strict=False))
        bar = bar.ljust(WIDTH, "-")
        train, val = ends[1] - ends[0], ends[2] - ends[1]
        kept = "" if fold.fitted == fold.number else f", as fitted in fold {fold.fitted}"
        dates = f"{panel.time[ends[3]]} to {panel.time[ends[4] - 1]}"
        lines.append(
            f"  {fold.number:>3}  {bar}  {train:,} train, {val:,} val, {ends[4] - ends[3]} test: {dates}{kept}"
        )
    legend = f"= train   + validation   {'. gap   ' * (gap > 0)}# test   - not seen"
    others = f"; the other {len(panel) - 1:,} series likewise, each from its own end" if len(panel) > 1 else ""
    span = f"{panel.time[start]} to {panel.time[start + rows - 1]}, {rows:,} rows{others}"
    return "\n".join([*lines, f"       {legend}", f"       {span}"])
