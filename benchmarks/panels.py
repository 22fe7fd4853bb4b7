"""`model=auto` on public panels, one command each: MASE of the last rows, by code of its own.

The panels are not part of the repository: long frames (unique_id, ds, y) in Parquet, of M3 monthly (200 series), NN5
daily (100) and Walmart weekly (45), in --data. Each is trained by the command line with its defaults but for what a
panel needs: its horizon, no covariates but the calendar, and the season of Walmart.
The last rows are the test; the scale of a series is the error of its seasonal naive on all rows before them.

python benchmarks/panels.py [--panels nn5_daily_100] [--series 100] [--overrides model=auto budget=5m]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tsforecast import load_bundle

PANELS = {
    "m3_monthly_200": (18, 12, [], 0.90),
    "nn5_daily_100": (28, 7, [], 0.73),
    "walmart_weekly_45": (8, 52, ["season=52", "dataset.target=[y]"], 0.50),
}
DATA = Path(os.environ.get("TSFORECAST_DATA_DIR", "data"), "panels")


def drawn() -> pd.DataFrame:
    """Series for a try without any file: a week, a trend and noise."""
    rng, t = np.random.default_rng(1), np.arange(160)
    series = []
    for name in range(6):
        y = 20 + 0.02 * name * t + 5 * np.sin(2 * np.pi * t / 7) + rng.standard_normal(len(t))
        stamps = pd.date_range("2024-01-01", periods=len(t), freq="D")
        series.append(pd.DataFrame({"unique_id": f"s{name}", "ds": stamps, "y": y}))
    return pd.concat(series)


def mase(y: np.ndarray, forecast: np.ndarray, season: int) -> float:
    """Mean absolute error of the last rows over that of the seasonal naive on the rows before."""
    before, after = y[: -len(forecast)], y[-len(forecast) :]
    return float(np.abs(after - forecast).mean() / np.abs(before[season:] - before[:-season]).mean())


def main() -> None:
    """Print a row for each panel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panels", nargs="+", default=list(PANELS))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--drawn", action="store_true", help="a small panel that is drawn, in place of the files")
    parser.add_argument("--overrides", nargs="*", default=["model=auto", "budget=5m"])
    args = parser.parse_args()
    print("| panel | series | MASE | bar | s | s CPU |\n|---|--:|--:|--:|--:|--:|")
    for name in ["drawn"] if args.drawn else args.panels:
        horizon, season, own, bar = PANELS.get(name, (7, 7, [], float("nan")))
        long = drawn() if args.drawn else pd.read_parquet(args.data / f"{name}.parquet")
        ids = list(dict.fromkeys(long["unique_id"]))[: args.series]
        long = long[long["unique_id"].isin(ids)][["unique_id", "ds", "y"]]
        with tempfile.TemporaryDirectory() as folder:
            long.to_parquet(file := Path(folder, f"{name}.parquet"))
            words = ["dataset=long", f"dataset.path={file}", f"horizon={horizon}", "split=tail", *own]
            words += [f"split.val={horizon}", f"split.test={horizon}", "tracking=none", "report=none", *args.overrides]
            command = [sys.executable, "-m", "tsforecast.train", *words, f"hydra.run.dir={folder}/run"]
            began, cpu = time.perf_counter(), os.times().children_user
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            took, cpu = time.perf_counter() - began, os.times().children_user - cpu
            print(done.stdout.partition("Run directory")[0], file=sys.stderr)
            history = long[long.groupby("unique_id").cumcount(ascending=False) >= horizon]
            found = load_bundle(Path(folder, "run", "bundle")).forecast(history, short="drop")
            truth = {key: rows["y"].to_numpy() for key, rows in long.groupby("unique_id")}
            errors = [mase(truth[key], each[:, 0], season) for key, each in zip(found.ids, found.values, strict=True)]
        print(
            f"| {name} | {len(errors)} of {len(ids)} | {np.mean(errors):.3f} | {bar} | {took:.0f} | {cpu:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
