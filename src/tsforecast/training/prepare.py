"""From a panel to what models are fitted, calibrated and scored on: one place, whoever asks for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from tsforecast.bundle import directory
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.provenance import DATA_DIR, FILE, PLACES
from tsforecast.data.panel import Panel
from tsforecast.data.sources import Dataset, Loaded
from tsforecast.data.splits import Borders, Split
from tsforecast.errors import BundleError, ConfigError, one_of
from tsforecast.features.base import FeatureSet
from tsforecast.metrics import seasonal_scale
from tsforecast.models.base import Forecaster
from tsforecast.types import Dims, Encoded
from tsforecast.windows import Windows

log = logging.getLogger(__name__)
CUTOFFS = 20  # earlier ones, whose errors make intervals where rows are few
# what to say so that there are none: covariates by group, window features
DROP = {"past": "dataset.past=[]", "known": "feature=[] dataset.known=[]", "static": "dataset.static=[]"}
DROP |= {"tabular": "feature=[]"}


@dataclass(frozen=True)
class Prepared:
    """A panel with borders, features fitted on its train rows alone, and windows over each part.

    Attributes
    ----------
    loaded
        What was read, without the series that the split leaves out.
    stride
        Rows from one test origin to the next; the other parts have every window.
    most
        Windows of each part but `train` that are forecast where a forecast is dear, evenly spaced; None: all.
    seconds
        What reading and encoding took.
    """

    loaded: Loaded
    borders: Borders
    features: FeatureSet
    encoded: Encoded
    dims: Dims
    stride: int = 1
    seconds: float = 0.0
    most: int | None = None

    @classmethod
    def of(cls, bundle: Bundle, loaded: Loaded, split: Split, stride: int = 1) -> Prepared:
        """Rows as a trained bundle reads them, divided by a split.

        Raises
        ------
        DataError
            The bundle cannot read them, or they are too few.
        """
        dims, features = bundle.dims, bundle.features
        panel = bundle.panel(loaded.panel, short="drop" if split.leaves_out else "error")
        panel, borders = split(panel, dims.least, dims.horizon).kept(panel)
        encoded = features.encode(panel, pad=dims.lookback - dims.least)
        data = cls(replace(loaded, panel=panel), borders, features, encoded, dims, stride)
        return data.at_most(getattr(bundle.forecaster, "most", None))

    @property
    def record(self) -> dict[str, Any]:
        """What was read, and of each part the number of rows, the first and the last timestamp."""
        parts, time = {}, self.panel.time
        for part in ("train", "val", "cal", "test"):
            begin, end = self.borders.rows(part)
            if (some := end > begin).any():
                ends = {"first": str(time[begin[some]].min()), "last": str(time[end[some] - 1].max())}
                parts[part] = {"rows": int((end - begin).sum()), **ends}
        return {**self.loaded.record, "parts": parts}

    @property
    def panel(self) -> Panel:
        """The series."""
        return self.loaded.panel

    def seen(self, bundle: Bundle, rows: Int[np.ndarray, " B"]) -> Bool[np.ndarray, " B"]:
        """Which of these rows lie among those that a bundle was fitted or chosen on, as far as it says."""
        until = bundle.metadata.get("chosen_until")
        return np.asarray(self.panel.time[rows] <= pd.Timestamp(until)) if until else np.zeros(len(rows), dtype=bool)

    def fitted_on(self, borders: Borders) -> Prepared:
        """The same with other borders, and features fitted on the train rows of these."""
        features = self.features.fit(self.panel.rows(borders.begin, borders.train_end))
        encoded = features.encode(self.panel, pad=self.dims.lookback - self.dims.least)
        return replace(self, borders=borders, features=features, encoded=encoded)

    def rows(self, part: str) -> Panel:
        """The `train`, `val`, `cal` or `test` rows."""
        return self.panel.rows(*self.borders.rows(part))

    def windows(self, part: str) -> Windows:
        """The windows whose targets lie in the `train`, `val`, `cal` or `test` rows."""
        (begin, end), dims = self.borders.rows(part), self.dims
        sizes: dict[str, Any] = {"lookback": dims.lookback, "horizon": dims.horizon, "begin": begin, "end": end}
        windows = Windows.over(self.encoded, **sizes, stride=self.stride if part == "test" else 1)
        thin = self.most if part in ("val", "cal") else None
        return windows if thin is None else windows.subset(slice(None, None, max(1, -(-len(windows) // thin))))

    def at_most(self, windows: int | None) -> Prepared:
        """With so many `windows` in each part but `train`, or one of each series: those of test by its stride."""
        found = len(self.windows("test"))
        stride = self.stride * (1 if windows is None else -(-max(found, 1) // windows))
        data = replace(self, stride=stride, most=windows)
        if stride > self.stride:
            kept = len(data.windows("test"))
            text = "a forecast is dear: %d of %d test windows are scored, one in %d rows of a series"
            log.warning(text + "; model.most=null takes all", kept, found, stride)
        return data

    def foretell(self, forecaster: Forecaster) -> None:
        """Tell how long it takes to forecast all that is scored and calibrated on, where that is dear."""
        if self.most is not None:
            began, train = time.perf_counter(), self.windows("train")
            forecaster.predict(train.window(slice(len(train) - 1, None)))  # the first may hold a season alone
            each, counts = time.perf_counter() - began, [len(self.windows(part)) for part in ("val", "cal", "test")]
            earlier = 0 if counts[1] else min(self.most, CUTOFFS * len(self.panel))  # if there are to be intervals
            count = sum(counts) + earlier
            log.info("forecasts take at most about %.0f s: %d, %.2g s each in one process", each * count, count, each)

    @cached_property
    def scale(self) -> tuple[Float[np.ndarray, "N C"], Float[np.ndarray, "N C"]]:
        """What MASE and RMSSE divide by: the errors of the seasonal naive on the train rows."""
        panel, borders = self.panel, self.borders
        return seasonal_scale(panel.target, panel.offsets, borders.begin, borders.train_end, self.dims.season)

    def bundle(self, forecaster: Forecaster) -> Bundle:
        """The fitted forecaster with all it needs to read a frame; points alone until it is calibrated."""
        schema = self.loaded.schema.resolved(self.panel)
        return Bundle(schema=schema, dims=self.dims, features=self.features, forecaster=forecaster)


def check_covariates(model: Any, encoded: Encoded, *, label: str, unused: str) -> None:
    """What to do about covariates that the model cannot use: `error` or `ignore`, never silently.

    Raises
    ------
    ConfigError
        There are some, and `unused` is `error`.
    """
    one_of("unused_covariates", unused, ("error", "ignore"))
    uses: frozenset[str] | None = getattr(model, "uses", frozenset())
    names = {**encoded.names, "tabular": tuple(type(f).__name__.lower() for f in encoded.window_features)}
    spare = {} if uses is None else {group: names[group] for group in DROP if names.get(group) and group not in uses}
    listing = "; ".join(f"{'window features' if g == 'tabular' else g}: {', '.join(spare[g])}" for g in spare)
    if spare and unused == "ignore":
        log.warning("Model %s does not use %s", label, listing)
    elif spare:
        without = [DROP[group] for group in spare]
        if spare.keys() & encoded.cardinality.keys():
            left = {group: sizes for group, sizes in encoded.cardinality.items() if group not in spare}
            kept = [name for group in left for name, size in zip(names[group], left[group], strict=True) if size]
            without.append(f"dataset.categorical=[{','.join(kept)}]")
        what, allowed = f"model {label} cannot use these covariates", sorted(uses or ()) or "the target alone"
        fix = f"unused_covariates=ignore, or another model, or leave them out: {' '.join(without)}"
        raise ConfigError(what, where="model", got=listing, allowed=allowed, fix=fix)


_ROWS = "dataset=sql dataset.address=... dataset.query=..., or dataset=wide dataset.path=FILE.csv"


def trained_on(bundle: Bundle, part: str, given: Mapping[str, Any], data_dir: str) -> Any:
    """The `dataset` or `split` that a bundle was trained on, from plain values; those `given` go over its own.

    Nothing is downloaded from the `url` that it may state, and its digest is of the path that it states.

    Raises
    ------
    BundleError
        The bundle does not say, or names a class, a value or a place that it may not.
    """
    kind: type = {"dataset": Dataset, "split": Split}[part]
    spec = stated(bundle.provenance, bundle.path, part, given, data_dir)
    return directory.build(spec, kind, directory.allowed(), where=FILE)


def stated(
    origin: Mapping[str, Any], bundle: Path | None, part: str, given: Mapping[str, Any], data_dir: str
) -> dict[str, Any]:
    """What a provenance says of its `dataset` or `split`; those `given` go over its own, and no file is elsewhere.

    Raises
    ------
    BundleError
        It does not say, or names a place that it may not.
    """
    if part == "dataset" and "path" not in given and origin.get("data", {}).get("source") == "memory":
        what, fix = "the bundle was trained on a frame in memory", "say which rows: +dataset.path=FILE.csv"
        raise BundleError(what, where="dataset.path", fix=fix)
    try:
        config, left = origin["config"], {"url", *["sha256"] * ("path" in given)}
        spec = {**{key: value for key, value in config[part].items() if key not in left}, **given}
        if part == "dataset" and "query" in spec:  # which is not asked again: a bundle sends nothing to a database
            what, fix = "the bundle was trained on the answer of a database", "say which rows: " + _ROWS
            raise BundleError(what, where="dataset", got=spec.get("address"), fix=fix)
        for key in sorted({"path", "static_path"} & {*spec} - {*given}):
            if isinstance(spec[key], str):
                spec[key] = str(followed(bundle, key, spec[key], data_dir))
    except (LookupError, TypeError, AttributeError) as error:
        what, fix = "the bundle does not say what it was trained on", f"add {part}=... to the command"
        raise BundleError(what, where=part, got=error, fix=fix) from error
    return spec


def followed(bundle: Path | None, key: str, place: str, data_dir: str) -> Path:
    """Where a file lies that a bundle names: in `data_dir` if it says so, in the working directory, or above itself.

    Raises
    ------
    BundleError
        It names a place anywhere else.
    """
    root, _, rest = place.partition("/")
    file = Path(rest if root in PLACES else place)
    if file.anchor or ".." in file.parts or ":" in str(file):
        what, fix = "a bundle is followed to no place outside the working directory", f"+dataset.{key}={place}"
        raise BundleError(what, where=FILE, got=place, allowed="a relative path", fix=f"if it is yours: {fix}")
    if root == DATA_DIR:
        return Path(data_dir) / file
    above = (Path(), *Path(bundle or ".").resolve().parents)
    return next((folder / file for folder in above if (folder / file).exists()), file)
