"""Trials as tasks of Ray, which takes its time to start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tuning.conftest import Tune, states


@pytest.mark.slow
@pytest.mark.skipif("TSFORECAST_RAY" not in os.environ, reason="Ray takes half a minute: set TSFORECAST_RAY=1")
def test_trials_run_as_tasks_of_ray(tune: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = [
        str(Path(__file__).parents[2]),
        os.environ.get("PYTHONPATH", ""),
    ]  # where its workers find tests.tuning.tasks
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    assert tune("parabola", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2", "hydra.sweeper.executor=ray") == 0
    assert states(tmp_path).count("COMPLETE") == 6
    assert (tmp_path / "sweep" / "s.yaml").exists()
