"""A search of a few trials whose score is computed from the configuration, in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from tests.e2e.conftest import Cli, cli, run  # noqa: F401 (fixtures)

QUICK = ("train", "-m", "+hparams_search=ridge", "dataset=wide", "dataset.path=x.csv", "quantiles=[]", "tracking=none",
         "report=none", "hydra.sweep.dir=sweep", "hydra.sweeper.study=s")  # fmt: skip
SPACE = ("lookback=range(10,200)", "hydra.sweeper.refit=false")
Tune = Callable[..., int]


@pytest.fixture
def tune(cli: Cli) -> Tune:  # noqa: F811
    """`tune(task, *words)`: a search in an empty folder, of one of the tasks in `tasks.py`; the exit status."""

    def call(task: str, *words: str) -> int:
        return cli(*QUICK, *SPACE, f"hydra.sweeper.task=tests.tuning.tasks.{task}", *words)

    return call


def study(folder: Path) -> optuna.Study:
    """The study of a search in this folder."""
    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/sweep/study.db")


def states(folder: Path) -> list[str]:
    """How each trial ended."""
    return [trial.state.name for trial in study(folder).trials]
