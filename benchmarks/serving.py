"""Serving, each adapter beside a bare peer: NLinear on ETTh1, 336 x 7 rows as JSON, one worker, one thread.

    python benchmarks/serving.py [--rounds 7] [--seconds 2] [--only http,ray,cold,many,term,hostile]

The load comes from a second process (load.py). Rounds go from server to server, so that a busy second hits all alike;
the table gives medians, and the ratio is the median of the rounds' own ratios. CPU is of the server's processes.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import psutil

HERE = Path(__file__).parent
BARE_BENTO = """
import bentoml
@bentoml.service(workers=1, http={"host": "127.0.0.1"})
class Bare:
    @bentoml.api
    async def forecast(self, history: dict[str, list[float | str]]) -> dict[str, list[float | str]]:
        return {name: cells[-96:] for name, cells in history.items()}
"""
BARE_ASGI = """
import json
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
app = FastAPI()
@app.post("/forecast")
async def forecast(request: Request) -> JSONResponse:
    history = json.loads(await request.body())["history"]
    return JSONResponse({name: cells[-96:] for name, cells in history.items()})
"""
BARE_RAY = """
import json, sys
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from ray import serve
@serve.deployment(ray_actor_options={"num_cpus": 0.5})
class Model:
    async def __call__(self, history):
        return {name: cells[-96:] for name, cells in history.items()}
app = FastAPI()
@serve.deployment(ray_actor_options={"num_cpus": 0.2}, max_ongoing_requests=1000)
@serve.ingress(app)
class Ingress:
    def __init__(self, model):
        self.model = model
    @app.post("/forecast")
    async def forecast(self, request: Request) -> JSONResponse:
        return JSONResponse(await self.model.remote(json.loads(await request.body())["history"]))
