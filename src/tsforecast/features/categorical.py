"""Categories for models that take numbers alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def one_hot(values: Float[np.ndarray, "*R X"], cardinality: Sequence[int]) -> Float[np.ndarray, "*R Y"]:
    """Each column of codes as one column of 0 and 1 per category; columns of numbers (cardinality 0) stay."""
    columns = []
    for j, size in enumerate(cardinality):
        column = values[..., j : j + 1]
        columns.append(column if not size else (column == np.arange(size)).astype(values.dtype))
    return np.concatenate(columns, axis=-1) if columns else values
