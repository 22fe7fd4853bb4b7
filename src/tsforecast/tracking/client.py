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

from tsforecast.errors import OutputError, TsforecastError, without_password

log = logging.getLogger(__name__)

SERVERS = ("http://", "https://", "postgresql", "mysql", "mssql", "databricks")
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # the requirements are given, whatever lock file lies in the working directory
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
WAIT = 5  # seconds for an answer: neither the beginning nor the end of a training takes 15 more for a silent server
PATIENCE = 60  # seconds, where nothing but the upload is waited for


def import_mlflow() -> None:
    """Quietly: what mlflow says at INFO is about itself; its telemetry stays off unless the user sets it."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    importlib.import_module("mlflow.tracking")


def address(uri: str | None = None) -> str:
    """The store's: MLFLOW_TRACKING_URI wins over `uri`; None is `mlflow.db` where one works."""
    return os.environ.get("MLFLOW_TRACKING_URI") or uri or f"sqlite:///{Path.cwd()}/mlflow.db"


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


def reach(uri: str, write: bool = True) -> None:
    """Open a database once, to write to it or not, with a wait of seconds: MLflow would try for minutes.

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        A server is not there, or a file that is there is no database or cannot be written.
    """
    import sqlalchemy

    names = {"sqlite": "timeout", "postgresql": "connect_timeout", "mysql": "connect_timeout"}
    name = names.get(uri.partition(":")[0].partition("+")[0])
    if name is None or not (database(uri) or Path.cwd()).exists():
        return
    engine = sqlalchemy.create_engine(uri, connect_args={name: WAIT})
    try:
        with engine.connect() as connection:
            if name == "timeout" and write:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # else a lock shows only when something is written
    finally:
        engine.dispose()


def answers(uri: str) -> str:
    """What is at the address of a store; a database is not made.

    Raises
    ------
    OutputError
        It does not answer within seconds, or is of another version of MLflow.
    """
    file, shown = database(uri), without_password(uri)
    if file is not None and not file.exists():
        return f"{shown}: the first run makes it"
    try:
        with asked_once(WAIT), errors(shown):
            import_mlflow()
            reach(uri)
            connect(uri).search_experiments(max_results=1)
    except OutputError as error:
        root: BaseException = error
        while cause := root.__cause__ or root.__context__:
            root = cause
        error.got = str(root).partition(". ")[0]  # of what libraries say one after the other, the first
        if "out-of-date" in error.got:
            error.fix = f"mlflow db upgrade {shown}"
        raise
    return f"{shown} answers"


@contextlib.contextmanager
def asked_once(wait: float) -> Iterator[None]:
    """Inside, a server is asked once and has `wait` seconds to answer, unless the user's environment says otherwise."""
    limits = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(wait), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    own = {name: value for name, value in limits.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


@contextlib.contextmanager
def errors(
    where: str,
    what: str = "the run cannot be recorded",
    fix: str = "see that the store is there and may be written, or give tracking=none to record nothing",
    kind: type[TsforecastError] = OutputError,
) -> Iterator[None]:
    """What goes wrong in the store, as one error that says where.

    Whatever it is: a store of artifacts raises what its own library raises.
    """
    try:
        yield
    except TsforecastError:
        raise
    except Exception as error:
        cause = str(error).strip().partition("\n")[0].rpartition("(Caused by ")[2][:300]
        raise kind(what, where=where, got=f"{type(error).__name__}: {cause}", fix=fix) from error
