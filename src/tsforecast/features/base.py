"""The feature module that training and serving both import: row features, window features, scaler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tsforecast.errors import DataError
from tsforecast.features.scaling import NoScaler, Scaler, StandardScaler
from tsforecast.panel import Panel
from tsforecast.windows import Encoded, WindowFeature


@runtime_checkable
class Feature(Protocol):
    """A row feature: a function of the timestamp alone, hence known for every future row."""

    def names(self) -> tuple[str, ...]:
        """F readable names."""
        ...

    def transform(self, time: pd.DatetimeIndex, freq: str) -> Float[np.ndarray, "T F"]:
        """One float32 row per timestamp."""
        ...


def is_row_feature(feature: object) -> bool:
    """Whether a feature works on rows (it takes timestamps) rather than on windows (its names take a lookback)."""
    return not hasattr(feature, "window_local")


@dataclass
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
    """

    features: Sequence[Feature | WindowFeature] = ()
    scaler: Scaler = field(default_factory=StandardScaler)
    ids: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=object))
    _past: Scaler = field(default_factory=NoScaler)
    _known: Scaler = field(default_factory=NoScaler)
    _static: Scaler = field(default_factory=NoScaler)

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
        """Fit the scalers on `train`, which must hold train rows only. Returns itself."""
        everything = np.array([0, len(train.time)])
        self.ids = np.asarray(train.ids)
        self.scaler.fit(train.target, train.offsets)
        self._past = StandardScaler().fit(train.past, everything)
        self._known = StandardScaler().fit(train.known, everything)
        self._static = StandardScaler().fit(train.static, np.array([0, len(train)]))
        return self

    def series(self, ids: np.ndarray) -> Int[np.ndarray, " N"]:
        """Fitted position of each id; all 0 where the scaler is global.

        Raises
        ------
        DataError
            An id was not among the training series and the scaler has statistics per series.
        """
        if self.scaler.scope == "global" or len(self.ids) == 1 == len(ids):
            return np.zeros(len(ids), dtype=np.int64)
        found = pd.Index(self.ids).get_indexer(pd.Index(ids))
        if np.any(found < 0):
            unseen = [str(i) for i in np.asarray(ids)[found < 0]]
            raise DataError(
                f"{len(unseen)} series were not among the training series, and the scaler has statistics per series",
                got=", ".join(unseen[:5]) + (", ..." if len(unseen) > 5 else ""),
                allowed=f"the {len(self.ids)} training series",
                fix="leave these series out, or train with scaler.scope=global",
            )
        return np.asarray(found, dtype=np.int64)

    def encode(self, panel: Panel) -> Encoded:
        """Model-space arrays, row by row: no row's encoding depends on another row."""
        series = self.series(panel.ids)
        of_row = np.repeat(series, panel.lengths)
        zeros = np.zeros(len(panel.time), dtype=np.int64)
        parts = [self._known.transform(panel.known, zeros)]
        parts += [feature.transform(panel.time, panel.freq) for feature in self.rows]
        known = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1).astype(np.float32, copy=False)
        return Encoded(
            offsets=panel.offsets,
            target=np.ascontiguousarray(self.scaler.transform(panel.target, of_row)),
            past=np.ascontiguousarray(self._past.transform(panel.past, zeros)),
            known=np.ascontiguousarray(known),
            static=self._static.transform(panel.static, np.zeros(len(panel), dtype=np.int64)),
            window_features=self.windows,
        )

    def invert(self, values: Float[np.ndarray, "B H C"], series: Int[np.ndarray, " B"]) -> Float[np.ndarray, "B H C"]:
        """Scaled forecasts in original units; `series` are fitted positions as `self.series` gives them."""
        return self.scaler.inverse(values, series)

    def state(self) -> dict[str, np.ndarray]:
        """Fitted arrays, by name."""
        named = {"scaler": self.scaler, "past": self._past, "known": self._known, "static": self._static}
        arrays = {f"{part}.{key}": value for part, scaler in named.items() for key, value in scaler.state().items()}
        return {"ids": np.asarray(self.ids, dtype=np.str_), **arrays}

    def restore(self, state: Mapping[str, Any]) -> FeatureSet:
        """Set what `state()` gave. Returns itself."""
        self.ids = np.asarray(state["ids"]).astype(object)

        def of(part: str) -> dict[str, np.ndarray]:
            return {key.split(".", 1)[1]: value for key, value in state.items() if key.startswith(part + ".")}

        self.scaler.restore(of("scaler"))
        self._past = StandardScaler().restore(of("past"))
        self._known = StandardScaler().restore(of("known"))
        self._static = StandardScaler().restore(of("static"))
        return self
