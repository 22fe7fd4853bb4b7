"""Cross-validation of experiments over time: each fold is a split, fitted and forecast as any other experiment is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsforecast.backtesting.fits import Fit, Scored, found_by
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.folds import Fold, Folds
from tsforecast.data.panel import seasonality
from tsforecast.data.sources import Loaded
from tsforecast.errors import ConfigError, DataError, listed
from tsforecast.experiment import Experiment
from tsforecast.files import atomic, write
from tsforecast.metrics import Scores
from tsforecast.plotting import Fan, draw, shown
from tsforecast.result import facts_of
from tsforecast.training.calibrate import Errors
from tsforecast.training.record import FILE, KEYS, Record
from tsforecast.training.refit import on_all_rows
from tsforecast.training.results import judged, pretrained, seen, table

log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Backtest:
    """What the folds have found, by model and fold.

    Attributes
    ----------
    experiments
        By the name of the model; the first is the one that others are compared with.
    scored
        Of each model, and of each baseline, the folds in order.
    """

    experiments: Mapping[str, Experiment]
    loaded: Loaded
    folds: Sequence[Fold]
    gap: int
    scored: Mapping[str, Sequence[Scored]]

    def __repr__(self) -> str:
        return f"{self.title}\n\n{self.table()}"

    @property
    def title(self) -> str:
        """Of its figures."""
        first = next(iter(self.experiments.values()))
        return f"{first.name}, {len(self.folds)} folds, horizon {first.horizon}"

    @cached_property
    def pooled(self) -> dict[str, Scores]:
        """All folds of each model as one."""
        return {name: reduce(Scores.merge, (each.scores for each in own)) for name, own in self.scored.items()}

    @property
    def by_fold(self) -> pd.DataFrame:
        """The scores of each fold: a row per model and fold, a column per score."""
        rows = {(each.model, each.fold): each.scores.summary() for own in self.scored.values() for each in own}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["model", "fold"])

    @property
    def scores(self) -> pd.DataFrame:
        """The pooled scores of each model, and `<score>_se`, the standard error of their mean over the folds."""
        pooled = pd.DataFrame({name: each.summary() for name, each in self.pooled.items()}).T.rename_axis("model")
        spread = self.by_fold.groupby("model", sort=False).sem().add_suffix("_se")
        return pooled.join(spread.drop(columns="windows_se"))

    @property
    def frame(self) -> pd.DataFrame:
        """`unique_id, ds, cutoff, channel, y, <model>, <model>-lo-90, ...`: all models and folds."""
        by_model = [pd.concat([each.frame for each in own], ignore_index=True) for own in self.scored.values()]
        return pd.concat([by_model[0], *(each.drop(columns=KEYS) for each in by_model[1:])], axis=1)

    def fans(self, count: int) -> list[Fan]:
        """The forecasts of the first model at the last `count` cutoffs, to draw."""
        own = next(iter(self.scored.values()))
        rivals = self.scored.get("seasonal_naive", [None] * len(own))
        pairs = list(zip(own, rivals, strict=True))[-count:] if count else []
        return [each.fan(self.loaded, self.folds[each.fold], rival) for each, rival in pairs]

    def plot(self, folds: int = 3) -> Any:
        """A matplotlib figure of the last forecasts, as `fans` chooses them."""
        return shown(draw(self.fans(folds), self.title))

    @property
    def step(self) -> int:
        """Rows from one cutoff to the next; of one cutoff alone, the horizon."""
        ends = [int(fold.borders.val_end[0]) for fold in self.folds[:2]]
        return ends[1] - ends[0] if len(ends) > 1 else next(iter(self.experiments.values())).horizon

    def metrics(self, model: str) -> dict[str, float]:
        """`backtest/mae`, `backtest/mae_se`, ... of a model."""
        return {f"backtest/{name}": value for name, value in self.scores.loc[model].to_dict().items()}

    def table(self) -> str:
        """The pooled scores as text, how they compare, and the error of each fold."""
        count = len(self.folds)
        first = next(iter(self.scored))
        errors = self.by_fold["mae"].unstack("fold")[sorted({each.fold for each in self.scored[first]})]
        shown = errors.loc[list(self.scored)].assign(**{"mean": errors.mean(axis=1), "se": errors.sem(axis=1)})
        by_fold = shown.to_string(float_format="{:.4f}".format, index_names=False)
        known = {name: seen(each.model, self.loaded) for name, each in self.experiments.items()}
        said = [text for name, each in known.items() for text in pretrained(name, each)]
        return "\n".join([table(self.pooled, first, f"{count} folds"), *said, f"\nMAE by fold\n{by_fold}"])

    def save(self, out: Path) -> None:
        """Write `scores.csv` (pooled), `folds.csv` (by fold), `forecasts.parquet` (`frame`), `scores.npz` (`record`).

        Raises
        ------
        OutputError
            They cannot be written.
        """
        with atomic(out / "forecasts.parquet") as file:
            self.frame.to_parquet(file, index=False)
        self.record().save(out / FILE)
        write(out / "folds.csv", self.by_fold.to_csv())
        write(out / "scores.csv", self.scores.to_csv())

    def record(self) -> Record:
        """The scores of the models and the baselines, to compare with those of other runs."""
        own = next(iter(self.scored.values()))
        frames = [each.frame[["unique_id", "cutoff"]].drop_duplicates().assign(fold=each.fold) for each in own]
        first = next(iter(self.experiments.values()))
        season = first.season or seasonality(self.loaded.panel.freq)
        borders = [fold.borders for fold in self.folds[: len(own)]]
        facts = facts_of(self.experiments, self.loaded, season, borders, self.step, self.gap)
        fits = {name: float(np.nansum([each.seconds for each in own])) for name, own in self.scored.items()}
        by_fold = {name: [each.scores.summary() for each in own] for name, own in self.scored.items()}
        seconds = {name: fits[name] for name in self.experiments if name in fits}
        return Record(facts, pd.concat(frames, ignore_index=True), self.pooled, by_fold, seconds)

    def errors(self, model: str) -> Errors:
        """Out-of-sample errors of all folds."""
        return Errors.joined(each.errors for each in self.scored[model])

    def bundle(self, model: str) -> Bundle:
        """Fitted on all rows with what the last fit chose, with intervals from the errors of all folds.

        Its steps count from the last known row: those of the gap are forecast too.
        """
        fold, planned = self.folds[-1], self.experiments[model]
        split = replace(fold, short=planned.split.short)
        experiment = replace(planned, split=split, horizon=planned.horizon + self.gap)
        chosen = [each.chosen for each in self.scored[model] if each.chosen is not None][-1]
        until = str(self.loaded.panel.time[fold.borders.val_end - 1].max())
        about = {"name": experiment.name, "chosen_until": until, "scores": self.metrics(model)}
        errors = self.errors(model) if experiment.calibration.needed(experiment.quantiles) else None
        data = experiment.prepare(self.loaded)
        about["evaluation"] = judged(self.pooled, model, f"{len(self.folds)} folds", self.step, data)
        return on_all_rows(experiment, data, chosen, errors, about, {**experiment.origin, "data": data.record})


def backtest(
    experiments: Mapping[str, Experiment],
    folds: Folds,
    out: Path | None = None,
    *,
    loaded: Loaded | None = None,
    n_jobs: int = 1,
    executor: str = "processes",
    on: Callable[[Scored], bool | None] = lambda _: None,
) -> Backtest:
    """Fit and score each experiment on every fold.

    Parameters
    ----------
    experiments
        By the name of the model; they differ in their models alone.
    out
        A directory for each fold and model, from which a backtest that was interrupted goes on; None: no files.
    loaded
        What the source gave, where it is read already.
    n_jobs
        How many fits at a time; the folds of one stay together. The numbers are the same as with one.
    executor
        `processes` of this machine, or `ray` tasks.
    on
        Told of each model and fold when it is done; True ends the backtest with the folds so far.

    Raises
    ------
    DataError
        The folds do not fit into the data; the message says how many would.
    TsforecastError
        As `run_experiment`.
    """
    experiments, loaded, planned = plan(experiments, folds, loaded)
    fits = dict.fromkeys(fold.fitted for fold in planned)
    jobs = [Fit(experiments, loaded, [f for f in planned if f.fitted == own], folds.gap, out) for own in fits]
    found: list[Scored] = []
    for scored in found_by(jobs, n_jobs, executor):
        found.append(scored)
        if on(scored):
            break
    names = dict.fromkeys(each.model for each in sorted(found, key=lambda each: each.model not in experiments))
    by_model = {name: sorted((s for s in found if s.model == name), key=lambda s: s.fold) for name in names}
    return Backtest(experiments, loaded, planned, folds.gap, by_model)


def plan(
    experiments: Mapping[str, Experiment], folds: Folds, loaded: Loaded | None = None
) -> tuple[dict[str, Experiment], Loaded, list[Fold]]:
    """What is backtested with the sizes that its rows ask for, these, and where the folds lie: for all models alike.

    Each fold validates on as many rows as the experiment's split does, unless `folds` says; where the split drops
    short series, those that do not hold the folds are left out.

    Raises
    ------
    ConfigError
        The gap is longer than the data, or the validation rows of a fold do not hold one window.
    DataError
        The folds do not fit into the data, or one of them has nothing to score.
    """
    loaded = loaded or next(iter(experiments.values())).source.load()
    experiments = {name: each.reading(loaded)[0] for name, each in experiments.items()}
    experiment = max(experiments.values(), key=lambda each: each.least)  # whose windows need most rows
    panel, size, least = loaded.panel, (experiment.least, experiment.horizon), experiment.horizon + folds.gap
    if folds.gap >= (longest := int(panel.lengths.max())):
        what, allowed = "the gap is longer than the data", f"less than {longest} rows"
        raise ConfigError(what, where="backtest.gap", got=folds.gap, allowed=allowed)
    val = np.full(len(panel), folds.val or 0, dtype=np.int64)
    if folds.val is None:
        borders = experiment.split(panel, *size)
        val, holds = borders.val_end - borders.train_end, borders.test_end > borders.begin
        panel, val = panel.select(holds), val[holds]
    if (fewest := int(val.min())) < least:
        what, allowed = "the validation rows of a fold do not hold one window", f"{least} or more"
        fix = f"backtest.val={least}{', or a smaller backtest.gap' * bool(folds.gap)}"
        raise ConfigError(what, where="backtest.val", got=fewest, allowed=allowed, fix=fix)
    if experiment.split.leaves_out:
        fits = folds.fitting(panel, val, *size) >= folds.windows
        if fits.any():
            panel, val = panel.select(fits), val[fits]
    if gone := (kept := loaded.keeping(panel)).left_out:
        log.info("%d series do not hold the folds and are left out: %s", len(gone), listed(gone))
    planned = folds(panel, val, *size)
    for fold in planned:
        scored = panel.rows(fold.borders.val_end + folds.gap, fold.borders.test_end)
        if np.isnan(scored.target).all():
            what, got = "no row that a fold scores has an observed value", f"fold {fold.number}, of {len(planned)}"
            where, fix = f"backtest, {scored.time.min()} to {scored.time.max()}", "another backtest.step or .windows"
            raise DataError(what, where=where, got=got, fix=f"{fix}, or leave out the rows at the end")
    return experiments, kept, planned
