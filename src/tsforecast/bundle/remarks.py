"""What a caller should know before using a forecast: whose rows are old, few, missing, or unlike those of training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from tsforecast.data.panel import Panel
from tsforecast.errors import DataError, listed, one_of
from tsforecast.fallback import NAME

if TYPE_CHECKING:
    from tsforecast.bundle.inputs import Inputs

LACKING = "more missing values than training saw in as many rows"


def remarks(
    inputs: Inputs, panel: Panel, series: Int[np.ndarray, " N"], stale: str = "warn", lacking: str = "warn"
) -> tuple[str, ...]:
    """What is to be told of the rows of a panel, beside those of training.

    Parameters
    ----------
    panel
        As `Inputs.with_future` gives it.
    series
        Fitted position of each (`features.series(ids)`); -1 where the fallback forecasts it.
    stale
        `warn` of series that end before others and of channels whose last rows are empty, or `error`, or `ignore`.
    lacking
        `warn` of columns with more missing values than training saw, or `error`.

    Raises
    ------
    DataError
        A channel has nothing to forecast from, or something is to be an error.
    """
    one_of("stale", stale, ("warn", "error", "ignore"))
    history, naive = _History(inputs, panel), series < 0
    history.check_observed()
    own = history if not naive.any() else _History(inputs, panel.select(~naive))  # what the model sees, if anything
    gone = own.lacking() if len(own.panel) else []
    if gone and lacking == "error":
        raise DataError(LACKING, where="history", got=listed(gone), fix="fill them in")
    old = [] if stale == "ignore" else history.stale()
    if old and stale == "error":
        fix = "give the latest rows, leave these out, or stale=ignore"
        raise DataError("; ".join(old), where="history", fix=fix)
    odd: dict[str, list[str]] = {}
    if naive.any():
        few, of = naive & (history.held < inputs.least), f"of {len(panel)} series forecast by {NAME}"
        odd[f"{few.sum()} {of}, for fewer rows than the {inputs.least} that the model needs"] = history.held_by(few)
        odd[f"{(naive & ~few).sum()} {of}, as the model was not trained on them"] = panel.ids[naive & ~few].tolist()
    odd[LACKING] = gone
    odd[f"fewer rows than the {inputs.context} that a forecast reads"] = own.held_by(own.held < inputs.context)
    odd["unlike the rows of training"] = own.unlike(series[~naive]) if len(own.panel) else []
    return (*old, *(f"{what}: {listed(found)}" for what, found in odd.items() if found))


@dataclass(frozen=True)
class _History:
    """The rows of a panel `with_future`, as they are told of."""

    inputs: Inputs
    panel: Panel

    @cached_property
    def held(self) -> Int[np.ndarray, " N"]:
        """Rows of its own that each series has."""
        return self.inputs.held(self.panel)

    @cached_property
    def gaps(self) -> bool:
        """Whether a target or a past covariate is missing."""
        return any(bool(np.isnan(self._rows(group).sum(dtype=np.float64))) for group in ("target", "past"))

    def check_observed(self) -> None:
        """Raise a DataError where a channel has nothing to forecast from."""
        empty = np.argwhere(np.isnan(self._rows("target")).all(axis=1)) if self.gaps else ()
        if len(empty):
            which = "1 channel has" if len(empty) == 1 else f"{len(empty)} channels have"
            what = f"{which} no observed value in the {self.inputs.context} rows a forecast reads"
            got = listed(self._name(i, self.inputs.channels[c]) for i, c in empty)
            fix = ", or leave these series out, as short=drop of predict and forecast does" * bool(
                self.inputs.schema.id
            )
            raise DataError(what, where="history", got=got, fix=f"give rows with values{fix}")

    def held_by(self, which: Bool[np.ndarray, " N"]) -> list[str]:
        """Some series with the number of their rows."""
        held = zip(self.panel.ids[which], self.held[which], strict=True)
        return [f"{i} ({n})" if self.inputs.schema.id else str(n) for i, n in held]

    def lacking(self) -> list[str]:
        """Columns with more missing values than as many rows of training had."""
        found = []
        for group in ("target", "past") if self.gaps else ():
            names = getattr(self.inputs.schema, group)
            count = np.isnan(self._rows(group)).sum(axis=1) - (self.inputs.context - self.held[:, None])
            most = [self.inputs.missing.get(name, 0) for name in names]
            cells = np.argwhere(count > most)
            found += [f"{self._name(i, names[j])} ({count[i, j]}, {most[j]} at most)" for i, j in cells]
        return found

    def stale(self) -> list[str]:
        """Series that end before others, and channels whose last rows are empty."""
        panel, found = self.panel, []
        last = panel.offsets[:-1] + self.inputs.context - 1
        ends = panel.time.asi8[last]
        if (late := ends < ends.max()).any():
            names = listed(f"{i} ({stamp})" for i, stamp in zip(panel.ids[late], panel.time[last[late]], strict=True))
            found.append(f"{late.sum()} of {len(panel)} series end before {panel.time[last].max()}: {names}")
        empty = np.argwhere(np.isnan(self._rows("target")[:, -1])) if self.gaps else ()
        if len(empty):
            rows = np.isnan(self._rows("target")[:, ::-1]).argmin(axis=1)
            names = listed(f"{self._name(i, self.inputs.channels[c])} ({rows[i, c]})" for i, c in empty)
            found.append(f"the last rows are empty, and count as history: {names}")
        return found

    def unlike(self, series: Int[np.ndarray, " N"]) -> list[str]:
        """Columns far outside the range of training (by half of it), or constant for longer than ever there."""
        found, held, features = [], self.held[:, None], self.inputs.features
        for group, ranges in features.ranges.items():
            if not (names := getattr(self.inputs.schema, group)):
                continue
            values = self._rows(group)
            low, high = np.fmin.reduce(values, axis=1), np.fmax.reduce(values, axis=1)
            least, most, run = ranges[:, series] if ranges.shape[1] > 1 else ranges
            if (least <= low).all() and (low < high).all() and (high <= most).all():
                continue
            reach = (most - least) / 2
            floor = np.where(least < 0, least - reach, np.maximum(least - reach, -reach / 5))  # what never was below 0
            still = (low == high) & (run < (held if group in ("target", "past") else 0))
            odd = (low < floor) | (high > most + reach) | still
            if features.categories:
                odd[:, [name in features.categories for name in names]] = False
            if not odd.any():
                continue
            least, most = (np.broadcast_to(bound, odd.shape) for bound in (least, most))
            for i, j in np.argwhere(odd):
                now = f"{low[i, j]:g} " + ("throughout" if low[i, j] == high[i, j] else f"to {high[i, j]:g}")
                found.append(f"{self._name(i, names[j])} is {now} (training: {least[i, j]:g} to {most[i, j]:g})")
        return found

    def _rows(self, group: str) -> Float[np.ndarray, "N R X"]:
        """`target` and `past` of the context, all rows of `known`, the one of `static`."""
        values: np.ndarray = getattr(self.panel, group)
        rows = values.reshape(len(self.panel), len(values) // len(self.panel), values.shape[1])
        return rows[:, : self.inputs.context] if group in ("target", "past") else rows

    def _name(self, i: int, column: str) -> str:
        return f"{column} of {self.panel.ids[i]}" if self.inputs.schema.id else column
