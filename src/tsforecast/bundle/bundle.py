"""A trained forecast as one directory of data, and the only inference function there is."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tsforecast.bundle import directory, golden
from tsforecast.bundle.card import card
from tsforecast.bundle.inputs import Inputs
from tsforecast.bundle.request import Prediction, Request, asked, predict_all
from tsforecast.data.panel import Panel
from tsforecast.data.schema import Schema
from tsforecast.errors import BundleError, DataError, TsforecastError, listed
from tsforecast.fallback import Fallback
from tsforecast.features.base import Feature, FeatureSet
from tsforecast.features.scaling import Scaler
from tsforecast.models.base import Forecaster
from tsforecast.quantiles import intervals, ordered
from tsforecast.spread import Spread
from tsforecast.types import Dims, Forecast
from tsforecast.windows import Windows

log = logging.getLogger(__name__)

FORMAT = 5
_CHUNK = 1024  # windows predicted at a time
_FILES = ("bundle.json", "metadata.json", "provenance.json", "features.npz", "forecaster.safetensors")
_OFFSETS = "calibration.offsets"


@dataclass(frozen=True, kw_only=True, repr=False)
class Bundle(Inputs):
    """What is read + a forecaster + its calibration: one directory, one registry version.

    Attributes
    ----------
    quantile_levels, offsets
        Quantile levels of the forecasts, none for points alone; what calibration adds to each quantile (of a model
        that forecasts a point: to the point), in the units of the model.
    spread
        What offsets are multiplied by, window by window; None: they are the same after every window.
    metadata, provenance
        Name and scores; what it was made from (configuration, data, commit, packages, host): JSON values.
    golden
        `history`, `known_future` and `static` as column lists, and the `values` and `quantiles` forecast from them.
    reference, path, digest
        What `tsforecast.bundle.reference` tells; where it was loaded from, and the sha256 of its manifest.
    """

    forecaster: Forecaster
    quantile_levels: tuple[float, ...] = ()
    offsets: Float[np.ndarray, "H C Q"] | None = None
    spread: Spread | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    golden: Mapping[str, Any] | None = None
    reference: Mapping[str, np.ndarray] = field(default_factory=dict)
    path: Path | None = None
    digest: str | None = None

    def __repr__(self) -> str:
        sizes = f"{self.dims.horizon} rows of {self.freq} from the last {self.context}"
        return f"<Bundle {self.metadata.get('name')}: {listed(self.channels)}; {sizes}; digest {self.digest}>"

    def predict(self, windows: Windows, index: slice) -> Prediction:
        """Scaled forecasts of the windows at `index`: the path that training, scoring and serving share."""
        window, learned = windows.window(index), self.dims.quantiles
        out = self.forecaster.predict(window)
        out = out if learned else out[..., None]
        point, quantiles = out[..., learned.index(0.5) if learned else 0], None
        if self.quantile_levels:
            offsets: Any = 0.0 if self.offsets is None else self.offsets
            offsets = offsets if self.spread is None else offsets * self.spread(window)[..., None]
            quantiles = ordered(out + offsets, point, self.quantile_levels)
        if window.center is not None and window.scale is not None:
            point = point * window.scale + window.center
            if quantiles is not None:
                quantiles = quantiles * window.scale[..., None] + window.center[..., None]
        repeated = self.forecaster.repeats(self.context)
        return Prediction(point, quantiles, None if repeated is None else windows.raw(index)[:, repeated])

    def invert(self, found: Prediction, series: Int[np.ndarray, " B"]) -> Prediction:
        """What `predict` gave in original units; `series` are fitted positions (`features.series(ids)`)."""
        point, quantiles = self.features.invert(found.point, series), found.quantiles
        if quantiles is not None:
            quantiles = np.moveaxis(self.features.invert(np.moveaxis(quantiles, 3, 1), series), 1, 3)
        if found.rows is not None:  # scaled and back, a 0 would be a tiny number
            point = np.where(np.isnan(found.rows), point, found.rows)
            quantiles = None if quantiles is None else ordered(quantiles, point, self.quantile_levels)
        return self._bounded(point, quantiles)

    def _bounded(self, point: Float[np.ndarray, "B H C"], quantiles: Float[np.ndarray, "B H C Q"] | None) -> Prediction:
        if self.schema.bounds:
            low, high = self.schema.limits(self.channels)
            point = point.clip(low, high)
            quantiles = None if quantiles is None else quantiles.clip(low[:, None], high[:, None])
        return Prediction(point, quantiles)

    def forecast(
        self,
        history: pd.DataFrame | Panel,
        known_future: pd.DataFrame | None = None,
        *,
        static: pd.DataFrame | None = None,
        horizon: int | None = None,
        levels: Sequence[float] | None = None,
        stale: str = "warn",
        short: str | None = None,
    ) -> Forecast:
        """Forecast the steps after the last row of every series.

        Parameters
        ----------
        history
            At least `least` rows of every series, or one where there is a `fallback`, laid out as `schema` says; only
            the last `context` are read.
        known_future
            Timestamps and known covariates of all `dims.horizon` rows ahead; needed when the bundle has known ones.
        static
            Static covariates, one row a series; needed when the bundle has them.
        horizon
            Steps to answer with, at most the trained ones; None: all.
        levels
            Central intervals to answer with, in percent: `[80, 90]`; None: all there are.
        stale
            `warn` of series that end before others and of channels whose last rows are empty, or `error`, or `ignore`.
        short
            Of series with too few rows, or that were not trained on: `error`, or `drop` them and those without a value,
            and log which, or `naive`, the default where the bundle was trained with `split.short=naive`: seasonal
            naive, with a warning.

        Returns
        -------
        Forecast
            In original units; `warnings` tell what in the history is stale, or far from the rows of training.

        Raises
        ------
        DataError
            The frame cannot be used as it is; the message lists all that is wrong with it.
        RequestError
            There is no such horizon, or no such interval.
        """
        steps, names = self.asked(horizon, levels)
        read = history.tail(self.context) if isinstance(history, Panel) else history
        panel = self.panel(read, static=static, short=short)
        if not len(panel):
            raise DataError("the history holds no series", where="history", fix="give at least one series")
        request = self.request(self.with_future(panel, known_future), steps, names, stale=stale)
        for warning in request.warnings:
            log.warning("%s", warning)
        (found,) = self.predictions([request])
        if isinstance(found, TsforecastError):
            raise found
        return request.answer(self, found)

    @cached_property
    def intervals(self) -> dict[str, tuple[int, int]]:
        """The central intervals there are: `90` to the places of its two quantiles."""
        return intervals(self.quantile_levels)

    def asked(self, horizon: Any = None, levels: Any = None) -> tuple[int, tuple[str, ...] | None]:
        """How many steps, and which intervals by name, a caller asks for; None are all quantiles.

        Raises
        ------
        RequestError
            There is no such horizon, or no such interval.
        """
        return asked(horizon, levels, self.dims.horizon, tuple(self.intervals))

    def predictions(self, requests: Sequence[Request]) -> list[Prediction | TsforecastError]:
        """Forecasts of many requests in one call, each to the bit as if alone; or its error, of one that has none."""
        return predict_all(self.infer, requests)

    def infer(self, panel: Panel, series: Int[np.ndarray, " N"]) -> Prediction:
        """Point forecasts and quantiles in original units, all series in one call.

        Parameters
        ----------
        panel
            As `with_future` gives it; the same series may be there more than once.
        series
            Fitted position of each (`features.series(ids)`); -1: the fallback forecasts it, and no other one knows.
        """
        horizon, own = self.dims.horizon, np.flatnonzero(series >= 0)
        values = np.empty((len(panel), horizon, len(self.channels)), dtype=np.float32)
        quantiles = np.empty((*values.shape, len(self.quantile_levels)), dtype=np.float32)
        if self.fallback and len(own) < len(panel):
            short = series < 0
            rows = panel.target.reshape(len(panel), -1, len(self.channels))[short, : self.context]
            values[short], quantiles[short], _ = self._bounded(*self.fallback(rows, self.quantile_levels))
            panel, series = panel.select(~short), series[own]
        windows = Windows.ahead(self.features.encode(panel, series), lookback=self.context, horizon=horizon)
        for index in windows.batches(_CHUNK):
            found = self.invert(self.predict(windows, index), series[index])
            values[own[index]] = found.point
            if found.quantiles is not None:
                quantiles[own[index]] = found.quantiles
        return Prediction(values, quantiles if self.quantile_levels else None)

    def save(self, path: str | os.PathLike[str], *, replace: bool = False) -> Bundle:
        """Write the directory, whole or not at all, and return the bundle with its path and digest.

        Raises
        ------
        OutputError
            The directory exists already and is not to be replaced, or cannot be written.
        """
        state, features = self.forecaster.state(), self.features
        body = {
            "format": FORMAT,
            "dims": asdict(self.dims),
            "schema": asdict(self.schema),
            "features": [directory.spec(feature) for feature in features.features],
            "scaler": directory.spec(features.scaler, learned=features.scaler.state()),
            "forecaster": directory.spec(self.forecaster, learned=state),
            "quantile_levels": self.quantile_levels,
            "missing": self.missing,
            "requires": self.forecaster.requires,
        }
        arrays = features.state() | ({} if self.offsets is None else {_OFFSETS: self.offsets})
        for part in (self.spread, self.fallback):
            arrays |= {} if part is None else part.state()
        files: dict[str, Any] = {name: state.pop(name) for name in list(state) if directory.is_raw(name)}
        files |= zip(_FILES, (body, self.metadata, self.provenance, arrays, state), strict=True)
        beside = {"golden.json": self.golden, "reference.npz": dict(self.reference)}
        files |= {"card.md": card(self)} | {name: value for name, value in beside.items() if value}
        directory.write(Path(path), files, replace)
        parts = [type(part).__module__ for part in (self.forecaster, features.scaler, *features.features)]
        return Bundle.load(path, allow=tuple(module.split(".")[0] for module in parts))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, allow: tuple[str, ...] = ()) -> Bundle:
        """Read a bundle, every file checked against its digest.

        Parameters
        ----------
        allow
            Packages, besides tsforecast, whose classes the bundle may name; `TSFORECAST_ALLOW` (comma separated)
            adds to it. A bundle is data: it names classes, and only of packages that the caller allows.

        Raises
        ------
        BundleError
            The directory is missing, incomplete, altered, of a later format, or names a class that is not allowed.
        """
        path, allowed = Path(path), directory.allowed(*allow)
        try:
            raw, digest = directory.read(path, _FILES)
            files = {name: directory.decode(path / name, content) for name, content in raw.items()}
            body, metadata, origin, arrays, state = (files.pop(name) for name in _FILES)
            if (got := body.get("format")) != FORMAT:
                what, fix = "the bundle has another format than this version reads", "install what wrote it"
                raise BundleError(what, where=path, got=got, allowed=FORMAT, fix=fix)
            needed = directory.required(body, allowed)
            forecaster = directory.build(body["forecaster"], Forecaster, allowed, needed)  # type: ignore[type-abstract]
            features = FeatureSet(
                features=tuple(directory.build(spec, Feature, allowed) for spec in body["features"]),  # type: ignore[type-abstract]
                scaler=directory.build(body["scaler"], Scaler, allowed),
            )
            bundle = cls(
                schema=Schema(**body["schema"]),
                dims=Dims(**body["dims"]),
                features=features.restore(arrays),
                missing=body["missing"],
                forecaster=forecaster.restore(state | {n: files[n] for n in files if directory.is_raw(n)}),
                quantile_levels=tuple(body["quantile_levels"]),
                offsets=arrays.get(_OFFSETS),
                spread=Spread.restore(arrays),
                fallback=Fallback.restore(arrays),
                metadata=metadata,
                provenance=origin,
                golden=files.get("golden.json"),
                reference=files.get("reference.npz", {}),
                path=path,
                digest=digest,
            )
            golden.check(bundle)
        except BundleError:
            raise
        except Exception as error:  # what readers of foreign formats raise has no common class
            what, fix = "the files of the bundle do not fit together", "train again, or copy the bundle again"
            raise BundleError(what, where=path, got=f"{type(error).__name__}: {error}", fix=fix) from error
        return bundle
