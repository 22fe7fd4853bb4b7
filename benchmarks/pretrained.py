"""A pretrained network on fev's task ETT_1H: twenty windows of 168 hours, two series of seven columns.

The files are not part of the repository: ETTh1.csv and ETTh2.csv in TSFORECAST_DATA_DIR. Without a training, so that
what is scored is the network as it is; further overrides may say model.backbone.weights=DIR or model=ensemble.

python benchmarks/pretrained.py [--files a.csv b.csv] [--windows 20] [--horizon 168] [--lookback 2048] [overrides]
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import pandas as pd

import tsforecast as tsf

DATA = Path(os.environ.get("TSFORECAST_DATA_DIR", "data"))


def read(path: Path) -> pd.DataFrame:
    """A CSV as one series, or a long frame in Parquet."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path).rename(columns={"ds": "date"})
    return pd.read_csv(path, parse_dates=["date"]).assign(unique_id=path.stem)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", type=Path, default=[DATA / "ETTh1.csv", DATA / "ETTh2.csv"])
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--horizon", type=int, default=168)
    parser.add_argument("--lookback", type=int, default=2048)
    given, overrides = parser.parse_known_args()
    frame = pd.concat([read(path) for path in given.files], ignore_index=True)
    frame = frame[frame["unique_id"].isin(frame["unique_id"].unique()[: given.series])]
    target = [str(name) for name in frame.select_dtypes("number")]
    sizes = [f"lookback={given.lookback}", f"horizon={given.horizon}", f"backtest.windows={given.windows}"]
    plain = ["feature=[]", "scaler=none", "quantiles=[]", "calibration=none", "tracking=none", "report=none"]
    plain += [f"backtest.val={given.horizon}", "backtest.refit=never", "model=pretrained"]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as out:
        columns = {"id": "unique_id", "time": "date", "target": target}
        tsf.backtest(*plain, *sizes, *overrides, data=frame, out=Path(out), **columns)
        scores = tsf.leaderboard([out]).fev().set_index("model_name")[["MASE", "WAPE", "trained_on_this_dataset"]]
    print(scores.to_string())
    print(f"{time.process_time() - began:.0f} s of a processor")


if __name__ == "__main__":
    main()
