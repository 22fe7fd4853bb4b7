"""From a run's journal to an MLflow store: the only code that writes runs there, while they go on or later."""

from __future__ import annotations

import json
import logging
import time
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

from tsforecast.errors import OutputError
from tsforecast.tracking.journal import Journal
from tsforecast.tracking.store import Store, runs

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
