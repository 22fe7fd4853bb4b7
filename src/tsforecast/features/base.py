"""The feature module that training and serving both import: row features, window features, scaler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tsforecast.data.panel import GROUPS, Panel
from tsforecast.errors import DataError, listed, nearest
from tsforecast.features.calendar import Calendar
from tsforecast.features.scaling import NoScaler, Scaler, StandardScaler, by_offsets
from tsforecast.types import Encoded, WindowFeature

_BLOCK = 4096  # rows drawn at a time: what they need fits into the cache
_COVARIATES = ("past", "known", "static")


@runtime_checkable
class Feature(Protocol):
    """A row feature: a function of the timestamp alone, hence known for every future row."""

    def names(self) -> tuple[str, ...]:
        """F readable names."""

    def transform(self, time: pd.DatetimeIndex, freq: str) -> Float[np.ndarray, "T F"]:
        """One float32 row per timestamp."""


def is_row_feature(feature: object) -> bool:
    """Whether a feature works on rows (it takes timestamps) rather than on windows (its names take a lookback)."""
    return not hasattr(feature, "window_local")


@dataclass(frozen=True)
class FeatureSet:
    """Features + scaler: fitted on train rows, then a pure function from panel rows to model space and back.

    Parameters
    ----------
    features
        Row features (calendar, Fourier, holidays) and window features (lags, differences, rolling statistics).
    scaler
        Of the target. Covariates are standardised over all series together.

    Attributes
    ----------
    ids
        The series the scaler was fitted on.
    categories
        The labels of each categorical covariate that the train rows hold; a code is a place among them.
    ranges
        Of `target`, `past`, `known` and `static`: least, greatest and longest run of one value in each column of the
        train rows; N is 1 but for a target that is scaled by series.
    """

    features: Sequence[Feature | WindowFeature] = ()
    scaler: Scaler = field(default_factory=StandardScaler)
    ids: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=object), repr=False)
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ranges: dict[str, Float[np.ndarray, "3 N X"]] = field(default_factory=dict, repr=False)
    _covariates: dict[str, Scaler] = field(default_factory=lambda: dict.fromkeys(_COVARIATES, NoScaler()), repr=False)

    @property
    def _scalers(self) -> dict[str, Scaler]:
        return {"scaler": self.scaler, **self._covariates}

    @property
    def rows(self) -> list[Feature]:
        """The row features, in order."""
        return [f for f in self.features if is_row_feature(f)]  # type: ignore[misc]

    @property
    def windows(self) -> tuple[WindowFeature, ...]:
        """The window features, in order."""
        return tuple(f for f in self.features if not is_row_feature(f))  # type: ignore[misc]

    def known_names(self, panel: Panel) -> tuple[str, ...]:
        """Names of the K columns of the encoded `known`: the panel's own, then the row features'."""
        return panel.known_names + tuple(name for feature in self.rows for name in feature.names())

    def fit(self, train: Panel) -> FeatureSet:
        """A set whose scalers and categories are those of `train`, which must hold train rows only."""
        categories: dict[str, tuple[str, ...]] = {}
        covariates: dict[str, Scaler] = {}
        scaler = self.scaler.fit(train.target, train.offsets)
        ranges = {"target": _range(train.target, train.offsets, by_series=scaler.scope == "series")}
        for group in _COVARIATES:
            names, values = getattr(train, GROUPS[group]), getattr(train, group)
            numbers, offsets = values.copy(), train.offsets if group != "static" else np.array([0, len(train)])
            for j, name in enumerate(names):
                if name in train.categories:  # in order: its arrays are, in the bundle
                    held = np.unique(values[~np.isnan(values[:, j]), j]).astype(np.int64)
                    categories[name] = tuple(sorted(train.categories[name][code] for code in held))
                    numbers[:, j] = 0.0
            covariates[group] = StandardScaler("global").fit(numbers, offsets)
            ranges[group] = _range(values, offsets, by_series=False)
        features = tuple(each.of(train.freq) if isinstance(each, Calendar) else each for each in self.features)
        return FeatureSet(features, scaler, np.asarray(train.ids), categories, ranges, covariates)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.ids.tolist())}

    def _encoded(self, panel: Panel, group: str) -> Float[np.ndarray, "T X"]:
        """Past, known or static covariates: numbers standardised, categories as codes of the train rows' labels.

        Raises
        ------
        DataError
            A category that the train rows do not hold.
        """
        values: np.ndarray = getattr(panel, group)
        if not (names := getattr(panel, GROUPS[group])):
            return values
        scaled = self._covariates[group].transform(values)
        for j in (j for j, name in enumerate(names) if name in self.categories):
            labels, known = panel.categories.get(names[j], ()), self.categories[names[j]]
            codes = pd.Index(known).get_indexer(pd.Index(labels)).astype(np.float32)
            there = ~np.isnan(values[:, j])
            scaled[there, j] = codes[values[there, j].astype(np.int64)] if len(codes) else -1
            if (unseen := scaled[:, j] < 0).any():
                what = f"{unseen.sum()} rows hold categories that the train rows do not"
                got = listed(sorted({labels[int(code)] for code in values[unseen, j]}) if labels else ["numbers"])
                fix = "write them as one of the allowed, or train on rows that hold them"
                raise DataError(what, where=f"column {names[j]!r}", got=got, allowed=listed(known, 20), fix=fix)
        return scaled

    def places(self, ids: np.ndarray) -> Int[np.ndarray, " N"]:
        """As `series`, with -1 for an id that it would refuse."""
        if self.scaler.scope != "series":
            return np.zeros(len(ids), dtype=np.int64)
        return np.fromiter((self._places.get(name, -1) for name in ids), np.int64, len(ids))

    def series(self, ids: np.ndarray) -> Int[np.ndarray, " N"]:
        """Fitted position of each id; all 0 where the scaler is global.

        Raises
        ------
        DataError
            An id was not among the training series and the scaler has statistics per series.
        """
        found = self.places(ids)
        if (found < 0).any():
            unseen = np.asarray(ids)[found < 0]
            near = nearest(str(unseen[0]), self._places) if len(self._places) < 1000 else None
            what = f"{len(unseen)} series are not among those the model was trained on, and it scales each by its own"
            fix = f"did you mean {near}? Else " if near else ""
            fix += "leave them out, or train with scaler.scope=window (or global), or with split.short=naive"
            raise DataError(what, where="history", got=listed(unseen), allowed=listed(self.ids), fix=fix)
        return found

    def encode(self, panel: Panel, series: Int[np.ndarray, " N"] | None = None, *, pad: int = 0) -> Encoded:
        """Model-space arrays, row by row: no row's encoding depends on another row but for those of the padding.

        Parameters
        ----------
        series
            The fitted positions of the panel's series, where they are known already.
        pad
            Missing rows to put in front of each series, for windows that reach back before its first.
        """
        series, offsets = self.series(panel.ids) if series is None else series, panel.offsets
        panel = panel.padded(np.full(len(panel), pad))
        of_row = np.repeat(series, panel.lengths)
        past, own, static = (self._encoded(panel, group) for group in _COVARIATES)
        parts = [own, *(feature.transform(panel.time, panel.freq) for feature in self.rows)]
        known = own if len(parts) == 1 else np.concatenate(parts, axis=1).astype(np.float32, copy=False)
        names = {group: getattr(panel, key) for group, key in GROUPS.items()} | {"known": self.known_names(panel)}
        sizes = {group: tuple(len(self.categories.get(name, ())) for name in names[group]) for group in _COVARIATES}
        return Encoded(
            offsets=offsets,
            pad=pad,
            target=np.ascontiguousarray(self.scaler.transform(panel.target, of_row)),
            past=np.ascontiguousarray(past),
            known=np.ascontiguousarray(known),
            static=static,
            window_features=self.windows,
            names=names,
            cardinality={group: each for group, each in sizes.items() if any(each)},
            local=self.scaler.scope == "window",
            filled=self.scaler.filled,
            raw=panel.target,
            zero=self.scaler.transform(np.zeros((len(panel), panel.target.shape[1]), np.float32), series),
        )

    def invert(self, values: Float[np.ndarray, "B H C"], series: Int[np.ndarray, " B"]) -> Float[np.ndarray, "B H C"]:
        """Scaled forecasts in original units; `series` are fitted positions as `self.series` gives them."""
        return self.scaler.inverse(values, series)

    def drawn(self, groups: Sequence[Sequence[str]], rows: Sequence[int]) -> list[Float[np.ndarray, "R X"]]:
        """Rows of target, past, known and static as far apart as those of training; the same on every machine."""
        arrays = []
        for scaler, names, count in zip(self._scalers.values(), groups, rows, strict=True):
            values = np.empty((count, len(names)), np.float32)
            for begin in range(0, count, _BLOCK):
                block = slice(begin, min(begin + _BLOCK, count))
                row = np.arange(block.start, block.stop, dtype=np.float64)[:, None]
                place = row * len(names) + np.arange(1, len(names) + 1)
                share = place * place * 0.6180339887498949
                share -= np.floor(share)  # Weyl: evenly in [0, 1), in no visible order
                spread = 6 * ((row + 1) / count) ** 2  # near one another first, then far apart
                values[block] = scaler.inverse((spread * (share - 0.5))[None], np.zeros(1, dtype=np.int64))[0]
                for j, name in enumerate(names):
                    if size := len(self.categories.get(name, ())):
                        values[block, j] = np.floor(share[:, j] * size)
            arrays.append(values)
        return arrays

    def state(self) -> dict[str, np.ndarray]:
        """Fitted arrays, by name."""
        arrays = {f"{of}.{key}": each for of, scaler in self._scalers.items() for key, each in scaler.state().items()}
        labels = {f"categories.{name}": np.asarray(known, dtype=np.str_) for name, known in self.categories.items()}
        ranges = {f"range.{group}": each for group, each in self.ranges.items()}
        return {"ids": np.asarray(self.ids, dtype=np.str_), **labels, **ranges, **arrays}

    def restore(self, state: Mapping[str, Any]) -> FeatureSet:
        """The set that `state()` is of."""

        def of(group: str) -> dict[str, Any]:
            return {key.partition(".")[2]: value for key, value in state.items() if key.startswith(group + ".")}

        ids, ranges = np.asarray(state["ids"]).astype(object), of("range")
        if any(each.ndim != 3 or each.shape[1] not in (1, len(ids)) for each in ranges.values()):
            raise ValueError("ranges of other series than the features were fitted on")
        categories = {name: tuple(map(str, known)) for name, known in of("categories").items()}
        covariates: dict[str, Scaler] = {group: StandardScaler("global").restore(of(group)) for group in _COVARIATES}
        return FeatureSet(self.features, self.scaler.restore(of("scaler")), ids, categories, ranges, covariates)


def _range(
    values: Float[np.ndarray, "T X"], offsets: Int[np.ndarray, " N+1"], *, by_series: bool
) -> Float[np.ndarray, "3 N X"]:
    """Least, greatest and longest run of one value of each column: of each series, or of all."""
    rows, moves = np.arange(len(values), dtype=np.int32)[:, None], np.ones(values.shape, dtype=bool)
    moves[1:] = np.abs(np.diff(values, axis=0)) > 0  # a missing value ends no run
    moves[offsets[offsets < len(values)]] = True  # of no rows, the last series would begin behind them all
    runs = rows - np.maximum.accumulate(np.where(moves, rows, 0), axis=0) + 1
    bounds = offsets if by_series else np.array([0, len(values)])
    parts = ((np.fmin, values), (np.fmax, values), (np.fmax, runs))
    return np.stack([by_offsets(reduce, each, bounds, np.nan) for reduce, each in parts]).astype(np.float32)
