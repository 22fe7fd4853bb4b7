"""`model=auto` against the best of its members alone, on series of many kinds, with defaults.

Series that come with statsmodels, the bundled hourly demo, and drawn demand that comes now and then; with --etth2 a
CSV of ETTh2, the last rows of its column OT. The MASE is that of the test rows, as the run tells it; of each member by
a run of its own. No member is known to be the best before: the bar is 3 % above it.

python benchmarks/members.py [--series co2 nile] [--budget 60s] [--etth2 FILE]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from statsmodels import datasets
from statsmodels.datasets import elec_equip

import tsforecast as tsf

MEMBERS = ("seasonal_naive", "ridge", "theta", "mstl", "ets", "xgboost model.objective=absoluteerror", "arima")
WORDS = ("feature=[calendar]", "quantiles=[]", "evaluation.covariates=false", "unused_covariates=ignore")


def dated(values: pd.DataFrame, start: str, freq: str) -> pd.DataFrame:
    """With a column of stamps."""
    return values.reset_index(drop=True).assign(date=pd.date_range(start, periods=len(values), freq=freq))


def drawn() -> pd.DataFrame:
    """Demand of 20 parts in 150 weeks, of which most have none."""
    rng = np.random.default_rng(1)
    parts = {f"part{i}": rng.poisson(3, 150) * (rng.random(150) < 0.2 + i / 50) for i in range(20)}
    return dated(pd.DataFrame(parts), "2021-01-03", "W").astype(dict.fromkeys(parts, float))


def series(etth2: Path | None) -> dict[str, pd.DataFrame]:
    """Frames by name."""
    months = datasets.elnino.load_pandas().data.set_index("YEAR").to_numpy().reshape(-1)
    macro = datasets.macrodata.load_pandas().data[["realgdp", "unemp", "infl", "tbilrate"]]
    co2 = datasets.co2.load_pandas().data.ffill().tail(400)
    demo = pd.read_csv(Path(tsf.__file__).parents[2] / "data" / "beijing_pm25.csv")
    found = {
        "co2": dated(co2, "1994-05-07", "W-SAT"),
        "elnino": dated(pd.DataFrame({"sst": months}), "1950-01-01", "MS"),
        "nile": dated(datasets.nile.load_pandas().data[["volume"]], "1871-01-01", "YS"),
        "sunspots": dated(datasets.sunspots.load_pandas().data[["SUNACTIVITY"]], "1700-01-01", "YS"),
        "macrodata": dated(macro, "1959-01-01", "QS"),
        "equipment": dated(elec_equip.load_pandas().data, "1995-01-01", "MS"),
        "parts": drawn(),
        "beijing": dated(demo[["pm2.5"]].tail(1500).ffill(), "2014-10-30", "h"),
    }
    if etth2 is not None:
        found["etth2"] = pd.read_csv(etth2)[["date", "OT"]].tail(1500)
    return found


def main() -> None:
    """Print a row for each frame."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", nargs="+")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--etth2", type=Path)
    parser.add_argument("--members", nargs="+", default=MEMBERS)
    args = parser.parse_args()
    print("| series | auto | best member | | above it | s |\n|---|--:|--:|---|--:|--:|", flush=True)
    for name, frame in series(args.etth2).items():
        if args.series and name not in args.series:
            continue
        members = ",".join(f"'{member}'" for member in args.members)
        began = time.perf_counter()
        auto = tsf.train("model=auto", f"budget={args.budget}", f"members=[{members}]", *WORDS, data=frame)
        took, alone = time.perf_counter() - began, {}
        for member in args.members:
            alone[member] = tsf.train(*f"model={member}".split(), *WORDS, data=frame).metrics["test/mase"]
        best, found = min(alone, key=alone.__getitem__), auto.metrics["test/mase"]
        share = found / alone[best] - 1
        print(f"| {name} | {found:.3f} | {alone[best]:.3f} | {best} | {share:+.1%} | {took:.0f} |", flush=True)


if __name__ == "__main__":
    main()
