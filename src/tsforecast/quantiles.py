"""Quantile levels, quantiles that never cross, and the offsets that give them their coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tsforecast.errors import ConfigError


def check_levels(quantiles: Sequence[float], *, learned: bool) -> tuple[float, ...]:
    """The levels as floats, ascending.

    Raises
    ------
    ConfigError
        One is not inside (0, 1) or there twice, or the model is to learn them and the median is not among them.
    """
    fix = "quantiles=[0.05,0.5,0.95]"
    if bad := [q for q in quantiles if isinstance(q, bool) or not isinstance(q, int | float) or not 0 < q < 1]:
        raise ConfigError("a quantile level lies between 0 and 1", where="quantiles", got=", ".join(map(str, bad)),
                          allowed="numbers above 0 and below 1", fix=fix)  # fmt: skip
    if len(set(quantiles)) < len(quantiles):
        raise ConfigError("a quantile level is there twice", where="quantiles", got=list(quantiles), fix=fix)
    if learned and quantiles and 0.5 not in quantiles:
        raise ConfigError("the median is the point forecast of a model that learns quantiles", where="quantiles",
                          got=list(quantiles), allowed="levels with 0.5 among them", fix=fix)  # fmt: skip
    return tuple(sorted(float(q) for q in quantiles))


def intervals(levels: Sequence[float]) -> dict[str, tuple[int, int]]:
    """The central intervals: `90` to the places of 0.05 and 0.95."""
    place = {round(q, 9): i for i, q in enumerate(levels)}
    pairs = {q: (i, place[round(1 - q, 9)]) for q, i in place.items() if q < 0.5 and round(1 - q, 9) in place}
    return {f"{round(100 - 200 * q, 6):g}": pair for q, pair in pairs.items()}


def ordered(
    quantiles: Float[np.ndarray, "B H C Q"], point: Float[np.ndarray, "B H C"], levels: Sequence[float]
) -> Float[np.ndarray, "B H C Q"]:
    """Quantiles that do not cross: from the point outwards, none lies inside the one before it; 0.5 is the point."""
    out = quantiles.copy()
    for reach, places in (
        (np.minimum, [i for i, q in enumerate(levels) if q < 0.5][::-1]),
        (np.maximum, [i for i, q in enumerate(levels) if q > 0.5]),
    ):
        inner = point
        for i in places:
            inner = out[..., i] = reach(out[..., i], inner)
    for i in (i for i, q in enumerate(levels) if q == 0.5):
        out[..., i] = point
    return out


def conformal(residuals: Float[np.ndarray, "B H C Q"], levels: Sequence[float]) -> Float[np.ndarray, "H C Q"]:
    """What to add to each forecast quantile so that a share `level` of the labels lies below it.

    Split-conformal: the ceil((n+1) q)-th smallest residual of label minus quantile above the median, the
    floor((n+1) q)-th below it, so that each side of an interval keeps its own coverage (Romano, Patterson & Candès,
    Conformalized Quantile Regression, NeurIPS 2019, theorem 2). With too few residuals the most extreme one is
    taken; the median is left as it is.

    Parameters
    ----------
    residuals
        Of rows that nothing was fitted on; NaN where a label is missing; Q is 1 for a point forecast.
    """
    ranked = np.sort(residuals, axis=0)  # NaN last
    n = (~np.isnan(ranked)).sum(axis=0)
    offsets = np.zeros((*ranked.shape[1:3], len(levels)), dtype=np.float32)
    for i, q in enumerate(levels):
        j = i if ranked.shape[3] > 1 else 0
        place = (n[..., j] + 1) * q
        rank = np.clip(np.ceil(place - 1e-9) if q > 0.5 else np.floor(place + 1e-9), 1, np.maximum(n[..., j], 1))
        if q != 0.5:
            offsets[..., i] = np.take_along_axis(ranked[..., j], rank[None].astype(np.int64) - 1, axis=0)[0]
    return np.nan_to_num(offsets)
