"""Bars of the tuning room: python benchmarks/tuning.py [pruning resume workers overhead processes xgboost] [--short].

Processor time (user and system, of all processes of a search) where the machine is shared, else seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna

TRAIN = [sys.executable, "-m", "tsforecast.train"]
QUIET = ["tracking=none", "report=none"]
HERE = Path(__file__).parent


def run(*words: str, folder: Path, kill_at: int | None = None) -> tuple[float, float]:
    """Seconds of the processor and of the wall that a command takes; it is killed once that trial has begun."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    data = f"paths.data_dir={os.environ.get('TSFORECAST_DATA_DIR', HERE.parent / 'data')}"
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with (folder / "log").open("a") as log:
        process = subprocess.Popen([*TRAIN, *words, *QUIET, data], cwd=folder, env=environment, stdout=log, stderr=log)
        while kill_at is not None and not (folder / "sweep" / str(kill_at) / "train.log").exists():
            time.sleep(0.01)
        if kill_at is not None:
            process.send_signal(signal.SIGKILL)
        if process.wait() and kill_at is None:
            raise SystemExit((folder / "log").read_text())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - began


def study(folder: Path) -> optuna.Study:
    """The study in a folder."""
    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/sweep/study.db")


def search(name: str, trials: int, *more: str) -> list[str]:
    """The words of a search."""
    sweeper = [f"hydra.sweeper.n_trials={trials}", "hydra.sweep.dir=sweep", "hydra.sweeper.study=s"]
    return ["-m", *more, f"+hparams_search={name}", *sweeper, "hydra.sweeper.refit=false"]


def trivial(cfg: Any, chosen: Any, listener: Any) -> dict[str, float]:
    """A task that takes no time."""
    return {"val/mae": float(cfg.lookback)}


def sleepy(cfg: Any, chosen: Any, listener: Any) -> dict[str, float]:
    """A task of 0.5 to 2 seconds."""
    time.sleep(0.5 + 1.5 * (listener.trial.number % 4 == 0))
    return trivial(cfg, chosen, listener)


def pruning(folder: Path, trials: int) -> None:
    """NLinear from random weights on ETTh1, with and without median pruning."""
    found = {}
    for pruner in ("none", "median"):
        place = folder / pruner
        place.mkdir()
        space = ["model.optimizer.lr=tag(log,interval(0.00003,0.03))", "model.batch_size=choice(32,64,128)"]
        fixed = [
            "model.warm_start=null",
            "model.patience=10",
            "objective=val/mse",
            "+experiment=etth1",
            "model=nlinear",
        ]
        cpu, _ = run(
            *search("linear", trials, *fixed, *space, f"pruner={pruner}", "lookback=336", "objective=val/mse"),
            folder=place,
        )
        found[pruner] = (cpu, study(place).best_value, Counter(trial.state.name for trial in study(place).trials))
    for pruner, (cpu, best, states) in found.items():
        print(f"pruner={pruner}: {cpu:.1f} s CPU, best val/mse {best:.5f}, {dict(states)}")
    print(f"CPU with against without: {found['median'][0] / found['none'][0]:.2f} (bar 0.6); "
          f"best: {found['median'][1] / found['none'][1] - 1:+.2%} (bar 1 %)")  # fmt: skip


def resume(folder: Path, trials: int) -> None:
    """Killed with -9 at trial 7 and started again, three times."""
    for attempt in range(3):
        place = folder / str(attempt)
        place.mkdir()
        words = search("xgboost", trials, "hydra.sweeper.task=tuning.short")
        run(*words, folder=place, kill_at=min(7, trials - 1))
        run(*words, folder=place)
        ended = study(place).trials
        finished = [tuple(trial.params.items()) for trial in ended if trial.state.is_finished() and trial.values]
        states = Counter(trial.state.name for trial in ended)
        print(
            f"attempt {attempt}: {len(finished)} of {trials} finished, {len(set(finished))} different, {dict(states)}"
        )


