"""The scores of runs, back out of MLflow."""

from __future__ import annotations

from pathlib import Path

from tsforecast.errors import DataError
from tsforecast.tracking.store import Store

RECORDS = ("scores.npz", "forecasts.parquet")


def download_records(experiment: str, uri: str | None, out: Path) -> Path:
    """The folder `out` with one for each finished run of an experiment: what it has left to be compared by.

    Parameters
    ----------
    uri
        Of the store: see `Store`.

    Raises
    ------
    DataError
        There is no such store or experiment, or no run in it has scores.
    """
    store, where = Store(uri), f"mlflow:{experiment}"
    with store.asked(where, DataError, write=False) as client:
        if (own := client.get_experiment_by_name(experiment)) is None:
            names = [each.name for each in client.search_experiments()]
            raise DataError("there is no such MLflow experiment", where=where, got=str(store), allowed=names)
        for run in client.search_runs([own.experiment_id], "attributes.status = 'FINISHED'", max_results=1000):
            for file in client.list_artifacts(run.info.run_id):
                if file.path in RECORDS:
                    folder = out / f"{run.info.run_name}-{run.info.run_id[:6]}"
                    folder.mkdir(parents=True, exist_ok=True)
                    client.download_artifacts(run.info.run_id, file.path, str(folder))
    if not out.is_dir():
        what, fix = "no finished run of this experiment has scores to compare", "train with tracking=mlflow"
        raise DataError(what, where=where, got=str(store), fix=fix)
    return out
