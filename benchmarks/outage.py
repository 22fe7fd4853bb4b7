"""A training whose MLflow server is down, never answers, or is killed in mid-run: `python benchmarks/outage.py`.

NLinear on ETTh1, the whole process. For each case: the seconds until the experiment begins, those from the end of the
fit to the end of the process, the exit code and the warnings; then the server is there and `sync` uploads the rest.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from datetime import datetime
from pathlib import Path

TRAIN = ["+experiment=etth1", "report=none", "trainer.max_epochs=3", "model.warm_start=null"]


def started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """`mlflow server` with SQLite and its artifacts behind it, once it answers."""
    words = f"--backend-store-uri sqlite:///{folder}/mlflow.db --serve-artifacts --artifacts-destination {folder}/kept"
    command = [sys.executable, "-m", "mlflow", "server", *words.split(), "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return process
        except OSError:
            time.sleep(0.2)
    raise SystemExit((folder / "server.log").read_text())


def stop(server: subprocess.Popen[bytes]) -> None:
    """With SIGKILL, its workers too."""
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def trained(uri: str, out: Path, server: subprocess.Popen[bytes] | None = None) -> str:
    """One training as a row of the table; `server` is killed when it has the first epoch."""
    command = [sys.executable, "-m", "tsforecast.train", *TRAIN, f"hydra.run.dir={out}"]
    with subprocess.Popen(
        command, env={**os.environ, "MLFLOW_TRACKING_URI": uri}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        began, journal = datetime.now(), out / "tracking.jsonl"
        while server is not None and not (journal.exists() and '"uploaded"' in journal.read_text()):
            time.sleep(0.05)
        if server is not None:
            stop(server)
    ended, log = datetime.now(), (out / "train.log").read_text()

    def at(words: str) -> datetime:
        line = next(line for line in log.splitlines() if words in line)
        return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f")

    begin, end = (at("windows of") - began).total_seconds(), (ended - at("best validation loss")).total_seconds()
    warned = len(re.findall(" WARNING .*tsforecast.sync", log))
    return f"{begin:.1f} s | {end:.1f} s | {process.returncode} | {warned}"


def synced(uri: str, out: Path) -> str:
    """What `sync` says of a run."""
    command = [sys.executable, "-m", "tsforecast.sync", str(out)]
    done = subprocess.run(
        command, env={**os.environ, "MLFLOW_TRACKING_URI": uri}, capture_output=True, text=True, check=True
    )
    return done.stdout.partition("  ")[2].partition(", run")[0]


def main() -> None:
    """Measure, print the table."""
    os.environ["TSFORECAST_DATA_DIR"] = str(Path(os.environ.get("TSFORECAST_DATA_DIR", "data")).resolve())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    uri, rows = f"http://127.0.0.1:{port}", {}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        rows["down"] = trained(uri, Path("down"))
        with closing(socket.create_server(("127.0.0.1", port))):
            rows["silent"] = trained(uri, Path("silent"))
        rows["killed"] = trained(uri, Path("killed"), started(Path(scratch), port))
        server = started(Path(scratch), port)
        print("| server | begins after | ends after its fit | exit | warnings | sync |\n|---|---|---|---|---|---|")
        for name, row in rows.items():
            print(f"| {name} | {row} | {synced(uri, Path(name))} |")
        stop(server)


if __name__ == "__main__":
    main()
