"""More than a server can do: what callers, probes and /metrics see, what it holds, and a worker that is killed.

    python benchmarks/overload.py [--only crowd,twice,tricklers,growth,killed] [--seconds 30] [--minutes 10]

NLinear on ETTh1, 336 x 7 rows as JSON, one worker but where one is killed. The load comes from a second process,
the probes from a third.
"""

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

from serving import HERE, PYTHON, SERVERS, etth1, family, load, server, status

PROBE = """
import json, sys, time, urllib.request
took, until = [], time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < until:
    began = time.perf_counter()
    urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/livez", timeout=60).read()
    took.append((time.perf_counter() - began) * 1e3)
    time.sleep(0.05)
print(json.dumps({"n": len(took), "p50": sorted(took)[len(took) // 2], "max": max(took)}))
"""
MIB = 2**20


def rss(process: psutil.Process) -> float:
    """MiB of the process and its children."""
    return sum(each.memory_info().rss for each in family(process)) / MIB


@contextmanager
def sampled(value: Callable[[], float], every: float = 0.1) -> Iterator[list[float]]:
    """What a value is while the block runs."""
    found, over = [value()], threading.Event()

    def look() -> None:
        while not over.wait(every):
            found.append(value())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def counted(port: int) -> tuple[float, float, float, float]:
    """Seconds and number of forecasts' answers, requests and calls of the model, as /metrics tells them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
    seconds = {name: value for name, value in lines.items() if "request_seconds" in name and '"/forecast"' in name}
    total = [float(next((v for k, v in seconds.items() if f"seconds_{part}{{" in k), 0)) for part in ("sum", "count")]
    batches = [float(lines.get(f"tsforecast_batch_requests_{part}", 0)) for part in ("sum", "count")]
    return total[0], total[1], batches[0], batches[1]


def crowd(folder: Path, bundle: Path, body: Path, connections: int, seconds: float) -> None:
    """Very many connections that post again at once, whatever they are told."""
    with server(SERVERS["ASGI"], folder, bundle) as (process, port, _):
        alone = load(port, body, 8, 3)
        before = counted(port)
        probe = [sys.executable, "-c", PROBE, str(port), str(seconds)]
        with (
            subprocess.Popen(probe, stdout=subprocess.PIPE, text=True) as probing,
            sampled(lambda: rss(process)) as held,
        ):
            found = load(port, body, connections, seconds)
            livez = json.loads(probing.communicate()[0])
        spent, number, requests, calls = (now - then for now, then in zip(counted(port), before, strict=True))
        mean = spent / number * 1e3
        print(
            f"{connections} connections, {seconds:g} s: {found['statuses']}, of 200 {found['of'].get('200')} ms, "
            f"of 429 {found['of'].get('429')} ms; 8 connections before: {alone['rate']} requests/s\n"
            f"  /livez {livez}; mean by callers {found['mean']} ms, by /metrics {mean:.1f} ms, "
            f"{mean / found['mean'] - 1:+.0%}; {requests / max(calls, 1):.1f} requests a call; "
            f"RSS at most {max(held):.0f} MiB"
        )


def twice(folder: Path, bundle: Path, body: Path, minutes: float) -> None:
    """Twice the rate that it can sustain."""
    with server(SERVERS["ASGI"], folder, bundle) as (process, port, _):
        rate = load(port, body, 8, 5)["rate"]
        probe = [sys.executable, "-c", PROBE, str(port), str(minutes * 60)]
        with (
            subprocess.Popen(probe, stdout=subprocess.PIPE, text=True) as probing,
            sampled(lambda: rss(process)) as held,
        ):
            found = load(port, body, 400, minutes * 60, 2 * rate)
            livez = json.loads(probing.communicate()[0])
        tenth = len(held) // 10 or 1
        print(
            f"{minutes:g} minutes at 2 x {rate:.0f} requests/s: {found['rate']} answers/s, {found['statuses']}, "
            f"of 200 {found['of'].get('200')} ms; /livez {livez}\n"
            f"  RSS {median(held[:tenth]):.0f} MiB in the first tenth, {median(held[-tenth:]):.0f} in the last, "
            f"at most {max(held):.0f}"
        )


def tricklers(folder: Path, bundle: Path, body: Path, seconds: float) -> None:
    """Connections that each send all but the last byte of a large body, slowly, and a caller between them."""
    size, piece, seen = 31 * MIB, bytes([32]) * 2**16, dict[str, int]()
    head = "POST /forecast HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {size}\r\n\r\n"
    with server(SERVERS["ASGI"], folder, bundle) as (process, port, _):
        until = time.perf_counter() + seconds

        def trickle() -> None:
            while time.perf_counter() < until:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.settimeout(60)
                    try:
                        connection.sendall(head.encode())
                        for _ in range(size // len(piece) - 1):
                            connection.sendall(piece)
                            time.sleep(0.005)
                        answer = connection.recv(1000)[9:12].decode()
                    except OSError:
                        answer = "closed"
                seen[answer] = seen.get(answer, 0) + 1

        threads = [threading.Thread(target=trickle) for _ in range(60)]
        with sampled(lambda: rss(process)) as held:
            for thread in threads:
                thread.start()
            time.sleep(seconds / 2)
            between = load(port, body, 1, seconds / 2 - 1)
            for thread in threads:
                thread.join()
        half = len(held) // 2
        print(
            f"60 tricklers of 31 MiB, {seconds:g} s: they saw {seen}, a caller beside them {between['statuses']}, "
            f"p50 {between['p50']} ms\n"
            f"  RSS at most {max(held[:half]):.0f} MiB in the first half, {max(held[half:]):.0f} in the second"
        )


def growth(folder: Path, bundle: Path, body: Path, count: int) -> None:
    """What a server keeps of requests that are over."""
    with server(SERVERS["ASGI"], folder, bundle) as (process, port, _):
        found, done = list[tuple[int, float]](), 0
        while done < count:
            done += load(port, body, 8, 1)["statuses"]["200"]
            found.append((done, rss(process)))
        warm = next(held for number, held in found if number >= 2000 or number == done)
        print(f"{done} requests: RSS {found[0][1]:.1f} MiB, {warm:.1f} after 2,000, {found[-1][1]:.1f} at the end")


def killed(folder: Path, bundle: Path, body: Path) -> None:
    """A worker that is killed with -9 under load."""
    commands = {
        "uvicorn --workers 2": [*PYTHON, "uvicorn", "tsforecast.serving.asgi:app", "--workers", "2", "--port"],
        "bentoml, 1 worker": SERVERS["BentoML"],
    }
    for name, command in commands.items():
        with server(command, folder, bundle) as (process, port, _):
            time.sleep(5)
            log = folder / f"{port}.log"
            generator = [sys.executable, str(HERE / "load.py"), str(port), "/forecast", str(body), "8", "15"]
            with subprocess.Popen(generator, stdout=subprocess.PIPE, text=True) as running:
                time.sleep(2)
                sizes = {each: each.memory_info().rss for each in process.children(recursive=True)}
                before = log.read_text().count('"event":"serving ')
                max(sizes, key=lambda each: sizes[each]).send_signal(signal.SIGKILL)
                began = time.perf_counter()
                while time.perf_counter() - began < 20 and log.read_text().count('"event":"serving ') == before:
                    time.sleep(0.05)
                while status(port, "/readyz") != 200:
                    time.sleep(0.05)
                back = time.perf_counter() - began
                found = json.loads(running.communicate()[0])
            print(f"{name}, a worker killed with -9: ready again after {back:.1f} s, callers saw {found['statuses']}")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="crowd,twice,tricklers,growth,killed")
    parser.add_argument("--connections", type=int, default=1500)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--bundle", type=Path, help="of +experiment=etth1; trained where it is not given")
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192) if most > 0 else 8192, most))
    os.environ.pop("TSFORECAST_KEYS", None)
    with tempfile.TemporaryDirectory() as scratch:
        folder, wanted = Path(scratch), arguments.only.split(",")
        bundle = arguments.bundle or etth1(folder)
        history = json.loads((bundle / "golden.json").read_text())["history"]
        (body := folder / "body.json").write_text(json.dumps({"history": history}, separators=(",", ":")))
        if "crowd" in wanted:
            crowd(folder, bundle, body, arguments.connections, arguments.seconds)
        if "twice" in wanted:
            twice(folder, bundle, body, arguments.minutes)
        if "tricklers" in wanted:
            tricklers(folder, bundle, body, arguments.seconds)
        if "growth" in wanted:
            growth(folder, bundle, body, arguments.requests)
        if "killed" in wanted:
            killed(folder, bundle, body)


if __name__ == "__main__":
    main()
