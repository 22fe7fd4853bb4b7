"""A search has the trials it is to have, whatever happens to its processes, and leaves a configuration to use."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml

import tsforecast as tsf
from tests.tuning.conftest import QUICK, SPACE, Cli, Tune, states, study
from tsforecast.config.compose import CONF_DIR, compose
from tsforecast.tuning.study import storage

ROOT = Path(__file__).parents[2]
NOISE = ("name", "paths", "report", "tracking", "objective", "threads", "publish")


def command(task: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "tsforecast", *QUICK, *SPACE, f"hydra.sweeper.task=tests.tuning.tasks.{task}", *words]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def test_trials_score_validation_rows_and_the_best_is_an_experiment_to_use(cli: Cli, tmp_path: Path) -> None:
    space = ("lookback=choice(24,48)", "feature=choice([calendar],[calendar,lags],[])", "horizon=4", "seed=3")
    assert cli(*QUICK, *space, "hydra.sweeper.n_trials=4", "hydra.sweeper.save_as=tuned") == 0
    assert states(tmp_path) == ["COMPLETE"] * 4
    for trial in study(tmp_path).trials:
        scores = yaml.safe_load((tmp_path / "sweep" / str(trial.number) / "metrics.json").read_text())
        assert scores["val/mae"] == trial.value
        assert not any(name.startswith(("test", "baseline")) for name in scores)
        assert {file.name for file in (tmp_path / "sweep" / str(trial.number)).iterdir()} == {
            "config.yaml", "metrics.json", "provenance.json", "train.log",
        }  # fmt: skip
    best = tmp_path / "sweep" / "best"
    scores = yaml.safe_load((best / "metrics.json").read_text())
    assert scores["val/mae"] == study(tmp_path).best_value
    assert scores["test/mae"] > 0
    assert (best / "bundle").is_dir()
    kept = tmp_path / "sweep" / "s.yaml"
    assert kept.read_text().splitlines()[1] == "# python -m tsforecast.train +experiment=s"
    found, _ = compose("train", ["+experiment=tuned"])
    trial = yaml.safe_load((best / "config.yaml").read_text())
    for key in trial.keys() - set(NOISE):
        assert found[key] == trial[key], key
    runs = [file for name in ("best", "0", "3") for file in (tmp_path / "sweep" / name).rglob("*")]
    before = [file.stat().st_mtime_ns for file in runs]
    assert cli(*QUICK, *space, "hydra.sweeper.n_trials=4") == 0
    assert [file.stat().st_mtime_ns for file in runs] == before


def test_the_same_command_goes_on_to_its_total(tune: Tune, tmp_path: Path) -> None:
    assert tune("parabola", "hydra.sweeper.n_trials=4") == 0
    first = [trial.params for trial in study(tmp_path).trials]
    assert tune("parabola", "hydra.sweeper.n_trials=12") == 0
    assert tune("parabola", "hydra.sweeper.n_trials=12") == 0
    assert states(tmp_path) == ["COMPLETE"] * 12
    assert [trial.params for trial in study(tmp_path).trials][:4] == first
    interrupted = [trial.params["lookback"] for trial in study(tmp_path).trials]
    assert tune("parabola", "hydra.sweeper.n_trials=12", "hydra.sweep.dir=other") == 0
    other = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/other/study.db")
    assert [trial.params["lookback"] for trial in other.trials] == interrupted


def test_a_search_that_was_killed_goes_on_where_it_was(tune: Tune, tmp_path: Path) -> None:
    words = ("hydra.sweeper.n_trials=10",)
    assert subprocess.run(command("killed", *words), cwd=tmp_path, env=environment()).returncode == -9
    assert states(tmp_path) == ["COMPLETE"] * 7 + ["RUNNING"]
    before = {file: file.read_bytes() for file in (tmp_path / "sweep").glob("*/*")}
    assert tune("killed", *words) == 0
    assert Counter(states(tmp_path)) == {"COMPLETE": 10, "FAIL": 1}
    trials = study(tmp_path).trials
    assert trials[8].params == trials[7].params
    finished = [trial.params["lookback"] for trial in trials if trial.state.name == "COMPLETE"]
    assert len(finished) == 10
    assert {file: file.read_bytes() for file in before} == before


def test_two_searches_on_one_storage_share_one_total(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("date,y\n2024-01-01,1\n")
    words = ("hydra.sweeper.n_trials=8", f"hydra.sweeper.storage=journal://{tmp_path}/study.log")
    both = [subprocess.Popen(command("together", *words), cwd=tmp_path, env=environment()) for _ in range(2)]
    assert [each.wait(timeout=300) for each in both] == [0, 0]
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(f"{tmp_path}/study.log"))
    trials = optuna.load_study(study_name="s", storage=storage).trials
    assert sum(trial.state.name == "COMPLETE" for trial in trials) == 8
    folders = [path for path in (tmp_path / "sweep").iterdir() if path.name.isdigit()]
    processes = {yaml.safe_load((folder / "metrics.json").read_text())["pid"] for folder in folders}
    assert len(processes) == 2
    assert (tmp_path / "sweep" / "s.yaml").exists()


def test_workers_take_one_trial_after_the_other(tune: Tune, tmp_path: Path) -> None:
    assert tune("together", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2") == 0
    trials = [trial for trial in study(tmp_path).trials if trial.state.name == "COMPLETE"]
    assert len(trials) == 6
    folders = [tmp_path / "sweep" / str(trial.number) for trial in trials]
    processes = [yaml.safe_load((folder / "metrics.json").read_text())["pid"] for folder in folders]
    assert len(set(processes)) == 2
    assert os.getpid() not in processes


def test_what_a_pruner_ends_is_pruned_and_not_failed(
    tune: Tune, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("reporting", "hydra.sweeper.n_trials=12", "pruner=median", "sampler=random") == 0
    ended = Counter(states(tmp_path))
    assert ended["PRUNED"] > 0
    assert sum(ended.values()) == ended["PRUNED"] + ended["COMPLETE"] == 12
    assert "pruned after step 0" in capsys.readouterr().err


@pytest.mark.parametrize("pruner", sorted(file.stem for file in (CONF_DIR / "pruner").glob("*.yaml")))
def test_every_pruner_hears_of_the_epochs(tune: Tune, tmp_path: Path, pruner: str) -> None:
    assert tune("reporting", "hydra.sweeper.n_trials=6", f"pruner={pruner}") == 0
    assert set(states(tmp_path)) <= {"COMPLETE", "PRUNED"}
    assert all(len(trial.intermediate_values) in (1, 2, 3) for trial in study(tmp_path).trials)


@pytest.mark.parametrize("sampler", sorted(file.stem for file in (CONF_DIR / "sampler").glob("*.yaml")))
def test_every_sampler_draws_and_goes_on(tune: Tune, tmp_path: Path, sampler: str) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    space = ("lookback=range(10,40)", f"sampler={sampler}")
    assert tune("parabola", *space, "hydra.sweeper.n_trials=6") == 0
    assert tune("parabola", *space, "hydra.sweeper.n_trials=9") == 0
    assert states(tmp_path) == ["COMPLETE"] * 9
    assert len({trial.params["lookback"] for trial in study(tmp_path).trials}) >= 6


def test_a_grid_ends_when_all_of_it_was_tried(tune: Tune, tmp_path: Path) -> None:
    space = ("lookback=choice(10,20,30)", "horizon=range(1,3)", "sampler=grid", "hydra.sweeper.n_trials=20")
    for _ in range(2):
        assert tune("parabola", *space) == 0
        tried = {tuple(trial.params.values()) for trial in study(tmp_path).trials}
        assert len(tried) == len(study(tmp_path).trials) == 6


def test_a_trial_that_fails_counts_and_the_others_go_on(
    tune: Tune, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("odd", "hydra.sweeper.n_trials=6") == 0
    assert states(tmp_path) == ["COMPLETE", "FAIL"] * 3
    assert capsys.readouterr().err.count("failed: no luck with") == 3
    assert tune("odd", "hydra.sweeper.n_trials=6") == 0
    assert len(states(tmp_path)) == 6


def test_a_plain_multirun_stays_hydras_own(cli: Cli, tmp_path: Path) -> None:
    words = [word for word in QUICK if not word.startswith(("+hparams", "hydra.sweeper"))]
    assert cli(*words, "model=naive,ridge", "lookback=24", "horizon=4") == 0
    assert sorted(each.name for each in (tmp_path / "sweep").iterdir() if each.is_dir()) == ["0", "1"]
    assert not (tmp_path / "sweep" / "study.db").exists()


def test_several_objectives_leave_a_front(tune: Tune, tmp_path: Path) -> None:
    two = "objective=[val/mae,time/fit_seconds]"
    assert tune("parabola", two, "hydra.sweeper.n_trials=8", "report=default") == 0
    found = pd.read_csv(tmp_path / "sweep" / "pareto.csv")
    every = pd.read_csv(tmp_path / "sweep" / "trials.csv")
    assert len(every) == 8
    for row in found.itertuples():  # no other trial is better in both
        better = (every["val/mae"] < every.loc[row.trial, "val/mae"]) & (
            every["time/fit_seconds"] < every.loc[row.trial, "time/fit_seconds"]
        )
        assert not better.any()
    plots = {file.name for file in (tmp_path / "sweep" / "plots").iterdir()}
    assert plots == {"history.png", "importance.png", "pareto.png", "slices.png"}
    opposed = ("hydra.sweeper.direction=[minimize,maximize]", "hydra.sweep.dir=other")
    assert tune("parabola", two, *opposed, "hydra.sweeper.n_trials=2") == 0


def test_trials_are_children_of_the_run_of_the_search(cli: Cli, tmp_path: Path, tracking_database: Path) -> None:
    from mlflow.tracking import MlflowClient

    shutil.copy(tracking_database, tmp_path / "mlflow.db")
    words = [word for word in QUICK if word != "tracking=none"]
    assert cli(*words, "tracking=mlflow", "lookback=choice(24,48)", "horizon=4", "hydra.sweeper.n_trials=2") == 0
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    named = {run.info.run_name: run for run in runs}
    assert set(named) == {"s-tuning", "s-trial-0", "s-trial-1", "s-best"}
    parent = named.pop("s-tuning")
    assert {run.data.tags["mlflow.parentRunId"] for run in named.values()} == {parent.info.run_id}
    assert {run.info.experiment_id for run in runs} == {parent.info.experiment_id}  # else MLflow shows no children
    assert parent.data.metrics["best/val/mae"] == named["s-best"].data.metrics["val/mae"]
    assert named["s-trial-0"].data.params.keys() == {"lookback"}
    assert len({run.data.tags["packages.digest"] for run in runs}) == 1  # every run says what it was made from
    drawn = json.loads((tmp_path / "sweep" / "0" / "provenance.json").read_text())["config"]["lookback"]
    assert str(drawn) == named["s-trial-0"].data.params["lookback"]
    assert f"lookback={drawn}" in named["s-trial-0"].data.tags["overrides"]
    assert "test/mae" in named["s-best"].data.metrics
    assert "test/mae" not in named["s-trial-0"].data.metrics
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_search_of_backtest_scores_folds_before_the_test_rows_and_prunes_over_them(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = ("dataset=wide", "horizon=4", "backtest.windows=8", "quantiles=[]")
    space = ("model=choice(ridge,naive,seasonal_naive)", "lookback=choice(24,48)", "sampler=random", "seed=2")
    assert cli("backtest", *QUICK[1:], *fixed, *space, "pruner=wilcoxon", "hydra.sweeper.n_trials=8") == 0
    ended = Counter(states(tmp_path))
    assert ended["COMPLETE"] + ended["PRUNED"] == 8
    assert ended["PRUNED"] > 0
    assert "pruned after step" in capsys.readouterr().err
    for trial in study(tmp_path).trials:
        folds = [*trial.intermediate_values]
        assert folds == [*range(8)] if trial.state.name == "COMPLETE" else len(folds) < 8
    best = study(tmp_path).best_trial
    frame = pd.read_csv(tmp_path / "x.csv")
    known = frame[: round(0.8 * len(frame))]  # the last fifth is test
    chosen = (f"{key}={each}" for key, each in best.params.items())
    alone = tsf.backtest(*fixed[1:], *chosen, f"backtest.val={round(0.1 * len(frame))}", data=known, target=["y"])
    assert best.value == pytest.approx(alone.scores["mae"].iloc[0])
    scores = yaml.safe_load((tmp_path / "sweep" / "best" / "metrics.json").read_text())
    assert scores["test/mae"] > 0
    assert "backtest" not in yaml.safe_load((tmp_path / "sweep" / "s.yaml").read_text())


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_interrupted_leaves_no_trial_at_work_and_goes_on(tune: Tune, tmp_path: Path, jobs: int) -> None:
    words = ("together", "hydra.sweeper.n_trials=6", f"hydra.sweeper.n_jobs={jobs}")
    (tmp_path / "worker-0").touch()
    search = subprocess.Popen(command(*words), cwd=tmp_path, env=environment(), start_new_session=True)
    while not (tmp_path / "sweep" / "1" / "config.yaml").exists():
        assert search.poll() is None
        time.sleep(0.05)
    os.killpg(search.pid, signal.SIGINT)  # as a terminal does, to all processes of the command
    assert search.wait(timeout=300) == 130
    assert "RUNNING" not in states(tmp_path)
    assert tune(*words) == 0
    assert Counter(states(tmp_path))["COMPLETE"] == 6


def test_trials_that_failed_do_not_keep_the_next_command_from_trying(tune: Tune, tmp_path: Path) -> None:
    assert tune("failing", "hydra.sweeper.n_trials=6") == 1
    assert tune("parabola", "hydra.sweeper.n_trials=6") == 0
    assert states(tmp_path) == ["FAIL"] * 3 + ["COMPLETE"] * 3


def test_a_queued_trial_is_taken_once(tmp_path: Path) -> None:
    kept = [storage(f"sqlite:///{tmp_path}/study.db") for _ in range(2)]
    queue = optuna.create_study(study_name="s", storage=kept[0])
    for number in range(60):
        queue.enqueue_trial({"x": number})
    studies = [optuna.load_study(study_name="s", storage=each) for each in kept]
    with ThreadPoolExecutor(2) as pool:
        taken = pool.map(lambda each: [each.ask().number for _ in range(30)], studies)
    assert sorted(number for own in taken for number in own) == [*range(60)]
