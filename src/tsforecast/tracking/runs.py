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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd

from tsforecast.bundle.provenance import SERVED, packages
from tsforecast.errors import ConfigError
from tsforecast.tracking.client import (
    SERVERS,
    collector_paused,
    connect,
    database,
    experiment_id,
    import_mlflow,
    masked,
    store_errors,
)
from tsforecast.types import quantile_names

log = logging.getLogger(__name__)

OUTPUT = {"unique_id": "string", "ds": "datetime", "cutoff": "datetime", "channel": "string", "y_hat": "float"}


@dataclass
class Run:
    """What a command tells its run. Without a client it forgets everything, and `id` is empty.

    It works through `MlflowClient` alone: no global state of mlflow is read or set.
    """

    client: Any = None
    id: str = ""
    experiment: str = ""
    log_model: bool = False

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Settings; nested mappings become dotted names."""
        if self.client:
            from mlflow.entities import Param

            items = [Param(_key(key), str(value)) for key, value in _flat(params)]
            for i in range(0, len(items), 100):  # as many as MLflow takes at a time
                self.client.log_batch(self.id, params=items[i : i + 100])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Numbers of the whole run, or of one step of it; NaN is left out."""
        self.log_epochs([{**metrics, "epoch": step}])

    def log_epochs(self, epochs: Sequence[Mapping[str, float]]) -> None:
        """Training curves: one mapping per epoch; `epoch` is its number, every other key a metric."""
        if self.client:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            metrics = [
                Metric(_key(key), float(value), now, int(epoch.get("epoch", i)))
                for i, epoch in enumerate(epochs)
                for key, value in epoch.items()
                if key != "epoch" and not np.isnan(value)
            ]
            for i in range(0, len(metrics), 1000):
                self.client.log_batch(self.id, metrics=metrics[i : i + 1000])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """One file."""
        if self.client:
            with store_errors(str(path), OSError):
                self.client.log_artifact(self.id, str(path), folder)

    def log_artifacts(self, directory: Path, folder: str | None = None) -> None:
        """All files below a directory; none when there is no such directory."""
        if self.client and directory.is_dir():
            with store_errors(str(directory), OSError):
                self.client.log_artifacts(self.id, str(directory), folder)

    def log_dataset(self, *, name: str, digest: str, source: str, rows: int) -> None:
        """The data the run read: its name, sha256, place and number of rows."""
        if self.client:
            from mlflow.entities import Dataset, DatasetInput, InputTag

            # 36 characters is all the store keeps of a digest; the profile has the whole.
            profile = json.dumps({"num_rows": rows, "sha256": digest})
            data = Dataset(name, digest[:36], "local", json.dumps({"uri": source}), profile=profile)
            self.client.log_inputs(self.id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def log_bundle(self, path: Path, input_example: pd.DataFrame, quantile_levels: Sequence[float] = ()) -> str | None:
        """The bundle as a pyfunc model that any MLflow tool can load.

        Parameters
        ----------
        path
            The bundle's directory.
        input_example
            What `tsforecast.tracking.pyfunc_model` can forecast from, kept beside the model.
        quantile_levels
            Of the forecasts.

        Returns
        -------
        str or None
            `models:/<id>`, what `mlflow.pyfunc.load_model` takes; None when models are not logged.
        """
        if not (self.client and self.log_model):
            return None
        from mlflow import pyfunc
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model, ModelSignature
        from mlflow.types.schema import AnyType, ColSpec, Schema

        # Any type, none required: MLflow's own check refuses whole numbers, time zones and dates as text, all of
        # which a bundle reads, and a bundle says better what is wrong.
        columns = Schema([ColSpec(AnyType(), str(name), required=False) for name in input_example.columns])
        outputs = OUTPUT | {f"y_hat-{name}": "float" for name in quantile_names(quantile_levels) if name != "median"}
        signature = ModelSignature(columns, Schema([ColSpec(kind, name) for name, kind in outputs.items()]))
        model = self.client.create_logged_model(self.experiment, "model", self.id)
        with collector_paused(), tempfile.TemporaryDirectory() as scratch, store_errors(str(path), OSError):
            pyfunc.save_model(
                f"{scratch}/model",
                mlflow_model=Model(run_id=self.id, model_id=model.model_id),
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={"bundle": str(path)},
                signature=signature,
                input_example=input_example,
                pip_requirements=[f"{name}=={version}" for name, version in packages(SERVED).items()],
            )
            self.client.log_model_artifacts(model.model_id, f"{scratch}/model")
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(self.id, [LoggedModelOutput(model.model_id, step=0)])
        return f"models:/{model.model_id}"


class NoTracker:
    """Records nothing and imports nothing: `tracking=none`."""

    @contextlib.contextmanager
    def run(self, name: str, params: Any, tags: Any = None, provenance: Any = None) -> Iterator[Run]:
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
        if database(uri) is None and not uri.startswith(SERVERS):
            raise ConfigError(
                "this is no place MLflow can record runs in",
                where="the environment variable MLFLOW_TRACKING_URI" if from_env else "tracking.uri",
                got=repr(masked(uri)),
                allowed="sqlite:////absolute/path/mlflow.db, http://host:port, postgresql://..., mysql://...",
                fix="give one of these, or tracking=none to record nothing",
            )
        self.uri, self.experiment = uri, self.experiment or "tsforecast"

    @contextlib.contextmanager
    def run(
        self,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Iterator[Run]:
        """A run that ends FINISHED, FAILED when an error leaves the block, KILLED on Ctrl-C or SIGTERM.

        Parameters
        ----------
        name
            Shown in the run list.
        params
            The configuration.
        tags
            Free text by key.
        provenance
            What `tsforecast.bundle.provenance.provenance` gave: kept as `provenance.json`; the commit is a tag too.

        Raises
        ------
        OutputError
            The store cannot be opened or written.
        """
        uri, name = str(self.uri), self.run_name or name
        import_mlflow()
        with store_errors(uri, OSError):
            client = connect(uri)
            experiment = experiment_id(client, str(self.experiment), uri)
            opened = client.create_run(experiment, run_name=name, tags={**_source(provenance), **(tags or {})})
            run = Run(client, opened.info.run_id, experiment, self.log_model)
        log.info("run %s '%s' in experiment '%s' at %s", run.id, name, self.experiment, masked(uri))
        status = "FAILED"
        try:
            with _sigterm_interrupts(), store_errors(uri):
                run.log_params(params)
                if provenance is not None:
                    client.log_dict(run.id, dict(provenance), "provenance.json")
                yield run
            status = "FINISHED"
        except BaseException as error:
            status = _status(error)
            raise
        finally:
            with store_errors(uri):
                client.set_terminated(run.id, status)


def _source(provenance: Mapping[str, Any] | None) -> dict[str, str]:
    """MLflow's own tags, which its pages show."""
    git = (provenance or {}).get("git") or {}
    tags = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": sys.argv[0],
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git.get("commit"),
        "mlflow.source.git.branch": git.get("branch"),
        "git.dirty": str(git["dirty"]).lower() if git else None,
    }
    return {key: value for key, value in tags.items() if value}


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("SIGTERM")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
