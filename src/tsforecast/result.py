"""What a run has found: a bundle, the fit behind it, scores by part; and what of it is kept to be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.provenance import FILE as PROVENANCE
from tsforecast.data.panel import Panel
from tsforecast.data.sources import Loaded
from tsforecast.data.splits import Borders
from tsforecast.files import atomic
from tsforecast.training.evaluate import Evaluation
from tsforecast.training.fit import Events as Epochs
from tsforecast.training.fit import Fitted, Silent
from tsforecast.training.prepare import Prepared
from tsforecast.training.record import FILE, Record, examples
from tsforecast.training.results import pretrained, seen, write_json
from tsforecast.types import Forecast

if TYPE_CHECKING:
    from tsforecast.experiment import Experiment


class Events(Epochs, Protocol):
    """Who listens to an experiment: a tracker, a progress bar, a tuner that prunes."""

    def update(self, result: Result) -> None:
        """What is known so far: after the fit, the calibration and each score, and at the end."""


class Keep:
    """Keeps what is known so far, and passes epochs on to another listener."""

    def __init__(self, other: Epochs | None = None) -> None:
        self.epoch = (other or Silent()).epoch
        self.result: Result | None = None

    def update(self, result: Result) -> None:
        """See `Events`."""
        self.result = result


# keys that decide no score
UNCOMPARED = {"tracking", "report", "publish", "name", "backtest", "objective", "refit"}


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        return f"{self.experiment.name}\n\n{self.table() if self.parts else 'not scored'}"

    @property
    def scores(self) -> pd.DataFrame:
        """The test scores (of the last part scored): a row for the model and for each baseline, a column a score."""
        return list(self.parts.values())[-1].frame()

    def table(self) -> str:
        """The scores as text, and how they compare."""
        said = pretrained(self.experiment.label, seen(self.experiment.model, self.data.loaded))
        return "\n".join(filter(None, (list(self.parts.values())[-1].table(), self.fitted.note, *said)))

    def forecast(self) -> Forecast:
        """Of the rows after the last; with known covariates, which nobody has given for these, of the last rows.

        Of series that `split.short=naive` left out those that have a value, too.
        """
        bundle, own = self.bundle, self.data.panel
        ahead = bundle.dims.horizon if bundle.schema.known else 0
        panel = Panel.joined([own, *(self.data.loaded.rest if bundle.fallback else ())])
        panel = panel.select(panel.lengths > ahead)
        begin, end = panel.offsets[:-1], panel.offsets[1:]
        history = panel.rows(np.maximum(begin, end - ahead - bundle.context), end - ahead)
        able = np.isin(panel.ids, own.ids) | history.observed
        future = golden.frame_of(bundle, panel.rows(end - ahead, end).select(able)) if ahead else None
        return bundle.forecast(history.select(able), future)

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

    def save(self, out: Path, *, replace: bool = False) -> Bundle:
        """Write `bundle/`, `provenance.json`, `metrics.json`, `scores.npz`, test forecasts, what it says of itself.

        Returns
        -------
        Bundle
            With its path and digest.

        Raises
        ------
        OutputError
            The directory holds a bundle already that is not to be replaced, or cannot be written.
        """
        bundle = self.bundle.save(out / "bundle", replace=replace)
        write_json(out / "metrics.json", self.metrics)
        write_json(out / PROVENANCE, bundle.provenance)
        if "test" in self.parts:
            self.record().save(out / FILE)
            found = self.parts["test"]
            own = {self.experiment.label: found.bundle}
            bundles = own | {**found.rivals} | own  # the model first, also where it is one of the baselines
            with atomic(out / "forecasts.parquet") as file:
                examples(bundles, found.panel, found.windows).to_parquet(file, index=False)
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
    known = {name: seen(each.model, loaded) for name, each in experiments.items()}
    return {"name": first.name, "data": loaded.record, **sizes, "rows": rows, "configs": configs, "seen": known}
