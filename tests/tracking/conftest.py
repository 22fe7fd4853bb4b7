"""A real MLflow server on this machine, which tests may stop and kill."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Server:
    """`mlflow server` with a SQLite database and its artifacts behind it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port, self.uri = folder, port, f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers."""
        words = f"--backend-store-uri sqlite:///{self.folder}/mlflow.db --host 127.0.0.1 --port {self.port} --workers 1"
        artifacts = ["--serve-artifacts", "--artifacts-destination", str(self.folder / "kept")]
        command = [sys.executable, "-m", "mlflow", "server", *words.split(), *artifacts]
        quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        quiet |= {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
        quiet |= {"MLFLOW_WEBHOOK_CACHE_TTL": "0"}  # a new webhook is told at once
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=quiet, start_new_session=True)
        deadline = time.monotonic() + 120
        while True:
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "no server in two minutes"
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)

    def kill(self) -> None:
        """As a machine that loses its power does it."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)  # its workers too
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def server(tracking_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(tracking_database, folder)
    made = Server(folder, free_port())
    made.start()
    yield made
    made.kill()


@pytest.fixture
def client(server: Server) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(server.uri)
