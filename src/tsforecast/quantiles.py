"""Quantile levels, quantiles that never cross, the offsets that give them their coverage, and their scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tsforecast.errors import ConfigError

SCALED, RAW = 0, 1  # units


def check_quantiles(quantiles: Sequence[float], *, learned: bool) -> tuple[float, ...]:
    """The quantile levels as floats, ascending.

    Raises
    ------
    ConfigError
        One is not inside (0, 1) or there twice, or the model is to learn them and the median is not among them.
    """
    got, allowed, what = [*quantiles], None, ""
    if bad := [q for q in quantiles if isinstance(q, bool) or not isinstance(q, int | float) or not 0 < q < 1]:
        what, got, allowed = "a quantile level lies between 0 and 1", bad, "numbers above 0 and below 1"
    elif len(set(quantiles)) < len(quantiles):
        what = "a quantile level is there twice"
    elif learned and quantiles and 0.5 not in quantiles:
        what, allowed = "the median is the point forecast of a model that learns quantiles", "0.5 among them"
    if what:
        raise ConfigError(what, where="quantiles", got=got, allowed=allowed, fix="quantiles=[0.05,0.5,0.95]")
    return tuple(sorted(float(q) for q in quantiles))


def intervals(quantile_levels: Sequence[float]) -> dict[str, tuple[int, int]]:
    """The central intervals: `90` to the places of 0.05 and 0.95."""
    place = {round(q, 9): i for i, q in enumerate(quantile_levels)}
    pairs = {q: (i, place[round(1 - q, 9)]) for q, i in place.items() if q < 0.5 and round(1 - q, 9) in place}
    return {f"{round(100 - 200 * q, 6):g}": pair for q, pair in pairs.items()}


def ordered(
    quantiles: Float[np.ndarray, "B H C Q"], point: Float[np.ndarray, "B H C"], quantile_levels: Sequence[float]
) -> Float[np.ndarray, "B H C Q"]:
    """Quantiles that do not cross: from the point outwards, none lies inside the one before it; 0.5 is the point."""
    out, levels, inner = quantiles.copy(), np.asarray(quantile_levels), point[..., None]
    below, above = np.flatnonzero(levels < 0.5)[::-1], np.flatnonzero(levels > 0.5)
    for reach, places in ((np.minimum, below), (np.maximum, above)):
        outwards = np.concatenate([inner, quantiles[..., places]], axis=-1)
        out[..., places] = reach.accumulate(outwards, axis=-1)[..., 1:]
    out[..., levels == 0.5] = inner
    return out


def conformal(
    residuals: Float[np.ndarray, "B H C Q"], quantile_levels: Sequence[float], fewest: int = 0
) -> Float[np.ndarray, "H C Q"]:
    """What to add to each forecast quantile so that a share `level` of the labels lies below it.

    Split-conformal: the ceil((n+1) q)-th smallest residual of label minus quantile above the median, the
    floor((n+1) q)-th below it, so that each side of an interval keeps its own coverage (Romano, Patterson & Candès,
    Conformalized Quantile Regression, NeurIPS 2019, theorem 2). With too few residuals the most extreme one is
    taken; the median is left as it is.

    Parameters
    ----------
    residuals
        Of rows that nothing was fitted on; NaN where a label is missing; Q is 1 for a point forecast.
    fewest
        Where a step has fewer than these, the steps of a channel are pooled, each in units of its own mean size.
    """
    if len(residuals) < fewest and residuals.shape[1] > 1:
        size = np.nan_to_num(np.nanmean(np.abs(residuals), axis=(0, 3), keepdims=True))  # 1 H C 1
        pooled = np.moveaxis(residuals / np.where(size > 0, size, 1), 1, 0).reshape(-1, 1, *residuals.shape[2:])
        return np.float32(size[0]) * conformal(pooled, quantile_levels)
    ranked = np.sort(residuals, axis=0)  # NaN last
    n = (~np.isnan(ranked)).sum(axis=0)
    offsets = np.zeros((*ranked.shape[1:3], len(quantile_levels)), dtype=np.float32)
    for i, q in enumerate(quantile_levels):
        j = i if ranked.shape[3] > 1 else 0
        place = (n[..., j] + 1) * q
        rank = np.clip(np.ceil(place - 1e-9) if q > 0.5 else np.floor(place + 1e-9), 1, np.maximum(n[..., j], 1))
        if q != 0.5:
            offsets[..., i] = np.take_along_axis(ranked[..., j], rank[None].astype(np.int64) - 1, axis=0)[0]
    return np.nan_to_num(offsets)


class QuantileScores:
    """Scores of quantile forecasts, streamed as those of points are; missing labels (NaN) are skipped."""

    def __init__(self, quantile_levels: Sequence[float], horizon: int) -> None:
        self.quantile_levels, self.intervals = np.asarray(quantile_levels), intervals(quantile_levels)
        self._loss, self._labels = np.zeros((2, len(quantile_levels))), np.zeros(2)  # in both units: pinball, |label|
        self._inside = np.zeros((len(self.intervals), horizon))
        self._width = np.zeros((2, len(self.intervals)))
        self._count = np.zeros(horizon)
        self.shares: list[np.ndarray] = []  # [B I] of each window, as they came
        sums = {"loss": self._loss, "labels": self._labels, "inside": self._inside, "width": self._width}
        self.totals = {**sums, "count": self._count}  # what is added to

    def update(
        self,
        label_scaled: Float[np.ndarray, "B H C"],
        quantiles_scaled: Float[np.ndarray, "B H C Q"],
        label_raw: Float[np.ndarray, "B H C"],
        quantiles_raw: Float[np.ndarray, "B H C Q"],
    ) -> None:
        """Add windows."""
        observed = ~np.isnan(label_raw)
        self._count += observed.sum(axis=(0, 2))
        self.shares.append(np.empty((len(observed), len(self.intervals)), np.float32))
        for unit, (label, quantiles) in enumerate(((label_scaled, quantiles_scaled), (label_raw, quantiles_raw))):
            label = np.where(observed, label, 0.0)
            self._labels[unit] += np.abs(label).sum(dtype=np.float64)
            for q, level in enumerate(self.quantile_levels):
                error = np.where(observed, label - quantiles[..., q], 0.0)
                self._loss[unit, q] += np.maximum(level * error, (level - 1) * error).sum(dtype=np.float64)
            for i, (low, high) in enumerate(self.intervals.values()):
                lower, upper = quantiles[..., low], quantiles[..., high]
                self._width[unit, i] += np.where(observed, upper - lower, 0.0).sum(dtype=np.float64)
                if unit == RAW:
                    inside = (lower <= label) & (label <= upper) & observed
                    self._inside[i] += inside.sum(axis=(0, 2))
                    self.shares[-1][:, i] = ratio(inside.sum(axis=(1, 2)), observed.sum(axis=(1, 2)))

    def summary(self) -> dict[str, float]:
        """All scores by name.

        `coverage-90`, the share of labels inside the 90 % interval, and its mean width `width-90` (scaled) and
        `width-90_raw`; `wql`, the mean over the levels of the weighted quantile loss, twice the pinball loss over the
        sum of |label| in original units (as GluonTS and fev have it); `crps` and `crps_raw`, the mean over the levels
        of twice the pinball loss, which nears the continuous ranked probability score as evenly spaced levels grow
        in number (Gneiting & Ranjan, 2011).
        """
        count = self._count.sum()
        scores = {"wql": float(ratio(2 * self._loss[RAW].mean(), self._labels[RAW]))}
        scores |= {f"crps{unit}": float(ratio(2 * self._loss[i].mean(), count)) for i, unit in enumerate(("", "_raw"))}
        for i, name in enumerate(self.intervals):
            scores[f"coverage-{name}"] = float(ratio(self._inside[i].sum(), count))
            scores |= {f"width-{name}{u}": float(ratio(self._width[j, i], count)) for j, u in enumerate(("", "_raw"))}
        return scores

    def by_step(self) -> dict[str, list[float]]:
        """`coverage-90` of each of the H steps ahead."""
        shares = ratio(self._inside, self._count)
        return {f"coverage-{name}": shares[i].tolist() for i, name in enumerate(self.intervals)}


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a / b`, NaN where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), b)
    return np.asarray(np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0))
