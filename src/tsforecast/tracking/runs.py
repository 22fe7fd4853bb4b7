"""Runs in MLflow: one context manager that opens a run and closes it with the status it deserves."""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tsforecast.bundle import provenance
from tsforecast.errors import ConfigError, without_password
from tsforecast.tracking import client
from tsforecast.tracking.models import write_model

log = logging.getLogger(__name__)

Facts = Mapping[str, Any]


@dataclass
class Run:
    """What a command tells its run. Without a client it forgets everything, and `id` is empty.

    It works through `MlflowClient` alone: no global state of mlflow is read or set.
    """

    client: Any = None
    id: str = ""
    experiment: str = ""
    log_model: bool = False
    _epochs: set[int] = field(default_factory=set)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Numbers of the whole run, or of one step of it; NaN is left out."""
        if self.client:
            from mlflow.entities import Metric

            now, known = int(time.time() * 1000), {name: x for name, x in metrics.items() if not np.isnan(x)}
            self.client.log_batch(self.id, metrics=[Metric(_key(name), x, now, step) for name, x in known.items()])

    def epoch(self, record: Mapping[str, float]) -> None:
        """The metrics of one epoch, when it is over: hours of training are not lost to a store that is away.

        An epoch is recorded once, so that all may be told again at the end: those that the store missed, and those
        before the checkpoint that a fit was resumed from.
        """
        if self.client and (step := int(record["epoch"])) not in self._epochs:
            from mlflow.exceptions import MlflowException

            try:
                self.log_metrics({name: value for name, value in record.items() if name != "epoch"}, step)
                self._epochs.add(step)
            except MlflowException as error:
                log.warning("epoch %d is not recorded yet: %s", step, error)

    def log_artifact(self, path: Path) -> None:
        """One file, or all files of a directory in a folder of its name; nothing where there is neither."""
        if self.client and path.exists():
            with client.errors(str(path), OSError):
                self.client.log_artifact(self.id, str(path))

    def log_dataset(self, *, name: str, digest: str, source: str, rows: int) -> None:
        """The data the run read: its name, sha256, place and number of rows."""
        if self.client:
            from mlflow.entities import Dataset, DatasetInput, InputTag

            # 36 characters is all the store keeps of a digest; the profile has the whole.
            profile = json.dumps({"num_rows": rows, "sha256": digest})
            data = Dataset(name, digest[:36], "local", json.dumps({"uri": source}), profile=profile)
            self.client.log_inputs(self.id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def log_bundle(self, path: Path) -> str | None:
        """The bundle as a pyfunc model that any MLflow tool can load.

        Returns
        -------
        str or None
            `models:/<id>`, what `mlflow.pyfunc.load_model` takes; None when models are not logged.
        """
        if not (self.client and self.log_model):
            return None
        from mlflow.entities import LoggedModelOutput

        model = self.client.create_logged_model(self.experiment, "model", self.id)
        with tempfile.TemporaryDirectory() as scratch, client.errors(str(path), OSError):
            write_model(path, Path(scratch) / "model", run_id=self.id, model_id=model.model_id)
            self.client.log_model_artifacts(model.model_id, f"{scratch}/model")
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(self.id, [LoggedModelOutput(model.model_id, step=0)])
        return f"models:/{model.model_id}"


class NoTracker:
    """Records nothing and imports nothing: `tracking=none`."""

    @contextlib.contextmanager
    def run(self, *args: Any, **kwargs: Any) -> Iterator[Run]:
        """A run that forgets everything."""
        yield Run()


@dataclass
class MLflowTracker:
    """Runs in an MLflow tracking store.

    Parameters
    ----------
    uri
        `sqlite:////absolute/mlflow.db` (artifacts go to `mlartifacts` beside it) or a server's address. The
        environment variable MLFLOW_TRACKING_URI wins over it.
    experiment
        Made when it does not exist; `tsforecast` when None.
    run_name
        In place of the name the command gives.
    log_model
        Whether `log_bundle` stores the bundle as a pyfunc model.

    Raises
    ------
    ConfigError
        No address at all, or one of a kind MLflow no longer takes (a plain directory).
    """

    uri: str | None = None
    experiment: str | None = None
    run_name: str | None = None
    log_model: bool = True

    def __post_init__(self) -> None:
        from_env = os.environ.get("MLFLOW_TRACKING_URI")
        uri = from_env or self.uri or ""
        if client.database(uri) is None and not uri.startswith(client.SERVERS):
            what, fix = "MLflow cannot record runs there", "give one of these, or tracking=none to record nothing"
            where = "the environment variable MLFLOW_TRACKING_URI" if from_env else "tracking.uri"
            allowed = "sqlite:////absolute/path/mlflow.db, http://host:port, postgresql://..., mysql://..."
            raise ConfigError(what, where=where, got=repr(uri), allowed=allowed, fix=fix)
        self.uri, self.experiment = uri, self.experiment or "tsforecast"

    @contextlib.contextmanager
    def run(
        self, name: str, params: Facts, tags: Facts | None = None, origin: Facts | None = None, parent: str = ""
    ) -> Iterator[Run]:
        """A run that ends FINISHED, FAILED when an error leaves the block, KILLED on Ctrl-C or SIGTERM.

        Parameters
        ----------
        name
            Shown in the run list.
        params
            The configuration; nested mappings become dotted names.
        tags
            Free text by key.
        origin
            What `tsforecast.bundle.provenance.provenance` gave: kept as `provenance.json`; the commit is a tag too.
        parent
            The run that this one is a part of, under which MLflow shows it.

        Raises
        ------
        OutputError
            The store cannot be opened or written.
        """
        client.import_mlflow()
        from mlflow.entities import Param

        uri, name = str(self.uri), self.run_name or name
        tags = {**_source(origin), **(tags or {}), **({"mlflow.parentRunId": parent} if parent else {})}
        with client.errors(uri, OSError):
            connection = client.connect(uri)
            experiment = client.experiment_id(connection, str(self.experiment), uri)
            opened = connection.create_run(experiment, run_name=name, tags=tags)
            run = Run(connection, opened.info.run_id, experiment, self.log_model)
        log.info("run %s '%s' in experiment '%s' at %s", run.id, name, self.experiment, without_password(uri))
        status = "FINISHED"
        try:
            with _sigterm_interrupts(), client.errors(uri):
                connection.log_batch(run.id, params=[Param(_key(key), str(value)) for key, value in _flat(params)])
                if origin is not None:
                    connection.log_dict(run.id, dict(origin), "provenance.json")
                yield run
        except BaseException as error:
            status = _status(error)
            raise
        finally:
            with client.errors(uri):
                connection.set_terminated(run.id, status)


def _source(origin: Facts | None) -> dict[str, str]:
    """MLflow's own tags, which its pages show."""
    git = (origin or {}).get("git") or {}
    tags = {"mlflow.user": getpass.getuser(), "mlflow.source.name": sys.argv[0], "mlflow.source.type": "LOCAL"}
    tags |= {f"mlflow.source.git.{key}": git[key] for key in ("commit", "branch") if git.get(key)}
    return tags | provenance.tags(origin or {})


def _flat(params: Facts, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        nested = isinstance(value, Mapping) and value
        yield from _flat(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]


def _key(name: str) -> str:
    """MLflow's alphabet for names; a channel may be called anything."""
    return re.sub(r"[^\w\-./ :]", "_", str(name))


def _status(error: BaseException) -> str:
    """KILLED for an interrupt, also for one that a library turned into `exit(1)` on its way here."""
    cause: BaseException | None = error
    while isinstance(cause, SystemExit):
        if cause.code in (None, 0):
            return "FINISHED"
        cause = cause.__context__
    return "KILLED" if isinstance(cause, KeyboardInterrupt) else "FAILED"


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside the block, so that a stopped job still closes its run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
