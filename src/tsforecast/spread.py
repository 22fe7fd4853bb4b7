"""How much a window moves, against what is usual: intervals are as much wider or narrower as its errors are.

An error is divided by the spread of its window before offsets are taken from it, and the offsets of a forecast are
multiplied by that of its own: locally weighted conformal prediction (Lei, G'Sell, Rinaldo, Tibshirani & Wasserman,
Distribution-free predictive inference for regression, JASA 113, 2018, section 5.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float

from tsforecast.types import Window

STATISTICS = ("change", "deviation", "recent change", "recent deviation", "seasonal change", "recent seasonal change")
_FAR = 20.0  # times what is usual; beyond it no interval grows or shrinks any further


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
        The least that the spread of any window is.
    """

    season: int
    powers: tuple[float, ...]
    typical: Float[np.ndarray, "C S"]
    floor: float = 1 / _FAR

    def __str__(self) -> str:
        return ", ".join(f"{name}^{power:g}" for name, power in zip(STATISTICS, self.powers, strict=True) if power)

    def __call__(self, window: Window) -> Float[np.ndarray, "B 1 C"]:
        """The spread of each window and channel: 1 is usual."""
        return self.of(statistics(window, self.season))

    def of(self, found: Float[np.ndarray, "B C S"]) -> Float[np.ndarray, "B 1 C"]:
        """See `__call__`; of what `statistics` gave."""
        spread = np.ones(found.shape[:2], dtype=np.float32)
        for s, power in enumerate(self.powers):
            if power:
                least = np.where(self.typical[:, s] > 0, self.typical[:, s], 1)
                spread *= np.clip(found[..., s] / least, 1 / _FAR, _FAR).astype(np.float32) ** np.float32(power)
        return np.clip(spread, self.floor, _FAR)[:, None]

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
        floor = float(state.get("spread.floor", 1 / _FAR))
        return cls(int(state["spread.season"]), powers, np.asarray(state["spread.typical"], dtype=np.float64), floor)


def statistics(window: Window, season: int) -> Float[np.ndarray, "B C S"]:
    """What `Spread.powers` are of; where a season does not fit into the window twice, single steps stand for it."""
    rows = np.ascontiguousarray(window.target.swapaxes(1, 2), dtype=np.float64)  # one order of summation, any batch
    lag = season if 2 * season <= rows.shape[2] else 1
    found = []
    for recent in (rows, rows[..., -max(4, season) :]):
        found += [_change(recent, 1), recent.std(axis=-1)]
    found += [_change(rows, lag), _change(rows[..., -max(4, lag) - lag :], lag)]
    return np.stack(found, axis=-1)


def _change(rows: Float[np.ndarray, "B C L"], lag: int) -> Float[np.ndarray, "B C"]:
    if rows.shape[-1] <= lag:
        return np.zeros(rows.shape[:2])
    return np.asarray(np.abs(rows[..., lag:] - rows[..., :-lag]).mean(axis=-1))
