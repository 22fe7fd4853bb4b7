"""From what a caller gives as history to a checked panel: one set of rules for Python, the commands and the servers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from tsforecast.bundle.remarks import remarks
from tsforecast.bundle.request import Request
from tsforecast.data.arrays import Arrays, as_frame
from tsforecast.data.columns import Problems
from tsforecast.data.frames import read_known_future, to_panel
from tsforecast.data.frequency import Axis, parse
from tsforecast.data.panel import GROUPS, Panel
from tsforecast.data.schema import Schema
from tsforecast.errors import DataError, listed, one_of
from tsforecast.fallback import Fallback
from tsforecast.features.base import FeatureSet
from tsforecast.types import Dims

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a bundle reads: its columns at its frequency, held against the rows that it was trained on.

    Attributes
    ----------
    schema
        How frames are laid out, as `Schema.resolved` gives it: with all columns in the order of the arrays, and the
        frequency.
    dims
        Sizes; `dims.lookback` rows are what a forecast needs.
    features
        Fitted.
    missing
        Column to the most missing values that `lookback` rows of the train rows hold; other columns had none.
    fallback
        What forecasts the series that are too short for the model or unknown to it; None: they are refused.
    """

    schema: Schema
    dims: Dims
    features: FeatureSet
    missing: Mapping[str, int] = field(default_factory=dict)
    fallback: Fallback | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """Targets, C of them."""
        return tuple(self.schema.target)

    @property
    def freq(self) -> str:
        """Pandas offset alias."""
        return str(self.schema.freq)

    @property
    def context(self) -> int:
        """Rows of history a forecast reads."""
        return self.dims.lookback

    @property
    def least(self) -> int:
        """Rows of history that every series of a request needs, at most `context`; it cannot be forecast from fewer."""
        return self.dims.least

    def panel(
        self,
        history: pd.DataFrame | Arrays | Panel,
        *,
        static: pd.DataFrame | Arrays | None = None,
        short: str | None = None,
        keys: str | None = None,
        first_row: int | np.ndarray = 2,
    ) -> Panel:
        """The rows of a frame that a forecast reads, or a whole panel, with the channels in the order of training.

        Parameters
        ----------
        static
            Static covariates, one row a series; needed when there are some, unless `history` has them.
        short
            `error`, or `drop` the series with too few rows or no value and those that were not trained on, and log
            which, or `naive`, which keeps those that `fallback` forecasts; None: `naive` where it is, else `error`.
        keys, first_row
            As in `tsforecast.data.columns.Problems`.

        Raises
        ------
        DataError
            A column is missing, unknown or unreadable, the frequency is another one, or a series is shorter
            than `least`.
        """
        short = short or ("naive" if self.fallback else "error")
        one_of("short", short, ("error", "drop", "naive") if self.fallback else ("error", "drop"))
        if static is not None:
            static = as_frame(static, "static")
            self.check_covariates(static=static.columns)
        if not isinstance(history, Panel):
            how: dict[str, Any] = {"static": static, "for_training": False, "tail": self.context}
            panel = to_panel(as_frame(history, "history"), self.schema, Problems("history", first_row, keys), **how)
        elif static is None:
            panel = self._in_order(history)
        else:
            raise DataError("a panel holds its static covariates", where="static", fix="leave static out")
        if panel.freq != self.freq:
            raise _other("frequency", panel.freq, self.freq)
        few = panel.lengths < (1 if short == "naive" else self.least)
        left = few
        if short == "drop" or (short == "error" and self.fallback):  # else features say which names are like it
            left = few | (self.features.places(panel.ids) < 0)
        if short == "drop":
            left = left | ~panel.observed
        why = self.reasons(panel.ids[left], panel.lengths[left]) if left.any() else []
        if why and (short == "error" or left.all()):
            what, allowed = f"{len(why)} series cannot be forecast", f"{self.least} rows or more, up to the cutoff"
            fix, out = "give more history", "short=drop of predict and forecast, +split.short=drop of evaluate"
            fix += f", or leave these out: {out}" * (len(panel) > 1)
            fix += ", or train with split.short=naive, which forecasts them by seasonal naive" * (self.fallback is None)
            raise DataError(what, where="history", got=listed(why), allowed=allowed, fix=fix)
        if why:
            log.warning("%d of %d series are left out: %s", len(why), len(panel), ", ".join(why))
        return panel.select(~left) if why else panel

    def _in_order(self, panel: Panel) -> Panel:
        """The panel with its columns, matched by name, and its timestamps as they were in training."""
        changed: dict[str, Any] = {}
        for group, key in GROUPS.items():
            got, wanted = getattr(panel, key), self._names(group)
            if sorted(got) != sorted(wanted):
                raise _other(key.replace("_names", " covariates"), got, wanted)
            if got != wanted:
                changed |= {key: wanted, group: getattr(panel, group)[:, [got.index(name) for name in wanted]]}
        if panel.categories.keys() != self.features.categories.keys():
            raise _other("categories", sorted(panel.categories), sorted(self.features.categories))
        time = self.schema.local(panel.time)
        if time is None:
            raise _other("timestamps", f"time zone {panel.time.tz}", f"they {self.schema.wanted_zone}")
        if self.schema.off_grid(Axis.of(time, parse(panel.freq))).any():
            raise _other("steps", time[0], f"timestamps on the grid of training, every {self.freq}")
        return replace(panel, time=time, **changed)

    def laid_out(self, ids: np.ndarray, time: pd.DatetimeIndex, *arrays: np.ndarray) -> Panel:
        """A panel `with_future` of N series, from all its rows: target, past, known, and static [N S]."""
        offsets = np.arange(len(ids) + 1) * (self.context + self.dims.horizon)
        about: dict[str, Any] = {key: self._names(group) for group, key in GROUPS.items()}
        about |= zip(GROUPS, arrays, strict=True)
        return Panel(ids, offsets, time, freq=self.freq, categories=self.features.categories, **about)

    def with_future(
        self, panel: Panel, known_future: pd.DataFrame | Arrays | None = None, *, first_row: int | np.ndarray = 2
    ) -> Panel:
        """`context` rows a series with the `horizon` rows to forecast behind them: all that a forecast is made from.

        A shorter series has missing rows in front.

        `first_row` is what messages call the first row of `known_future`, or each of them.
        """
        future = None  # which `extend` refuses when there are known covariates
        if known_future is not None:
            known_future = as_frame(known_future, "known_future")
            self.check_covariates(known_future.columns)
            future, categories = read_known_future(known_future, panel, self.schema, self.dims.horizon, first_row)
            panel = replace(panel, categories=categories)
        panel = panel.tail(self.context)
        return panel.padded(self.context - panel.lengths).extend(self.dims.horizon, future)

    def check_covariates(self, known_future: Iterable[str] | None = None, static: Iterable[str] | None = None) -> None:
        """Raise a DataError when columns are given of a kind that there are none of, and would not be read."""
        given = {"known_future": (known_future, self.schema.known), "static": (static, self.schema.static)}
        for name, (columns, wanted) in given.items():
            if columns is not None and not wanted:
                what, got = f"the model has no {name.replace('_', ' ')} covariates", listed(columns)
                raise DataError(what, where=name, got=got, allowed="nothing", fix=f"leave {name} out")

    def request(
        self, panel: Panel, horizon: int, levels: tuple[str, ...] | None, *, stale: str = "warn", lacking: str = "warn"
    ) -> Request:
        """What is asked of a panel `with_future`, once its rows are held against those of training.

        Parameters
        ----------
        horizon, levels
            As `asked` gives them.
        stale, lacking
            As in `remarks`.

        Raises
        ------
        DataError
            A series was not trained on, or `remarks` refuses the rows.
        """
        naive = self._naive(panel)
        series = np.full(len(panel), -1)
        series[~naive] = self.features.series(panel.ids[~naive])
        return Request(panel, series, horizon, levels, remarks(self, panel, series, stale, lacking))

    def _naive(self, panel: Panel) -> Bool[np.ndarray, " N"]:
        """Which series of a panel `with_future` the fallback forecasts: too short, or scaled by nothing."""
        if self.fallback is None:
            return np.zeros(len(panel), dtype=bool)
        return (self.held(panel) < self.least) | (self.features.places(panel.ids) < 0)

    def reasons(self, ids: np.ndarray, rows: Int[np.ndarray, " N"]) -> list[str]:
        """Series of so many rows that the model cannot forecast, and why each."""
        known = np.where(self.features.places(ids) < 0, "not trained on", "no value")
        why = [f"{n} rows" if n < self.least else str(each) for n, each in zip(rows, known, strict=True)]
        return [f"{i} ({each})" for i, each in zip(ids, why, strict=True)] if self.schema.id else why

    def held(self, panel: Panel) -> Int[np.ndarray, " N"]:
        """How many rows of its own each series of a panel `with_future` has."""
        return np.asarray(panel.offsets[:-1] + self.context - panel.first)

    def _names(self, group: str) -> tuple[str, ...]:
        return tuple(getattr(self.schema, group))


def _other(what: str, got: object, wanted: object) -> DataError:
    return DataError(f"the data has other {what} than the bundle", where="history", got=got, allowed=wanted)
