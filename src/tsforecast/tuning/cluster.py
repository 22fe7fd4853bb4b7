"""Trials as Ray tasks: `hydra.sweeper.executor=ray`, on this machine or on the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import os
from pathlib import Path

from tsforecast.cluster import cluster
from tsforecast.tuning.study import Plan
from tsforecast.tuning.trial import work


def run_tasks(plan: Plan) -> None:
    """As many tasks as there are jobs, each of which takes one trial after the other.

    A cluster that has fewer processors runs fewer of them; they share the total all the same.
    """
    with cluster(plan.settings.n_jobs, "hydra.sweeper.executor") as ray:
        task = ray.remote(num_cpus=1, max_retries=0)(_task)
        ray.get([task.remote(plan, Path.cwd()) for _ in range(plan.settings.n_jobs)])


def _task(plan: Plan, folder: Path) -> None:
    os.chdir(folder)  # relative paths of the configuration begin there
    work(plan)
