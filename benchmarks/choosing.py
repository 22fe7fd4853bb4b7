"""What a choice on validation is worth: MASE of a ridge on the last rows, by option, and which one is chosen.

The panels are those of classical.py, long frames in Parquet that are not part of the repository; ETTh1 is public. What
the first and the last run of each say of covariates stands below them.

python benchmarks/choosing.py [--cases m3 nn5 walmart etth1 demo] [--cut 28]

With --cut the last rows of every series of a panel are not there: whether a choice holds at an earlier cutoff.
"""

import argparse
import os
import re
import tempfile
from pathlib import Path

import pandas as pd

import tsforecast as tsf

PANELS = Path(os.environ.get("TSFORECAST_DATA_DIR", "data"), "panels")
SCALERS = [f"scaler={kind} scaler.scope={scope}" for kind in ("standard", "log1p") for scope in ("series", "window")]
WALMART = ["dataset.known=[holiday,temp,fuel,cpi,unemp]", "horizon=8", "split=tail", "split.val=8", "split.test=8"]
MONTHS = ["horizon=18", "split=tail", "split.short=drop"]
CASES = {
    "m3": (
        "m3_monthly_200",
        ["horizon=18", "split=tail", "split.val=18", "split.test=18", "split.short=drop"],
        (36, 24, 12),
    ),
    "nn5": ("nn5_daily_100", ["horizon=28", "split=tail", "split.val=56", "split.test=28"], (112, 56, 28)),
    "walmart": ("walmart_weekly_45", WALMART, (104, 78, 52)),
    "etth1": ("", ["dataset=etth1", "split=ltsf", "horizon=24"], (672, 168, 96)),
    "demo": ("", ["horizon=4"], (48, 24)),
}


def until(file: Path, cut: int, folder: str) -> Path:
    """A panel without the last rows of its series."""
    long = pd.read_parquet(file)
    long[long.groupby("unique_id").cumcount(ascending=False) >= cut].to_parquet(earlier := Path(folder, file.name))
    return earlier


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--cut", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tables(args.cases, args.cut, folder)


def tables(cases: list[str], cut: int, folder: str) -> None:
    """Print them."""
    for name in cases:
        panel, words, lookbacks = CASES[name]
        if panel:
            words = [*words, "dataset=long", f"dataset.path={until(PANELS / f'{panel}.parquet', cut, folder)}"]
        each = [*SCALERS, *(f"lookback={rows}" for rows in lookbacks)]
        together = f"lookback=[{','.join(map(str, lookbacks))}]"
        for option in (*each, "scaler=auto", together, f"scaler=auto {together}", "feature=[]"):
            try:
                result = tsf.train(*words, *option.split())
            except tsf.TsforecastError as error:
                print(f"| {name} | {option} | refused: {error.what} |", flush=True)
                continue
            scaler, dims = result.bundle.features.scaler, result.bundle.dims
            took = f"{type(scaler).__name__} {scaler.scope}, {dims.lookback} rows back"
            scores = f"{result.metrics['val/mase']:.3f} | {result.metrics['test/mase']:.3f}"
            print(f"| {name} | {option} | {took} | {scores} |", flush=True)
            said = (
                re.search(r"left out, .*\n.*", result.table()) if option == "feature=[]" or option == each[0] else None
            )
            print(said[0] if said else "", end="\n" * bool(said), flush=True)


if __name__ == "__main__":
    main()
