"""`split.short=naive`: how often the intervals of series that are too short for the model hold what came.

Half of the series of a panel are trained on; each of the others is cut to so few rows at some place, forecast, and held
against the rows behind it. None of these others was seen in training or calibration. Panels are long frames
(unique_id, ds, y) in Parquet: M3 monthly, NN5 daily and Walmart weekly in --data, the 1,000 items of this repository.

python benchmarks/short.py [--panels panel] [--series 100]
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd

from tsforecast import train

PANELS = {  # season, lookback, horizon
    "panel": (7, 28, 14),
    "m3_monthly_200": (12, 36, 18),
    "nn5_daily_100": (7, 56, 28),
    "walmart_weekly_45": (52, 104, 8),
}
DATA = Path(os.environ.get("TSFORECAST_DATA_DIR", "data"), "panels")


def main() -> None:
    """Print a row for each panel and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panels", nargs="+", default=list(PANELS))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--series", type=int, default=200)
    args = parser.parse_args()
    print(
        "| panel | rows | windows | 80 % | 90 % | width 90 % over mean | MAE over mean |\n|---|--:|--:|--:|--:|--:|--:|"
    )
    for name in args.panels:
        season, back, ahead = PANELS[name]
        place = Path("data") if name == "panel" else args.data
        long = pd.read_parquet(place / f"{name}.parquet", columns=["unique_id", "ds", "y"])
        names = np.random.default_rng(1).permutation(long["unique_id"].unique())[: args.series]
        known = long["unique_id"].isin(names[::2])
        words = [
            "dataset=long",
            "dataset.gaps=fill",
            "feature=[]",
            f"lookback={back}",
            f"horizon={ahead}",
            f"season={season}",
        ]
        words += ["split=tail", "split.short=naive", f"split.val={2 * ahead}", f"split.test={ahead}"]
        bundle = train(*words, "evaluation.covariates=false", data=long[known]).bundle
        others = {key: rows for key, rows in long.groupby("unique_id") if key in set(names[1::2])}
        for held in sorted({1, max(2, season // 2), season, min(2 * season, back - 1)}):
            places = np.random.default_rng(held)
            parts, labels = [], []
            for key, rows in others.items():
                for k in range(5):
                    if len(rows) >= held + ahead:
                        at = int(places.integers(held, len(rows) - ahead + 1))
                        cut = rows.iloc[at - held : at]
                        if cut["y"].notna().any():
                            parts.append(cut.assign(unique_id=f"{key} {k}"))
                            labels.append(rows["y"].iloc[at : at + ahead].to_numpy())
            found = bundle.forecast(pd.concat(parts), stale="ignore")
            assert found.fallback is not None
            assert found.fallback.all()
            assert list(found.ids) == [part["unique_id"].iloc[0] for part in parts]
            y = np.stack(labels)
            low, low80, _, high80, high = np.moveaxis(found.quantiles[:, :, 0], -1, 0)
            seen, size = ~np.isnan(y), np.nanmean(np.abs(y))
            inside = [np.mean(((a <= y) & (y <= b))[seen]) for a, b in ((low80, high80), (low, high))]
            error = np.nanmean(np.abs(y - found.values[..., 0])) / size
            shares = f"{inside[0]:.3f} | {inside[1]:.3f} | {np.mean(high - low) / size:.2f} | {error:.3f}"
            print(f"| {name} | {held} | {len(y)} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
