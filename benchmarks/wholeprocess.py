"""Whole processes, from `python` to exit: CPU seconds and peak memory of the commands a user types, one thread.

    python benchmarks/wholeprocess.py [--darts-python PATH] [--rounds 3]

Every round runs every command once, so that a busy minute hits all alike; the table gives medians. darts runs the same
job (darts_nlinear.py) in an interpreter of its own: `nox -s bench` makes one.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
MIB = 1024.0  # ru_maxrss is in KiB on Linux


@dataclass(frozen=True)
class Cost:
    """What one process and its children took."""

    cpu_s: float
    rss_mib: float
    wall_s: float


def measure(command: list[str], cwd: Path) -> Cost:
    """Run `command` in `cwd` with one thread; its output goes to `cwd`/stdout.txt and stderr.txt.

    Raises
    ------
    SystemExit
        The command failed; the end of its stderr is shown.
    """
    with (cwd / "stdout.txt").open("w") as out, (cwd / "stderr.txt").open("w") as err:
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **ONE_THREAD}, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{(cwd / 'stderr.txt').read_text()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / MIB, wall)


def train(*overrides: str) -> list[str]:
    """The command line of `tsforecast.train`."""
    return [sys.executable, "-m", "tsforecast.train", *overrides]


def scores(cwd: Path) -> dict[str, float]:
    """metrics.json of the newest run under `cwd`."""
    newest = max((cwd / "outputs").rglob("metrics.json"), key=lambda file: file.stat().st_mtime)
    metrics: dict[str, float] = json.loads(newest.read_text())
    return metrics


def epochs(cwd: Path) -> int:
    """How long the newest run under `cwd` trained, from its log."""
    newest = max((cwd / "outputs").rglob("train.log"), key=lambda file: file.stat().st_mtime)
    return int(re.findall(r"(\d+) epochs", newest.read_text())[-1])


def table(rows: list[tuple[str, list[Cost], str]]) -> str:
    """Markdown: medians, with the range of the CPU seconds."""
    lines = ["| command | CPU s | (range) | peak MiB | wall s | |", "|---|---|---|---|---|---|"]
    for name, costs, note in rows:
        cpu = [cost.cpu_s for cost in costs]
        rss, wall = median(c.rss_mib for c in costs), median(c.wall_s for c in costs)
        lines.append(
            f"| {name} | {median(cpu):.2f} | {min(cpu):.2f} to {max(cpu):.2f} | {rss:.0f} | {wall:.2f} | {note} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--darts-python", type=Path, help="an interpreter that has darts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of darts; otherwise as many as our run trained for")
    arguments = parser.parse_args()
    data = Path(os.environ.get("TSFORECAST_DATA_DIR", "data")).resolve()
    os.environ["TSFORECAST_DATA_DIR"] = str(data)

    plain = ["tracking=none", "report=none"]
    commands = {
        "ridge": train("+experiment=etth1", "model=ridge", *plain),
        "ridge, with plots": train("+experiment=etth1", "model=ridge", "tracking=none"),
        "ridge, MLflow": train("+experiment=etth1", "model=ridge", "report=none"),
        "nlinear": train("+experiment=etth1", *plain),
        "nlinear, with plots": train("+experiment=etth1", "tracking=none"),
        "nlinear, MLflow": train("+experiment=etth1", "report=none"),
        "nlinear, MLflow and plots": train("+experiment=etth1"),
    }
    if arguments.darts_python:  # its epochs are added below
        python = str(Path.cwd() / arguments.darts_python)  # not resolved: that would leave its virtual environment
        peer = str(Path(__file__).with_name("darts_nlinear.py").resolve())
        commands["darts"] = [python, peer, str(data / "ETTh1.csv"), "--epochs"]

    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch, str(i)) for i, name in enumerate(commands)}
        for folder in folders.values():
            folder.mkdir()
        first = measure(commands["nlinear, MLflow"], folders["nlinear, MLflow"])  # creates mlflow.db: told apart below
        for name in ("ridge, MLflow", "nlinear, MLflow and plots"):
            measure(commands[name], folders[name])
        if "darts" in commands:
            commands["darts"].append(str(arguments.epochs or epochs(folders["nlinear, MLflow"])))
        for _ in range(arguments.rounds):
            for name, command in commands.items():
                costs[name].append(measure(command, folders[name]))
        for name, folder in folders.items():
            found = json.loads((folder / "stdout.txt").read_text()) if name == "darts" else scores(folder)
            trained = f", {commands[name][-1]} epochs" if name == "darts" else ""
            notes[name] = f"MSE {found['test/mse']:.4f}, MAE {found['test/mae']:.4f}{trained}"
    rows = [(name, costs[name], notes[name]) for name in commands]
    rows.append(("nlinear, MLflow, first run in a folder", [first], "creates mlflow.db"))
    print(table(rows))
    tracked = [a.cpu_s - b.cpu_s for a, b in zip(costs["ridge, MLflow"], costs["ridge"], strict=True)]
    print(f"tracking a run of ridge takes {median(tracked):.2f} s CPU more ({min(tracked):.2f} to {max(tracked):.2f})")
    if "darts" in costs:
        peer_cpu, peer_rss = (median(getattr(c, f) for c in costs["darts"]) for f in ("cpu_s", "rss_mib"))
        for name in ("nlinear", "nlinear, MLflow", "nlinear, MLflow and plots"):
            cpu, rss = (median(getattr(c, f) for c in costs[name]) for f in ("cpu_s", "rss_mib"))
            print(f"{name}: {cpu / peer_cpu:.2f} x the CPU of darts, {rss / peer_rss:.2f} x its memory")


if __name__ == "__main__":
    main()
