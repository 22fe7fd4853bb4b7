"""Missing values inside one window: the fill reads the window alone, so training and serving fill alike."""

from __future__ import annotations

from typing import Any


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
    rows = observed * _arange(values, values.shape[1])[None, :, None]  # row number where observed, else 0
    last = rows.cummax(1).values if hasattr(rows, "cummax") else _running_maximum(rows)
    # Rows before the first observation point at row 0, which is missing: send them to the first observed row.
    first = _first(observed)[:, None, :]
    last = last + (last < first) * (first - last)
    filled = _take(values, last)
    nothing = filled != filled
    filled[nothing] = 0.0
    return filled, observed


def _arange(like: Any, n: int) -> Any:
    import numpy as np

    steps = np.arange(n)
    return like.new_tensor(steps).long() if hasattr(like, "new_tensor") else steps


def _running_maximum(rows: Any) -> Any:
    import numpy as np

    return np.maximum.accumulate(rows, axis=1)


def _first(observed: Any) -> Any:
    return observed.int().argmax(1) if hasattr(observed, "int") else observed.argmax(axis=1)


def _take(values: Any, rows: Any) -> Any:
    import numpy as np

    return values.gather(1, rows) if hasattr(values, "gather") else np.take_along_axis(values, rows, axis=1)
