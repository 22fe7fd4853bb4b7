"""XGBoost a day ahead on ETTh1's OT: direct fit of 24 boosters and 120 forecasts, beside skforecast and mlforecast.

    python benchmarks/boosting.py --peers-python PATH [--rounds 3] [--trees 50]

Same booster parameters, lookback 96, rows 0 to 8639, one thread; CPU seconds, so that neighbours on the machine do not
count. Every round runs each in a process of its own; `nox -s bench` makes the interpreter that has the peers.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

PARAMETERS = {"max_depth": 4, "learning_rate": 0.05, "max_bin": 256}
LOOKBACK, HORIZON = 96, 24
FILE = Path(os.environ.get("TSFORECAST_DATA_DIR", "data"), "ETTh1.csv")


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


def main() -> None:
    """Measure in turn, print medians and the ratio to the faster peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", type=Path, help="an interpreter that has skforecast and mlforecast")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trees", type=int, default=50)
    parser.add_argument("--ours", action="store_true", help="measure this side once, print JSON")
    arguments = parser.parse_args()
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
