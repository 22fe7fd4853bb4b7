"""Missing values inside one window: the fill reads the window alone, so training and serving fill alike."""

from __future__ import annotations

from typing import Any

import numpy as np


def fill_forward(values: Any) -> tuple[Any, Any]:
    """Carry the last observed value forward; rows before the first one take it backward; an empty window is 0.

    Zero is the training mean in standardised units. Works on numpy arrays and torch tensors alike.

    Parameters
    ----------
    values
        `[B L C]` with NaN where missing.

    Returns
    -------
    filled, observed
        `[B L C]` without NaN, and the mask of what was there.
    """
    observed = values == values  # NaN is the only value that differs from itself
    rows = observed * ((observed | True).cumsum(1) - 1)  # row number where observed, else 0
    last = rows.cummax(1).values if hasattr(rows, "cummax") else np.maximum.accumulate(rows, axis=1)
    # Rows before the first observation point at row 0, which is missing: send them to the first observed row.
    first = (observed * 1).argmax(1)[:, None, :]
    last = last + (last < first) * (first - last)
    filled = values.gather(1, last) if hasattr(values, "gather") else np.take_along_axis(values, last, axis=1)
    filled[filled != filled] = 0.0
    return filled, observed
