"""Backtests, whole processes from `python` to exit, one thread: CPU seconds, peak memory and the error.

    python benchmarks/backtest.py [--mlforecast-python PATH] [--series 1000] [--rounds 3]

5 folds of ridge on ETTh1; then 8 folds of 14 days over daily series, beside NeuralForecast's `cross_validation` of
NLinear (one fit) and mlforecast's of a linear regression on the same lags (a fit each fold, as here), on the same file
and cutoffs. Every round runs every command once; medians are printed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from wholeprocess import Cost, measure

LOOKBACK, HORIZON, FOLDS = 56, 14, 8


def daily(series: int, rows: int = 730) -> pd.DataFrame:
    """Series with a weekly season, a trend and noise, in Nixtla's long layout."""
    rng = np.random.default_rng(0)
    day = np.arange(rows)
    season = rng.normal(size=(series, 7))[:, day % 7]
    level = rng.uniform(20, 200, (series, 1)) * (1 + rng.normal(0, 3e-4, (series, 1)) * day)
    values = level * (1 + 0.1 * season + 0.05 * rng.normal(size=(series, rows)))
    return pd.DataFrame({
        "unique_id": np.repeat([f"s{i}" for i in range(series)], rows),
        "ds": np.tile(pd.date_range("2023-01-01", periods=rows), series),
        "y": values.ravel().astype(np.float32),
    })  # fmt: skip


def ours(*overrides: str) -> list[str]:
    """The command line of `tsforecast.backtest`."""
    own = ("model=ridge", "tracking=none", "report=none", "hydra.run.dir=run")
    return [sys.executable, "-m", "tsforecast.backtest", *own, *overrides]


def error(cwd: Path, model: str) -> float:
    """Mean absolute error in original units, of the forecasts that a command left."""
    frame = pd.read_parquet(next(file for file in (cwd / "run/forecasts.parquet", cwd / "cv.parquet") if file.exists()))
    return float((frame["y"] - frame[model]).abs().mean())


def main() -> None:
    """Run the commands side by side and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlforecast-python", help="an interpreter with mlforecast and scikit-learn")
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    peer = str(Path(__file__).with_name("backtest_peers.py"))
    sizes = ["--lookback", str(LOOKBACK), "--horizon", str(HORIZON), "--folds", str(FOLDS)]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "daily.parquet"
        daily(arguments.series).to_parquet(file)
        long = (f"dataset.path={file}", "dataset=long", "feature=[]", "quantiles=[]", "calibration=none", "split=tail")
        long += ("split.val=28", "split.test=14", f"lookback={LOOKBACK}", f"horizon={HORIZON}")
        commands = {
            "ridge, ETTh1, 5 folds": (ours("+experiment=etth1", "backtest.windows=5"), "ridge"),
            "ridge, daily, 8 folds": (ours(*long, f"backtest.windows={FOLDS}"), "ridge"),
            "NeuralForecast, NLinear": ([sys.executable, peer, "neuralforecast", str(file), *sizes], "NLinear"),
        }
        if arguments.mlforecast_python:
            command = [arguments.mlforecast_python, peer, "mlforecast", str(file), *sizes]
            commands["mlforecast, linear"] = (command, "LinearRegression")
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        errors = {}
        for _ in range(arguments.rounds):
            for name, (command, model) in commands.items():
                with tempfile.TemporaryDirectory(dir=scratch) as cwd:
                    costs[name].append(measure(command, Path(cwd)))
                    errors[name] = error(Path(cwd), model)
    print(f"{'':<26}{'CPU s':>8}{'wall s':>8}{'MiB':>7}{'MAE':>9}")
    for name, each in costs.items():
        cpu, wall, rss = (median(getattr(cost, key) for cost in each) for key in ("cpu_s", "wall_s", "rss_mib"))
        print(f"{name:<26}{cpu:8.2f}{wall:8.2f}{rss:7.0f}{errors[name]:9.4f}")
    own, *peers = [median(c.cpu_s for c in costs[name]) for name in [*costs][1:]]
    print(json.dumps({"against": [*costs][2:], "cpu_ratio": [round(own / peer, 2) for peer in peers]}))


if __name__ == "__main__":
    main()
