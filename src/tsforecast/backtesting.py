"""Cross-validation of experiments over time: each fold is a split, fitted and forecast as any other experiment is.

As `tsforecast.experiment`, it knows no hydra, no mlflow and no plots.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.request import Prediction
from tsforecast.data.folds import Fold, Folds
from tsforecast.data.panel import seasonality
from tsforecast.data.sources import Loaded
from tsforecast.errors import OutputError
from tsforecast.experiment import UNCOMPARED, Experiment, facts_of, run_experiment
from tsforecast.files import atomic
from tsforecast.metrics import Scores, seasonal_scale
from tsforecast.training.calibrate import residuals
from tsforecast.training.evaluate import baselines, evaluate
from tsforecast.training.prepare import Prepared
from tsforecast.training.record import FILE, Record
from tsforecast.training.results import table, write_json
from tsforecast.types import Forecast

log = logging.getLogger(__name__)
KEYS = ["unique_id", "ds", "cutoff", "channel", "y"]


@dataclass(frozen=True)
class Scored:
    """One model on one fold.

    Attributes
    ----------
    frame
        `unique_id, ds, cutoff, channel, y, <model>, <model>-lo-90, ...`: a row per series, channel and step.
    residuals
        Label less forecast in the units of the model, [B H C Q]: what intervals are made from.
    seconds
        Of the fit; NaN where the fit of an earlier fold forecasts, and for a baseline.
    """

    fold: int
    model: str
    scores: Scores
    frame: pd.DataFrame
    residuals: Float[np.ndarray, "B H C Q"]
    seconds: float = float("nan")

    def save(self, path: Path, key: str) -> None:
        """Write the directory of this model and fold; `result.json` comes last, and says that all is there."""
        path.mkdir(parents=True, exist_ok=True)
        with atomic(path / "forecasts.parquet") as file:
            self.frame.to_parquet(file, index=False)
        with atomic(path / "scores.npz") as file:
            np.savez(file, allow_pickle=False, residuals=self.residuals, **self.scores.state())
        about = {"fold": self.fold, "model": self.model, "key": key, "time/fit_seconds": self.seconds}
        write_json(path / "result.json", {**about, **self.scores.summary()})

    @classmethod
    def load(cls, path: Path, key: str) -> Scored | None:
        """What `save` wrote; None where it did not end.

        Raises
        ------
        OutputError
            It is of another experiment, other data or other folds.
        """
        if not (path / "result.json").exists():
            return None
        about = json.loads((path / "result.json").read_text(encoding="utf-8"))
        if about["key"] != key:
            what, fix = "this directory holds folds of another backtest", "name another directory, or delete it"
            raise OutputError(what, where="hydra.run.dir", got=path, fix=fix)
        with np.load(path / "scores.npz", allow_pickle=False) as arrays:
            state = dict(arrays)
        frame, seconds = pd.read_parquet(path / "forecasts.parquet"), about["time/fit_seconds"]
        errors = state.pop("residuals")
        scores = Scores.restore(state)
        return cls(about["fold"], about["model"], scores, frame, errors, float("nan") if seconds is None else seconds)


@dataclass(frozen=True)
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
        return f"{table(self.pooled, first, f'{count} folds')}\n\nMAE by fold\n{by_fold}"

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
        with atomic(out / "folds.csv") as file:
            self.by_fold.to_csv(file)
        with atomic(out / "scores.csv") as file:
            self.scores.to_csv(file)

    def record(self) -> Record:
        """The scores of the models and the baselines, to compare with those of other runs."""
        own = next(iter(self.scored.values()))
        frames = [each.frame[["unique_id", "cutoff"]].drop_duplicates().assign(fold=each.fold) for each in own]
        ends = [int(fold.borders.val_end[0]) for fold in self.folds]
        first, step = next(iter(self.experiments.values())), ends[1] - ends[0] if len(ends) > 1 else 0
        season = first.season or seasonality(self.loaded.panel.freq)
        borders = [fold.borders for fold in self.folds[: len(own)]]
        facts = facts_of(self.experiments, self.loaded, season, borders, step or first.horizon, self.gap)
        fits = {name: float(np.nansum([each.seconds for each in own])) for name, own in self.scored.items()}
        by_fold = {name: [each.scores.summary() for each in own] for name, own in self.scored.items()}
        seconds = {name: fits[name] for name in self.experiments if name in fits}
        return Record(facts, pd.concat(frames, ignore_index=True), self.pooled, by_fold, seconds)

    def residuals(self, model: str) -> Float[np.ndarray, "B H C Q"]:
        """Out-of-sample errors of all folds, in the units of the model."""
        return np.concatenate([each.residuals for each in self.scored[model]])


def backtest(
    experiments: Mapping[str, Experiment],
    folds: Folds,
    out: Path | None = None,
    *,
    loaded: Loaded | None = None,
    n_jobs: int = 1,
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
        Processes; the folds of one fit stay together. The numbers are the same as with one.
    on
        Told of each model and fold when it is done; True ends the backtest with the folds so far.

    Raises
    ------
    DataError
        The folds do not fit into the data; the message says how many would.
    TsforecastError
        As `run_experiment`.
    """
    first = next(iter(experiments.values()))
    loaded = loaded or first.source.load()
    planned = plan(first, folds, loaded)
    fits = dict.fromkeys(fold.fitted for fold in planned)
    jobs = [_Fit(experiments, loaded, [f for f in planned if f.fitted == own], folds.gap, out) for own in fits]
    found: list[Scored] = []
    for scored in _each(jobs, n_jobs):
        found.append(scored)
        if on(scored):
            break
    names = dict.fromkeys(each.model for each in sorted(found, key=lambda each: each.model not in experiments))
    by_model = {name: sorted((s for s in found if s.model == name), key=lambda s: s.fold) for name in names}
    return Backtest(experiments, loaded, planned, folds.gap, by_model)


