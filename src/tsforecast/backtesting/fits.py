"""The fits of a backtest, in whatever process, and what each says of a fold; what was finished before is read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.request import Prediction
from tsforecast.cluster import tasks
from tsforecast.data.folds import Fold
from tsforecast.data.sources import Loaded
from tsforecast.errors import ConfigError, OutputError, TsforecastError, one_of
from tsforecast.experiment import Experiment, run_experiment
from tsforecast.files import atomic
from tsforecast.metrics import Scores, seasonal_scale
from tsforecast.plotting import Fan
from tsforecast.result import UNCOMPARED
from tsforecast.training.calibrate import Errors
from tsforecast.training.evaluate import baselines, evaluate
from tsforecast.training.prepare import Prepared
from tsforecast.training.record import forecast_frame
from tsforecast.training.results import write_json


@dataclass(frozen=True)
class Scored:
    """One model on one fold.

    Attributes
    ----------
    frame
        `unique_id, ds, cutoff, channel, y, <model>, <model>-lo-90, ...`: a row per series, channel and step.
    errors
        What intervals are made from.
    seconds, chosen
        Of the fit, and what it chose; NaN and None where the fit of an earlier fold forecasts, and for a baseline.
    """

    fold: int
    model: str
    scores: Scores
    frame: pd.DataFrame
    errors: Errors
    seconds: float = float("nan")
    chosen: Mapping[str, Any] | None = None

    def fan(self, loaded: Loaded, fold: Fold, baseline: Scored | None) -> Fan:
        """The forecast to draw of the first series and the last channel, a baseline's beside it."""
        panel, c = loaded.panel, len(loaded.panel.channels) - 1
        frame = self.frame[(self.frame["unique_id"] == panel.ids[0]) & (self.frame["channel"] == panel.channels[c])]
        fan = Fan.at(panel, 0, c, int(fold.borders.test_end[0]) - len(frame), frame[self.model].to_numpy())
        shares = [column.rpartition("-")[2] for column in frame if column.startswith(f"{self.model}-lo-")]
        within = {n: tuple(frame[f"{self.model}-{end}-{n}"].to_numpy() for end in ("lo", "hi")) for n in shares}
        rival = None if baseline is None else baseline.frame.loc[frame.index, baseline.model].to_numpy()
        unit = loaded.schema.units.get(fan.channel, "")
        return replace(fan, baseline=rival, intervals=within, label=f"fold {self.fold}", unit=unit)

    def save(self, path: Path, key: str) -> None:
        """Write the directory of this model and fold; `result.json` comes last, and says that all is there."""
        path.mkdir(parents=True, exist_ok=True)
        with atomic(path / "forecasts.parquet") as file:
            self.frame.to_parquet(file, index=False)
        with atomic(path / "scores.npz") as file:
            own = {"errors": self.errors.values, "statistics": self.errors.statistics}
            np.savez(file, allow_pickle=False, **own, **self.scores.state())
        about = {"fold": self.fold, "model": self.model, "key": key, "time/fit_seconds": self.seconds}
        about |= {"chosen": self.chosen}
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
        errors = Errors(state.pop("errors"), state.pop("statistics"))
        seconds = float("nan") if seconds is None else seconds
        return cls(about["fold"], about["model"], Scores.restore(state), frame, errors, seconds, about["chosen"])


def score(name: str, fold: Fold, bundle: Bundle, data: Prepared, gap: int) -> Scored:
    """Forecast and score the fold's windows; the first `gap` steps ahead are left out."""
    panel, windows, borders = data.panel, data.windows("test"), data.borders
    scale = seasonal_scale(panel.target, panel.offsets, borders.begin, borders.val_end, data.dims.season)
    found: list[Prediction] = []
    scores = evaluate(bundle, panel, windows, scale, keep=True, skip=gap, sink=found.append)
    frame = forecast_frame(name, bundle, panel, windows, found, gap)
    return Scored(fold.number, name, scores, frame, Errors.of(bundle, windows))


