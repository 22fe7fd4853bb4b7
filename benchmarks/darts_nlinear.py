"""The peer: darts' NLinearModel on ETTh1, the job of `+experiment=etth1 tracking=none report=none` and no more.

Same rows, same standardisation, same windows, batch, epochs and precision, one thread; validated each epoch, then
scored on every test window. Run by wholeprocess.py with an interpreter that has darts.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from darts import TimeSeries
from darts.models import NLinearModel

TRAIN, VAL, TEST = 8640, 11520, 14400  # the LTSF borders


def main() -> None:
    """Train, score, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lookback", type=int, default=336)
    parser.add_argument("--horizon", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    arguments = parser.parse_args()
    lookback, horizon = arguments.lookback, arguments.horizon
    torch.set_num_threads(1)

    frame = pd.read_csv(arguments.csv, parse_dates=["date"], index_col="date")
    train = frame.iloc[:TRAIN]
    scaled = ((frame - train.mean()) / train.std(ddof=0)).astype(np.float32)
    series = TimeSeries.from_dataframe(scaled)
    model = NLinearModel(
        lookback,
        horizon,
        shared_weights=True,  # one map for all channels, as in the paper
        normalize=True,  # the N of NLinear: less the last value
        batch_size=arguments.batch,
        n_epochs=arguments.epochs,
        optimizer_kwargs={"lr": arguments.lr},
        random_state=0,
        pl_trainer_kwargs={
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
        },
    )
    model.fit(series[:TRAIN], val_series=series[TRAIN - lookback : VAL], dataloader_kwargs={"num_workers": 0})
    forecasts = model.historical_forecasts(
        series[VAL - lookback : TEST],
        forecast_horizon=horizon,
        retrain=False,
        last_points_only=False,
        predict_kwargs={"batch_size": 1024},
    )
    truth = scaled.to_numpy()[VAL:TEST]
    errors = np.stack([f.values(copy=False) - truth[i : i + horizon] for i, f in enumerate(forecasts)])
    mse, mae = np.mean(errors**2, dtype=np.float64), np.mean(np.abs(errors), dtype=np.float64)
    print(json.dumps({"windows": len(forecasts), "test/mse": float(mse), "test/mae": float(mae)}))


if __name__ == "__main__":
    main()
