"""What a store was away from is uploaded later, and differs in nothing from a run that it followed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Silent, until
from tests.errors import has, refused
from tests.tracking.conftest import Server
from tests.tracking.test_pyfunc_model import saved, wide
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.schema import Schema
from tsforecast.errors import ConfigError, DataError, OutputError
from tsforecast.registry import Registry
from tsforecast.tracking import store as mlflow_store
from tsforecast.tracking.journal import FILE, Journal
from tsforecast.tracking.runs import MLflowTracker, Run
from tsforecast.tracking.store import Store
from tsforecast.tracking.upload import Upload, close_dead, sync

OWN = {"tsforecast.run", "tsforecast.folder", "mlflow.log-model.history"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return saved(wide(), Schema(freq="h"), tmp_path_factory.mktemp("trained") / "bundle")


@pytest.fixture(autouse=True)
def _address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


@contextmanager
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same milliseconds for whoever asks in the same order."""
    ticks = iter(range(1_700_000_000_000, 1_800_000_000_000, 1000))
    with monkeypatch.context() as patched:
        patched.setattr("tsforecast.tracking.journal.now", lambda: next(ticks))
        yield


def told(run: Run, out: Path, bundle: Bundle, epochs: range = range(3)) -> None:
    """What a training tells."""
    for epoch in epochs:
        run.epoch({"epoch": epoch, "train/loss": 2.0 / (epoch + 1), "val/loss": 3.0 / (epoch + 1)})
    (out / "plots").mkdir(exist_ok=True)
    (out / "plots" / "fan.png").write_bytes(b"png")
    (out / "metrics.json").write_text("{}")
    run.log_metrics({"test/mae": 0.25, "test/mape": float("nan")})
    run.log_dataset(name="etth1", digest="f" * 64, source="ETTh1.csv", rows=17420)
    run.log_bundle(Path(str(bundle.path)))
    run.log_artifact(out / "plots")
    run.log_artifact(out / "metrics.json")


PARAMS, ORIGIN = {"model": {"lr": 0.1}, "seed": 1}, {"git": {"commit": "c" * 40, "branch": "main", "dirty": True}}


def tracked(uri: str, **more: Any) -> MLflowTracker:
    return MLflowTracker(uri, "study", tags={"team": "grid"}, **more)


def facts(client: Any, run_id: str, scratch: Path) -> dict[str, Any]:
    """All that a store says of a run, without ids and places."""
    run = client.get_run(run_id)
    data, info = run.data, run.info
    [model] = [client.get_logged_model(each.model_id) for each in run.outputs.model_outputs]
    history = {
        name: sorted((m.step, m.value, m.timestamp) for m in client.get_metric_history(run_id, name))
        for name in data.metrics
    }
    client.download_artifacts(run_id, "", str(scratch))
    return {
        "info": (info.run_name, info.status, info.start_time, info.end_time, info.user_id, info.lifecycle_stage),
        "params": data.params,
        "metrics": history,
        "tags": {name: value for name, value in data.tags.items() if name not in OWN},
        "data": [each.to_dictionary() for each in run.inputs.dataset_inputs],
        "files": {str(f.relative_to(scratch)): f.read_bytes() for f in sorted(scratch.rglob("*")) if f.is_file()},
        "model": (model.name, model.status, model.tags.get("tsforecast.digest"), model.source_run_id == run_id),
    }


