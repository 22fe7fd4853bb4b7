"""A trained forecast as one directory of data, and the only inference function there is.

bundle.json           sizes, names, frequency, schema; features, scaler and forecaster as `_target_` + parameters
features.npz          fitted arrays of the feature set, offsets of the calibration
forecaster.safetensors, *.onnx, *.ubj
                      what the forecaster learned
metadata.json         name, configuration, scores, provenance
golden.json           a request and its answer, which a server must give before it calls itself ready
manifest.json         sha256 of every other file
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tsforecast.bundle import directory
from tsforecast.bundle.history import check_covariates, check_observed, read, remarks
from tsforecast.data.frames import read_known_future
from tsforecast.data.panel import Panel
from tsforecast.data.schema import NAIVE, Schema
from tsforecast.errors import BundleError, DataError, RequestError
from tsforecast.features.base import Feature, FeatureSet
from tsforecast.features.scaling import Scaler
from tsforecast.models.base import Forecaster
from tsforecast.quantiles import intervals, ordered
from tsforecast.types import Dims, Forecast
from tsforecast.windows import Windows

log = logging.getLogger(__name__)

FORMAT = 2
_CELLS = 2**28  # more values than one forecast reads
_PROBED = 2**20  # values of the histories that are drawn
_CHUNK = 1024  # windows predicted at a time
_RAW = (".onnx", ".ubj")  # a part of a forecaster's state with such a name is a file of its own
_OFFSETS = "calibration.offsets"


class Prediction(NamedTuple):
    """Forecasts: the point, quantiles where the bundle has some, and of a model that repeats rows these as read."""

    point: Float[np.ndarray, "B H C"]
    quantiles: Float[np.ndarray, "B H C Q"] | None = None
    rows: Float[np.ndarray, "B H C"] | None = None  # in original units; NaN where a window holds nothing


@dataclass(frozen=True)
class Bundle:
    """Features + forecaster + what is needed to read a frame: one directory, one registry version.

    Attributes
    ----------
    features, forecaster
        Fitted.
    dims
        Sizes; `dims.lookback` rows are what a forecast needs.
    channels, past_names, known_names, static_names
        Columns, in the order of the arrays.
    freq
        Pandas offset alias.
    schema
        How frames are laid out.
    quantile_levels, offsets
        Quantile levels of the forecasts, none for points alone; what calibration adds to each quantile (of a model
        that forecasts a point: to the point), in the units of the model.
    metadata
        Name, resolved configuration, scores and provenance; JSON values.
    missing
        Column to the most missing values that `lookback` rows of the train rows hold; other columns had none.
    golden
        `history`, `known_future` and `static` as column lists, and the `values` and `quantiles` forecast from them.
    path, digest
        Where it was loaded from, and the sha256 of its manifest.
    """

    features: FeatureSet
    forecaster: Forecaster
    dims: Dims
    channels: tuple[str, ...]
    past_names: tuple[str, ...]
    known_names: tuple[str, ...]
    static_names: tuple[str, ...]
    freq: str
    schema: Schema
    quantile_levels: tuple[float, ...] = ()
    offsets: Float[np.ndarray, "H C Q"] | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    missing: Mapping[str, int] = field(default_factory=dict)
    golden: Mapping[str, Any] | None = field(default=None, repr=False)
    path: Path | None = None
    digest: str | None = None

    @property
    def context(self) -> int:
        """Rows of history a forecast needs and reads."""
        return self.dims.lookback

    def predict(self, windows: Windows, index: slice) -> Prediction:
        """Scaled forecasts of the windows at `index`: the path that training, scoring and serving share."""
        window = windows.window(index)
        out = self.forecaster.predict(window)
        point = out[..., self.dims.quantiles.index(0.5)] if self.dims.quantiles else out
        quantiles = None
        if self.quantile_levels:
            quantiles = out if self.dims.quantiles else out[..., None]
            quantiles = quantiles if self.offsets is None else quantiles + self.offsets
            quantiles = ordered(quantiles, point, self.quantile_levels)
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
        return Prediction(point, quantiles)

    def panel(
        self,
        history: pd.DataFrame | Panel,
        *,
        static: pd.DataFrame | None = None,
        short: str = "error",
        keys: str | None = None,
    ) -> Panel:
        """The rows of a frame that a forecast reads, or a whole panel, with the channels in the order of training.

        `short` is as in `forecast`, `keys` as in `tsforecast.data.columns.Problems`.

        Raises
        ------
        DataError
            A column is missing, unknown or unreadable, the frequency is another one, or a series is shorter
            than `context`.
        """
        return read(self, history, static, short, keys)

    @property
    def time_name(self) -> str:
        """What the timestamp column of a forecast is called."""
        return self.schema.time if isinstance(self.schema.time, str) else "date"

    def forecast(
        self,
        history: pd.DataFrame | Panel,
        known_future: pd.DataFrame | None = None,
        *,
        static: pd.DataFrame | None = None,
        horizon: int | None = None,
        levels: Sequence[float] | None = None,
        stale: str = "warn",
        short: str = "error",
    ) -> Forecast:
        """Forecast the steps after the last row of every series.

        Parameters
        ----------
        history
            At least `context` rows of every series, laid out as `schema` says; only the last `context` are read.
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
            `error`, or `drop` the series with too few rows and those that were not trained on, and log which.

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
        steps, names = self.part(horizon, levels)
        panel = self.panel(history, static=static, short=short).tail(self.context)
        if not len(panel):
            raise DataError("the history holds no series", where="history", fix="give at least one series")
        whole = self.whole(panel, known_future)
        check_observed(self, whole)
        series = self.features.series(whole.ids)
        warnings = remarks(self, whole, series, stale)
        for warning in warnings:
            log.warning("%s", warning)
        with np.errstate(over="ignore", invalid="ignore"):  # told by the next line
            values, quantiles = self.infer(whole, series)
        if not np.isfinite(values).all():
            raise not_finite()
        return replace(self.told(whole, values, quantiles, steps, names), warnings=warnings)

    @cached_property
    def intervals(self) -> dict[str, tuple[int, int]]:
        """The central intervals there are: `90` to the places of its two quantiles."""
        return intervals(self.quantile_levels)

    def part(self, horizon: Any = None, levels: Any = None) -> tuple[int, tuple[str, ...] | None]:
        """How many steps, and which intervals by name, a caller asks for; None are all levels.

        Raises
        ------
        RequestError
            There is no such horizon, or no such interval.
        """
        most = self.dims.horizon
        if horizon is not None and (type(horizon) is not int or not 1 <= horizon <= most):
            raise RequestError("the horizon is the number of steps to forecast", where="horizon", got=horizon,
                               allowed=f"a whole number from 1 to {most}, the trained one")  # fmt: skip
        if levels is None:
            return horizon or most, None
        cells = levels if isinstance(levels, list | tuple) else [levels]
        names = [
            f"{q:g}" if type(q) in (int, float) and float(f"{q:g}") == q else repr(q)
            for q in cells[: len(self.intervals) + 1]
        ]
        if cells is not levels or len(set(names)) < len(names) or not set(names) <= set(self.intervals):
            raise RequestError("levels are the central intervals to answer with, in percent", where="levels",
                               got=levels, allowed=f"a list of some of {', '.join(self.intervals)}" if self.intervals
                               else "none: it has no intervals")  # fmt: skip
        return horizon or most, tuple(names)

    def told(
        self, whole: Panel, values: Float[np.ndarray, "N H C"], quantiles: Float[np.ndarray, "N H C Q"] | None,
        horizon: int, levels: tuple[str, ...] | None,
    ) -> Forecast:  # fmt: skip
        """What `infer` gave, as a forecast of the steps and intervals that `part` found."""
        begin = whole.offsets[:-1] + self.context
        places = sorted({i for name in levels for i in self.intervals[name]}) if levels is not None else None
        if quantiles is not None:
            quantiles = quantiles[:, :horizon]
            quantiles = quantiles if places is None else quantiles[..., places] if places else None
        return Forecast(
            ids=whole.ids,
            cutoff=whole.time[begin - 1],
            time=tuple(whole.time[i : i + horizon] for i in begin),
            channels=self.channels,
            values=values[:, :horizon],
            history=whole,
            quantile_levels=self.quantile_levels if places is None else tuple(self.quantile_levels[i] for i in places),
            quantiles=quantiles,
        )

    def whole(self, panel: Panel, known_future: pd.DataFrame | None = None, *, first_row: int = 2) -> Panel:
        """`context` rows a series with the `horizon` rows to forecast behind them: all that `infer` needs.

        `first_row` is what messages call the first row of `known_future`.
        """
        check_covariates(self, known_future)
        future = None  # which `extend` refuses when there are known covariates
        if self.known_names and known_future is not None:
            future, categories = read_known_future(known_future, panel, self.schema, self.dims.horizon, first_row)
            panel = replace(panel, categories=categories)
        return panel.extend(self.dims.horizon, future)

    def infer(
        self, whole: Panel, series: Int[np.ndarray, " N"]
    ) -> tuple[Float[np.ndarray, "N H C"], Float[np.ndarray, "N H C Q"] | None]:
        """Point forecasts and quantiles in original units, all series in one call.

        Parameters
        ----------
        whole
            As `whole` gives it; the same series may be there more than once.
        series
            Fitted position of each (`features.series(ids)`).
        """
        horizon = self.dims.horizon
        origins = whole.offsets[1:] - horizon
        windows = Windows.over(
            self.features.encode(whole, series),
            lookback=self.context,
            horizon=horizon,
            begin=origins,
            end=whole.offsets[1:],
            forecast=True,
        )
        values = np.empty((len(whole), horizon, len(self.channels)), dtype=np.float32)
        shape = (*values.shape, len(self.quantile_levels))
        quantiles = np.empty(shape, dtype=np.float32) if self.quantile_levels else None
        for index in windows.batches(_CHUNK):
            found = self.invert(self.predict(windows, index), series[index])
            values[index] = found.point
            if quantiles is not None:
                quantiles[index] = found.quantiles
        return values, quantiles

    def save(self, path: str | os.PathLike[str]) -> Bundle:
        """Write the directory, whole or not at all, and return the bundle with its path and digest.

        Raises
        ------
        OutputError
            The directory exists already, or cannot be written.
        """
        path = Path(path)
        state, fitted, scaler = self.forecaster.state(), self.features.state(), self.features.scaler
        body = {
            "format": FORMAT,
            "dims": asdict(self.dims),
            "channels": self.channels,
            "past": self.past_names,
            "known": self.known_names,
            "static": self.static_names,
            "freq": self.freq,
            "schema": asdict(self.schema),
            "features": [directory.spec(feature) for feature in self.features.features],
            "scaler": directory.spec(scaler, learned=scaler.state()),
            "forecaster": directory.spec(self.forecaster, learned=state),
            "quantile_levels": self.quantile_levels,
            "missing": self.missing,
            "requires": self.forecaster.requires,
        }
        files = {"bundle.json": directory.to_json(body), "metadata.json": directory.to_json(self.metadata)}
        if self.golden is not None:
            files["golden.json"] = directory.to_json(self.golden, indent=None)
        files |= {name: state.pop(name).tobytes() for name in list(state) if Path(name).suffix in _RAW}
        files["forecaster.safetensors"] = save_tensors(state)
        if self.offsets is not None:
            fitted[_OFFSETS] = self.offsets
        np.savez(archive := io.BytesIO(), **fitted)  # type: ignore[arg-type]
        files["features.npz"] = archive.getvalue()
        directory.write(path, files)
        parts = (self.forecaster, self.features.scaler, *self.features.features)
        return Bundle.load(path, allow=tuple(type(part).__module__.split(".")[0] for part in parts))

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
        path = Path(path)
        files, digest = directory.read(path, ("bundle.json", "metadata.json", "features.npz", "forecaster.safetensors"))
        body, metadata = (directory.parse_json(files[name], path / name) for name in ("bundle.json", "metadata.json"))
        if body.get("format") != FORMAT:
            raise BundleError("the bundle has another format than this version reads", where=path,
                              got=body.get("format"), allowed=FORMAT,
                              fix="install the tsforecast that wrote it")  # fmt: skip
        allowed = directory.allowed(*allow)
        try:
            bundle = replace(cls._assembled(path, files, body, allowed), metadata=metadata, path=path, digest=digest)
            bundle._check()
        except BundleError:
            raise
        except Exception as error:  # what readers of foreign formats raise has no common class
            raise BundleError("the files of the bundle do not fit together", where=path,
                              got=f"{type(error).__name__}: {error}", fix="train again, or copy the bundle again",
                              ) from error  # fmt: skip
        return bundle

    @classmethod
    def _assembled(
        cls, path: Path, files: Mapping[str, bytes], body: Mapping[str, Any], allowed: tuple[str, ...]
    ) -> Self:
        with np.load(io.BytesIO(raw := files["features.npz"]), allow_pickle=False) as arrays:
            if sum(each.file_size for each in arrays.zip.infolist()) > len(raw):  # `savez` packs nothing
                raise ValueError("features.npz unfolds to more than it is")
            fitted = {key: arrays[key] for key in arrays.files}
        state = load_tensors(files["forecaster.safetensors"])
        state |= {name: np.frombuffer(raw, np.uint8) for name, raw in files.items() if Path(name).suffix in _RAW}
        features = FeatureSet(
            features=tuple(directory.build(spec, Feature, allowed) for spec in body["features"]),  # type: ignore[type-abstract]
            scaler=directory.build(body["scaler"], Scaler, allowed),  # type: ignore[type-abstract]
        ).restore(fitted)
        needed = directory.required(body, allowed)
        forecaster = directory.build(body["forecaster"], Forecaster, allowed, needed)  # type: ignore[type-abstract]
        golden = files.get("golden.json")
        return cls(
            features=features,
            forecaster=forecaster.restore(state),
            dims=Dims(**body["dims"]),
            channels=tuple(body["channels"]),
            past_names=tuple(body["past"]),
            known_names=tuple(body["known"]),
            static_names=tuple(body["static"]),
            freq=body["freq"],
            schema=Schema(**body["schema"]),
            quantile_levels=tuple(body["quantile_levels"]),
            offsets=fitted.get(_OFFSETS),
            missing=body["missing"],
            golden=None if golden is None else directory.parse_json(golden, path / "golden.json"),
        )

    def _check(self) -> None:
        """Find what does not fit together, in whichever file, before it is used."""
        dims, names = self.dims, (*self.channels, *self.past_names, *self.known_names, *self.static_names)
        if min(dims.lookback, dims.horizon, dims.channels) < 1 or len(self.channels) != dims.channels:
            raise ValueError(f"{len(self.channels)} channels are named, and the sizes are {dims}")
        if not all(isinstance(name, str) for name in (*names, *self.schema.columns)):
            raise TypeError("a column is named by text")
        if (dims.lookback + dims.horizon) * len(names) > _CELLS:
            raise ValueError(f"sizes beyond any use: {dims}")
        values, quantiles = self.probe(1)
        pd.Timestamp(self.metadata.get("chosen_until") or 0)
        for name, found in (("values", values), ("quantiles", quantiles)):
            golden = None if self.golden is None else self.golden[name]
            if golden is not None and (found is None or np.asarray(golden, np.float32).shape != found.shape):
                raise ValueError(f"the golden {name} have another shape than a forecast has")

    def means(self) -> Float[np.ndarray, "G H C"]:
        """Of the forecasts that `probe` draws, by group: what tells a weight that is another one."""
        return np.array([part.mean(axis=0) for part in np.array_split(self.probe()[0], 16) if len(part)], np.float32)

    def probe(self, most: int = 512) -> tuple[Float[np.ndarray, "N H C"], Float[np.ndarray, "N H C Q"] | None]:
        """Forecasts of up to `most` drawn histories as far apart as training's rows: hardly a weight is in none."""
        rows = self.dims.lookback + self.dims.horizon
        groups = (self.channels, self.past_names, self.known_names, self.static_names)
        n = max(1, min(most, _PROBED // (rows * len(sum(groups, ())))))
        zone = None if self.schema.timezone == NAIVE else self.schema.timezone
        time = pd.date_range(end="2020-01-01", periods=rows, freq=self.freq, tz=zone).as_unit("ns")
        series = np.zeros(n, dtype=np.int64)
        with np.errstate(all="ignore"):
            target, past, known, static = self.features.drawn(groups, (n * rows, n * rows, n * rows, n))
            time = pd.DatetimeIndex(np.tile(time, n)) if n > 1 else time
            ids, offsets = np.arange(n).astype(str).astype(object), np.arange(n + 1) * rows
            panel = Panel(ids, offsets, time, target, past, known, static, *groups, self.freq, self.features.categories)
            remarks(self, panel, series)
            return self.infer(panel, series)


def not_finite() -> DataError:
    """What is said of a forecast that is none."""
    return DataError("the forecast is not finite: the history holds values far beyond those of training",
                     where="history", fix="look at the units of the data")  # fmt: skip


def load_bundle(path: str | os.PathLike[str], *, allow: tuple[str, ...] = ()) -> Bundle:
    """`Bundle.load`: read a bundle directory, checked."""
    return Bundle.load(path, allow=allow)
