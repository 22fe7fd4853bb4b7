"""What a bundle keeps of its rows to hold later ones against: how columns were spread, and how far forecasts were off.

Columns are channels, past and known covariates, X of them, each less its mean and over its standard deviation: of a
series where there are several, of all rows for a covariate. A quiet week never looks like the whole of training, so
what is kept beside it is how much a window of W rows differs from another there:

    | . . [ W rows ] . . . . |      of up to 256 windows: quantiles, population stability index, share missing;
    | . . . . [ W rows ] . . |      of one series, of 8 pooled, of 64: the more there are, the less a window varies
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.lib.stride_tricks import sliding_window_view

from tsforecast.data.panel import Panel

if TYPE_CHECKING:
    from tsforecast.bundle.bundle import Bundle
    from tsforecast.metrics import Scores
    from tsforecast.windows import Windows

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles of a window
PSI, MISSING, BESIDE = range(len(LEVELS), len(LEVELS) + 3)  # what else is told of it
_BESIDE = 6  # columns that one is held beside
_LONGEST = 7  # seasons in a window
_WINDOWS = 256  # of each size
_POOLED = 2**14  # values of a column in a window of pooled series, at most
_CELLS = 2**22  # values worked on at a time
GROUPS = ("target", "past", "known")


def names(bundle: Bundle) -> tuple[str, ...]:
    """The columns, in order."""
    return tuple(name for group in GROUPS for name in getattr(bundle.schema, group))


def rows_of(bundle: Bundle, panel: Panel, index: slice = slice(None)) -> Float[np.ndarray, "T X"]:
    """The columns of some rows of a panel; categories by their place among those of training."""
    values = np.concatenate([getattr(panel, group)[index] for group in GROUPS], axis=1)
    for j, name in enumerate(names(bundle)):
        known, labels = bundle.features.categories.get(name, ()), panel.categories.get(name, ())
        if labels != known:
            codes = np.array([known.index(label) if label in known else len(known) for label in labels], np.float32)
            there = ~np.isnan(values[:, j])
            values[there, j] = codes[values[there, j].astype(np.int64)]
    return values


def of_columns(bundle: Bundle, seen: Panel) -> dict[str, np.ndarray]:
    """How the columns of the rows that a bundle was fitted, chosen and judged on are spread, as arrays.

    Returns
    -------
    dict
        `rows` (W), `center` and `scale` [N X] (N is 1 where all series share them), `range` [2 N X] (least and
        greatest), `edges` [X 9] (deciles; of a category between its codes), `shares` [X 10] of the rows between them,
        `others` and `weights` [X 6] (which columns let expect one), `sizes` and `windows` [S] (series pooled; how many
        there are) and `usual` [3 S X F]: least, median and greatest of what windows of that many series tell.
    """
    season, length = bundle.dims.season, int(np.median(seen.lengths))
    w = max(1, min(season * int(np.clip(length // (10 * season), 1, _LONGEST)), length))
    values, labels = rows_of(bundle, seen), [name in bundle.features.categories for name in names(bundle)]
    whole = np.array([0, len(values)])
    bounds = seen.offsets if len(seen) > 1 else whole
    shared = np.arange(values.shape[1]) >= len(bundle.channels)
    pairs = zip(_moments(values, whole), _moments(values, bounds), strict=True)
    center, scale, *reach = (np.where(shared, *pair).astype(np.float32) for pair in pairs)
    center[:, labels], scale[:, labels] = 0, 1
    z = (values - np.repeat(center, np.diff(bounds), axis=0)) / np.repeat(scale, np.diff(bounds), axis=0)
    known: dict[str, np.ndarray] = {"rows": np.array(w), "center": center, "scale": scale, "range": np.array(reach)}
    thin = z[:: len(z) // 200_000 + 1].T
    known["edges"] = np.nan_to_num(_quantiles(np.sort(thin, axis=1), np.arange(1, 10) / 10)).astype(np.float32)
    known["edges"][labels] = np.arange(9) + 0.5
    known["shares"] = _shares(thin, known["edges"]).astype(np.float32)
    known["others"], known["weights"] = _others(thin, np.array(labels))
    known["sizes"] = np.array([1] + [k for k in (8, 64) if k <= len(seen) and k * w <= _POOLED])
    found, counts = [], []
    for k in known["sizes"]:
        each = [tell(block, known) for block in _windows(z, seen.offsets, int(k), w)]
        told = np.concatenate(each) if each else np.full((1, values.shape[1], BESIDE + 1), np.nan)
        counts.append(len(told) if each else 0)
        told[:, labels, :PSI], told[:, labels, BESIDE] = np.nan, np.nan  # a code is no number
        found.append(np.stack([reduce(told, axis=0) for reduce in (np.fmin.reduce, _middle, np.fmax.reduce)]))
    return known | {"usual": np.stack(found, axis=1).astype(np.float32), "windows": np.array(counts)}


def with_errors(bundle: Bundle, scores: Scores, windows: Windows) -> Bundle:
    """The bundle with how far forecasts were off in its `reference`.

    Arrays `mase.scale` [N C]; `mae` [4 C] by quarter of the horizon, in original units; `coverage` [I H] of intervals;
    `mase` [3] and `covered` [I 3]: least, median and greatest of the means of windows whose origins lie within W rows.

    Parameters
    ----------
    scores
        Of the windows, with the losses of each.
    """
    block = np.stack([windows.series, windows.origins // int(bundle.reference["rows"])])
    _, codes = np.unique(block, axis=1, return_inverse=True)
    steps, shares = {}, np.empty((len(windows), 0))
    if scores.quantiles is not None:
        steps, shares = scores.quantiles.by_step(), np.concatenate(scores.quantiles.shares)
    arrays = {"mase.scale": scores.mase_scale, "mase": _reach(scores.losses[:, 2], codes)}
    arrays["covered"] = np.array([_reach(each, codes) for each in shares.T]).reshape(-1, 3)
    arrays["mae"] = np.stack([np.nanmean(part, axis=0) for part in quarters(scores.absolute().T)])
    arrays["coverage"] = np.array([*steps.values()]).reshape(len(steps), scores.horizon)
    found = {name: each.astype(np.float32) for name, each in arrays.items()}
    return replace(bundle, reference={**bundle.reference, **found})


def _reach(values: Float[np.ndarray, " B"], codes: Int[np.ndarray, " B"]) -> Float[np.ndarray, " 3"]:
    """Least, median and greatest of the means of what has the same code."""
    there = ~np.isnan(values)
    sums, counts = (np.bincount(codes[there], weights) for weights in (values[there], None))
    return np.quantile(sums[counts > 0] / counts[counts > 0], (0, 0.5, 1)) if there.any() else np.full(3, np.nan)


def quarters(steps: np.ndarray) -> list[np.ndarray]:
    """An array of H steps in four parts, or in as many as there are steps."""
    return np.array_split(steps, min(4, len(steps)))


def tell(windows: Float[np.ndarray, "B X R"], known: Mapping[str, np.ndarray]) -> Float[np.ndarray, "B X F"]:
    """What windows look like: quantiles, index, share missing, median beside others; NaN where half is missing.

    The population stability index is the sum over the bins between the edges of (a - e) ln(a / e), a and e being the
    shares of the window and of training. Beside others: less what other columns let expect, by least squares.
    """
    ranked = np.sort(windows, axis=-1)
    missing = np.isnan(ranked).mean(axis=-1)[..., None]
    found, shares = _shares(ranked, known["edges"]), known["shares"]
    index = ((found - shares) * np.log(found / shares)).sum(axis=-1)[..., None]
    beside, filled = windows.copy(), np.nan_to_num(windows)
    for others, weights in zip(known["others"].T, known["weights"].T, strict=True):
        beside -= filled[:, others] * weights[:, None]
    parts = [_quantiles(ranked, np.array(LEVELS)), index, missing, _middle(beside, axis=-1)[..., None]]
    told = np.concatenate(parts, axis=-1)
    told[(missing > 0.5) & (np.arange(BESIDE + 1) != MISSING)] = np.nan
    return told


def check(bundle: Bundle) -> None:
    """Find in a loaded bundle arrays that do not fit it: a ValueError or KeyError."""
    found, x, c = bundle.reference, len(names(bundle)), len(bundle.channels)
    if not found:
        return
    h, s, n, i = bundle.dims.horizon, len(found["sizes"]), len(bundle.features.ids), len(bundle.intervals)
    shapes: dict[str, tuple[int, ...]] = {"rows": (), "windows": (s,), "usual": (3, s, x, BESIDE + 1)}
    shapes |= {"edges": (x, 9), "shares": (x, 10), "others": (x, _BESIDE), "weights": (x, _BESIDE)}
    shapes |= {name: (1 if len(found[name]) == 1 else n, x) for name in ("center", "scale")}
    shapes |= {"range": (2, *found["center"].shape)} if "range" in found else {}  # an older bundle has none
    if "mae" in found:
        shapes |= {"mae": (min(4, h), c), "mase": (3,), "covered": (i, 3), "coverage": (i, h)}
        shapes["mase.scale"] = (1 if len(found["mase.scale"]) == 1 else n, c)
    if wrong := [name for name, shape in shapes.items() if found[name].shape != shape]:
        raise ValueError(f"the reference has other shapes: {', '.join(wrong)}")
    if not 1 <= int(found["rows"]) <= 2**20 or int(found["sizes"][0]) != 1 or set(found["others"].flat) - {*range(x)}:
        raise ValueError("the reference has windows of no size, or columns that are not there")


def _windows(
    z: Float[np.ndarray, "T X"], offsets: Int[np.ndarray, " N+1"], k: int, w: int
) -> Iterator[Float[np.ndarray, "B X R"]]:
    """Windows of k series pooled, at evenly spaced places, every quarter of a window counted back from their ends."""
    stride, lengths = max(1, w // 4), np.diff(offsets)
    longest = np.argsort(-lengths, kind="stable")[: int((lengths >= w).sum())]
    groups = longest[: len(longest) // k * k].reshape(-1, k)
    ends = np.cumsum((lengths[groups].min(axis=1) - w) // stride + 1) if len(groups) else np.zeros(1, np.int64)
    chosen = np.unique(np.linspace(0, ends[-1] - 1, min(_WINDOWS, int(ends[-1]))).astype(np.int64))
    group = np.searchsorted(ends, chosen, side="right")
    if not len(chosen):
        return
    back = chosen - np.concatenate([[0], ends])[group]
    first = offsets[1:][groups[group]] - w - (back * stride)[:, None]
    view, size = sliding_window_view(z, w, axis=0), max(1, _CELLS // (k * w * z.shape[1]))
    for begin in range(0, len(first), size):
        block = view[first[begin : begin + size]]  # B k X w
        yield np.moveaxis(block, 2, 1).reshape(len(block), z.shape[1], k * w)


def _others(z: Float[np.ndarray, "X T"], labels: Bool[np.ndarray, " X"]) -> tuple[np.ndarray, np.ndarray]:
    """The columns that vary most with each, and their weights in a sum that lets expect it."""
    filled = np.where(labels[:, None], 0, np.nan_to_num(z)).astype(np.float64)
    product = filled @ filled.T / max(1, z.shape[1])
    order = np.argsort(-np.abs(product), axis=1, kind="stable")
    others, weights = np.zeros((len(z), _BESIDE), np.int16), np.zeros((len(z), _BESIDE), np.float32)
    for j, row in enumerate(order):
        kept = row[row != j][:_BESIDE]
        among = product[np.ix_(kept, kept)] + 0.01 * np.eye(len(kept))
        others[j, : len(kept)], weights[j, : len(kept)] = kept, np.linalg.solve(among, product[kept, j])
    return others, weights


def _moments(values: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean, standard deviation, least and greatest of the rows between bounds; the first two 0 and 1 of none."""
    there, counted = ~np.isnan(values), bounds[:-1]
    count = np.maximum(np.add.reduceat(there, counted, axis=0, dtype=np.int64), 1)
    filled = np.where(there, values, 0).astype(np.float64)
    center = np.add.reduceat(filled, counted, axis=0) / count
    off = np.where(there, filled - np.repeat(center, np.diff(bounds), axis=0), 0)
    scale = np.sqrt(np.add.reduceat(off**2, counted, axis=0) / count)
    reach = (reduce.reduceat(values, counted, axis=0) for reduce in (np.fmin, np.fmax))
    return center, np.where(scale > 1e-6 * np.abs(center) + 1e-12, scale, 1.0), *reach


