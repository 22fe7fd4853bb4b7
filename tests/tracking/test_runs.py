"""Runs are recorded in a real MLflow database and end with the status they deserve."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import until
from tests.errors import has, refused
from tsforecast.bundle.provenance import provenance
from tsforecast.errors import ConfigError
from tsforecast.tracking.runs import MLflowTracker, NoTracker
from tsforecast.tracking.store import Store


@pytest.fixture(scope="module")
def store(tracking_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose `mlflow.db` all tests share."""
    directory = tmp_path_factory.mktemp("store")
    shutil.copy(tracking_database, directory)
    return directory


@pytest.fixture(autouse=True)
def _no_address_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def tracker(store: Path, **more: Any) -> MLflowTracker:
    return MLflowTracker(f"sqlite:///{store}/mlflow.db", "study", **more)


def client(store: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{store}/mlflow.db")


def recorded(store: Path, run_id: str) -> Any:
    return client(store).get_run(run_id)


def test_a_user_without_a_name_as_in_a_container_is_recorded_by_its_number(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: Any) -> Any:
        raise KeyError("getpwuid(): uid not found")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with tracker(store).run("numbered", {}, out=tmp_path) as run:
        pass
    assert recorded(store, run.id).data.tags["mlflow.user"] == f"user {os.getuid()}"


def test_when_a_run_ends_well_then_everything_it_was_told_can_be_read_back(store: Path, tmp_path: Path) -> None:
    params = {"model": {"_target_": "x.Ridge", "alphas": [1, 2]}, **{f"p{i}": i for i in range(150)}}
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.png").write_bytes(b"png")
    origin = provenance({"seed": 1}) | {"git": {"commit": "c" * 40, "branch": "main", "dirty": False}}
    (tmp_path / "provenance.json").write_text(json.dumps(origin))
    with tracker(store).run("etth1-ridge", params, {"dataset": "etth1"}, out=tmp_path) as run:
        run.log_metrics({"test/mse": 0.25, "test/mae/channel/PM2.5 (µg|m³)": 2.0, "test/mape": np.nan})
        for record in ({"epoch": 0, "val/loss": 3.0}, {"epoch": 1, "val/loss": 1.0}):
            run.epoch(record)
        run.log_dataset(name="etth1", digest="f" * 64, source='C:\\data\\"etth1".csv', rows=17420)
        run.log_artifact(tmp_path / "plots")
        run.log_artifact(tmp_path / "nothing")
    found = recorded(store, run.id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "etth1-ridge"
    assert found.data.params["model.alphas"] == "[1, 2]"
    assert found.data.params["p149"] == "149"
    assert found.data.metrics["test/mse"] == 0.25
    assert found.data.metrics["test/mae/channel/PM2.5 _µg_m³_"] == 2.0
    assert [(m.step, m.value) for m in client(store).get_metric_history(run.id, "val/loss")] == [(0, 3.0), (1, 1.0)]
    assert found.data.tags["dataset"] == "etth1"
    assert found.data.tags["mlflow.source.git.commit"] == origin["git"]["commit"]
    data = found.inputs.dataset_inputs[0].dataset
    assert json.loads(data.profile) == {"num_rows": 17420, "sha256": "f" * 64}
    artifacts = store / "mlartifacts" / run.id / "artifacts"
    assert (artifacts / "plots" / "a.png").read_bytes() == b"png"
    assert json.loads((artifacts / "provenance.json").read_text())["config"] == {"seed": 1}


def test_an_epoch_is_in_the_store_when_it_is_over_and_once_however_often_it_is_told(
    store: Path, tmp_path: Path
) -> None:
    history = [{"epoch": i, "val/loss": 3.0 - i} for i in range(3)]

    def curve() -> list[Any]:
        return sorted(client(store).get_metric_history(run.id, "val/loss"), key=lambda each: each.step)

    with tracker(store).run("r", {}, out=tmp_path) as run:
        for number, record in enumerate(history):
            run.epoch(record)
            assert [(each.step, each.value) for each in curve()] == [(i, 3.0 - i) for i in range(number + 1)]
            time.sleep(0.01)
        for record in history:
            run.epoch(record)
    assert [(each.step, each.value) for each in curve()] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert curve()[0].timestamp < curve()[1].timestamp < curve()[2].timestamp


def test_a_run_that_is_part_of_another_is_shown_below_it(store: Path, tmp_path: Path) -> None:
    with (
        tracker(store).run("backtest", {}, out=tmp_path) as whole,
        tracker(store).run("fold 1", {}, parent=whole.uid, out=tmp_path / "1") as part,
    ):
        pass
    assert recorded(store, part.id).data.tags["mlflow.parentRunId"] == whole.id
    assert "mlflow.parentRunId" not in recorded(store, whole.id).data.tags


def test_names_of_any_kind_are_recorded(store: Path, tmp_path: Path) -> None:
    tags = {"mlflow": {"note.content": "why", "runName": "not this"}, "a=b!": 1, "/line//3": "ü✓", "k" * 300: None}
    channels = {f"test/mae/channel/{name}": 1.0 for name in ("/sys/load", "a//b", "..", "OT/", "../x", "n" * 300)}
    with tracker(store, tags=tags).run("named", {"k" * 300: 1, "/": 2}, out=tmp_path) as run:
        run.log_metrics(channels)
    found = recorded(store, run.id)
    assert found.info.run_name == "named"
    assert len(found.data.metrics) == len(channels)
    kept = {"mlflow.note.content": "why", "a_b_": "1", "_/line/_/3": "ü✓", "k" * 250: "None"}
    assert kept.items() <= found.data.tags.items()
    assert found.data.params == {"k" * 250: "1", "_/_": "2"}


@pytest.mark.parametrize("tags", [None, 3, ["team"]])
def test_tags_without_names_are_refused(tags: Any) -> None:
    with refused(ConfigError, where="tracking.tags", fix=has("+tracking.tags.team=grid")):
        MLflowTracker("sqlite:///x.db", tags=tags)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("boom"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(1), "FAILED"),
        (SystemExit(0), "FINISHED"),
    ],
)
def test_when_an_error_leaves_the_run_then_its_status_says_so(
    store: Path, tmp_path: Path, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)), tracker(store).run("r", {}, out=tmp_path) as run:
        raise error
    assert recorded(store, run.id).info.status == status


