"""What is wrong with a search is told before its first trial, each with the key to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuning.conftest import QUICK, Cli, Tune, states

OWN = "hydra.sweeper.task=tsforecast.tuning.trial.score"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([OWN, "+model.lamdas=choice([1.0],[2.0])"], ["lamdas", "did you mean model.lambdas?"]),
        (["model.lamdas=choice([1.0],[2.0])"], ["model.lamdas", "did you mean model.lambdas?"]),
        (["model=choice(ridge,nlinaer)"], ["nlinaer", "did you mean model=nlinear?"]),
        ([OWN, "objective=test/mae"], ["test/mae", "val/mae"]),
        ([OWN, "objective=val/mze"], ["objective=val/mse"]),
        ([OWN, "scaler=choice(robust,none)"], ["objective=val/mae_raw"]),
        (["hydra.sweeper.n_trials=0"], ["hydra.sweeper.n_trials", "1, 2, ..."]),
        (["hydra.sweeper.n_jobs=-1"], ["hydra.sweeper.n_jobs", "1, 2, ..."]),
        (["hydra.sweeper.direction=down"], ["hydra.sweeper.direction", "minimize"]),
        (["objective=[val/mae,val/mse]", "pruner=median"], ["pruner=none"]),
        (["sampler=grid", "+model.x=interval(0,1)"], ["sampler", "sampler=tpe"]),
        (["hydra.sweeper.storage=sqlite:////proc/nowhere/study.db"], ["hydra.sweeper.storage"]),
        (["hydra.sweeper.task=tests.tuning.tasks.none"], ["hydra.sweeper.task", "package.module.function"]),
        (["hydra.sweeper.storage=study.db"], ["hydra.sweeper.storage", "sqlite:///FILE"]),
    ],
)
def test_a_mistake_is_told_before_the_first_trial(
    tune: Tune, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: list[str]
) -> None:
    assert tune("parabola", *words) == 1
    said = capsys.readouterr().err
    assert said.count("Error: ") == 1
    for part in told:
        assert part in said
    assert not (tmp_path / "sweep" / "0").exists()


def test_a_password_is_told_nowhere(tune: Tune, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = "postgresql://me:hush-hush@localhost:1/none"
    assert tune("parabola", f"hydra.sweeper.storage={address}") == 1
    said = capsys.readouterr()
    assert "hush-hush" not in said.err + said.out
    assert "me:***@localhost" in said.err
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"hush-hush" not in file.read_bytes()


def test_a_storage_that_fails_on_the_way_is_told(tune: Tune, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("breaking", "hydra.sweeper.n_trials=3") == 1
    said = capsys.readouterr().err.partition("Error: ")[2]
    assert "hydra.sweeper.storage" in said
    assert "no such table" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lookback=range(10,300)"], "the space of lookback"),
        (["hydra.sweeper.direction=maximize"], "maximize"),
        (["horizon=7"], "horizon: 7, was auto"),
    ],
)
def test_a_study_of_something_else_is_not_gone_on_with(
    tune: Tune, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert tune("parabola", "hydra.sweeper.n_trials=2") == 0
    capsys.readouterr()
    assert tune("parabola", "hydra.sweeper.n_trials=4", *words) == 1
    said = capsys.readouterr().err
    assert told in said
    assert "hydra.sweeper.study" in said
    assert len(states(tmp_path)) == 2


def test_when_every_trial_fails_the_first_error_is_told(
    tune: Tune, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("failing", "hydra.sweeper.n_trials=50") == 1
    assert states(tmp_path) == ["FAIL"] * 3
    said = capsys.readouterr().err
    assert "no luck with" in said.partition("Error: ")[2]
    assert "sweep/0/train.log" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["backtest.models=[ridge,naive]"], "backtest.models"),
        (["backtest.windows=0"], "backtest.windows"),
        (["objective=val/mae"], "backtest/mae"),
        (["scaler=choice(robust,none)"], "objective=backtest/mae_raw"),
    ],
)
def test_what_a_search_of_backtest_cannot_do_is_told(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert cli("backtest", *QUICK[1:], *words) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_the_search_stands_behind_the_experiment(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("train", "-m", "+hparams_search=xgboost", "+experiment=etth1") == 1
    assert "fix:     +experiment=etth1 +hparams_search=xgboost" in capsys.readouterr().err


def test_folds_are_scored_by_backtest(tune: Tune, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("parabola", OWN, "objective=backtest/mae") == 1
    assert "python -m tsforecast.backtest -m" in capsys.readouterr().err
