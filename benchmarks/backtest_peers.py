"""The peers of backtest.py: Nixtla's `cross_validation` of a linear model; writes cv.parquet."""

import argparse
import logging
import warnings
from typing import Any

import pandas as pd

warnings.filterwarnings("ignore")


def neuralforecast(frame: pd.DataFrame, lookback: int, horizon: int, folds: int) -> Any:
    """NLinear, 200 steps, fitted once."""
    import torch
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import NLinear

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    sizes = {"h": horizon, "input_size": lookback, "max_steps": 200, "windows_batch_size": 1024}
    model = NLinear(**sizes, loss=MSE(), scaler_type="identity", enable_checkpointing=False, **quiet)
    forecaster = NeuralForecast(models=[model], freq="D", local_scaler_type="standard")
    return forecaster.cross_validation(frame, n_windows=folds, step_size=horizon)


def mlforecast(frame: pd.DataFrame, lookback: int, horizon: int, folds: int) -> Any:
    """A linear regression on as many lags, one for each step ahead, fitted again in each fold."""
    from mlforecast import MLForecast
    from mlforecast.target_transforms import LocalStandardScaler
    from sklearn.linear_model import LinearRegression

    lags, scale = list(range(1, lookback + 1)), [LocalStandardScaler()]
    forecaster = MLForecast(models=[LinearRegression()], freq="D", lags=lags, target_transforms=scale, num_threads=1)
    return forecaster.cross_validation(frame, n_windows=folds, h=horizon, step_size=horizon, max_horizon=horizon)


def main() -> None:
    """Run one peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["neuralforecast", "mlforecast"])
    parser.add_argument("parquet")
    for name in ("lookback", "horizon", "folds"):
        parser.add_argument(f"--{name}", type=int)
    arguments = parser.parse_args()
    run = {"neuralforecast": neuralforecast, "mlforecast": mlforecast}[arguments.peer]
    found = run(pd.read_parquet(arguments.parquet), arguments.lookback, arguments.horizon, arguments.folds)
    found.to_parquet("cv.parquet")


if __name__ == "__main__":
    main()
