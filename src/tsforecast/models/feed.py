"""Batches of windows as the matrices that XGBoost reads, and what their columns are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xgboost as xgb
from jaxtyping import Float

from tsforecast.models.base import check_labels
from tsforecast.models.design import by_row, design
from tsforecast.models.trees import TreeForecaster, seen
from tsforecast.types import Dims
from tsforecast.windows import Windows

_ROWS = 8192  # design rows gathered at a time
_PLAIN = str.maketrans("[]<", "()‹")  # XGBoost refuses these in the name of a feature


@dataclass(frozen=True)
class Part:
    """The rows of some channels with a complete label; labels and margins are counted from the last value."""

    windows: Windows  # of these channels alone: else time and memory would grow with the square of their number
    recursive: bool
    label: Float[np.ndarray, "R H"]
    margin: Float[np.ndarray, "R H"] | None
    kept: Sequence[np.ndarray]  # of each batch, the rows with a complete label

    @classmethod
    def of(cls, windows: Windows, channels: Sequence[int], forecaster: TreeForecaster, name: str) -> Part:
        """One pass over the windows."""
        windows = replace(windows, encoded=replace(windows.encoded, target=windows.encoded.target[:, channels]))
        labels, margins, kept = [], [], []
        for index in _batches(windows):
            window, label = windows.batch(index)
            label, margin = by_row(label - window.target[:, -1:]), forecaster.margin(window)
            kept.append(~np.isnan(label).any(axis=1))
            labels.append(label[kept[-1]])
            if margin is not None:
                margins.append(by_row(margin)[kept[-1]])
        check_labels(sum(map(len, labels)), windows, name)
        return cls(
            windows, forecaster.recursive, np.concatenate(labels), np.concatenate(margins) if margins else None, kept
        )

    def rows(self, steps: Sequence[int]) -> Iterator[np.ndarray]:
        """The design for boosters of `steps`, batch by batch."""
        every = range(self.windows.encoded.target.shape[1])
        for index, kept in zip(_batches(self.windows), self.kept, strict=True):
            yield design(seen(self.windows.window(index), every, steps, recursive=self.recursive))[0][kept]


def matrices(
    parts: Sequence[Part], dims: Dims, channels: Sequence[int], steps: Sequence[int], max_bin: int
) -> list[xgb.QuantileDMatrix]:
    """The designs for a booster of these channels and steps, one for each part, all with the bins of the first."""
    names, types = _columns(parts[0].windows, dims, channels, steps)
    found: list[xgb.QuantileDMatrix] = []
    for part in parts:
        feed, ref = _Feed(part, steps, names, types), found[0] if found else None
        found.append(xgb.QuantileDMatrix(feed, max_bin=max_bin, ref=ref, enable_categorical=True))
    return found


def _batches(windows: Windows) -> Iterator[slice]:
    return windows.batches(max(1, _ROWS // windows.encoded.target.shape[1]))


class _Feed(xgb.DataIter):
    """Batches of rows for XGBoost, which passes over them several times."""

    def __init__(self, part: Part, steps: Sequence[int], names: list[str], types: list[str]) -> None:
        self.part, self.steps, self.columns = part, steps, {"feature_names": names, "feature_types": types}
        super().__init__()
        self.reset()

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over one batch."""
        rows = next(self.pending, None)
        if rows is not None:
            input_data(data=rows, **self.columns)
        return rows is not None

    def reset(self) -> None:
        """From the first batch on again."""
        self.pending = self.part.rows(self.steps)


def _columns(
    windows: Windows, dims: Dims, channels: Sequence[int], steps: Sequence[int]
) -> tuple[list[str], list[str]]:
    """A name (`HUFL lag 24`) and a type (`c` for a category, `q` for a number) for each column of the design."""
    named = windows.encoded.names
    lags = [f"lag {lag}" for lag in range(dims.lookback, 0, -1)]
    ahead = [""] if len(steps) == 1 else [f"step {step + 1}" for step in steps]
    owner = f"{(named.get('target') or [f'target {c}' for c in range(dims.channels)])[channels[0]]} "
    columns = [(f"{owner if len(channels) == 1 else ''}{lag}", 0) for lag in lags]
    for group, rows in (("past", lags), ("known", ahead), ("static", [""])):
        size = getattr(dims, group)
        names = named.get(group) or [f"{group} {j}" for j in range(size)]
        sizes = dims.cardinality.get(group) or [0] * size
        columns += [(f"{name} {row}".strip(), kind) for row in rows for name, kind in zip(names, sizes, strict=False)]
    columns += [(name, 0) for feature in windows.encoded.window_features for name in feature.names(dims.lookback)]
    before: Counter[str] = Counter()
    names = []
    for name in (name.translate(_PLAIN) for name, _ in columns):
        before[name] += 1
        names.append(name if before[name] == 1 else f"{name} ({before[name]})")
    return names, ["c" if kind else "q" for _, kind in columns]
