"""Sums over windows, from which least squares is solved without a second pass over the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tsforecast.models.base import check_labels
from tsforecast.models.design import by_row, design, design_size
from tsforecast.types import Dims
from tsforecast.windows import Windows


@dataclass(frozen=True)
class Moments:
    """Sums over the rows of a design X and its labels Y, all that least squares needs to know of the data.

    `rounding` is that of `xx`, as a share of its largest eigenvalue: what varies less cannot be told from nothing.
    """

    n: int
    xx: Float[np.ndarray, "D D"]
    xy: Float[np.ndarray, "D H"]
    yy: float
    x: Float[np.ndarray, " D"]
    y: Float[np.ndarray, " H"]
    rounding: float

    @classmethod
    def of(cls, windows: Windows, dims: Dims, part: str) -> Moments:
        """By the shorter way where there is one."""
        plain = design_size(dims) == dims.lookback and not windows.missing and not windows.encoded.local
        found = cls.sliding(windows, dims) if plain and windows.consecutive else cls.gathered(windows, dims)
        check_labels(found.n, windows, part)
        return found

    @classmethod
    def sliding(cls, windows: Windows, dims: Dims) -> Moments:
        """Of overlapping windows, from the series itself: O(T L + L^2) instead of O(T L^2).

        Entry (i+1, j+1) of a sum over consecutive windows is entry (i, j) without its first product and with
        one more at the end, so that the first row and the two ends of every series give the whole matrix.
        """
        m, lookback = dims.lookback + dims.horizon, dims.lookback
        _, firsts, counts = np.unique(windows.series, return_index=True, return_counts=True)
        target = windows.encoded.target
        first, heads, tails = np.zeros(m), [], []
        total = 0.0
        for begin, n in zip(windows.origins[firsts] - lookback, counts, strict=True):
            for series in target[begin : begin + n + m - 1].T:
                series = np.ascontiguousarray(series, dtype=np.float64)
                first += np.lib.stride_tricks.sliding_window_view(series, n) @ series[:n]
                total += series[:n].sum()
                heads.append(series[: m - 1])
                tails.append(series[n:])
        head, tail = np.array(heads), np.array(tails)
        change = tail.T @ tail - head.T @ head
        moment = np.empty((m, m))
        moment[0] = first
        for i in range(1, m):
            moment[i, i:] = moment[i - 1, i - 1 : -1] + change[i - 1, i - 1 :]
        moment = np.triu(moment) + np.triu(moment, 1).T
        sums = total + np.concatenate([[0.0], np.cumsum(tail.sum(axis=0) - head.sum(axis=0))])
        # The last value of the window is subtracted from all of it: z - z[L-1].
        last = moment[lookback - 1].copy()
        moment = moment - last - last[:, None] + last[lookback - 1]
        sums = sums - sums[lookback - 1]
        x, y = slice(0, lookback), slice(lookback, m)
        n = len(windows) * dims.channels
        return cls(n, moment[x, x], moment[x, y], float(np.trace(moment[y, y])), sums[x], sums[y], rounding=1e-12)

    @classmethod
    def gathered(cls, windows: Windows, dims: Dims, *, rows: int = 8192) -> Moments:
        """Accumulate in float64 over float32 products, `rows` design rows at a time."""
        d, h = design_size(dims), dims.horizon
        n, xx, xy, yy, x, y = 0, np.zeros((d, d)), np.zeros((d, h)), 0.0, np.zeros(d), np.zeros(h)
        for batch in windows.batches(max(1, rows // dims.channels)):
            window, label = windows.batch(batch)
            design_rows, last = design(window, dims.cardinality)
            label = by_row(label) - last
            if windows.missing:
                whole = ~np.isnan(label).any(axis=1)
                design_rows, label = design_rows[whole], label[whole]
            n += len(label)
            xx += design_rows.T @ design_rows
            xy += design_rows.T @ label
            yy += float(np.einsum("rh,rh->", label, label, dtype=np.float64))
            x += design_rows.sum(axis=0, dtype=np.float64)
            y += label.sum(axis=0, dtype=np.float64)
        return cls(n, xx, xy, yy, x, y, rounding=float(np.finfo(np.float32).eps))

    def about(self, x: Float[np.ndarray, " D"], y: Float[np.ndarray, " H"]) -> Moments:
        """The moments of X - x and Y - y."""
        return Moments(
            self.n,
            self.xx - np.outer(self.x, x) - np.outer(x, self.x) + self.n * np.outer(x, x),
            self.xy - np.outer(self.x, y) - np.outer(x, self.y) + self.n * np.outer(x, y),
            self.yy - 2 * float(self.y @ y) + self.n * float(y @ y),
            self.x - self.n * x,
            self.y - self.n * y,
            self.rounding,
        )


@dataclass(frozen=True)
class Solved:
    """A solution of least squares from which columns of the design can be left out, without a pass over the data.

    Attributes
    ----------
    inverse
        Of the moments that were solved, with their penalty.
    judge
        Moments of the windows that judge, about the means of those that were fitted.
    """

    inverse: Float[np.ndarray, "D D"]
    weight: Float[np.ndarray, "D H"]
    judge: Moments

    @property
    def error(self) -> float:
        """Squared errors on the windows that judge."""
        w = self.weight
        return float(self.judge.yy - 2 * np.sum(w * self.judge.xy) + np.sum(w * (self.judge.xx @ w)))

    def without(self, columns: Int[np.ndarray, " X"], *, whole: bool = False) -> Solved:
        """As solved anew without these; with `whole`, others can be left out of what it gives."""
        cross = self.inverse[:, columns]
        step = cross @ np.linalg.pinv(cross[columns], hermitian=True)
        inverse = self.inverse - step @ cross.T if whole else self.inverse
        return Solved(inverse, self.weight - step @ self.weight[columns], self.judge)