def test_when_a_library_turns_ctrl_c_into_exit_1_then_the_run_is_killed(store: Path, tmp_path: Path) -> None:
    def interrupted() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    with pytest.raises(SystemExit), tracker(store).run("r", {}, out=tmp_path) as run:
        interrupted()
    assert recorded(store, run.id).info.status == "KILLED"


def test_when_the_process_is_terminated_then_the_run_is_killed(store: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tsforecast.tracking.runs import MLflowTracker\n"
        f"with MLflowTracker('sqlite:///{store}/mlflow.db').run('r', {{}}, out=Path({str(tmp_path)!r})) as run:\n"
        f"    run.follow(); Path({str(tmp_path / 'id')!r}).write_text(run.id); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)

    def followed() -> bool:
        assert process.poll() is None
        return (tmp_path / "id").exists() and bool((tmp_path / "id").read_text())

    until(followed, 300)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) != 0
    assert recorded(store, (tmp_path / "id").read_text()).info.status == "KILLED"


def test_when_a_run_is_over_then_sigterm_is_handled_as_before(store: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with tracker(store).run("r", {}, out=tmp_path):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_when_processes_start_at_once_on_a_new_store_then_each_gets_its_run(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tsforecast.tracking.runs import MLflowTracker\n"
        f"tracker, out = MLflowTracker('sqlite:///{tmp_path}/new/mlflow.db', 'study'), Path(sys.argv[1])\n"
        "with tracker.run('r', {'a': 1}, out=out) as run:\n"
        "    for step in range(20): run.log_metrics({'x': step}, step)\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / str(i))], stderr=subprocess.PIPE) for i in range(3)
    ]
    failures = [error for p in started if (error := p.communicate(timeout=120)[1]) and p.returncode]
    assert not failures
    here = client(tmp_path / "new")
    runs = here.search_runs([here.get_experiment_by_name("study").experiment_id])
    assert [(run.info.status, run.data.metrics) for run in runs] == [("FINISHED", {"x": 19.0})] * 3
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["mlflow.db"]  # nothing half-made is left


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("http://tracker:5000", "http://tracker:5000"),
        ("https://me:secret@tracker/mlflow", "https://me:***@tracker/mlflow"),
        ("databricks://profile", "databricks://profile"),
        ("sqlite:////a b/mlflow.db", "mlflow ui --backend-store-uri 'sqlite:////a b/mlflow.db'"),
        ("postgresql+psycopg2://me:s3:cret@db/x", "mlflow ui --backend-store-uri 'postgresql+psycopg2://me:***@db/x'"),
    ],
)
def test_where_to_look_at_a_run_is_a_servers_address_or_a_command_and_holds_no_password(uri: str, told: str) -> None:
    assert Store(uri).view == told


def test_when_the_environment_names_a_store_then_it_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert MLflowTracker("sqlite:////here/mlflow.db").uri == "http://elsewhere:5000"


@pytest.mark.parametrize("uri", [None, "mlruns", "file:mlruns", "sqlite://"])
def test_when_the_store_is_of_a_kind_mlflow_refuses_then_the_error_names_the_key_and_the_cure(uri: str | None) -> None:
    with refused(ConfigError, where="tracking.uri", allowed=has("sqlite:////absolute"), fix=has("tracking=none")):
        MLflowTracker(uri)


def test_when_nothing_is_tracked_then_a_run_takes_everything_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with NoTracker().run("r", {}, out=tmp_path) as run:
        run.log_metrics({"a": 1})
        assert run.id == ""
        run.log_bundle(tmp_path)
    assert not list(tmp_path.iterdir())