def plan(experiment: Experiment, folds: Folds, loaded: Loaded) -> list[Fold]:
    """Where the folds lie; each validates on as many rows as the experiment's split does, unless `folds` says."""
    panel, size = loaded.panel, (experiment.lookback, experiment.horizon)
    if folds.val is not None:
        return folds(panel, np.zeros(len(panel), dtype=np.int64), *size)
    borders = experiment.split(panel, *size)
    return folds(panel, borders.val_end - borders.train_end, *size)


def _each(jobs: Sequence[_Fit], n_jobs: int) -> Iterator[Scored]:
    if n_jobs == 1 or len(jobs) == 1:
        for job in jobs:
            yield from job()
        return
    from joblib import Parallel, delayed

    done = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(delayed(_listed)(job) for job in jobs)
    with contextlib.closing(done):
        for scored in done:
            yield from scored


def _listed(job: _Fit) -> list[Scored]:
    """What another process sends back."""
    return list(job())


@dataclass(frozen=True)
class _Fit:
    """One fit of each model, and the folds that it forecasts; whichever process it runs in."""

    experiments: Mapping[str, Experiment]
    loaded: Loaded
    folds: Sequence[Fold]
    gap: int
    out: Path | None

    def __call__(self) -> Iterator[Scored]:
        like: Prepared | None = None  # what the model before it was fitted on
        beside = [name for name in next(iter(self.experiments.values())).baselines if name not in self.experiments]
        for name, experiment in self.experiments.items():
            names = [name, *(beside if name == next(iter(self.experiments)) else ())]
            key = self._key(experiment)
            done = [[self._done(fold, each, key) for each in names] for fold in self.folds]
            if all(map(all, done)):
                yield from (scored for own in done for scored in own if scored is not None)
                continue
            began = time.perf_counter()
            like, bundles = self._fitted(experiment, names, like)
            seconds = time.perf_counter() - began
            for fold, finished in zip(self.folds, done, strict=True):
                data = replace(like, borders=replace(fold.borders, calibration=like.borders.calibration))
                for (each, bundle), scored in zip(bundles.items(), finished, strict=True):
                    own = each == name and fold.number == fold.fitted
                    scored = scored or _scored(each, fold, bundle, data, self.gap, seconds if own else float("nan"))
                    if self.out is not None:
                        scored.save(self._place(fold, each), key)
                    yield scored

    def _fitted(
        self, experiment: Experiment, names: Sequence[str], data: Prepared | None
    ) -> tuple[Prepared, dict[str, Bundle]]:
        """The fold's data and bundles by name, from the rows before the cutoff alone."""
        sizes: dict[str, Any] = {"split": self.folds[0], "horizon": experiment.horizon + self.gap}
        fold = replace(experiment, **sizes)
        data = fold.prepare(self.loaded, like=data)
        out = None if self.out is None else self._place(self.folds[0], names[0])
        result = run_experiment(fold, out, parts=(), data=data)
        rivals = baselines(
            result.bundle, {name: experiment.baselines[name] for name in names[1:]}, data.windows("train")
        )
        return data, {names[0]: result.bundle, **rivals}

    def _key(self, experiment: Experiment) -> str:
        """The digest of all that decides what the folds are: data, configuration, borders."""
        config = {name: each for name, each in experiment.config.items() if name not in UNCOMPARED}
        each = [fold.borders for fold in self.folds]
        borders = [[int(end.sum()) for end in (b.begin, b.train_end, b.val_end, b.test_end)] for b in each]
        about = [self.loaded.fingerprint, config, self.gap, borders]
        return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()

    def _place(self, fold: Fold, name: str) -> Path:
        assert self.out is not None
        return self.out / "folds" / str(fold.number) / name

    def _done(self, fold: Fold, name: str, key: str) -> Scored | None:
        return None if self.out is None else Scored.load(self._place(fold, name), key)


def _scored(name: str, fold: Fold, bundle: Bundle, data: Prepared, gap: int, seconds: float) -> Scored:
    panel, windows, borders = data.panel, data.windows("test"), data.borders
    scale = seasonal_scale(panel.target, panel.offsets, borders.begin, borders.val_end, data.dims.season)
    ahead, found = slice(gap, bundle.dims.horizon), list[Prediction]()
    scores = evaluate(bundle, panel, windows, scale, keep=True, skip=gap, sink=found.append)
    rows = windows.origins[:, None] + np.arange(bundle.dims.horizon)[ahead]
    spread = [each.quantiles[:, ahead] for each in found if each.quantiles is not None]
    forecast = Forecast(
        ids=panel.ids[windows.series],
        cutoff=panel.time[windows.origins - 1],
        time=panel.time[rows.ravel()],
        channels=bundle.channels,
        values=np.concatenate([each.point[:, ahead] for each in found]),
        history=panel,
        quantile_levels=bundle.quantile_levels,
        quantiles=np.concatenate(spread) if spread else None,
    )
    frame = forecast.to_frame()
    frame = frame.rename(columns=lambda column: column.replace("y_hat", name, 1))
    frame.insert(4, "y", panel.target[rows].transpose(0, 2, 1).reshape(-1))
    return Scored(fold.number, name, scores, frame, residuals(bundle, windows), seconds)
