"""Categories for models that take numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float


def one_hot(values: Float[Any, "*R X"], cardinality: Sequence[int], xp: Any = np) -> Float[Any, "*R Y"]:
    """Each column of codes as one column of 0 and 1 per category; columns of numbers (cardinality 0) stay.

    `xp` is `numpy`, or `torch` where the values are a tensor.
    """
    columns = []
    for j, size in enumerate(cardinality):
        column = values[..., j : j + 1]
        codes = xp.arange(size, device=column.device)
        columns.append(xp.where(column == codes, xp.ones_like(column), xp.zeros_like(column)) if size else column)
    return xp.concatenate(columns, axis=-1) if columns else values
