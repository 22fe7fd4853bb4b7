"""Classical models on public panels: MASE of the last rows, by code of its own, and seconds of a processor.

Each series is forecast once, from all rows before its last ones, by the bundle that a run would save; in front of
shorter series stand empty rows. The panels are not part of the repository: long frames (unique_id, ds, y) in Parquet,
of M3 monthly (200 series), NN5 daily (100) and Walmart weekly (45 stores), in --data.

python benchmarks/classical.py [--models ets mstl] [--panels m3_monthly_200] [--series 200] [--overrides threads=2]
"""

import argparse
import logging
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tsforecast.bundle.bundle import Bundle
from tsforecast.config.compose import build, compose
from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.features.base import FeatureSet
from tsforecast.types import Dims
from tsforecast.windows import Windows

PANELS: dict[str, tuple[str, int, int]] = {"panel": ("D", 28, 7)}  # of the repository: --data data
PANELS |= {"m3_monthly_200": ("MS", 18, 12), "nn5_daily_100": ("D", 28, 7), "walmart_weekly_45": ("W-FRI", 8, 52)}
DATA = Path(os.environ.get("TSFORECAST_DATA_DIR", "data"), "panels")


def mase(y: np.ndarray, forecast: np.ndarray, season: int) -> float:
    """Mean absolute error over that of the seasonal naive on the rows before."""
    before, after = y[: -len(forecast)], y[-len(forecast) :]
    return float(np.nanmean(np.abs(after - forecast)) / np.nanmean(np.abs(before[season:] - before[:-season])))


def histories(truth: dict[str, pd.Series], horizon: int, rows: int, freq: str) -> pd.DataFrame:
    """All but the last `horizon` rows of each series, behind as many empty ones as make it `rows`."""
    frames = []
    for name, y in truth.items():
        stamps = pd.date_range(end=y.index[-1 - horizon], periods=rows, freq=freq)
        frames.append(pd.DataFrame({"unique_id": name, "ds": stamps, "y": y.reindex(stamps).to_numpy()}))
    return pd.concat(frames)


def main() -> None:
    """Print a row for each panel and model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["seasonal_naive", "ets", "theta", "arima", "mstl"])
    parser.add_argument("--panels", nargs="+", default=[name for name in PANELS if name != "panel"])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--overrides", nargs="*", default=[])
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # of rows that are empty
    print("| panel | model | series | MASE | of the longer | s CPU |\n|---|---|--:|--:|--:|--:|")
    for name in args.panels:
        freq, horizon, season = PANELS[name]
        long = pd.read_parquet(args.data / f"{name}.parquet")
        truth = {key: rows.set_index("ds")["y"] for key, rows in list(long.groupby("unique_id"))[: args.series]}
        lookback = max(map(len, truth.values())) - horizon
        frame = histories(truth, horizon, lookback, freq)
        schema = Schema(time="ds", id="unique_id", target=("y",), freq=freq)
        panel = to_panel(frame, schema)
        features = FeatureSet().fit(panel)
        rows = {"lookback": lookback, "horizon": 1, "begin": panel.offsets[:-1], "end": panel.offsets[1:]}
        windows = Windows.over(features.encode(panel), **rows)
        for model in args.models:
            dims = Dims(lookback, horizon, 1, season=season)
            estimator = build(compose("train", [f"model={model}", *args.overrides])[0].model)
            forecaster = estimator.fit(windows, windows, dims)
            bundle = Bundle(schema=schema.resolved(panel), dims=dims, features=features, forecaster=forecaster)
            began = time.process_time()
            found = bundle.forecast(frame, stale="ignore")
            seconds = time.process_time() - began
            values = dict(zip(found.ids, found.values[..., 0], strict=True))
            errors = {key: mase(y.to_numpy(), values[key], season) for key, y in truth.items()}
            longer = [errors[key] for key, y in truth.items() if len(y) >= 5 * season + 2 * horizon]
            scores = f"{np.mean([*errors.values()]):.3f} | {np.mean(longer) if longer else np.nan:.3f}"
            print(f"| {name} | {model} | {len(errors)} | {scores} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
