"""One experiment, one call: read, split, encode, fit, calibrate, score. It knows no hydra, no mlflow and no plots.

The commands, folds, trials and re-runs are callers of `run_experiment` with an `Experiment` of their own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.provenance import provenance
from tsforecast.data.panel import seasonality
from tsforecast.data.sources import Loaded, Source
from tsforecast.data.splits import Borders
from tsforecast.errors import ConfigError, count
from tsforecast.features.base import FeatureSet
from tsforecast.models.base import Estimator
from tsforecast.models.naive import SeasonalNaiveForecaster
from tsforecast.quantiles import check_quantiles
from tsforecast.training.calibrate import Calibration, NoCalibration
from tsforecast.training.evaluate import Evaluation, baselines, check_labels, compare
from tsforecast.training.fit import Events as Epochs
from tsforecast.training.fit import Fitted, Fitting, Silent, fit
from tsforecast.training.prepare import Prepared, Split, check_covariates
from tsforecast.training.record import FILE, Record
from tsforecast.training.results import write_json
from tsforecast.types import Forecast

log = logging.getLogger(__name__)
PARTS = ("val", "test")
UNCOMPARED = {"paths", "tracking", "report", "publish", "name", "backtest", "objective"}  # keys that decide no score


class Events(Epochs, Protocol):
    """Who listens to an experiment: a tracker, a progress bar, a tuner that prunes."""

    def update(self, result: Result) -> None:
        """What is known so far: after the fit, the calibration and each score, and at the end."""
        ...


class Keep:
    """Keeps what is known so far, and passes epochs on to another listener."""

    def __init__(self, other: Epochs | None = None) -> None:
        self.epoch = (other or Silent()).epoch
        self.result: Result | None = None

    def update(self, result: Result) -> None:
        """See `Events`."""
        self.result = result


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What a run is made from: numbers and objects, never a configuration node.

    Parameters
    ----------
    source
        Where the series come from.
    split
        Which rows are trained on, which choose, which judge.
    features
        Row features, window features and the scaler, not fitted.
    model
        An `Estimator`, or a `tsforecast.models.neural.Neural`.
    trainer
        Called with `callbacks`, gives the `lightning.pytorch.Trainer`; a model fitted in one pass does not call it.
    calibration
        Where intervals come from.
    baselines
        Scored beside the model on the test windows, by name.
    lookback, horizon, stride
        Rows a forecast sees, rows ahead, rows between two test origins.
    season
        Rows of one season; None: that of the frequency.
    quantiles
        Levels in (0, 1) to forecast beside the point.
    unused_covariates
        `error`, or `ignore` those that the model cannot use.
    ckpt_path
        A checkpoint to resume from.
    name, label
        What the run and its bundle are called, and what tables of scores call the model.
    config
        The configuration it was built from, as JSON values: kept in the bundle.

    Raises
    ------
    ConfigError
        A size, the seed or a quantile level is none.
    """

    source: Source
    split: Split
    model: Any
    trainer: Callable[..., Any]
    lookback: int
    horizon: int
    features: FeatureSet = field(default_factory=FeatureSet)
    calibration: Calibration = field(default_factory=NoCalibration)
    baselines: Mapping[str, Estimator] = field(default_factory=dict)
    season: int | None = None
    stride: int = 1
    quantiles: tuple[float, ...] = ()
    unused_covariates: str = "error"
    seed: int = 1
    ckpt_path: str | None = None
    name: str = "experiment"
    label: str = "model"
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("lookback", "horizon", "stride", *["season"] * (self.season is not None)):
            count(name, getattr(self, name))
        if not 0 <= self.seed < 2**32:
            raise ConfigError("a seed is a whole number", where="seed", got=self.seed, allowed="0 to 2**32 - 1")
        object.__setattr__(self, "quantiles", check_quantiles(self.quantiles, learned=self.learned))

    @cached_property
    def origin(self) -> dict[str, Any]:
        """Commit, packages, host and configuration: what a result was made from."""
        return provenance(dict(self.config))

    @property
    def learned(self) -> bool:
        """Whether the model learns the quantiles; else calibration places them."""
        return bool(getattr(self.model, "learns_quantiles", False))

    def prepare(self, loaded: Loaded | None = None, *, like: Prepared | None = None) -> Prepared:
        """Read, split, fit the features on the train rows, encode, and check all that can be before a fit.

        Parameters
        ----------
        loaded
            What the source gave, where it is read already.
        like
            What an experiment has prepared that differs in its model alone.

        Raises
        ------
        TsforecastError
            Data, split, features, model and calibration do not fit together.
        """
        data = self._encoded(loaded or self.source.load()) if like is None else like
        data = replace(data, dims=replace(data.dims, quantiles=self.quantiles if self.learned else ()))
        check_covariates(self.model, data.encoded, label=self.label, unused=self.unused_covariates)
        self.calibration.check(data.windows("cal"), self.quantiles, learned=self.learned)
        for part in PARTS:
            check_labels(data.windows(part))
        golden.rehearse(data.bundle(SeasonalNaiveForecaster(1, self.horizon)), data.rows("train"))
        return data

    def _encoded(self, loaded: Loaded) -> Prepared:
        """Split, features fitted on the train rows, encoded rows."""
        panel, borders = self.split(loaded.panel, self.lookback, self.horizon).kept(loaded.panel)
        borders = replace(borders, calibration=self.calibration.fraction if self.quantiles else 0.0)
        features = self.features.fit(panel.rows(borders.begin, borders.train_end))
        encoded = features.encode(panel)
        dims = encoded.dims(self.lookback, self.horizon, self.season or seasonality(panel.freq))
        return Prepared(replace(loaded, panel=panel), borders, features, encoded, dims, self.stride)


