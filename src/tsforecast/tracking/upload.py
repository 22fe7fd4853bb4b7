"""From a run's journal to an MLflow store: the only code that writes runs there, while they go on or later."""

from __future__ import annotations

import json
import logging
import time
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

from tsforecast.errors import OutputError, without_password
from tsforecast.tracking import client
from tsforecast.tracking.journal import Journal

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

    def __init__(self, journal: Journal, uri: str) -> None:
        self.journal, self.uri, self.store = journal, uri, without_password(uri)
        self.run, self.done = journal.uploaded(self.store)
        self._client: Any = None

    @property
    def complete(self) -> bool:
        """Whether the store has all that there is."""
        return self.done == len(self.journal.events)

    @property
    def down(self) -> bool:
        """Whether the store failed a run of this process in the last minute: a sweep does not wait each time."""
        return time.monotonic() - self._failed.get(self.store, -AGAIN) < AGAIN

    def replay(self, seconds: float = float("inf")) -> None:
        """Upload what the store lacks.

        Parameters
        ----------
        seconds
            After these nothing further is begun.

        Raises
        ------
        OutputError
            The store cannot be reached, does not answer in time, or refuses.
        """
        until = time.monotonic() + seconds
        with client.errors(self.uri):
            try:
                client.import_mlflow()
                self._client = self._client or self._connected()
                while events := self._next():
                    getattr(self, f"_{events[0]['event']}")(*events)
                    self.done += len(events)
                    if not self.complete and time.monotonic() > until:
                        raise OutputError("it answers too slowly", where=self.store)
                self._failed.pop(self.store, None)
            except BaseException:
                self._client, self._failed[self.store] = None, time.monotonic()  # to be looked at anew
                raise
            finally:
                self.journal.mark(self.store, self.run, self.done)

    def _connected(self) -> Any:
        client.reach(self.uri)
        return client.connect(self.uri)

    def _next(self) -> list[dict[str, Any]]:
        """The first event that is missing, and those metrics after it that go with it in one request."""
        missing = self.journal.events[self.done :]
        return [*takewhile(lambda each: each["event"] == "metrics", missing)] or missing[:1]

    def _begin(self, event: dict[str, Any]) -> None:
        from mlflow.entities import Param

        experiment = client.experiment_id(self._client, event["experiment"], self.uri)
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
        everywhere = [each.experiment_id for each in self._client.search_experiments()]
        found = self._client.search_runs(everywhere, f"tags.`{tag}` = '{value}'", max_results=1000)
        return [each.info.run_id for each in found]

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