def test_a_run_that_is_synced_later_differs_in_nothing_from_one_that_the_server_followed(
    server: Server,
    nobody: str,
    client: Any,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, uri in (("live", server.uri), ("away", nobody)):
        out = tmp_path / name
        out.mkdir()
        (out / "provenance.json").write_text(json.dumps(ORIGIN))
        with clock(monkeypatch), tracked(uri).run("same", PARAMS, {"dataset": "x"}, out=out) as run:
            told(run, out, bundle)
        if name == "live":
            live = run.id
            assert not warnings(caplog)
            assert run.next_step == server.uri
    assert run.id == ""
    assert str(run.next_step).startswith("python -m tsforecast.sync ")
    [warning] = warnings(caplog)
    assert has(uri, "Connection refused", f"python -m tsforecast.sync {os.path.relpath(out)}") == warning
    with refused(OutputError, where=has(uri)):
        list(sync(tmp_path / "away"))
    assert len(list(sync(tmp_path, server.uri))) == 2
    with Journal(tmp_path / "away" / FILE) as journal:
        synced = journal.uploaded(server.uri)[0]
    assert synced not in ("", live)
    expected = facts(client, live, tmp_path / "a")
    assert facts(client, synced, tmp_path / "b") == expected
    assert expected["info"][:2] == ("same", "FINISHED")
    assert [step for step, *_ in expected["metrics"]["val/loss"]] == [0, 1, 2]
    assert expected["tags"]["team"] == "grid"
    assert {"plots/fan.png", "metrics.json", "provenance.json"} == set(expected["files"])
    model = Registry(server.uri).resolve(f"runs:/{synced}/model").path
    assert Bundle.load(model).digest == bundle.digest
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert all("nothing is missing" in line for line in sync(tmp_path))


def test_when_answers_got_lost_then_nothing_is_there_twice(
    server: Server, client: Any, bundle: Bundle, tmp_path: Path
) -> None:
    with tracked(server.uri).run("again", PARAMS, out=tmp_path / "run") as run:
        told(run, tmp_path / "run", bundle)
    before = facts(client, run.id, tmp_path / "a")
    file = tmp_path / "run" / FILE
    events = [line for line in file.read_bytes().splitlines(True) if b'"uploaded"' not in line]
    file.write_bytes(b"".join(events))  # as though no request had been answered
    [line] = sync(tmp_path / "run")
    assert line.endswith(f"{len(events)} of {len(events)} events uploaded, run {run.id}")
    assert facts(client, run.id, tmp_path / "b") == before
    assert (
        len(client.search_logged_models([client.get_run(run.id).info.experiment_id], f"source_run_id = '{run.id}'"))
        == 1
    )


def test_when_the_server_is_killed_in_mid_run_then_the_run_goes_on_and_sync_completes_it(
    server: Server,
    client: Any,
    bundle: Bundle,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    slept: list[float],
) -> None:
    with tracked(server.uri).run("cut off", PARAMS, out=tmp_path) as run:
        told(run, tmp_path, bundle, range(2))
        assert client.get_run(run.id).data.metrics["val/loss"] == 1.5
        server.kill()
        slept.clear()
        told(run, tmp_path, bundle, range(2, 40))
    assert sum(slept) < 10
    assert len(warnings(caplog)) == 1
    assert run.next_step == f"python -m tsforecast.sync {os.path.relpath(tmp_path)}"
    server.start()
    [line] = sync(tmp_path)
    assert f"run {run.id}" in line
    assert client.get_run(run.id).info.status == "FINISHED"
    history = client.get_metric_history(run.id, "val/loss")
    assert sorted(each.step for each in history) == list(range(40))


def test_a_server_that_is_back_before_the_end_gets_all_of_the_run(
    server: Server, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracked(server.uri).run("gap", {}, out=tmp_path) as run:
        run.follow()
        with monkeypatch.context() as patched:
            patched.setattr(Store, "_opened", lambda *_: 1 / 0)
            run.epoch({"epoch": 0, "val/loss": 2.0})
        run.epoch({"epoch": 1, "val/loss": 1.0})
        assert client.get_run(run.id).data.metrics == {}  # it is not asked for every epoch
    assert sorted(each.step for each in client.get_metric_history(run.id, "val/loss")) == [0, 1]
    assert client.get_run(run.id).info.status == "FINISHED"


def test_a_server_that_accepts_and_never_answers_takes_seconds(
    tmp_path: Path,
    silent: Silent,
    slept: list[float],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # what is waited for is the user's, if he says so
    with tracked(f"http://me:secret@{silent.place}").run("r", {}, out=tmp_path) as run:
        assert silent.asked() == 0  # no training waits for it to begin
        run.epoch({"epoch": 0, "val/loss": 2.0})
    assert silent.asked() + sum(slept) < 7
    [warning] = warnings(caplog)
    assert "timed out" in warning.lower() or "timeout" in warning.lower()
    assert "secret" not in warning + (tmp_path / FILE).read_text()
    with refused(ConfigError, got=has("me:***@"), fix=has("uri=")):
        list(sync(tmp_path))


def test_runs_of_a_store_that_is_gone_do_not_keep_back_the_others(
    tracking_database: Path, nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, here = nobody, f"sqlite:///{shutil.copy(tracking_database, tmp_path)}"
    with monkeypatch.context() as patched:
        patched.setattr(Store, "_opened", lambda *_: 1 / 0)  # nothing is recorded anywhere
        for name, uri in (("a", gone), ("b", gone), ("c", here)):
            with tracked(uri).run(name, {}, out=tmp_path / name) as run:
                run.log_metrics({"score": 1.0})
    lines: list[str] = []
    with refused(OutputError, where=gone, got=[tmp_path / each / FILE for each in "ab"], fix=has("uri=")):
        for line in sync(tmp_path):
            lines.append(line)
    assert ["Connection refused" in each for each in lines] == [True, True, False]
    assert "events uploaded" in lines[2]
    with refused(OutputError, got=has("Connection refused")):  # asked for by name: nothing else is to be tried
        list(sync(tmp_path, gone))


@pytest.mark.parametrize("trouble", ["locked", "corrupt", "read-only"])
def test_a_database_that_cannot_be_written_costs_one_warning_that_says_why(
    trouble: str,
    tracking_database: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlflow_store, "WAIT", 1)
    file = tmp_path / "mlflow.db"
    file.write_bytes(tracking_database.read_bytes() if trouble != "corrupt" else b"no database" * 1000)
    if trouble == "read-only":  # of a version that SQLite may read and not write: root may write whatever the mode says
        file.write_bytes((before := file.read_bytes())[:18] + b"\x03" + before[19:])
    with sqlite3.connect(file) as other:
        if trouble == "locked":
            other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with MLflowTracker(f"sqlite:///{file}").run("r", {}, out=tmp_path / "run") as run:
            run.log_metrics({"a": 1.0})
        assert time.monotonic() - began < 8
        other.rollback()
    [warning] = warnings(caplog)
    why = {"locked": "database is locked", "corrupt": "file is not a database", "read-only": "readonly database"}
    assert why[trouble] in warning
    file.write_bytes(tracking_database.read_bytes())
    [line] = sync(tmp_path / "run")
    assert "events uploaded" in line


def test_a_sweep_is_told_once_that_its_server_is_away_and_does_not_wait_for_each_run(
    tmp_path: Path,
    silent: Silent,
    slept: list[float],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    nowhere = tracked(f"http://{silent.place}")
    with nowhere.run("sweep", {}, out=tmp_path) as parent:
        parent.follow()
        for number in range(20):
            with nowhere.run(str(number), {}, parent=parent.uid, out=tmp_path / str(number)):
                pass
    assert silent.asked() + sum(slept) < 4
    assert len(warnings(caplog)) == 1
    assert f"`python -m tsforecast.sync {os.path.relpath(tmp_path)}`" in warnings(caplog)[0]


def test_the_load_of_the_machine_is_recorded_under_mlflows_names(
    server: Server, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    for least in (2, 5):  # the second goes on
        with tracked(server.uri, system_metrics=True).run("r", {}, out=tmp_path) as run:
            until(lambda least=least: (tmp_path / FILE).read_text().count("system_memory_usage_meg") >= least)
    memory = client.get_metric_history(run.id, "system/system_memory_usage_megabytes")
    assert sorted(each.step for each in memory) == list(range(len(memory)))
    assert len(memory) >= 6
    with Path("/proc/meminfo").open() as lines:
        total = int(next(lines).split()[1]) * 1024 / 1e6
    assert all(0 < each.value < total for each in memory)
    names = set(client.get_run(run.id).data.metrics)
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage"} <= names
    assert len({each.timestamp for each in memory}) == len(memory)


@pytest.mark.parametrize("interval", ["-1", "0", "0.0", "often", "inf"])
def test_the_load_is_not_measured_without_a_pause(monkeypatch: pytest.MonkeyPatch, interval: str) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", interval)
    with refused(ConfigError, where="MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", got=interval):
        MLflowTracker("sqlite:///x.db", system_metrics=True)


def test_without_psutil_the_load_is_refused_before_a_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsforecast.tracking.system.find_spec", lambda name: None)
    with refused(ConfigError, where="tracking.system_metrics", fix=has("pip install psutil")):
        tracked("sqlite:////somewhere/mlflow.db", system_metrics=True)


KILLED = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from tsforecast.tracking.runs import MLflowTracker
with ExitStack() as stack:
    for out in sys.argv[2:]:
        run = stack.enter_context(MLflowTracker(sys.argv[1]).run('killed', {'a': 1}, out=Path(out)))
        for epoch in range(3):
            run.epoch({'epoch': epoch, 'val/loss': 1.0})
        print(run.id, flush=True)
    time.sleep(120)
"""


def killed(uri: str, *places: Path) -> list[str]:
    """The ids of runs whose process was killed after three epochs of each."""
    command = [sys.executable, "-c", KILLED, uri, *map(str, places)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ids = [process.stdout.readline().strip() for _ in places]
        assert [line.split("  ")[1] for line in sync(places[0], uri)] == ["is at work"]
        assert close_dead(places[0], uri) == []
        process.send_signal(signal.SIGKILL)
    return ids


def test_a_run_that_was_killed_has_its_curve_and_is_closed_as_failed_when_it_ended(
    server: Server, client: Any, tmp_path: Path
) -> None:
    [run_id] = killed(server.uri, tmp_path / "run")
    history = client.get_metric_history(run_id, "val/loss")
    assert sorted(each.step for each in history) == [0, 1, 2]
    assert client.get_run(run_id).info.status == "RUNNING"
    [line] = sync(tmp_path, server.uri)
    assert "its process was dead" in line
    info = client.get_run(run_id).info
    assert (info.status, info.end_time) == ("FAILED", max(each.timestamp for each in history))


def test_the_dead_runs_of_a_host_are_closed_wherever_their_folders_are(
    server: Server, client: Any, tmp_path: Path
) -> None:
    ids = killed(server.uri, tmp_path / "moved", tmp_path / "elsewhere")
    (tmp_path / "moved" / FILE).unlink()
    (tmp_path / "here").mkdir()
    with tracked(server.uri).run("alive", {}, out=tmp_path / "alive") as alive:
        alive.follow()
        client.set_tag(ids[0], "tsforecast.folder", "/another/container/run")
        lines = close_dead(tmp_path / "here", server.uri)
        assert [line.rpartition("run ")[2] for line in lines] == ids[1:]
        client.set_tag(ids[0], "tsforecast.folder", str(tmp_path / "moved"))
        lines = close_dead(tmp_path / "here", server.uri)
        assert [line.rpartition("run ")[2] for line in lines] == ids[:1]
        assert client.get_run(alive.id).info.status == "RUNNING"
    for run_id in ids:
        info = client.get_run(run_id).info
        last = max(each.timestamp for each in client.get_metric_history(run_id, "val/loss"))
        assert (info.status, info.end_time) == ("FAILED", last)


def test_a_run_that_goes_on_in_its_folder_is_the_same_run_and_tells_no_epoch_twice(
    server: Server, client: Any, tmp_path: Path
) -> None:
    def interrupted() -> str:
        with suppress(KeyboardInterrupt), tracked(server.uri).run("r", {"lr": 1}, out=tmp_path) as run:
            run.epoch({"epoch": 0, "val/loss": 2.0})
            raise KeyboardInterrupt
        return run.id

    first = interrupted()
    assert client.get_run(first).info.status == "KILLED"
    time.sleep(0.01)
    with tracked(server.uri).run("r", {"lr": 1, "ckpt_path": "last.ckpt"}, out=tmp_path) as second:
        for epoch in range(2):
            second.epoch({"epoch": epoch, "val/loss": 2.0 - epoch})
        assert client.get_run(first).info.status == "RUNNING"
    assert second.id == first
    assert client.get_run(first).info.status == "FINISHED"
    history = client.get_metric_history(first, "val/loss")
    assert [(each.step, each.value) for each in history] == [(0, 2.0), (1, 1.0)]
    with tracked(server.uri).run("r", {"lr": 2}, out=tmp_path) as other:  # of other parameters: another run
        pass
    assert other.id != first
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tracking-1.jsonl", FILE]
    assert all("nothing is missing" in line for line in sync(tmp_path))


def test_children_find_their_parent_whichever_is_uploaded_first(
    server: Server, nobody: str, client: Any, tmp_path: Path
) -> None:
    nowhere = tracked(nobody)
    with nowhere.run("parent", {}, out=tmp_path / "parent") as parent:
        for name in ("first", "last"):
            with nowhere.run(name, {}, parent=parent.uid, out=tmp_path / name):
                pass
    found = {}
    for name in ("first", "parent", "last"):
        [line] = sync(tmp_path / name, server.uri)
        found[name] = line.rpartition("run ")[2]
    for name in ("first", "last"):
        assert client.get_run(found[name]).data.tags["mlflow.parentRunId"] == found["parent"]


def test_a_line_that_was_cut_off_is_left_out(server: Server, client: Any, tmp_path: Path) -> None:
    with tracked(server.uri).run("r", {}, out=tmp_path) as run:
        run.log_metrics({"a": 1.0})
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"event": "metr')
    [line] = sync(tmp_path)
    assert "nothing is missing" in line
    assert client.get_run(run.id).data.metrics == {"a": 1.0}


def test_a_disk_that_is_full_for_a_while_leaves_no_half_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # a limit of the size of files stands for the disk
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path / FILE) as journal:
        journal.append("begin", uid="u")
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / FILE).stat().st_size + 100, limits[1]))
        try:
            with refused(OutputError, where=str(tmp_path / FILE)):
                journal.append("metrics", step=0, values={"x" * 1000: 1.0})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        journal.append("end", status="FAILED")
    with Journal(tmp_path / FILE) as journal:
        assert [each["event"] for each in journal.events] == ["begin", "end"]


def test_a_run_that_the_store_refuses_keeps_no_other_from_being_uploaded(
    server: Server, nobody: str, client: Any, tmp_path: Path
) -> None:
    nowhere = tracked(nobody)
    for name in ("a", "b", "c"):
        with nowhere.run(name, {}, out=tmp_path / name) as run:
            run.log_metrics({"a": 1.0})
    with Journal(tmp_path / "a" / FILE) as journal:
        upload = Upload(journal, Store(server.uri))
        upload.replay()
        client.delete_run(upload.run)
        journal.append("metrics", step=1, values={"a": 2.0})
    (tmp_path / "b" / FILE).write_bytes(b"no JSON\n")
    lines = []
    with refused(OutputError, where=tmp_path, got=[tmp_path / "a" / FILE, tmp_path / "b" / FILE]):
        for line in sync(tmp_path, server.uri):
            lines.append(line)
    assert "deleted" in lines[0]
    assert "the journal of this run is damaged" in lines[1]
    assert all("nothing is missing" in line for line in sync(tmp_path / "c", server.uri))


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with refused(DataError, where=tmp_path, fix=has(FILE)):
        list(sync(tmp_path))
