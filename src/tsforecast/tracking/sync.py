"""Runs that a store lacks, or takes for running although their process is dead, brought up to date from disk."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsforecast.errors import ConfigError, DataError, OutputError
from tsforecast.tracking import client
from tsforecast.tracking.journal import BUSY, FILE, Journal, journals
from tsforecast.tracking.upload import RUN, Upload


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
    found = journals(place)
    if not found:
        fix = f"give a run's folder, which has a {FILE}, or one with such folders in it"
        raise DataError("no run here was tracked", where=place, fix=fix)
    failed = []
    for file in found:
        try:
            yield _synced(file, uri)
        except OutputError as error:
            if "://" in str(error.where):  # the store's: if it does not answer, no other run has to be tried
                client.answers(str(error.where))
            failed.append(file)
            yield f"{file.parent}  is not uploaded: {error.what}: {error.got}"
    if failed:
        what, fix = "not all of these runs could be uploaded", "see their lines above"
        raise OutputError(what, where=place, got=failed, fix=fix)


def _synced(file: Path, uri: str | None) -> str:
    try:
        journal = Journal(file)
    except OutputError as error:
        if error.what != BUSY:
            raise
        return f"{file.parent}  is at work"
    with journal:
        if not journal.events:
            return f"{file.parent}  was never begun"
        if dead := not journal.ended:
            journal.append("end", journal.events[-1]["at"], status="FAILED")
        upload = Upload(journal, _address(journal, uri))
        before = upload.done
        with client.asked_once(client.PATIENCE):
            upload.replay()
        new, dead_too = upload.done - before, ", its process was dead" * dead
        told = f"{new} of {upload.done} events uploaded" if new else "nothing is missing"
        return f"{file.parent}  {told}{dead_too}, run {upload.run}"


def _address(journal: Journal, uri: str | None) -> str:
    address = os.environ.get("MLFLOW_TRACKING_URI") or uri or str(journal.begun["store"])
    if "***" in address:
        what, fix = "the address of the store has a password, which is not kept", "uri=..., or set MLFLOW_TRACKING_URI"
        raise ConfigError(what, where=journal.file, got=address, fix=fix)
    return address


def close_dead(folder: Path, uri: str | None = None) -> list[str]:
    """Close the runs whose process died, as FAILED at the time of the last thing known of them; a line for each.

    These are the runs in `folder`, and those that the store has as running, that were begun on this host, and whose
    folder is gone or is at work no longer.

    Parameters
    ----------
    uri
        Of the store; MLFLOW_TRACKING_URI wins. None: the one of each run, and no store is searched.

    Raises
    ------
    OutputError
        The store cannot be reached.
    """
    dead = [file for file in journals(folder) if _dead(file)]
    closed = [_synced(file, uri) for file in dead]
    if (address := os.environ.get("MLFLOW_TRACKING_URI") or uri) is None:
        return closed
    with client.asked_once(client.WAIT), client.errors(address):
        client.import_mlflow()
        client.reach(address)
        file = client.database(address)
        if file is not None and not file.exists():
            return closed
        store = client.connect(address)
        everywhere = [each.experiment_id for each in store.search_experiments()]
        mine = f"attributes.status = 'RUNNING' and tags.`tsforecast.host` = '{socket.gethostname()}'"
        for run in store.search_runs(everywhere, mine, max_results=1000):
            closed += _close(store, run, address)
    return closed


def _dead(file: Path) -> bool:
    try:
        with Journal(file) as journal:
            return bool(journal.events) and not journal.ended
    except OutputError:  # it has the lock
        return False


def _close(store: Any, run: Any, address: str) -> list[str]:
    """Close one run that the store has as running, if nobody is at work on it."""
    folder = Path(run.data.tags["tsforecast.folder"])
    for file in folder.glob("tracking*.jsonl"):
        try:
            with Journal(file) as journal:
                mine = bool(journal.events) and journal.begun["uid"] == run.data.tags[RUN]
        except OutputError:
            return []
        if mine:
            return [_synced(file, address)]
    told = [each.timestamp for name in run.data.metrics for each in store.get_metric_history(run.info.run_id, name)]
    store.set_terminated(run.info.run_id, "FAILED", max(told, default=run.info.start_time))
    return [f"{folder}  is gone, run {run.info.run_id}"]
