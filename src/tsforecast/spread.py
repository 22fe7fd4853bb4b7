"""How much a window moves, against what is usual: intervals are as much wider or narrower as its errors are.

An error is divided by the spread of its window before offsets are taken from it, and the offsets of a forecast are
multiplied by that of its own: locally weighted conformal prediction (Lei, G'Sell, Rinaldo, Tibshirani & Wasserman,
Distribution-free predictive inference for regression, JASA 113, 2018, section 5.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from tsforecast.types import Window

STATISTICS = ("change", "deviation", "recent change", "recent deviation", "seasonal change", "recent seasonal change")
_FAR = 20.0  # times what is usual; beyond it no interval grows or shrinks any further
_FEWEST = 3  # values that a mean is of, where others are missing


@dataclass(frozen=True)
class Spread:
    """A product of powers of a window's statistics, each against its median in the rows that chose the powers.

    Attributes
    ----------
    powers
        Of mean absolute change, standard deviation and mean absolute change over a season, over all rows or over the
        last season of them, as `STATISTICS` names them; 0 leaves one out.
    typical
        The medians, [C S].
    floor
        The least that the spread of any window is; 0 of a bundle that does not say: none, and filled rows count.
    """

    season: int
    powers: tuple[float, ...]
    typical: Float[np.ndarray, "C S"]
    floor: float = 1 / _FAR

    def __str__(self) -> str:
        return ", ".join(f"{name}^{power:g}" for name, power in zip(STATISTICS, self.powers, strict=True) if power)

    def __call__(self, window: Window) -> Float[np.ndarray, "B 1 C"]:
        """The spread of each window and channel: 1 is usual."""
        return self.of(statistics(window if self.floor else replace(window, observed=None), self.season))

    def of(self, found: Float[np.ndarray, "B C S"]) -> Float[np.ndarray, "B 1 C"]:
        """See `__call__`; of what `statistics` gave."""
        spread = np.ones(found.shape[:2], dtype=np.float32)
        for s, power in enumerate(self.powers):
            if power:
                usual = np.where(self.typical[:, s] == 0, 1, self.typical[:, s])
                times = np.nan_to_num(found[..., s] / usual, nan=1.0)  # what is not known is usual
                spread *= np.clip(times, 1 / _FAR, _FAR).astype(np.float32) ** np.float32(power)
        return (np.clip(spread, self.floor, _FAR) if self.floor else spread)[:, None]

    def state(self) -> dict[str, np.ndarray]:
        """Season, powers, medians and floor, as arrays by name."""
        parts = {"season": self.season, "powers": self.powers, "typical": self.typical, "floor": self.floor}
        return {f"spread.{name}": np.asarray(each) for name, each in parts.items()}

    @classmethod
    def restore(cls, state: Mapping[str, np.ndarray]) -> Self | None:
        """What `state()` is of; None where there is none in it."""
        if "spread.powers" not in state:
            return None
        powers = tuple(map(float, state["spread.powers"]))
        floor = float(state.get("spread.floor", 0.0))
        return cls(int(state["spread.season"]), powers, np.asarray(state["spread.typical"], dtype=np.float64), floor)


def statistics(window: Window, season: int) -> Float[np.ndarray, "B C S"]:
    """What `Spread.powers` are of; where a season does not fit into the window twice, single steps stand for it.

    Rows that are filled do not count: they would make a window look calm. NaN where too few are left.
    """
    rows = np.ascontiguousarray(window.target.swapaxes(1, 2), dtype=np.float64)  # one order of summation, any batch
    found = np.stack(_statistics(rows, season), axis=-1)
    if window.observed is not None:
        gaps = ~window.observed.all(axis=1)
        there = np.ma.array(rows[gaps], mask=~window.observed.swapaxes(1, 2)[gaps])
        found[gaps] = np.ma.stack(_statistics(there, season), axis=-1).filled(np.nan)
    return found


def _statistics(rows: Any, season: int) -> list[Any]:
    lag = season if 2 * season <= rows.shape[-1] else 1
    found = []
    for recent in (rows, rows[..., -max(4, season) :]):
        found += [_change(recent, 1), _over(np.std, recent)]
    return [*found, _change(rows, lag), _change(rows[..., -max(4, lag) - lag :], lag)]


def _change(rows: Any, lag: int) -> Any:
    if rows.shape[-1] <= lag:
        return np.zeros(rows.shape[:-1])
    return _over(np.mean, np.abs(rows[..., lag:] - rows[..., :-lag]))


def _over(reduced: Callable[..., Any], values: Any) -> Any:
    """Of each row, masked where some of its values are, and fewer are left than say anything."""
    found = reduced(values, axis=-1)
    return np.ma.array(found, mask=values.count(axis=-1) < _FEWEST) if np.ma.isMaskedArray(values) else found
