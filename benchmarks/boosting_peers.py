"""The peers of boosting.py: direct XGBoost, 24 steps ahead, in skforecast and mlforecast.

    python benchmarks/boosting_peers.py ETTh1.csv skforecast|mlforecast '{"n_estimators": 50, ...}'

One thread. Prints one JSON line: seconds of the fit on rows 0 to 8639, and of 120 forecasts from one origin a day over
the test rows, each with the history the library wants; MSE in scaled units.
"""

# ruff: noqa: E402 (XGBoost reads its number of threads when it is imported)
import json
import os
import sys
import time
import warnings

os.environ["OMP_NUM_THREADS"] = "1"
warnings.filterwarnings("ignore")

import numpy as np
import pandas as pd
import xgboost as xgb

TRAIN, TEST, LOOKBACK, HORIZON = 8640, 11520, 96, 24


def main() -> None:
    """Fit, forecast, print."""
    file, library, parameters = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    frame = pd.read_csv(file, parse_dates=["date"])
    raw = frame["OT"].to_numpy()
    values = ((raw - raw[:TRAIN].mean()) / raw[:TRAIN].std()).astype(np.float32)
    series = pd.Series(values, index=pd.DatetimeIndex(frame["date"], freq="h"), name="y")
    origins = range(TEST, TEST + 2880 - HORIZON + 1, HORIZON)
    model = xgb.XGBRegressor(tree_method="hist", n_jobs=1, **parameters)
    began = time.process_time()
    if library == "skforecast":
        from skforecast.direct import ForecasterDirect

        direct = ForecasterDirect(estimator=model, steps=HORIZON, lags=LOOKBACK, n_jobs=1)
        began = time.process_time()
        direct.fit(series[:TRAIN])
        fitted = time.process_time()
        forecasts = [direct.predict(last_window=series[origin - LOOKBACK : origin]) for origin in origins]
    else:
        from mlforecast import MLForecast

        long = series.rename_axis("ds").reset_index().assign(unique_id="OT")
        direct = MLForecast(models={"y_hat": model}, freq="h", lags=list(range(1, LOOKBACK + 1)), num_threads=1)
        direct.fit(long[:1000], max_horizon=2)  # compiles
        began = time.process_time()
        direct.fit(long[:TRAIN], max_horizon=HORIZON)
        fitted = time.process_time()
        forecasts = [direct.predict(HORIZON, new_df=long[origin - LOOKBACK : origin])["y_hat"] for origin in origins]
    done = time.process_time()
    errors = [np.mean((f.to_numpy() - values[o : o + HORIZON]) ** 2) for f, o in zip(forecasts, origins, strict=True)]
    print(json.dumps({"fit_s": fitted - began, "score_s": done - fitted, "mse": float(np.mean(errors))}))


if __name__ == "__main__":
    main()
