"""From a panel to what models are fitted, calibrated and scored on: one place, whoever asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from tsforecast.bundle import directory
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.catalogue import CATALOGUE
from tsforecast.data.panel import Panel, seasonality
from tsforecast.data.schema import Schema
from tsforecast.data.sources import Dataset
from tsforecast.data.splits import Borders
from tsforecast.errors import BundleError
from tsforecast.features.base import FeatureSet
from tsforecast.metrics import seasonal_scale
from tsforecast.models.base import Forecaster
from tsforecast.types import Dims, Encoded
from tsforecast.windows import Windows

PARTS = ("train", "val", "cal", "test")


@runtime_checkable
class Split(Protocol):
    """Where the parts of each series begin and end."""

    def __call__(self, panel: Panel, lookback: int, horizon: int) -> Borders:
        """The borders of a panel."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A panel with borders, features fitted on its train rows alone, and windows over each part.

    Attributes
    ----------
    panel
        Without the series that the split leaves out.
    stride
        Rows from one test origin to the next; the other parts have every window.
    """

    panel: Panel
    schema: Schema
    borders: Borders
    features: FeatureSet
    encoded: Encoded
    dims: Dims
    stride: int = 1

    def windows(self, part: str) -> Windows:
        """The windows whose targets lie in the `train`, `val`, `cal` or `test` rows."""
        begin, end = self.borders.rows(part)
        return Windows.over(
            self.encoded,
            lookback=self.dims.lookback,
            horizon=self.dims.horizon,
            begin=begin,
            end=end,
            stride=self.stride if part == "test" else 1,
        )

    @cached_property
    def scale(self) -> tuple[Float[np.ndarray, "N C"], Float[np.ndarray, "N C"]]:
        """What MASE and RMSSE divide by: the errors of the seasonal naive on the train rows."""
        panel, borders = self.panel, self.borders
        return seasonal_scale(panel.target, panel.offsets, borders.begin, borders.train_end, self.dims.season)

    def bundle(self, forecaster: Forecaster) -> Bundle:
        """The fitted forecaster with all it needs to read a frame; points alone until it is calibrated."""
        schema = self.schema.resolved(self.panel)
        return Bundle(schema=schema, dims=self.dims, features=self.features, forecaster=forecaster)


def trained_on(bundle: Bundle, part: str, given: Mapping[str, Any], data_dir: str) -> Any:
    """The `dataset` or `split` that a bundle was trained on, from plain values; those `given` go over its own.

    Of what a bundle says of files, names alone are followed: in `data_dir`, where training had it there, else from the
    working directory, or from the one that training worked in if the bundle lies below it.

    Raises
    ------
    BundleError
        The bundle does not say, or names a class, a value or a place that it may not.
    """
    kind: type = {"dataset": Dataset, "split": Split}[part]
    try:
        config = bundle.metadata["provenance"]["config"]
        spec, paths = {**config[part], **given}, config.get("paths") or {}
        for key in sorted({"path", "static_path"} & {*spec} - {*given}):
            if isinstance(spec[key], str) and spec[key] not in CATALOGUE:
                spec[key] = str(_followed(bundle, key, Path(spec[key]), data_dir, paths))
    except (LookupError, TypeError, AttributeError) as error:
        raise BundleError("the bundle does not say what it was trained on", where=part, got=error,
                          fix=f"add {part}=... to the command") from error  # fmt: skip
    spec |= {"data_dir": data_dir} if part == "dataset" else {}
    return directory.build(spec, kind, directory.allowed(), where="metadata.json")


def _followed(bundle: Bundle, key: str, file: Path, data_dir: str, paths: Mapping[str, Any]) -> Path:
    if str(file.parent) == paths.get("data_dir"):
        return Path(data_dir) / file.name
    if file.anchor or ".." in file.parts or ":" in str(file):
        what, fix = "a bundle is followed to no place outside the working directory", f"+dataset.{key}={file}"
        raise BundleError(
            what, where="metadata.json", got=file, allowed="a relative path", fix=f"if it is yours: {fix}"
        )
    above = Path(bundle.path or ".").resolve().parents
    root = next((folder for folder in above if str(folder) == paths.get("root_dir")), Path())
    return file if file.is_file() else root / file


def prepare(
    panel: Panel,
    schema: Schema,
    split: Split,
    features: FeatureSet,
    *,
    lookback: int,
    horizon: int,
    season: int | None = None,
    quantile_levels: Sequence[float] = (),
    calibration: float = 0.0,
    stride: int = 1,
) -> Prepared:
    """Split, fit the features on the train rows, encode.

    Parameters
    ----------
    season
        None: that of the frequency.
    quantile_levels
        Quantiles the model is to learn.
    calibration
        Share of the validation rows, the last of them, that is kept for calibration.

    Raises
    ------
    DataError
        A part has too few rows, or the features cannot be fitted.
    """
    panel, borders = split(panel, lookback, horizon).kept(panel)
    borders = replace(borders, calibration=calibration)
    features = features.fit(panel.rows(borders.begin, borders.train_end))
    encoded = features.encode(panel)
    dims = encoded.dims(lookback, horizon, season=season or seasonality(panel.freq), quantiles=quantile_levels)
    return Prepared(panel, schema, borders, features, encoded, dims, stride)
