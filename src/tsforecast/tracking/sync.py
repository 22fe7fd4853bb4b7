"""Runs that a store lacks, or takes for running although their process is dead, brought up to date from disk."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tsforecast.errors import ConfigError, DataError, OutputError
from tsforecast.files import BusyError
from tsforecast.tracking.journal import FILE, Journal, journals
from tsforecast.tracking.store import PATIENCE, Store, runs
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
