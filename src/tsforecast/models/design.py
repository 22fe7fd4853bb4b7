"""The design of a linear map or of trees: a row of numbers for each window and channel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

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
    shared = [xp.broadcast_to(part, (batch, channels, part.shape[2])) for part in rows if part.shape[2]]
    parts = [part for part in (target - last, *shared, window.tabular.swapaxes(1, 2)) if part.shape[2]]
    return (parts[0] if len(parts) == 1 else xp.concatenate(parts, axis=2)), last


def design_size(dims: Dims) -> int:
    """Columns of the design."""
    past, known, static = (
        int(getattr(dims, group)) + sum(max(size - 1, 0) for size in dims.cardinality.get(group, ()))
        for group in ("past", "known", "static")
    )
    return dims.lookback * (1 + past) + dims.horizon * known + static + dims.tabular


def covariate_columns(dims: Dims) -> dict[str, list[Int[np.ndarray, " X"]]]:
    """By group, which columns of the design each covariate fills: of all rows, and of all its categories."""
    found, begin = {}, dims.lookback
    for group, rows in (("past", dims.lookback), ("known", dims.horizon), ("static", 1)):
        sizes = np.maximum(dims.cardinality.get(group, (0,) * getattr(dims, group)), 1)
        ends = np.cumsum(sizes, dtype=np.int64)
        starts = begin + np.arange(rows)[:, None] * sizes.sum(dtype=np.int64)
        found[group] = [(starts + np.arange(end - size, end)).ravel() for end, size in zip(ends, sizes, strict=True)]
        begin += rows * int(sizes.sum())
    return found


LAGS, SEASONS = 14, 4  # rows at the end of the window, and rows at the season, that trees of all steps see


def step_rows(
    window: Window, steps: Int[np.ndarray, "B C S"], season: int, scale: Float[np.ndarray, "B C 1"] | float = 1.0
) -> Float[np.ndarray, "B*C*S D"]:
    """One row per window, channel and step ahead: what trees see that forecast all channels and steps.

    Columns are those of `step_names`. Targets are counted from the last value and divided by `scale`; how high that is
    trees do not see, since later rows have levels of their own. A row at the season is one of the window that lies
    whole seasons before the row to be forecast.
    """
    target = np.ascontiguousarray(window.target.swapaxes(1, 2))  # one order of summation
    batch, channels, lookback = target.shape
    target = (target - target[..., -1:]) / scale
    each = np.arange(batch)[:, None, None]
    means = [target[..., -rows:].mean(axis=-1, keepdims=True) for rows in _spans(lookback, season)]
    alone = [target[..., -min(LAGS, lookback) : -1], *means, target.std(axis=-1, keepdims=True)]
    alone.append(window.tabular.swapaxes(1, 2))
    ends = np.concatenate([window.past[:, -1], window.known[:, lookback - 1], window.static], axis=1)
    alone.append(np.broadcast_to(ends[:, None], (batch, channels, ends.shape[1])))
    alone.append(np.broadcast_to(np.arange(channels)[:, None], (batch, channels, 1)))
    own = np.concatenate(alone, axis=2)
    columns = [np.broadcast_to(own[:, :, None], (*steps.shape, own.shape[2])), steps[..., None] + 1]
    for back in range(1, min(SEASONS, lookback // season) + 1):
        row = lookback - back * season + steps % season
        columns.append(np.take_along_axis(target, row, axis=2)[..., None])
        columns += [window.past[each, row], window.known[each, row]] if back == 1 else []
    columns.append(window.known[each, lookback + steps])
    return np.concatenate(columns, axis=3, dtype=np.float32).reshape(steps.size, -1)


def step_names(
    dims: Dims, covariates: Mapping[str, Sequence[tuple[str, int]]], tabular: Sequence[str]
) -> list[tuple[str, int]]:
    """A name and a cardinality, 0 for a number, for each column of `step_rows`, from those of the covariates."""
    past, known, static = (covariates[group] for group in ("past", "known", "static"))
    columns = [f"lag {lag}" for lag in range(min(LAGS, dims.lookback), 1, -1)]
    columns += [f"mean of {rows}" for rows in _spans(dims.lookback, dims.season)]
    found = [(name, 0) for name in (*columns, f"std of {dims.lookback}", *tabular)]
    found += [*((f"{name} lag 1", kind) for name, kind in (*past, *known)), *static]
    found += [("channel", dims.channels), ("step", 0)]
    for back in range(1, min(SEASONS, dims.lookback // dims.season) + 1):
        found.append((f"season lag {back}", 0))
        found += [(f"{name} season lag 1", kind) for name, kind in (*past, *known)] if back == 1 else []
    return [*found, *known]


def _spans(lookback: int, season: int) -> list[int]:
    """Rows that a mean is of."""
    return sorted({min(seasons * season, lookback) for seasons in (1, 2, 4)} | {lookback})
