"""One experiment, one call of commands, folds and trials: read, split, encode, fit, calibrate, score. No hydra."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tsforecast.bundle import golden, reference
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.provenance import provenance
from tsforecast.data.panel import seasonality
from tsforecast.data.sizes import AUTO, sizes
from tsforecast.data.sources import Loaded, Source
from tsforecast.data.splits import Split
from tsforecast.errors import ConfigError, count, one_of
from tsforecast.fallback import Fallback
from tsforecast.features.base import FeatureSet
from tsforecast.features.scaling import Scaler
from tsforecast.models.base import Estimator
from tsforecast.models.naive import SeasonalNaiveForecaster
from tsforecast.quantiles import check_quantiles
from tsforecast.result import Events, Keep, Result
from tsforecast.training.calibrate import Calibration, Errors, NoCalibration, check_observed
from tsforecast.training.crossfit import cross_errors, foretell_errors
from tsforecast.training.evaluate import baselines, check_labels, compare
from tsforecast.training.fit import Fitting, fit
from tsforecast.training.prepare import Prepared, check_covariates
from tsforecast.training.refit import on_all_rows
from tsforecast.training.results import judged, seen
from tsforecast.training.selection import selected, with_spare_covariates

log = logging.getLogger(__name__)
PARTS = ("val", "test")


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
        Rows a forecast sees, rows ahead, rows between two test origins; the first two may be `auto`, see `reading`.
        Of several lookbacks one is chosen (`training.selection`).
    least
        Rows of its series that a window holds at least, the rest of the lookback lies before the first; 0: as `reading`
        decides.
    scalers
        By name, those to choose from instead of the one of `features`; none: that one.
    season
        Rows of one season; None: that of the frequency.
    covariates
        Whether those are named, once scored, without which a ridge errs less on validation.
    quantiles
        Levels in (0, 1) to forecast beside the point.
    refit
        `none`: what is scored is what is kept; `all`: after the scores it is fitted once more, on all rows, with what
        was chosen, and with intervals from the errors of the fit before on rows that it had not seen.
    unused_covariates
        `error`, or `ignore` those that the model cannot use.
    ckpt_path
        A checkpoint to resume from.
    name, label
        What the run and its bundle are called, and what tables of scores call the model.
    config, overrides, choices, parents
        What it was built from, for the record, as `tsforecast.bundle.provenance.provenance` takes it.

    Raises
    ------
    ConfigError
        A size, the seed or a quantile level is none.
    """

    source: Source
    split: Split
    model: Any
    trainer: Callable[..., Any]
    lookback: Any
    horizon: Any
    least: int = 0
    features: FeatureSet = field(default_factory=FeatureSet)
    scalers: Mapping[str, Scaler] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=NoCalibration)
    baselines: Mapping[str, Estimator] = field(default_factory=dict)
    season: int | None = None
    stride: int = 1
    covariates: bool = False
    quantiles: tuple[float, ...] = ()
    refit: str = "none"
    unused_covariates: str = "error"
    seed: int = 1
    ckpt_path: str | None = None
    name: str = "experiment"
    label: str = "model"
    config: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rows in [] if self.lookback == AUTO else self.lookbacks or [self.lookback]:
            count("lookback", rows)
        for name in ("horizon", "stride", "season"):
            if getattr(self, name) != (None if name == "season" else AUTO):
                count(name, getattr(self, name))
        if not 0 <= self.seed < 2**32:
            raise ConfigError("a seed is a whole number", where="seed", got=self.seed, allowed="0 to 2**32 - 1")
        one_of("refit", self.refit, ("none", "all"))
        if not isinstance(self.split, Split):
            what, allowed = "this is no split", "a class below tsforecast.data.splits.Split, that has `ends`"
            raise ConfigError(what, where="split", got=type(self.split).__name__, allowed=allowed)
        object.__setattr__(self, "quantiles", check_quantiles(self.quantiles, learned=self.learned))

    @cached_property
    def origin(self) -> dict[str, Any]:
        """Configuration, commit, packages and host: what a result was made from, less its data."""
        return provenance(self.config, self.overrides, self.choices, self.parents)

    @property
    def learned(self) -> bool:
        """Whether the model learns the quantiles; else calibration places them."""
        return bool(getattr(self.model, "learns_quantiles", False))

    @property
    def lookbacks(self) -> Sequence[int]:
        """Those to choose from on validation: one where it is stated, none where the data decides."""
        several = [] if self.lookback == AUTO else self.lookback
        return several if isinstance(several, list) else [several]

    def reading(self, loaded: Loaded | None = None) -> tuple[Experiment, Loaded]:
        """What the source gives, and the experiment with the sizes that it leaves to the data."""
        loaded = loaded or self.source.load()
        if self.least:
            return self, loaded
        given = loaded.panel, self.split, max(self.lookbacks, default=AUTO), self.horizon, self.season
        back, ahead, least = sizes(*given, trains=self.model.trains)
        back = back if self.lookback == AUTO else self.lookback
        return replace(self, lookback=back, horizon=ahead, least=least), loaded

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
        began = time.perf_counter()
        if (data := like) is None:
            own, loaded = self.reading(loaded)
            data = selected(own, loaded).encoded(loaded)
        dims = replace(data.dims, quantiles=self.quantiles if self.learned else ())
        data = replace(data, dims=dims, stride=self.stride).at_most(getattr(self.model, "most", None))
        check_covariates(self.model, data.encoded, label=self.label, unused=self.unused_covariates)
        self.calibration.check(self.quantiles, learned=self.learned)
        if data.borders.calibration:
            check_observed(data.windows("cal").observed)
        elif needed := self.calibration.needed(self.quantiles):
            foretell_errors(data, needed)
        for part in PARTS:
            check_labels(data.windows(part))
        if like is None:
            golden.rehearse(data.bundle(SeasonalNaiveForecaster(1, data.dims.horizon)), data.rows("train"))
        return replace(data, seconds=time.perf_counter() - began)

    def encoded(self, loaded: Loaded) -> Prepared:
        """Split, features fitted on the train rows, encoded rows; sizes are as `reading` gives them."""
        least = min(self.least, self.lookback)
        panel, borders = self.split(loaded.panel, least, self.horizon).kept(loaded.panel)
        features = self.features.fit(panel.rows(borders.begin, borders.train_end))
        encoded = features.encode(panel, pad=self.lookback - least)
        dims = encoded.dims(self.lookback, self.horizon, self.season or seasonality(panel.freq))
        data = Prepared(loaded.keeping(panel), borders, features, encoded, dims, self.stride)
        apart = replace(data, borders=replace(borders, calibration=self.calibration.fraction if self.quantiles else 0))
        # too short for calibration rows of its own: all validation rows choose, and errors come from earlier cutoffs
        return apart if len(apart.windows("cal")) >= self.calibration.needed(self.quantiles) else data

    def calibrated(self, bundle: Bundle, errors: Errors | None, data: Prepared) -> Bundle:
        """The bundle with its quantiles, and with what forecasts short and new series where the split says so."""
        bundle = self.calibration(bundle, errors, self.quantiles)
        if self.split.short != "naive":
            return bundle
        found = Fallback.of(data.windows("train"), data.dims.season, bundle.quantile_levels)
        return replace(bundle, fallback=found)

    def errors(
        self, data: Prepared, bundle: Bundle, chosen: Mapping[str, Any], fitting: Fitting, *parts: str
    ) -> Errors | None:
        """Out of sample: of the bundle on `parts`, or of earlier cutoffs; None where no interval needs them."""
        if not self.calibration.needed(self.quantiles):
            return None
        if data.borders.calibration:
            return Errors.joined(Errors.of(bundle, data.windows(part)) for part in parts)
        rows = data.panel.rows(data.borders.begin, data.borders.rows(parts[-1])[1])
        return cross_errors(self.model.refitting(chosen), data, rows, fitting)


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
        What to score: `val`, `test`, both or neither; the baselines are scored on the test windows. Where these are
        not scored the bundle has no golden request and no provenance: it is not one to save.
    on
        Who listens.
    data
        What `experiment.prepare()` gave, where it is there already.

    Raises
    ------
    TsforecastError
        The parts of the experiment do not fit together, or the fit fails; what was found until then was told to `on`.
    """
    on, data = on or Keep(), data or experiment.prepare()
    train, held_out, val = data.windows("train"), data.windows("cal"), replace(data, most=None).windows("val")
    panel, dims, counts = data.panel, data.dims, (len(train), len(val), len(held_out), len(data.windows("test")))
    rows = f"{len(panel)} series, {len(panel.time)} rows, {' '.join(panel.channels)}"
    sizes = "windows of %d + %d rows: %d train, %d val, %d calibration, %d test"
    log.info("%s: %s; " + sizes, data.loaded.name, rows, dims.lookback, dims.horizon, *counts)
    began, until = time.perf_counter(), time.monotonic() + getattr(experiment.model, "seconds", math.inf)
    fitting = Fitting(data.dims, experiment.trainer, experiment.seed, out, experiment.ckpt_path, on, until)
    fitted = fit(experiment.model, train, val, fitting)
    data.foretell(fitted.forecaster)
    chosen_until = str(panel.time[data.borders.val_end - 1].max())
    seconds = {"read": data.seconds, "fit": time.perf_counter() - began}
    metadata: dict[str, Any] = {"name": experiment.name, "chosen_until": chosen_until}
    metadata |= seen(experiment.model, data.loaded)
    metadata |= fitted.shown
    origin: dict[str, Any] = {**experiment.origin, "data": data.record, "seconds": seconds} if "test" in parts else {}
    bundle = replace(data.bundle(fitted.forecaster), metadata=metadata, provenance=origin)
    if experiment.covariates and "test" in parts:
        fitted = with_spare_covariates(fitted, data, getattr(experiment.model, "uses", None) or ())
    result = Result(experiment, data, fitted, bundle, metrics={"time/fit_seconds": seconds["fit"]})
    on.update(result)
    half = fitting.apart(1 / 2)  # of what is left: the other half is for the scores
    errors = experiment.errors(data, bundle, fitted.chosen, half, "cal")
    bundle = experiment.calibrated(bundle, errors, data)
    rivals = baselines(bundle, experiment.baselines, train) if "test" in parts else {}
    result = replace(result, bundle=bundle)
    on.update(result)
    for part in parts:
        test = part == "test"
        found = compare(bundle, rivals if test else {}, data, part, label=experiment.label, detail=test)
        result = replace(result, parts={**result.parts, part: found}, metrics={**result.metrics, **found.metrics})
        on.update(result)
    metadata["scores"] = {name: value for name, value in result.metrics.items() if name.rpartition("/")[0] in parts}
    seconds["score"] = time.perf_counter() - began - seconds["fit"]
    if "test" in parts:
        scores = result.parts["test"].scores
        metadata["evaluation"] = judged(scores, experiment.label, "test", data.stride, data)
        if experiment.refit == "all":
            errors = experiment.errors(data, bundle, fitted.chosen, fitting.apart(), "cal", "test")
            bundle = on_all_rows(experiment, data, fitted.chosen, errors, metadata, origin)
        else:
            told = panel.rows(data.borders.begin, data.borders.test_end)
            bundle = replace(bundle, metadata={**bundle.metadata, **metadata})
            bundle = golden.with_golden(bundle, data.rows("train"), seen=told)
        bundle = reference.with_errors(bundle, scores[experiment.label], data.windows("test"))
    result = replace(result, bundle=bundle)
    on.update(result)
    return result
