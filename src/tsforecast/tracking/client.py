"""The store that runs are recorded in: opened quietly, made whole or not at all, its errors told as ours."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsforecast.errors import OutputError, without_password

log = logging.getLogger(__name__)

SERVERS = ("http://", "https://", "postgresql", "mysql", "mssql", "databricks")
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # the requirements are given, whatever lock file lies in the working directory
}


def import_mlflow() -> None:
    """Quietly: what mlflow says at INFO is about itself; its telemetry stays off unless the user sets it."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    importlib.import_module("mlflow.tracking")


def connect(uri: str) -> Any:
    """A client of the store at `uri`; a missing SQLite database is made whole or not at all."""
    from mlflow.tracking import MlflowClient

    path = database(uri)
    if path is not None and not path.exists():
        log.info("making the tracking database %s, once", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that migrate one new file break each other: each makes its own, the first link stays.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as scratch:
            made = Path(scratch) / path.name
            MlflowClient(f"sqlite:///{made}")
            with contextlib.suppress(FileExistsError):
                os.link(made, path)
    return MlflowClient(uri)


def experiment_id(client: Any, name: str, uri: str) -> str:
    """The experiment's id; a new one keeps its artifacts beside the database."""
    from mlflow.exceptions import MlflowException

    if (found := client.get_experiment_by_name(name)) is None:
        path = database(uri)
        place = None if path is None else (path.parent / "mlartifacts").as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=place))
        except MlflowException:  # another process made it in between
            if (found := client.get_experiment_by_name(name)) is None:
                raise
    return str(found.experiment_id)


def database(uri: str) -> Path | None:
    """The file of a SQLite address."""
    path = uri.partition("sqlite:///")[2].partition("?")[0]
    return Path(path).absolute() if path else None


def view(uri: str) -> str:
    """What to type, or to open where a server has pages of its own, to look at the runs."""
    shown = without_password(uri)
    return shown if uri.startswith(("http", "databricks")) else f"mlflow ui --backend-store-uri {shlex.quote(shown)}"


@contextlib.contextmanager
def errors(where: str, *also: type[Exception]) -> Iterator[None]:
    """What goes wrong in the store, as an OutputError that names it."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, *also) as error:
        what = "the run cannot be recorded: " + str(error).strip().partition("\n")[0]
        fix = "see that the store is there and may be written, or give tracking=none to record nothing"
        raise OutputError(what, where=where, fix=fix) from error
