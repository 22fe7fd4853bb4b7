"""The design of a linear map or of trees: a row of numbers for each window and channel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tsforecast.features.categorical import one_hot
from tsforecast.types import Dims, Window


def by_row(values: Float[np.ndarray, "B X C"]) -> Float[np.ndarray, "B*C X"]:
    """One row per window and channel."""
    b, x, c = values.shape
    return np.ascontiguousarray(values.transpose(0, 2, 1)).reshape(b * c, x)


def design(
    window: Window, cardinality: Mapping[str, Sequence[int]] | None = None
) -> tuple[Float[np.ndarray, "B*C D"], Float[np.ndarray, "B*C 1"]]:
    """`by_channel` with one row per window and channel."""
    rows, last = by_channel(window, cardinality or {}, np)
    return rows.reshape(-1, rows.shape[2]), last.reshape(-1, 1)


def by_channel(window: Any, cardinality: Mapping[str, Sequence[int]], xp: Any) -> tuple[Any, Any]:
    """The design, [B C D], and the last value that was subtracted, [B C 1].

    Columns: target minus its last value (L), past covariates (L*P, row by row), known covariates of the
    forecast rows (H*K, row by row), static covariates (S), window features (F). The past covariates are
    relative to nothing: they are standardised already. Categories stand one-hot.

    Parameters
    ----------
    xp
        `numpy`, or `torch` where the window holds tensors.
    """
    target = window.target.swapaxes(1, 2)
    batch, channels, lookback = target.shape
    last = target[..., -1:]
    covariates = {"past": window.past, "known": window.known[:, lookback:], "static": window.static}
    for group, sizes in cardinality.items():
        covariates[group] = one_hot(covariates[group], sizes, xp)
    rows = (part.reshape(batch, 1, math.prod(part.shape[1:])) for part in covariates.values())
    shared = [xp.broadcast_to(part, (batch, channels, part.shape[2])) for part in rows]
    parts = [part for part in (target - last, *shared, window.tabular.swapaxes(1, 2)) if part.shape[2]]
    return (parts[0] if len(parts) == 1 else xp.concatenate(parts, axis=2)), last


def design_size(dims: Dims) -> int:
    """Columns of the design."""
    past, known, static = (
        int(getattr(dims, group)) + sum(max(size - 1, 0) for size in dims.cardinality.get(group, ()))
        for group in ("past", "known", "static")
    )
    return dims.lookback * (1 + past) + dims.horizon * known + static + dims.tabular
