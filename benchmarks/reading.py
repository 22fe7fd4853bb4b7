"""What a request costs by the kind of its bundle: reading alone, and one worker's rate beside a bare FastAPI route.

    python benchmarks/reading.py [--rounds 5] [--seconds 2]

The route parses the same body with json and echoes 96 rows. Rounds go from bundle to bundle; figures are medians.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from serving import BARE_ASGI, HERE, PYTHON, SERVERS, cpu, load, server, status
from tsforecast.bundle.bundle import Bundle
from tsforecast.serving.engine import Engine


def local(folder: Path) -> Path:
    """Two years of hours in Berlin, with their UTC offsets, as CSV."""
    time = pd.date_range("2024-01-01", periods=17_000, freq="h", tz="Europe/Berlin")
    wave = np.sin(np.arange(len(time)) * np.pi / 12) + np.random.default_rng(0).normal(size=len(time)) / 5
    frame = pd.DataFrame({"date": [stamp.isoformat() for stamp in time], "load": wave, "price": wave**2})
    frame.round(3).to_csv(folder / "berlin.csv", index=False)
    return folder / "berlin.csv"


def requests(folder: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """What each is, its bundle, and a request to it."""
    berlin = ["dataset=wide", f"dataset.path={local(folder)}", "dataset.timezone=Europe/Berlin"]
    panel = ["+experiment=panel", f"dataset.path={HERE.parent}/data/panel.parquet"]
    kinds = {
        "ETTh1, 7 channels": ["+experiment=etth1", "model=ridge"],
        "the demo: calendar, 6 covariates, time in 4 columns": [],
        "Europe/Berlin, calendar": berlin,
        "panel: known, static and categorical covariates": panel,
    }
    for i, (name, overrides) in enumerate(kinds.items()):
        command = [*PYTHON, "tsforecast.train", *overrides, "tracking=none", "report=none"]
        subprocess.run([*command, f"hydra.run.dir={folder}/{i}"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        bundle = Bundle.load(folder / str(i) / "bundle")
        example = Engine(bundle).example
        if series := bundle.schema.id:  # three of them: 168 rows
            for table in example.values():
                rows = len(table[series])
                table.update({column: cells * 3 for column, cells in table.items()})
                table[series] = np.repeat(bundle.features.ids[:3], rows).tolist()
        yield name, bundle.path, example  # type: ignore[misc]


def reading(bundle: Path, body: bytes) -> float:
    """Milliseconds to read a body."""
    engine, took = Engine(Bundle.load(bundle)), []
    for _ in range(300):
        began = time.perf_counter()
        engine.read(body)
        took.append(time.perf_counter() - began)
    return median(took) * 1e3


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    names = (
        "bundle",
        "rows",
        "kB",
        "reading, ms",
        "ASGI, requests/s",
        "bare FastAPI",
        "ratio",
        "CPU ms a request",
        "bare",
    )
    print(f"| {' | '.join(names)} |")
    print("|---" * 9 + "|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "bare_asgi.py").write_text(BARE_ASGI)
        for name, bundle, example in requests(folder):
            body = folder / "body.json"
            body.write_text(json.dumps(example, separators=(",", ":")))
            rows = len(next(iter(example["history"].values())))
            with (
                server(SERVERS["ASGI"], folder, bundle) as (ours, port, _),
                server(SERVERS["bare FastAPI"], folder, bundle) as (theirs, bare, _),
            ):
                assert status(port, "/forecast", body.read_bytes()) == 200
                found: dict[int, list[dict[str, Any]]] = {port: [], bare: []}
                of = {port: ours, bare: theirs}
                for _ in range(arguments.rounds):
                    for each, runs in found.items():
                        before = cpu(of[each])
                        run = load(each, body, 1, arguments.seconds)
                        assert set(run["statuses"]) == {"200"}, run
                        runs.append({**run, "cpu": (cpu(of[each]) - before) / run["statuses"]["200"] * 1e3})
            rate, its = (median(run["rate"] for run in runs) for runs in found.values())
            ratio = median(a["rate"] / b["rate"] for a, b in zip(*found.values(), strict=True))
            sizes = f"{rows} | {body.stat().st_size / 1e3:.0f} | {reading(bundle, body.read_bytes()):.2f}"
            used = " | ".join(f"{median(run['cpu'] for run in runs):.2f}" for runs in found.values())
            print(f"| {name} | {sizes} | {rate:.0f} | {its:.0f} | {ratio:.2f} x | {used} |")


if __name__ == "__main__":
    main()