@dataclass(frozen=True)
class Fit:
    """One fit of each model, and the folds that it forecasts; whichever process it runs in."""

    experiments: Mapping[str, Experiment]
    loaded: Loaded
    folds: Sequence[Fold]
    gap: int
    out: Path | None

    def __call__(self) -> Iterator[Scored]:
        prepared: dict[str, Prepared] = {}  # what models before were fitted on
        beside = [name for name in next(iter(self.experiments.values())).baselines if name not in self.experiments]
        for name, experiment in self.experiments.items():
            names = [name, *(beside if name == next(iter(self.experiments)) else ())]
            key = self._key(experiment)
            done = [[self._done(fold, each, key) for each in names] for fold in self.folds]
            if all(map(all, done)):
                yield from (scored for own in done for scored in own if scored is not None)
                continue
            began = time.perf_counter()
            sizes = f"{experiment.lookback}, {experiment.least}"  # lookbacks to choose from are a list
            try:
                like, chosen, bundles = self._fitted(experiment, names, prepared.get(sizes))
            except TsforecastError as error:
                error.where = f"{error.where or 'model'}, of {name} in fold {self.folds[0].number}"
                raise
            prepared = {sizes: like}  # a panel can be large: one is kept
            seconds = time.perf_counter() - began
            for fold, finished in zip(self.folds, done, strict=True):
                data = replace(like, borders=replace(fold.borders, calibration=like.borders.calibration))
                for (each, bundle), scored in zip(bundles.items(), finished, strict=True):
                    own = each == name and fold.number == fold.fitted
                    scored = scored or score(each, fold, bundle, data, self.gap)
                    if own:
                        scored = replace(scored, seconds=seconds, chosen=chosen)
                    if self.out is not None:
                        scored.save(self._place(fold, each), key)
                    yield scored

    def _fitted(
        self, experiment: Experiment, names: Sequence[str], data: Prepared | None
    ) -> tuple[Prepared, Mapping[str, Any], dict[str, Bundle]]:
        """The fold's data, what the fit chose, and bundles by name, from the rows before the cutoff alone."""
        fold = replace(experiment, split=self.folds[0], horizon=experiment.horizon + self.gap)
        data = fold.prepare(self.loaded, like=data)
        out = None if self.out is None else self._place(self.folds[0], names[0])
        result = run_experiment(fold, out, parts=(), data=data)
        beside = {name: experiment.baselines[name] for name in names[1:]}
        rivals = baselines(result.bundle, beside, data.windows("train"))
        return data, result.fitted.chosen, {names[0]: result.bundle, **rivals}

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


def found_by(jobs: Sequence[Fit], n_jobs: int, executor: str) -> Iterator[Scored]:
    """What the jobs find, as it comes."""
    one_of("backtest.executor", executor, ("processes", "ray"))
    if n_jobs != -1 and n_jobs < 1:
        what, allowed = "n_jobs is a number of processes", "1, 2, ..., or -1: one a core"
        raise ConfigError(what, where="backtest.n_jobs", got=n_jobs, allowed=allowed)
    if n_jobs == 1 or len(jobs) == 1:
        for job in jobs:
            yield from job()
    elif executor == "ray":
        at_a_time = os.cpu_count() or 1 if n_jobs == -1 else n_jobs
        for scored in tasks(_listed, [(job,) for job in jobs], at_a_time, "backtest.executor"):
            yield from scored
    else:
        from joblib import Parallel, delayed
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        found = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(delayed(_listed)(job) for job in jobs)
        with contextlib.closing(found):
            try:
                for scored in found:
                    yield from scored
            except TerminatedWorkerError as error:
                what, fix = "a process was killed, as is done where memory runs out", "fewer processes"
                raise TsforecastError(what, where="backtest.n_jobs", got=n_jobs, fix=fix) from error


def _listed(job: Fit) -> list[Scored]:
    """What another process sends back."""
    return list(job())