def short(cfg: Any, chosen: Any, listener: Any) -> dict[str, float]:
    """A task of 0.2 seconds."""
    time.sleep(0.2)
    return trivial(cfg, chosen, listener)


def workers(folder: Path, trials: int) -> None:
    """One worker and two, on trials of unequal length that sleep."""
    walls = []
    for jobs in (1, 2):
        place = folder / str(jobs)
        place.mkdir()
        words = search("ridge", trials, "hydra.sweeper.task=tuning.sleepy", f"hydra.sweeper.n_jobs={jobs}")
        run(*words, folder=place)
        ended = [trial for trial in study(place).trials if trial.values]
        first, last = min(t.datetime_start for t in ended), max(t.datetime_complete for t in ended)
        walls.append((last - first).total_seconds())
    print(f"trials a minute: {60 * trials / walls[0]:.0f} with one, {60 * trials / walls[1]:.0f} with two workers; "
          f"{walls[0] / walls[1]:.2f} times (bar 1.7)")  # fmt: skip


def overhead(folder: Path, trials: int) -> None:
    """What a trial costs beside its task, in this process."""
    ends = []
    for count in (1, trials + 1):
        place = folder / str(count)
        place.mkdir()
        ends.append(run(*search("xgboost", count, "hydra.sweeper.task=tuning.trivial"), folder=place))
    cpu, wall = ((ends[1][i] - ends[0][i]) / trials for i in (0, 1))
    print(f"overhead a trial, 6 keys, sqlite: {cpu:.3f} s CPU, {wall:.3f} s (bar 0.1)")


def processes(folder: Path, trials: int) -> None:
    """Trials of ridge on ETTh1 that differ in the penalty, in one process; against a process each."""
    penalties = ",".join(f"[{10 ** (i / 10 - 2):.4g}]" for i in range(trials))
    words = search("ridge", trials, "+experiment=etth1", "lookback=336", f"model.lambdas=choice({penalties})")
    one, _ = run(*words, "sampler=grid", folder=folder)
    few = [run("+experiment=etth1", "model=ridge", "model.lambdas=[1.0]", f"hydra.run.dir={i}", folder=folder)[0]
           for i in range(4)]  # fmt: skip
    mean = sum(few) / len(few)
    print(f"{trials} ridge trials: {one:.1f} s CPU; a process: {mean:.2f} s; {one / (mean * trials):.2f} (bar 0.2)")


def xgboost(folder: Path, trials: int) -> None:
    """XGBoost on ETTh1, 7 channels, 24 steps: tuned against its default."""
    fixed = ["+experiment=etth1", "horizon=24", "lookback=96", "evaluation.stride=24", "objective=val/mse"]
    run(*fixed, "model=xgboost", "hydra.run.dir=default", folder=folder)
    words = [word for word in search("xgboost", trials, *fixed) if "refit" not in word]
    cpu, _ = run(*words, "hydra.sweeper.n_jobs=1", "pruner=median", folder=folder)
    scores = [json.loads((folder / place / "metrics.json").read_text()) for place in ("default", "sweep/best")]
    for name in ("val/mse", "test/mse", "test/mae"):
        print(f"{name}: default {scores[0][name]:.5f}, tuned {scores[1][name]:.5f}")
    print(f"{trials} trials, {cpu:.0f} s CPU: {study(folder).best_params}")


BARS = {pruning: 30, resume: 20, workers: 24, overhead: 40, processes: 40, xgboost: 20}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bars", nargs="*", default=[bar.__name__ for bar in BARS])
    parser.add_argument("--short", action="store_true", help="three trials of each: whether it runs")
    asked = parser.parse_args()
    for bar, trials in BARS.items():
        if bar.__name__ in asked.bars:
            with tempfile.TemporaryDirectory() as scratch:
                bar(Path(scratch), 3 if asked.short else trials)
