"""2,000 names in one server, links to two ridges of ETTh1: what it holds, what a load costs, and is each right?

    python benchmarks/shelf.py [--names 2000] [--memory 64]

Every name is asked for once, in a drawn order, then as often again by rank as customers are (1/rank). The bound is
TSFORECAST_BUNDLES_MEMORY; beside it what the server says it holds, and the memory of its process.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from swaps import bundles, post, rss

from serving import SERVERS, server


def figure(port: int, start: str) -> float:
    """The sum of a figure of /metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def measure(port: int, process: object, asked: list[int], bodies: list[bytes], digests: list[str], most: float) -> None:
    """Ask for names in an order; the milliseconds of those that had to be loaded, and of the others."""
    took: dict[bool, list[float]] = {True: [], False: []}
    peak, loads = 0.0, figure(port, "tsforecast_loads_total")
    for turn, i in enumerate(asked, 1):
        began = time.perf_counter()
        answer = json.loads(post(port, f"/models/n{i}/forecast", bodies[i % 2]))
        seconds = time.perf_counter() - began
        if answer["digest"] != digests[i % 2]:
            raise SystemExit(f"n{i} was answered by another bundle")
        if turn % 10 == 0 or turn == len(asked):
            peak = max(peak, figure(port, "tsforecast_bundles_bytes") / 2**20)
        now = figure(port, "tsforecast_loads_total")
        took[now > loads].append(1e3 * seconds)
        loads = now
    loaded, there = (statistics.median(each) if each else float("nan") for each in (took[True], took[False]))
    print(
        f"  {len(asked)} requests, {len(took[True])} loads: {loaded:.0f} ms with a load, {there:.1f} without;", end=" "
    )
    print(f"held at most {peak:.1f} of {most:g} MiB in {figure(port, 'tsforecast_model{'):.0f} bundles;", end=" ")
    print(f"the process {rss(process)} MiB")
    if peak > most:
        raise SystemExit("more was held than the bound")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=2000)
    parser.add_argument("--memory", type=float, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, n, drawn = Path(scratch), arguments.names, random.Random(0)
        pair = bundles(folder)
        (folder / "names").write_text("".join(f"n{i}={pair[i % 2]}\n" for i in range(n)))
        os.environ |= {"TSFORECAST_BUNDLES": str(folder / "names"), "TSFORECAST_BUNDLES_MEMORY": str(arguments.memory)}
        histories = [json.loads((path / "golden.json").read_text())["history"] for path in pair]
        bodies = [json.dumps({"history": each}).encode() for each in histories]
        with server(SERVERS["ASGI"], folder, "") as (process, port, ready):
            print(f"{n} names, ready after {ready:.1f} s with {rss(process)} MiB")
            digests = [json.loads(post(port, f"/models/n{i}/forecast", bodies[i]))["digest"] for i in (0, 1)]
            once = drawn.sample(range(n), n)
            ranked = drawn.choices(once, [1 / rank for rank in range(1, n + 1)], k=n)
            for asked in (once, ranked):
                measure(port, process, asked, bodies, digests, arguments.memory)


if __name__ == "__main__":
    main()
