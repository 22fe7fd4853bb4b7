"""A sweep of Hydra's own ends with its runs compared."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.e2e.conftest import Cli, cli  # noqa: F401 (a fixture)

SMALL = ("dataset=wide", "dataset.path=x.csv", "lookback=24", "horizon=4", "quantiles=[]", "report=none")


def test_a_sweep_ends_with_a_table_of_its_runs(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = ("-m", "hydra.sweep.dir=sweep", "tracking=none", "model=ridge,seasonal_naive", "lookback=24,30")
    assert cli("train", *SMALL, *sweep) == 0
    said = capsys.readouterr().out.rpartition("Run directory")[2]
    for name in ("ridge lookback=24", "ridge lookback=30", "seasonal_naive lookback=24", "naive", "told apart"):
        assert name in said
    assert said.endswith("python -m tsforecast.leaderboard runs=sweep out=sweep\n")
    assert cli("leaderboard", "runs=sweep", "out=sweep") == 0
    assert "sweep/leaderboard.html" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "sweep" / "leaderboard.csv")) == 5
    assert cli("leaderboard", "runs=[sweep/0,sweep/9]") == 1
    assert "there is no such run" in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "name"), [("train", "x-ridge"), ("backtest", "x-ridge backtest")])
def test_the_runs_of_a_sweep_are_told_apart_below_one_run(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    tracking_database: Path,
    verb: str,
    name: str,
) -> None:
    from mlflow.tracking import MlflowClient

    (tmp_path / "mlflow.db").write_bytes(tracking_database.read_bytes())
    tracked = ("tracking.experiment=trial", "tracking.log_model=false", "evaluation.baselines={}")
    words = ("model=ridge", "lookback=24,30", "hydra.sweep.dir=sizes", *["backtest.windows=2"] * (verb == "backtest"))
    assert cli(verb, "-m", *SMALL, *tracked, *words) == 0
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("trial").experiment_id
    runs = client.search_runs([experiment])
    named = {run.info.run_name: run for run in runs}
    assert {run.info.status for run in runs} == {"FINISHED"}
    for number, lookback in enumerate((24, 30)):
        run = named[f"{name}-{number}"]
        assert run.data.tags["mlflow.parentRunId"] == named["sizes"].info.run_id
        assert run.data.params["lookback"] == str(lookback)
    assert cli(verb, *SMALL, *tracked, "model=ridge", "hydra.run.dir=alone") == 0
    alone = next(run for run in client.search_runs([experiment]) if run.info.run_name == name)
    assert "mlflow.parentRunId" not in alone.data.tags


def test_the_runs_of_an_mlflow_experiment_are_compared(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    tracking_database: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tsforecast.tracking.store.PAGE", 1)  # a store finds more than it gives at once
    (tmp_path / "mlflow.db").write_bytes(tracking_database.read_bytes())
    tracked = ("tracking.experiment=trial", "tracking.log_model=false")
    assert cli("train", *SMALL, *tracked, "model=ridge", "hydra.run.dir=run") == 0
    assert cli("backtest", *SMALL, *tracked, "model=ridge", "backtest.windows=3", "hydra.run.dir=folds") == 0
    capsys.readouterr()
    assert cli("leaderboard", "runs=mlflow:trial", "out=out") == 0
    said = capsys.readouterr().out
    assert "1. x, horizon 4" in said
    assert "2. x, horizon 4" in said
    assert '"point":[' in (tmp_path / "out" / "leaderboard.html").read_text()
    assert cli("leaderboard", "runs=mlflow:trail") == 1
    assert "trial" in capsys.readouterr().err