application = Ingress.bind(Model.bind())
"""
SERVE = """
import ray, sys
from ray import serve
ray.init(include_dashboard=False, log_to_driver=False)
serve.start(http_options={"port": int(sys.argv[1])})
serve.run(application, blocking=True)
"""
PYTHON = [sys.executable, "-m"]
UVICORN = [*PYTHON, "uvicorn", "--loop", "asyncio", "--http", "h11"]  # as it is installed with the serve extra alone
SERVERS = {
    "bare FastAPI": [*UVICORN, "bare_asgi:app", "--port"],
    "ASGI": [*UVICORN, "tsforecast.serving.asgi:app", "--port"],
    "bare BentoML": [*PYTHON, "bentoml", "serve", "bare_bento:Bare", "--port"],
    "BentoML": [*PYTHON, "bentoml", "serve", "tsforecast.serving.service:Forecaster", "--port"],
}
PEERS = {"ASGI": "bare FastAPI", "BentoML": "bare BentoML"}
RAY = {
    "ASGI": SERVERS["ASGI"],
    "bare Ray Serve": [sys.executable, "-c", BARE_RAY + SERVE],
    "Ray Serve": [sys.executable, "-c", "from tsforecast.serving.ray import app\napplication = app({})" + SERVE],
}
BESIDE = PEERS | {"Ray Serve": "bare Ray Serve"}


@contextmanager
def server(command: list[str], folder: Path, bundle: Path | str) -> Iterator[tuple[psutil.Process, int, float]]:
    """A server process, its port, and the seconds until it was ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **one, "TSFORECAST_BUNDLE": str(bundle), "BENTOML_HOME": str(folder),
                   "BENTOML_DO_NOT_TRACK": "True"}  # fmt: skip
    with (folder / f"{port}.log").open("w") as log:
        began = time.perf_counter()
        process = psutil.Popen([*command, str(port)], cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            while status(port, "/readyz") != 200 and status(port, "/forecast") != 405:  # a bare FastAPI has no /readyz
                if process.poll() is not None or time.perf_counter() - began > 120:
                    raise SystemExit((folder / f"{port}.log").read_text()[-3000:])
                time.sleep(0.02)
            yield process, port, time.perf_counter() - began
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(60)


def status(port: int, path: str, body: bytes | None = None) -> int:
    """The status of one request; 0 without an answer."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": ""}), timeout=60
        ) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def load(port: int, body: Path, connections: int, seconds: float, rate: float = 0.0) -> dict[str, Any]:
    """One run of load.py."""
    command = [sys.executable, str(HERE / "load.py"), str(port), "/forecast", str(body)]
    command += map(str, (connections, seconds, rate))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and its children."""
    return [process, *process.children(recursive=True)]


def cpu(process: psutil.Process) -> float:
    """CPU seconds of the process and its children."""
    return sum(sum(each.cpu_times()[:2]) for each in family(process))


def etth1(folder: Path) -> Path:
    """The bundle of `+experiment=etth1`."""
    command = [*PYTHON, "tsforecast.train", "+experiment=etth1", "tracking=none", "report=none"]
    subprocess.run([*command, f"hydra.run.dir={folder}/run"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    return folder / "run" / "bundle"


def http(folder: Path, bundle: Path, rounds: int, seconds: float, servers: dict[str, list[str]]) -> None:
    """Throughput and latency beside the peers."""
    golden = json.loads((bundle / "golden.json").read_text())["history"]
    (folder / "bare_bento.py").write_text(BARE_BENTO)
    (folder / "bare_asgi.py").write_text(BARE_ASGI)
    columns, records = folder / "columns.json", folder / "records.json"
    columns.write_text(json.dumps({"history": golden}, separators=(",", ":")))
    rows = [dict(zip(golden, row, strict=True)) for row in zip(*golden.values(), strict=True)]
    records.write_text(json.dumps({"history": rows}, separators=(",", ":")))
    print(f"body: column lists {columns.stat().st_size / 1e3:.0f} kB, records {records.stat().st_size / 1e3:.0f} kB\n")
    print(
        "| server | connections | requests/s | p50 ms | p99 ms | CPU ms a request | ratio of rates |\n"
        + "|---" * 7
        + "|"
    )
    with ExitStack() as stack:
        up = {name: stack.enter_context(server(command, folder, bundle)) for name, command in servers.items()}
        for connections in (1, 8):
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in up}
            for _ in range(rounds):
                for name, (process, port, _) in up.items():
                    before = cpu(process)
                    run = load(port, columns, connections, seconds)
                    count = run["statuses"].get("200", 0)
                    assert set(run["statuses"]) == {"200"}, run
                    found[name].append({**run, "cpu": (cpu(process) - before) / count * 1e3})
            for name, runs in found.items():
                peer = found.get(BESIDE.get(name, name), runs)
                ratio = median(mine["rate"] / its["rate"] for mine, its in zip(runs, peer, strict=True))
                middle = {key: median(run[key] for run in runs) for key in ("rate", "p50", "p99", "cpu")}
                print(f"| {name} | {connections} | {middle['rate']:.0f} | {middle['p50']:.2f} | {middle['p99']:.2f} | "
                      f"{middle['cpu']:.2f} | {f'{ratio:.2f} x' if BESIDE.get(name) in up else ''} |")  # fmt: skip
        run = load(up["ASGI"][1], records, 1, seconds)
        print(f"\nASGI, the same as records: {run['rate']:.0f} requests/s, p50 {run['p50']} ms, p99 {run['p99']} ms")


def cold(folder: Path, bundle: Path, rounds: int) -> None:
    """Cold start to ready, and memory after a forecast."""
    body = json.dumps({"history": json.loads((bundle / "golden.json").read_text())["history"]}).encode()
    for name in PEERS:
        took, rss = [], []
        for _ in range(rounds):
            with server(SERVERS[name], folder, bundle) as (process, port, seconds):
                assert status(port, "/forecast", body) == 200
                took.append(seconds)
                rss.append([each.memory_info().rss / 2**20 for each in family(process)])
        each = " + ".join(f"{median(values):.0f}" for values in zip(*rss, strict=True))
        print(f"{name}: ready after {median(took):.1f} s (best {min(took):.1f}); RSS {each} MiB")


def many(folder: Path) -> None:
    """1,000 series of 336 rows in one request."""
    from dataclasses import replace

    from tsforecast.bundle import golden
    from tsforecast.data.schema import Schema
    from tsforecast.data.sources import FrameSource
    from tsforecast.data.splits import RowSplit
    from tsforecast.experiment import Experiment
    from tsforecast.models.linear import Ridge

    rng, rows, series = np.random.default_rng(0), 624, 1000
    stamps = pd.date_range("2024-01-01", periods=rows, freq="h")
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat([f"s{i:04}" for i in range(series)], rows),
            "ds": np.tile(stamps, series),
            "y": rng.normal(size=rows * series).round(3),
        }
    )
    schema = Schema(id="unique_id", freq="h")
    source, model = FrameSource(frame, schema), Ridge([1.0])
    split = RowSplit(train=rows - 192, val=96, test=96)
    data = Experiment(source=source, split=split, model=model, trainer=None, lookback=336, horizon=96).prepare()
    bundle = data.bundle(model.fit(data.windows("val"), data.windows("val"), data.dims))
    golden.with_golden(replace(bundle, metadata={"name": "many"}), data.panel).save(folder / "many")
    last = frame.groupby("unique_id").tail(336)
    body = json.dumps({"history": {**last.astype({"ds": str}).to_dict("list")}}, separators=(",", ":")).encode()
    with server(SERVERS["ASGI"], folder, folder / "many") as (_, port, _seconds):
        took = []
        for _ in range(9):
            began = time.perf_counter()
            assert status(port, "/forecast", body) == 200
            took.append(time.perf_counter() - began)
    print(
        f"1,000 series x 336 rows in one request ({len(body) / 1e6:.1f} MB): "
        f"{median(took) * 1e3:.0f} ms, best {min(took) * 1e3:.0f}"
    )


