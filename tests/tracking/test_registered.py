"""The registry at a real MLflow server: versions go there and come back, and MLflow serves them itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tsforecast as tsf
from tests.errors import has, refused
from tests.tracking.conftest import Server, free_port
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import BundleError, OutputError
from tsforecast.registry import Registry


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, ett_dir: Path) -> Bundle:
    """A ridge of ETTh1."""
    place = tmp_path_factory.mktemp("runs") / "ridge"
    words = ("+experiment=etth1", "model=ridge", "lookback=48", "horizon=6", "report=none", "tracking=none")
    tsf.train(*words, f"paths.data_dir={ett_dir}", out=place)
    return Bundle.load(place / "bundle")


def test_a_version_on_a_server_is_fetched_into_a_folder_that_is_gone_with_the_process(
    server: Server, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.chdir(tmp_path)
    exact = Registry().publish(Path(str(bundle.path)), to="mlflow", name="remote", alias="champion")
    assert exact == Registry().publish(Path(str(bundle.path)), to="mlflow", name="remote") == "models:/remote/1"
    assert Registry().aliases("remote") == {"candidate": 1, "champion": 1}
    code = (
        "import sys, tsforecast as tsf; bundle = tsf.load_bundle(sys.argv[1]); print(bundle.digest, bundle.path.parent)"
    )
    command = [sys.executable, "-c", code, "models:/remote@champion"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    digest, place = done.stdout.split()
    assert digest == bundle.digest
    assert not Path(place).exists()
    assert not list(tmp_path.iterdir())
    with refused(BundleError, what=has("no alias 'previous'"), allowed=has("models:/remote@champion")):
        tsf.load_bundle("models:/remote@previous")


def test_a_server_that_is_not_there_is_told_in_seconds(
    bundle: Bundle, nobody: str, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody)
    with refused(BundleError, where="models:/load@champion", got=has("refused"), fix=has("MLFLOW_TRACKING_URI")):
        tsf.load_bundle("models:/load@champion")
    with refused(OutputError, where=str(bundle.path), got=has("refused")):
        Registry().publish(Path(str(bundle.path)), to="mlflow", name="load")
    assert sum(slept) < 3


@pytest.mark.slow
def test_mlflow_serves_a_version_with_pickle_forbidden(bundle: Bundle, tracking_database: Path, tmp_path: Path) -> None:
    uri, port = f"sqlite:///{shutil.copy(tracking_database, tmp_path)}", free_port()
    Registry(uri).publish(Path(str(bundle.path)), to="mlflow", name="load", alias="champion")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"  # it starts uvicorn
    words = f"models serve -m models:/load@champion --env-manager local --host 127.0.0.1 --port {port}"
    history = pd.DataFrame((bundle.golden or {})["history"])
    body = json.dumps({"dataframe_split": history.to_dict(orient="split")}).encode()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words.split()], env=environment, stdout=log, stderr=log
        )
        try:
            answer = _asked(f"http://127.0.0.1:{port}/invocations", body, process, tmp_path / "log")
        finally:
            process.terminate()
            process.wait()
    expected = bundle.forecast(history).to_frame()
    found = pd.DataFrame(json.loads(answer)["predictions"])
    assert list(found) == list(expected)
    values = [name for name in found if name.startswith("y_hat")]
    np.testing.assert_array_equal(found[values].astype(np.float32), expected[values].astype(np.float32))


def _asked(address: str, body: bytes, process: subprocess.Popen[bytes], log: Path) -> bytes:
    """What a server answers, once it is up."""
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    deadline, answer = time.monotonic() + 120, b""
    while not answer:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
        with suppress(ConnectionError, urllib.error.URLError), urllib.request.urlopen(request, timeout=30) as found:
            answer = bytes(found.read())
    return answer
