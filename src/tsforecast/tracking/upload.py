"""From a run's journal to an MLflow store, while it goes on or later: the only code that writes runs there."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tsforecast.errors import ConfigError, DataError, OutputError
from tsforecast.files import BusyError
from tsforecast.tracking.journal import FILE, Journal, journals
from tsforecast.tracking.store import PATIENCE, Store, runs

log = logging.getLogger(__name__)
AGAIN = 60  # seconds
RUN, PARENT = "tsforecast.run", "tsforecast.parent"


class Upload:
    """Brings a store to where a journal is.

    Whatever it does can be done twice: a run is found by its tag `tsforecast.run`, a model by the digest of its bundle,
    and the rest MLflow itself keeps once. So an answer that got lost doubles nothing.

    It works through `MlflowClient` alone: no global state of mlflow is read or set.
    """

    _failed: ClassVar[dict[str, float]] = {}  # by store: when it last did, of any run of this process

    def __init__(self, journal: Journal, store: Store) -> None:
        self.journal, self.store, self.name = journal, store, str(store)
        self.run, self.done = journal.uploaded(self.name)

    @property
    def complete(self) -> bool:
        """Whether the store has all that there is."""
        return self.done == len(self.journal.events)

    @property
    def down(self) -> bool:
        """Whether the store failed a run of this process in the last minute: a sweep does not wait each time."""
        return time.monotonic() - self._failed.get(self.name, -AGAIN) < AGAIN

    def replay(self, seconds: float = float("inf"), wait: float | None = None) -> None:
        """Upload what the store lacks.

        Parameters
        ----------
        seconds
            After these nothing further is begun.
        wait
            Seconds for each answer: see `Store.asked`.

        Raises
        ------
        OutputError
            The store cannot be reached, does not answer in time, or refuses.
        """
        until = time.monotonic() + seconds
        try:
            with self.store.asked(wait=wait) as client:
                self._client = client
                while events := self._next():
                    getattr(self, f"_{events[0]['event']}")(*events)
                    self.done += len(events)
                    if not self.complete and time.monotonic() > until:
                        raise OutputError("it answers too slowly", where=self.store)
            self._failed.pop(self.name, None)
        except BaseException:
            self._failed[self.name] = time.monotonic()
            raise
        finally:
            self.journal.mark(self.name, self.run, self.done)

    def _next(self) -> list[dict[str, Any]]:
        """The first event that is missing, and those metrics after it that go with it in one request."""
        missing = self.journal.events[self.done :]
        return [*takewhile(lambda each: each["event"] == "metrics", missing)] or missing[:1]

    def _begin(self, event: dict[str, Any]) -> None:
        from mlflow.entities import Param

        experiment = self.store.experiment(self._client, event["experiment"])
        tags = {**event["tags"], "mlflow.runName": event["name"]}
        if (parent := tags.get(PARENT)) and (found := self._tagged(RUN, parent)):
            tags["mlflow.parentRunId"] = found[0]
        self.run = next(iter(self._tagged(RUN, event["uid"])), "")
        if not self.run:
            made = self._client.create_run(experiment, event["at"], tags, event["name"])
            self.run = made.info.run_id
            log.info("run %s '%s' in experiment '%s' at %s", self.run, event["name"], event["experiment"], self.store)
        self._client.log_batch(self.run, params=[Param(key, value) for key, value in event["params"].items()])
        for child in self._tagged(PARENT, event["uid"]) if len(self.journal.events) > 1 else ():  # came before it
            self._client.set_tag(child, "mlflow.parentRunId", self.run)

    def _tagged(self, tag: str, value: str) -> list[str]:
        return [each.info.run_id for each in runs(self._client, f"tags.`{tag}` = '{value}'")]

    def _metrics(self, *events: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(k, v, each["at"], each["step"]) for each in events for k, v in each["values"].items()]
        self._client.log_batch(self.run, metrics=metrics)

    def _file(self, event: dict[str, Any]) -> None:
        if (path := self._path(event)) is not None:
            self._client.log_artifact(self.run, str(path))

    def _path(self, event: dict[str, Any]) -> Path | None:
        path: Path = self.journal.file.parent / event["path"]
        if path.exists():
            return path
        log.warning("%s is gone since: the run %s lacks it", path, self.run)
        return None

    def _data(self, event: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        # 36 characters is all the store keeps of a digest; the profile has the whole.
        profile = json.dumps({"num_rows": event["rows"], "sha256": event["digest"]})
        source = json.dumps({"uri": event["source"]})
        data = Dataset(event["name"], event["digest"][:36], "local", source, profile=profile)
        self._client.log_inputs(self.run, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def _model(self, event: dict[str, Any]) -> None:
        from tsforecast.tracking.models import log_model

        if (bundle := self._path(event)) is not None:
            log_model(self._client, self._client.get_run(self.run).info.experiment_id, bundle, self.run)

    def _again(self, event: dict[str, Any]) -> None:
        self._client.update_run(self.run, "RUNNING")

    def _end(self, event: dict[str, Any]) -> None:
        self._client.set_terminated(self.run, event["status"], event["at"])


def sync(place: Path, uri: str | None = None) -> Iterator[str]:
    """Upload what a store lacks of a run, or of all runs in a folder; a line for each run, as it is done.

    A run whose process died is closed first: FAILED, at the time of its last line.

    Parameters
    ----------
    uri
        Of the store; None: the one that each run was to be recorded in. MLFLOW_TRACKING_URI wins over both.

    Raises
    ------
    DataError
        No tracked run is there.
    OutputError
        The store cannot be reached, or refused a run; what it has got until then it does not get again.
    """
    found, failed, away = journals(place), [], dict[str, OutputError]()
    if not found:
        fix = f"give a run's folder, which has a {FILE}, or one with such folders in it"
        raise DataError("no run here was tracked", where=place, fix=fix)
    for file in found:
        try:
            with Journal(file) as journal:
                line = _synced(journal, uri, away)
        except BusyError:
            line = f"{file.parent}  is at work"
        except OutputError as error:
            if isinstance(error.where, Store) and error.where.uri not in away:
                try:
                    error.where.answers()
                except OutputError as silent:  # then no other run of this store has to be tried
                    if uri or os.environ.get("MLFLOW_TRACKING_URI"):  # which is that of all
                        raise
                    away[error.where.uri] = silent
            failed.append(file)
            line = f"{file.parent}  is not uploaded: {error.what}: {error.got}"
        yield line
    if failed:
        what, fix = "not all of these runs could be uploaded", "see their lines above; uri=... uploads to another store"
        where = ", ".join(str(each.where) for each in away.values()) or place
        raise OutputError(what, where=where, got=failed, fix=fix)


def _synced(journal: Journal, uri: str | None, away: Mapping[str, OutputError] = MappingProxyType({})) -> str:
    folder = journal.file.parent
    if not journal.events:
        return f"{folder}  was never begun"
    store = Store(uri or journal.begun["store"])
    if "***" in store.uri:
        what, fix = "the address of the store has a password, which is not kept", "uri=..., or set MLFLOW_TRACKING_URI"
        raise ConfigError(what, where=journal.file, got=str(store), fix=fix)
    if store.uri in away:
        raise away[store.uri]
    if dead := not journal.ended:
        journal.append("end", journal.events[-1]["at"], status="FAILED")
    upload = Upload(journal, store)
    before = upload.done
    upload.replay(wait=PATIENCE)
    new = upload.done - before
    told = f"{new} of {upload.done} events uploaded" if new else "nothing is missing"
    return f"{folder}  {told}{', its process was dead' * dead}, run {upload.run}"


def close_dead(folder: Path, uri: str) -> list[str]:
    """Close the runs whose process died, as FAILED at the time of the last thing known of them; a line for each.

    These are the runs in `folder`, and those that the store has as running, that were begun on this host, and whose
    folder is gone or is at work no longer. Where nothing is seen of the place that a folder was in, it may be that of
    another container: its runs are left alone.

    Parameters
    ----------
    uri
        Of the store; MLFLOW_TRACKING_URI wins.

    Raises
    ------
    OutputError
        The store cannot be reached.
    """
    store, closed = Store(uri), list[str]()
    for file in journals(folder):
        if journal := _left(file):
            with journal:
                if journal.events and not journal.ended:
                    closed.append(_synced(journal, uri))
    if store.missing:
        return closed
    with store.asked() as client:
        wanted = f"attributes.status = 'RUNNING' and tags.`tsforecast.host` = '{socket.gethostname()}'"
        return closed + [line for run in runs(client, wanted) for line in _close(client, run, uri)]


def _left(file: Path) -> Journal | None:
    """A journal that no process is at work on; None too for one that is damaged, of which `sync` tells."""
    try:
        return Journal(file)
    except OutputError:
        return None


def _close(client: Any, run: Any, uri: str) -> list[str]:
    """Close one run that the store has as running, if nobody is at work on it."""
    folder = Path(run.data.tags["tsforecast.folder"])
    if not folder.parent.exists():
        return []
    for file in folder.glob("tracking*.jsonl"):
        if (journal := _left(file)) is None:
            return []
        with journal:
            if journal.events and journal.begun["uid"] == run.data.tags[RUN]:
                return [_synced(journal, uri)]
    told = [each.timestamp for name in run.data.metrics for each in client.get_metric_history(run.info.run_id, name)]
    client.set_terminated(run.info.run_id, "FAILED", max(told, default=run.info.start_time))
    return [f"{folder}  is gone, run {run.info.run_id}"]