@dataclass(frozen=True)
class Result:
    """What a run has found; while it goes on, what it has found so far.

    Attributes
    ----------
    data
        The panel with its borders, the fitted features, and windows over each part.
    fitted
        The forecaster, its training curve, what it says about itself.
    bundle
        What forecasts, calibrated; saved by `save`.
    parts
        The evaluations on the `val` and the `test` windows, by these names.
    metrics
        All scores by name: `test/mse`, `test/mse/channel/OT`, `baseline/naive/test/mae`, `time/fit_seconds`, ...
    """

    experiment: Experiment
    data: Prepared
    fitted: Fitted
    bundle: Bundle
    parts: Mapping[str, Evaluation] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def scores(self) -> pd.DataFrame:
        """The test scores (of the last part scored): a row for the model and for each baseline, a column a score."""
        return list(self.parts.values())[-1].frame()

    def table(self) -> str:
        """The scores as text, and how they compare."""
        return "\n".join(filter(None, (list(self.parts.values())[-1].table(), self.fitted.note)))

    def forecast(self) -> Forecast:
        """Of the rows after the last; with known covariates, which nobody has given for these, of the last rows."""
        panel, horizon = self.data.panel, self.bundle.dims.horizon
        if not self.bundle.schema.known:
            return self.bundle.forecast(panel)
        begin, end = panel.offsets[:-1], panel.offsets[1:]
        future = golden.frame_of(self.bundle, panel.rows(end - horizon, end))
        return self.bundle.forecast(panel.rows(begin, end - horizon), future)

    def plot(self, series: Sequence[str] = (), channels: Sequence[str] = ()) -> Any:
        """What `forecast` gives, behind the history: as `Forecast.plot`."""
        return self.forecast().plot(series, channels)

    def record(self) -> Record:
        """The test scores of the model and the baselines, to compare with those of other runs."""
        found, data, label = self.parts["test"], self.data, self.experiment.label
        of, cutoff = found.windows.series, found.panel.time[found.windows.origins - 1]
        windows = pd.DataFrame({"fold": 0, "unique_id": found.panel.ids[of], "cutoff": cutoff})
        facts = facts_of({label: self.experiment}, data.loaded, data.dims.season, [self.data.borders], data.stride)
        seconds = {label: self.metrics["time/fit_seconds"]}
        folds = {name: [each.summary()] for name, each in found.scores.items()}
        return Record(facts, windows, found.scores, folds, seconds)

    def save(self, out: Path) -> Bundle:
        """Write `bundle/`, `metrics.json`, `scores.npz` and what the model says about itself; the bundle as saved.

        Raises
        ------
        OutputError
            The directory holds a bundle already, or cannot be written.
        """
        bundle = self.bundle.save(out / "bundle")
        write_json(out / "metrics.json", self.metrics)
        if "test" in self.parts:
            self.record().save(out / FILE)
        if self.fitted.insights:
            write_json(out / "interpretation.json", self.fitted.insights)
        return bundle


