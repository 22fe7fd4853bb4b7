"""What share of the truth the 90 % intervals cover: by quarter of the horizon, by how rough what they forecast is.

    python benchmarks/intervals.py [--cases etth1 nn5_daily_100] [--models ridge ets] [--before 1 2 3]

ETTh1 and Beijing are forecast from every test row; of a panel (see panels.py) the last horizon is the test, and with
--before so many horizons are cut off its end first, so that a choice can be judged on other rows than the test. The
series of a panel, and the windows of the others, are put into three parts by the mean change from row to row of what
the forecast sees, over the standard deviation of their series. The target is .84 to .95 in every quarter and part. At
one cutoff all series of a panel share the shocks of its weeks: .84 to .95 is for the mean of several.
"""

import argparse
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from panels import DATA, PANELS, drawn

import tsforecast as tsf
from tsforecast.result import Result
from tsforecast.training.evaluate import evaluate

ROWS = {"etth1": ["dataset=etth1", "split=ltsf", "feature=[]", "horizon=24"], "beijing": ["dataset=beijing_pm25"]}
HEAD = "| case | model | before | covers | quarters of the horizon | calm, usual, rough | width |"


def words(case: str, before: int, folder: str) -> list[str]:
    """What to train with; the rows of a panel are written into the folder."""
    if case in ROWS:
        return ROWS[case]
    horizon, _, own, _ = PANELS.get(case, (7, 7, [], 0.0))
    long = drawn() if case == "drawn" else pd.read_parquet(DATA / f"{case}.parquet")
    long = long[long.groupby("unique_id").cumcount(ascending=False) >= before * horizon]
    long[["unique_id", "ds", "y"]].to_parquet(file := Path(folder, "panel.parquet"))
    sizes = [f"horizon={horizon}", f"split.val={horizon}", f"split.test={horizon}", "split=tail", "feature=[]"]
    return ["dataset=long", f"dataset.path={file}", *sizes, *own]


def measured(found: Result) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each window, step and channel whether the interval held the truth, and its width; of windows the roughness."""
    data, forecasts = found.data, list[np.ndarray]()
    windows = data.windows("test")
    levels = found.bundle.quantile_levels
    ends = [levels.index(level) for level in (0.05, 0.95)]
    evaluate(found.bundle, data.panel, windows, data.scale, sink=lambda each: forecasts.append(each.quantiles))
    low, high = np.moveaxis(np.concatenate(forecasts)[..., ends], 3, 0)
    truth = data.panel.target[windows.origins[:, None] + np.arange(data.dims.horizon)]
    inside = np.where(np.isnan(truth), np.nan, (low <= truth) & (truth <= high))
    first = data.panel.offsets[windows.series] if len(data.panel) > 1 else windows.origins - data.dims.lookback
    rows = [data.panel.target[a:b] for a, b in zip(first, windows.origins, strict=True)]
    scale = [
        np.nanstd(data.panel.target[a:b], axis=0)
        for a, b in zip(data.panel.offsets, data.panel.offsets[1:], strict=False)
    ]
    rough = [np.nanmean(np.abs(np.diff(each, axis=0)), axis=0) for each in rows]
    return inside, (high - low) / np.array(scale)[windows.series][:, None], rough / np.array(scale)[windows.series]


def shares(inside: np.ndarray, rough: np.ndarray) -> Iterator[str]:
    """Covered of all, of each quarter of the horizon, of each third by roughness."""
    place = rough.argsort(axis=0).argsort(axis=0) * 3 // len(rough)
    thirds = [inside.transpose(0, 2, 1)[place == third] for third in range(3)]
    for parts in ([inside], np.array_split(inside, 4, axis=1), thirds):
        yield " ".join(f"{np.nanmean(part):.3f}".removeprefix("0") for part in parts)


def main() -> None:
    """Print a row for each case, model and cutoff."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=[*ROWS, *PANELS], help="or drawn: a small panel without a file")
    parser.add_argument("--models", nargs="+", default=["ridge"])
    parser.add_argument("--before", type=int, nargs="+", default=[0], help="horizons that are cut off a panel")
    parser.add_argument("--overrides", nargs="*", default=[])
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(HEAD, "|---|---|--:|--:|---|---|--:|", sep="\n")
    for case, model, before in ((c, m, b) for c in args.cases for m in args.models for b in args.before):
        with tempfile.TemporaryDirectory() as folder:
            found = tsf.train(*words(case, before, folder), f"model={model}", *args.overrides)
            inside, width, rough = measured(found)
        row = [case, model, str(before), *shares(inside, rough), f"{np.nanmean(width):.2f}"]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
