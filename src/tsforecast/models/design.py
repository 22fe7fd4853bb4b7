"""The design of a linear map or of trees: a row of numbers for each window and channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    """One row per window and channel, and the last value that was subtracted.

    Columns: target minus its last value (L), past covariates (L*P, row by row), known covariates of the
    forecast rows (H*K, row by row), static covariates (S), window features (F). The past covariates are
    relative to nothing: they are standardised already. Categories stand one-hot.
    """
    covariates = {"past": window.past, "known": window.known[:, window.target.shape[1] :], "static": window.static}
    for group, sizes in (cardinality or {}).items():
        covariates[group] = one_hot(covariates[group], sizes)
    b, _, channels = window.target.shape
    series = by_row(window.target)
    last = series[:, -1:]
    parts = [series - last, *(np.repeat(part.reshape(b, -1), channels, axis=0) for part in covariates.values())]
    parts = [part for part in (*parts, by_row(window.tabular)) if part.shape[1]]
    return (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)), last


def design_size(dims: Dims) -> int:
    """Columns of the design."""
    past, known, static = (
        int(getattr(dims, group)) + sum(max(size - 1, 0) for size in dims.cardinality.get(group, ()))
        for group in ("past", "known", "static")
    )
    return dims.lookback * (1 + past) + dims.horizon * known + static + dims.tabular