def facts_of(
    experiments: Mapping[str, Experiment],
    loaded: Loaded,
    season: int,
    folds: Sequence[Borders],
    step: int,
    gap: int = 0,
) -> dict[str, Any]:
    """What a record says of how the scores of these came about."""
    first = next(iter(experiments.values()))
    rows = [[int(end.sum()) for end in (each.begin, each.train_end, each.val_end)] for each in folds]
    sizes = {"horizon": first.horizon, "gap": gap, "step": step, "season": season}
    configs = {
        name: {k: v for k, v in each.config.items() if k not in UNCOMPARED} for name, each in experiments.items()
    }
    return {"name": first.name, "data": loaded.record, **sizes, "rows": rows, "configs": configs}


def run_experiment(
    experiment: Experiment,
    out: Path | None = None,
    *,
    parts: Sequence[str] = PARTS,
    on: Events | None = None,
    data: Prepared | None = None,
) -> Result:
    """Fit, calibrate and score one experiment.

    Parameters
    ----------
    out
        Where checkpoints go, and nothing else; None: nothing is written.
    parts
        What to score: `val`, `test`, both or neither; the baselines are scored on the test windows.
    on
        Who listens.
    data
        What `experiment.prepare()` gave, where it is there already.

    Raises
    ------
    TsforecastError
        The parts of the experiment do not fit together, or the fit fails; what was found until then was told to `on`.
    """
    on = on or Keep()
    data = data or experiment.prepare()
    train, val, held_out = (data.windows(part) for part in ("train", "val", "cal"))
    panel, dims, counts = data.panel, data.dims, (len(train), len(val), len(held_out), len(data.windows("test")))
    rows = f"{len(panel)} series, {len(panel.time)} rows, {' '.join(panel.channels)}"
    sizes = "windows of %d + %d rows: %d train, %d val, %d calibration, %d test"
    log.info("%s: %s; " + sizes, data.loaded.name, rows, dims.lookback, dims.horizon, *counts)
    began = time.perf_counter()
    fitting = Fitting(data.dims, experiment.trainer, experiment.seed, out, experiment.ckpt_path, on)
    fitted = fit(experiment.model, train, val, fitting)
    until = str(data.panel.time[data.borders.val_end - 1].max())  # rows up to here chose something
    origin = {"data": data.loaded.record, "chosen_until": until, "provenance": experiment.origin}
    metadata = {"name": experiment.name, **origin}
    bundle = replace(data.bundle(fitted.forecaster), metadata=metadata)
    result = Result(experiment, data, fitted, bundle, metrics={"time/fit_seconds": time.perf_counter() - began})
    on.update(result)
    bundle = experiment.calibration(bundle, held_out, experiment.quantiles)
    rivals = baselines(bundle, experiment.baselines, train) if "test" in parts else {}
    result = replace(result, bundle=bundle)
    on.update(result)
    for part in parts:
        test = part == "test"
        found = compare(bundle, rivals if test else {}, data, part, label=experiment.label, detail=test)
        result = replace(result, parts={**result.parts, part: found}, metrics={**result.metrics, **found.metrics})
        on.update(result)
    summary = {name: value for name, value in result.metrics.items() if name.partition("/")[0] in parts}
    summary = {name: value for name, value in summary.items() if name.count("/") == 1}
    bundle = golden.with_golden(replace(bundle, metadata={**metadata, "scores": summary}), data.rows("train"))
    result = replace(result, bundle=bundle)
    on.update(result)
    return result
