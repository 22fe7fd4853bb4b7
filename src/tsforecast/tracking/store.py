"""The store that runs are recorded in: opened quietly, made whole or not at all, its errors told as ours."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tsforecast.errors import DataError, OutputError, TsforecastError, without_password

log = logging.getLogger(__name__)

SERVERS = ("http://", "https://", "postgresql", "mysql", "mssql", "databricks")
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # the requirements are given, whatever lock file lies in the working directory
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
CONNECT = {"sqlite": "timeout", "postgresql": "connect_timeout", "mysql": "connect_timeout"}
WAIT = 5  # seconds for an answer: neither the beginning nor the end of a training takes 15 more for a silent server
RECORDS = ("scores.npz", "forecasts.parquet")  # what a run has left to be compared by
PAGE = 1000  # found at once: the most that a server gives
PATIENCE = 60  # seconds, where nothing but the upload is waited for


def import_mlflow() -> None:
    """Quietly: what mlflow says at INFO is about itself; its telemetry stays off unless the user sets it."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    importlib.import_module("mlflow.tracking")


class Store:
    """An MLflow store by its address; as text, without a password.

    Parameters
    ----------
    uri
        The environment variable MLFLOW_TRACKING_URI wins over it; None: `mlflow.db` where one works.

    Attributes
    ----------
    file
        Of a SQLite database; else None.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or uri or f"sqlite:///{Path.cwd()}/mlflow.db"
        path = self.uri.partition("sqlite:///")[2].partition("?")[0]
        self.file = Path(path).absolute() if path else None

    def __str__(self) -> str:
        return without_password(self.uri)

    @property
    def missing(self) -> bool:
        """Whether it is a database that the first run will make."""
        return self.file is not None and not self.file.exists()

    @property
    def view(self) -> str:
        """What to type, or to open where a server has pages of its own, to look at the runs."""
        pages = self.uri.startswith(("http", "databricks"))
        return str(self) if pages else f"mlflow ui --backend-store-uri {shlex.quote(str(self))}"

    @contextlib.contextmanager
    def asked(
        self,
        where: str | None = None,
        kind: type[TsforecastError] = OutputError,
        *,
        write: bool = True,
        wait: float | None = None,
    ) -> Iterator[Any]:
        """An `MlflowClient` for what is asked inside.

        A server is asked once and has `wait` seconds to answer, unless the user's environment says otherwise.

        Parameters
        ----------
        where
            What is asked for; None: the store itself.
        kind
            Of the error that anything becomes: a store of artifacts raises what its own library raises.
        write
            Whether a database is made when it is missing, and has to be one that can be written.

        Raises
        ------
        TsforecastError
            Of this kind: the store is not there, does not answer in time, or refuses.
        """
        if self.missing and not write:
            fix = "say where it is: MLFLOW_TRACKING_URI=..."
            raise kind("there is no such MLflow store", where=where, got=str(self), fix=fix)
        limits = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(wait or WAIT), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        own = {name: value for name, value in limits.items() if name not in os.environ}
        os.environ.update(own)
        try:
            import_mlflow()
            yield self._opened(write)
        except TsforecastError:
            raise
        except Exception as error:
            what = f"the MLflow store at {self} does not {'take' if write else 'give'} this"
            fix = f"see that it is there{' and may be written' * write}, and that MLFLOW_TRACKING_URI is right"
            fix += ", or give tracking=none to record nothing" * (where is None)
            fix = f"mlflow db upgrade {self}" if "out-of-date" in str(error) else fix
            raise kind(what, where=where or self, got=_reason(error), fix=fix) from error
        finally:
            for name in own:
                os.environ.pop(name, None)

    def _opened(self, write: bool) -> Any:
        from mlflow.tracking import MlflowClient

        if self.file is not None and self.missing:
            log.info("making the tracking database %s, once", self.file)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # Two processes that migrate one new file break each other: each makes its own, the first link stays.
            with tempfile.TemporaryDirectory(dir=self.file.parent, prefix=".mlflow-") as scratch:
                made = Path(scratch) / self.file.name
                MlflowClient(f"sqlite:///{made}")
                with contextlib.suppress(FileExistsError):
                    os.link(made, self.file)
        elif name := CONNECT.get(self.uri.partition(":")[0].partition("+")[0]):
            self._reach(name, write)
        return MlflowClient(self.uri)

    def _reach(self, name: str, write: bool) -> None:
        """Open a database once, with a wait of seconds: MLflow would try for minutes."""
        import sqlalchemy

        engine = sqlalchemy.create_engine(self.uri, connect_args={name: WAIT})
        try:
            with engine.connect() as connection:
                if self.file is not None and write:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")  # else a lock shows only when something is written
        finally:
            engine.dispose()

    def answers(self) -> str:
        """What is at the address, asked now; a database is not made.

        Raises
        ------
        OutputError
            It does not answer within seconds, or is of another version of MLflow.
        """
        if self.missing:
            return f"{self}: the first run makes it"
        with self.asked() as client:
            client.search_experiments(max_results=1)
        return f"{self} answers"

    def experiment(self, client: Any, name: str) -> str:
        """The id of an experiment; a new one keeps its artifacts beside the database."""
        from mlflow.exceptions import MlflowException

        if (found := client.get_experiment_by_name(name)) is None:
            place = self.file and (self.file.parent / "mlartifacts").as_uri()
            try:
                return str(client.create_experiment(name, artifact_location=place))
            except MlflowException:  # another process made it in between
                if (found := client.get_experiment_by_name(name)) is None:
                    raise
        return str(found.experiment_id)


def experiments(client: Any) -> list[str]:
    """The ids of all experiments."""
    return [each.experiment_id for each in every(client.search_experiments)]


def runs(client: Any, wanted: str, *where: str) -> list[Any]:
    """The runs that a filter lets through, of the experiments with these ids or of all."""
    return every(client.search_runs, [*where] or experiments(client), wanted)


def every(search: Callable[..., Any], *wanted: Any) -> list[Any]:
    """All that a search finds, which answers page by page."""
    found, page = list[Any](), search(*wanted, max_results=PAGE)
    while page.token:
        found, page = [*found, *page], search(*wanted, max_results=PAGE, page_token=page.token)
    return [*found, *page]


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
            names = [each.name for each in every(client.search_experiments)]
            raise DataError("there is no such MLflow experiment", where=where, got=str(store), allowed=names)
        for run in runs(client, "attributes.status = 'FINISHED'", own.experiment_id):
            for file in client.list_artifacts(run.info.run_id):
                if file.path in RECORDS:
                    folder = out / f"{run.info.run_name}-{run.info.run_id[:6]}"
                    folder.mkdir(parents=True, exist_ok=True)
                    client.download_artifacts(run.info.run_id, file.path, str(folder))
    if not out.is_dir():
        what, fix = "no finished run of this experiment has scores to compare", "train with tracking=mlflow"
        raise DataError(what, where=where, got=str(store), fix=fix)
    return out


def _reason(error: Exception) -> str:
    """Of what libraries say one after the other, what the system says, if it does: `Connection refused`."""
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    root = next((each for each in reversed(chain) if isinstance(each, OSError)), error)
    return f"{type(root).__name__}: {str(root).strip().partition(chr(10))[0][:300]}"
