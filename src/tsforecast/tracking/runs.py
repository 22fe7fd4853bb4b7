"""Runs in MLflow: one context manager that opens a run and closes it with the status it deserves."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from tsforecast.bundle import provenance
from tsforecast.errors import ConfigError, OutputError
from tsforecast.files import flat
from tsforecast.tracking import system
from tsforecast.tracking.journal import Journal, opened
from tsforecast.tracking.store import SERVERS, Store
from tsforecast.tracking.upload import PARENT, RUN, Upload

log = logging.getLogger(__name__)

Facts = Mapping[str, Any]
CATCH_UP = 10  # seconds that the end of a run takes at most for a store that was away


class Run:
    """What a command tells its run: nothing is kept of it, and `uid` is empty.

    Attributes
    ----------
    uid
        What the run is called before any store has given it an id.
    id
        What it is called in the store; '' where it is not there yet.
    next_step
        What to type, or to open, to look at the run.
    """

    uid: str = ""
    id: str = ""
    next_step: str | None = None

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, **more: Any) -> None:
        """Numbers of the whole run, or of one step of it; NaN is left out; `more` is noted in the journal alone."""
        values = {_key(name): float(value) for name, value in metrics.items() if not np.isnan(value)}
        self._tell("metrics", step=step, values=values, **more)

    def epoch(self, record: Mapping[str, float]) -> None:
        """The metrics of one epoch, when it is over.

        An epoch is recorded once: a fit that was resumed may tell of those before its checkpoint again.
        """

    def log_artifact(self, path: Path) -> None:
        """One file, or all files of a directory in a folder of its name; nothing where there is neither."""
        if path.exists():
            self._tell("file", path)

    def log_dataset(self, *, name: str, digest: str, source: str, rows: int) -> None:
        """The data the run read: its name, sha256, place and number of rows."""
        self._tell("data", name=name, digest=digest, source=source, rows=rows)

    def log_bundle(self, path: Path) -> None:
        """The bundle as a pyfunc model that any MLflow tool can load, where models are logged."""
        self._tell("model", path)

    def follow(self) -> None:
        """Show now what was told; else it is shown with the next epoch, or at the end."""

    def _tell(self, event: str, path: Path | None = None, **facts: Any) -> None:
        """Nothing is kept of it."""


class Recorded(Run):
    """A run in a journal on disk, which the store follows: after each epoch and at the end.

    Nothing waits for the store before that. That it fails is told once; it is asked again when the run ends; runs that
    begin then are left to `sync`.
    """

    def __init__(self, journal: Journal, store: Store, log_model: bool) -> None:
        self.journal, self.uid, self.log_model = journal, journal.begun["uid"], log_model
        self.upload, self.folder = Upload(journal, store), journal.file.parent
        self.away = self.spared = self.upload.down
        self._epochs = {each["step"] for each in journal.events if each.get("epoch")}

    def _tell(self, event: str, path: Path | None = None, **facts: Any) -> None:
        if path is not None:  # as seen from the run's folder, which may be moved before it is uploaded
            path, folder = path.absolute(), self.folder.absolute()
            facts["path"] = str(path.relative_to(folder) if path.is_relative_to(folder) else path)
        if event != "model" or self.log_model:
            self.journal.append(event, **facts)

    def epoch(self, record: Mapping[str, float]) -> None:
        """See `Run`."""
        if (step := int(record["epoch"])) not in self._epochs:
            self.log_metrics({name: value for name, value in record.items() if name != "epoch"}, step, epoch=True)
            self._epochs.add(step)
            self.follow()

    def follow(self, last: bool = False) -> None:
        """See `Run`; the `last` time a store that did not answer is asked once more."""
        if self.away and not (last and not (self.spared and self.upload.down)):
            return
        try:
            self.upload.replay(CATCH_UP if self.away else float("inf"))
        except OutputError as error:
            if not self.away:
                what = "MLflow at %s does not record this run (%s): it is in %s, which `%s` uploads"
                why = error.parts["got"] or error.what
                log.warning(what, error.parts["where"], why, self.journal.file, self._sync)
            self.away = True

    @property
    def id(self) -> str:  # type: ignore[override]
        """See `Run`."""
        return self.upload.run

    @property
    def _sync(self) -> str:
        return f"python -m tsforecast.sync {shlex.quote(os.path.relpath(self.folder))}"

    @property
    def next_step(self) -> str:  # type: ignore[override]
        """See `Run`."""
        return self.upload.store.view if self.upload.complete else self._sync


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
    tags
        Of every run, beside those that it has of its own.
    system_metrics
        Whether the load of the machine is recorded, by psutil.

    Raises
    ------
    ConfigError
        No address at all, or one of a kind MLflow no longer takes (a plain directory); psutil is missing.
    """

    uri: str | None = None
    experiment: str | None = None
    run_name: str | None = None
    log_model: bool = True
    tags: Facts = field(default_factory=dict)
    system_metrics: bool = False

    def __post_init__(self) -> None:
        from_env, store = os.environ.get("MLFLOW_TRACKING_URI"), Store(self.uri or "none")
        if store.file is None and not store.uri.startswith(SERVERS):
            what, fix = "MLflow cannot record runs there", "give one of these, or tracking=none to record nothing"
            where = "the environment variable MLFLOW_TRACKING_URI" if from_env else "tracking.uri"
            allowed = "sqlite:////absolute/path/mlflow.db, http://host:port, postgresql://..., mysql://..."
            raise ConfigError(what, where=where, got=from_env or self.uri, allowed=allowed, fix=fix)
        if not isinstance(self.tags, Mapping):
            raise ConfigError("tags have names", where="tracking.tags", got=self.tags, fix="+tracking.tags.team=grid")
        if self.system_metrics:
            system.check()
        self.uri, self.experiment = store.uri, self.experiment or "tsforecast"

    @contextlib.contextmanager
    def run(self, name: str, params: Facts, tags: Facts | None = None, parent: str = "", *, out: Path) -> Iterator[Run]:
        """A run that ends FINISHED, FAILED when an error leaves the block, KILLED on Ctrl-C or SIGTERM.

        Whatever becomes of the store, the run goes on: what it was told is in its folder.

        Parameters
        ----------
        name
            Shown in the run list.
        params
            The configuration; nested mappings become dotted names.
        tags
            Free text by key.
        parent
            The `uid` of the run that this one is a part of, under which MLflow shows it.
        out
            The run's folder. A run of the same parameters that was there before goes on. What a `provenance.json` says
            there of its origin becomes tags.

        Raises
        ------
        OutputError
            The folder cannot be written, or another process is at work there.
        """
        uid, store = uuid4().hex, Store(self.uri)
        tags = {**_source(out), **dict(flat(self.tags)), **(tags or {}), **({PARENT: parent} if parent else {})}
        tags |= {RUN: uid, "tsforecast.host": socket.gethostname(), "tsforecast.folder": str(out.absolute())}
        facts = {
            "uid": uid,
            "name": self.run_name or name,
            "experiment": self.experiment,
            "store": str(store),
            "params": {_key(name): str(value) for name, value in flat(params)},
            "tags": {_key(name): str(value) for name, value in tags.items()},
        }
        with opened(out, facts) as journal:
            run, status = Recorded(journal, store, self.log_model), "FINISHED"
            run.log_artifact(out / provenance.FILE)  # a run that is killed has it too
            try:
                load = system.sampled(journal) if self.system_metrics else contextlib.nullcontext()
                with _sigterm_interrupts(), load:
                    yield run
            except BaseException as error:
                status = _status(error)
                raise
            finally:
                journal.append("end", status=status)
                run.follow(last=True)


def _source(out: Path) -> dict[str, str]:
    """MLflow's own tags, which its pages show, and ours: where a run comes from."""
    file = out / provenance.FILE
    origin = json.loads(file.read_text(encoding="utf-8")) if file.exists() else provenance.provenance()
    git = origin.get("git") or {}
    tags = {"mlflow.user": provenance.user(), "mlflow.source.name": sys.argv[0], "mlflow.source.type": "LOCAL"}
    tags |= {f"mlflow.source.git.{key}": git[key] for key in ("commit", "branch") if git.get(key)}
    return tags | provenance.tags(origin)


def _key(name: str) -> str:
    """MLflow's alphabet and length, and the shortest form of a path; a channel may be called anything."""
    return re.sub(r"(?<![^/])\.{0,2}(?![^/])", "_", re.sub(r"[^\w\-./ :]", "_", str(name)))[:250]


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
