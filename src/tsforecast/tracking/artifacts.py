"""The scores of runs, back out of MLflow."""

from __future__ import annotations

from pathlib import Path

from tsforecast.errors import DataError, without_password
from tsforecast.tracking.client import address, connect, database, import_mlflow

RECORDS = ("scores.npz", "forecasts.parquet")


def download_records(experiment: str, uri: str | None, out: Path) -> Path:
    """The folder `out` with one for each finished run of an experiment: what it has left to be compared by.

    Parameters
    ----------
    uri
        Of the store; the environment variable MLFLOW_TRACKING_URI wins, and None is `mlflow.db` where one works.

    Raises
    ------
    DataError
        There is no such store or experiment, or no run in it has scores.
    """
    uri = address(uri)
    import_mlflow()
    from mlflow.exceptions import MlflowException

    where, shown = f"mlflow:{experiment}", without_password(uri)
    file = database(uri)
    if file is not None and not file.is_file():
        raise DataError("there is no such MLflow store", where=where, got=shown, fix="give uri=...")
    try:
        client = connect(uri)
        names = [each.name for each in client.search_experiments()]
        if experiment not in names:
            raise DataError("there is no such MLflow experiment", where=where, got=shown, allowed=names)
        own = client.get_experiment_by_name(experiment).experiment_id
        for run in client.search_runs([own], "attributes.status = 'FINISHED'", max_results=1000):
            for file in client.list_artifacts(run.info.run_id):
                if file.path in RECORDS:
                    folder = out / f"{run.info.run_name}-{run.info.run_id[:6]}"
                    folder.mkdir(parents=True, exist_ok=True)
                    client.download_artifacts(run.info.run_id, file.path, str(folder))
    except (MlflowException, OSError) as error:
        got = str(error).partition("\n")[0]
        raise DataError("MLflow does not give these runs", where=where, got=got, fix="look at uri=") from error
    if not out.is_dir():
        what, fix = "no finished run of this experiment has scores to compare", "train with tracking=mlflow"
        raise DataError(what, where=where, got=shown, fix=fix)
    return out