def _quantiles(ranked: Float[np.ndarray, "*B R"], levels: Float[np.ndarray, " Q"]) -> Float[np.ndarray, "*B Q"]:
    """Of sorted values, the missing last; NaN where all are."""
    last = np.maximum((~np.isnan(ranked)).sum(axis=-1, keepdims=True) - 1, 0)
    place = last * levels
    low = np.floor(place).astype(np.int64)
    below, above = (np.take_along_axis(ranked, each, axis=-1) for each in (low, np.minimum(low + 1, last)))
    return np.asarray(below + (above - below) * (place - low))


def _shares(values: Float[np.ndarray, "*B X R"], edges: Float[np.ndarray, "X 9"]) -> Float[np.ndarray, "*B X 10"]:
    """Shares of the values between edges, none of them 0, so that each has a logarithm."""
    below = np.stack([(values <= edge[:, None]).sum(axis=-1) for edge in edges.T], axis=-1)
    count = (~np.isnan(values)).sum(axis=-1)[..., None]
    each = np.diff(np.concatenate([np.zeros_like(count), below, count], axis=-1), axis=-1)
    return np.asarray((each + 0.5) / (count + 5.0))


def _middle(values: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(_quantiles(np.sort(np.moveaxis(values, axis, -1), axis=-1), np.array([0.5]))[..., 0])
