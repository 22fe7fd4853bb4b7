"""XGBoost a day ahead on ETTh1's OT: direct fit of 24 boosters and 120 forecasts, beside skforecast and mlforecast.

    python benchmarks/boosting.py --peers-python PATH [--rounds 3] [--trees 50]
    python benchmarks/boosting.py --panels nn5 hourly wide [--overrides model.strategy=direct]

With --panels, whole runs of `train model=xgboost` with its defaults: 100 daily series of 735 rows (NN5, a Parquet file
of TSFORECAST_DATA_DIR/panels that is not part of the repository), 100 hourly ones of 748 and 321 channels of 10,000
rows, both made by formula.

Same booster parameters, lookback 96, rows 0 to 8639, one thread; CPU seconds, so that neighbours on the machine do not
count. Every round runs each in a process of its own; `nox -s bench` makes the interpreter that has the peers.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

PARAMETERS = {"max_depth": 4, "learning_rate": 0.05, "max_bin": 256}
LOOKBACK, HORIZON = 96, 24
DATA = Path(os.environ.get("TSFORECAST_DATA_DIR", "data"))
FILE = DATA / "ETTh1.csv"
PANELS = {
    "nn5": ["horizon=28", "split=tail", "split.val=56", "split.test=28"],
    "hourly": ["horizon=48", "split=tail", "split.val=96", "split.test=48"],
    "wide": ["horizon=24"],
}


def ours(trees: int) -> dict[str, float]:
    """The boosters alone: no ridge below them, no early stopping or subsampling, which the peers do not have either."""
    from tsforecast.data.sources import Dataset
    from tsforecast.data.splits import RowSplit
    from tsforecast.experiment import Experiment
    from tsforecast.models.boosting import XGBoost
    from tsforecast.training.evaluate import evaluate

    dataset = Dataset(path=str(FILE), name="etth1", time="date", target=("OT",), freq="h")
    split, sizes = RowSplit(train=8640, val=2880, test=2880), {"lookback": LOOKBACK, "horizon": HORIZON}
    plain = {"min_child_weight": 1.0, "subsample": 1.0, "colsample_bytree": 1.0}
    model = XGBoost(rounds=trees, patience=None, **plain, **PARAMETERS)
    data = Experiment(source=dataset, split=split, model=model, trainer=None, **sizes, stride=HORIZON).prepare()
    train, val, test = (data.windows(part) for part in ("train", "val", "test"))
    began = time.process_time()
    forecaster = model.fit(train, val, data.dims)
    fitted = time.process_time()
    bundle, scale = data.bundle(forecaster), data.scale
    scored = time.process_time()
    scores = evaluate(bundle, data.panel, test, scale)
    return {"fit_s": fitted - began, "score_s": time.process_time() - scored, "mse": scores.summary()["mse"]}


def made(series: int, rows: int) -> "pd.DataFrame":
    """Hourly columns of many levels: a day, a week, a slow walk and noise, of other shares in each."""
    import numpy as np
    import pandas as pd

    rng, t = np.random.default_rng(0), np.arange(rows)
    columns = {"date": pd.date_range("2016-07-01", periods=rows, freq="h")}
    for i in range(series):
        daily, weekly = rng.uniform(0.1, 0.5), rng.uniform(0.02, 0.25)
        day = np.sin(2 * np.pi * (t + rng.integers(24)) / 24)
        week = weekly * np.sign(np.sin(2 * np.pi * (t + rng.integers(168)) / 168))
        walk, noise = rng.normal(0, 0.003, rows).cumsum(), rng.normal(0, 0.06, rows)
        columns[f"s{i:03d}"] = np.exp(rng.normal(6, 1)) * (1 + daily * day * (1 + 2 * week) + week + walk + noise)
    return pd.DataFrame(columns)


def panel(name: str, overrides: list[str]) -> dict[str, float]:
    """Scores, processor time and memory of a whole run."""
    import pandas as pd

    from tsforecast import train

    if name == "nn5":
        frame = pd.read_parquet(DATA / "panels/nn5_daily_100.parquet")
    else:
        frame = made(321, 10_000) if name == "wide" else made(100, 748)
    if name == "hourly":
        frame = frame.melt("date", var_name="unique_id", value_name="y").rename(columns={"date": "ds"})
    keys = {} if name == "wide" else {"time": "ds", "id": "unique_id", "target": ["y"]}
    began = time.process_time()
    result = train("model=xgboost", "tracking=none", *PANELS[name], *overrides, data=frame, **keys)
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"cpu_s": seconds, "fit_s": result.metrics["time/fit_seconds"], "gib": peak, **result.scores.iloc[0]}


def panels(names: list[str], overrides: list[str]) -> None:
    """Print a row for each, each in a process of its own."""
    print("| model=xgboost | whole run, CPU s | GiB | test MASE |\n|---|---|---|---|")
    for name in names:
        command = [sys.executable, __file__, "--panel", name, "--overrides", *overrides]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"| {name} | {found['cpu_s']:.1f} | {found['gib']:.2f} | {found['mase']:.3f} |")


def main() -> None:
    """Measure in turn, print medians and the ratio to the faster peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", type=Path, help="an interpreter that has skforecast and mlforecast")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trees", type=int, default=50)
    parser.add_argument("--ours", action="store_true", help="measure this side once, print JSON")
    parser.add_argument("--panels", nargs="+", choices=PANELS, help="whole runs on these, in place of the above")
    parser.add_argument("--panel", choices=PANELS, help="one of them, in this process, print JSON")
    parser.add_argument("--overrides", nargs="*", default=[], help="of a run on a panel")
    arguments = parser.parse_args()
    if arguments.panel:
        print(json.dumps(panel(arguments.panel, arguments.overrides)))
        return
    if arguments.panels:
        panels(arguments.panels, arguments.overrides)
        return
    if arguments.ours:
        print(json.dumps(ours(arguments.trees)))
        return
    commands = {"tsforecast": [sys.executable, __file__, "--ours", "--trees", str(arguments.trees)]}
    if arguments.peers_python:
        script = str(Path(__file__).with_name("boosting_peers.py"))
        shared = json.dumps({"n_estimators": arguments.trees, **PARAMETERS})
        for library in ("skforecast", "mlforecast"):
            commands[library] = [str(arguments.peers_python), script, str(FILE), library, shared]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(arguments.rounds):
        for name, command in commands.items():
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    fit = {name: median(each["fit_s"] for each in runs) for name, runs in found.items()}
    print("| direct XGBoost, 24 steps | fit, CPU s | (range) | 120 origins, CPU s | MSE |\n|---|---|---|---|---|")
    for name, runs in found.items():
        times, score = [each["fit_s"] for each in runs], median(each["score_s"] for each in runs)
        spread = f"{min(times):.2f} to {max(times):.2f}"
        print(f"| {name} | {fit[name]:.2f} | {spread} | {score:.3f} | {runs[0]['mse']:.4f} |")
    if len(fit) > 1:
        fastest = min(value for name, value in fit.items() if name != "tsforecast")
        print(f"fit: {fit['tsforecast'] / fastest:.2f} x the faster peer")


if __name__ == "__main__":
    main()