def term(folder: Path, bundle: Path) -> None:
    """SIGTERM under load: what happened to every request."""
    body = folder / "term.json"
    body.write_text(json.dumps({"history": json.loads((bundle / "golden.json").read_text())["history"]}))
    for name in PEERS:
        with server(SERVERS[name], folder, bundle) as (process, port, _):
            command = [sys.executable, str(HERE / "load.py"), str(port), "/forecast", str(body), "8", "6"]
            running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            time.sleep(2)
            process.send_signal(signal.SIGTERM)
            out, _ = running.communicate(timeout=60)
            process.wait(60)
        accepted = (folder / f"{port}.log").read_text().count('"event":"request"')
        statuses = json.loads(out)["statuses"]
        print(f"{name}, SIGTERM under 8 connections: the server took {accepted} requests, its callers saw {statuses}")


def hostile(folder: Path, bundle: Path, count: int) -> None:
    """Random and mutated requests; the document's own schema through schemathesis, where it is installed."""
    rng = np.random.default_rng(0)
    golden = {"history": json.loads((bundle / "golden.json").read_text())["history"]}
    raw = json.dumps(golden).encode()
    wild = [None, True, "x", "1.5", -1, 1e308, [], {}, [[]], {"a": 1}, "2024-13-01", 2**70]
    for name in BESIDE:
        with server((SERVERS | RAY)[name], folder, bundle) as (_, port, _seconds):
            seen: dict[int, int] = {}
            for i in range(count):
                if i % 4 == 0:
                    body = rng.bytes(int(rng.integers(1, 400)))
                elif i % 4 == 1:
                    changed = bytearray(raw)
                    changed[int(rng.integers(len(raw)))] = int(rng.integers(256))
                    body = bytes(changed)
                else:
                    asked = json.loads(raw)
                    cells = asked["history"][rng.choice(list(golden["history"]))]
                    if i % 4 == 2:
                        cells[int(rng.integers(len(cells)))] = wild[int(rng.integers(len(wild)))]
                    else:
                        asked[str(rng.choice(["history", "static", "known_future", "horizon", "levels", "z"]))] = wild[
                            int(rng.integers(len(wild)))
                        ]
                    body = json.dumps(asked).encode()
                path = "/forecast_csv" if i % 7 == 0 else "/forecast"
                seen[code] = seen.get(code := status(port, path, body), 0) + 1
            print(f"{name}, {count} hostile requests: {dict(sorted(seen.items()))}")
            try:
                command = [
                    "schemathesis",
                    "run",
                    f"http://127.0.0.1:{port}/openapi.json",
                    "--checks",
                    "not_a_server_error",
                    "--max-examples",
                    str(count // 5),
                    "--no-color",
                    "--seed",
                    "1",
                ]
                done = subprocess.run(command, capture_output=True, text=True)
                print("\n".join(done.stdout.splitlines()[-12:]))
            except FileNotFoundError:
                print("schemathesis is not installed: pip install schemathesis")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--hostile", type=int, default=500)
    parser.add_argument("--only", default="http,ray,cold,many,term,hostile")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = etth1(folder)
        if "http" in wanted:
            http(folder, bundle, arguments.rounds, arguments.seconds, SERVERS)
        if "ray" in wanted:
            http(folder, bundle, arguments.rounds, arguments.seconds, RAY)
        if "cold" in wanted:
            cold(folder, bundle, 3)
        if "many" in wanted:
            many(folder)
        if "term" in wanted:
            term(folder, bundle)
        if "hostile" in wanted:
            hostile(folder, bundle, arguments.hostile)


if __name__ == "__main__":
    main()
