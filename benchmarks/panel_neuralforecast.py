"""The peer: NeuralForecast's NLinear on a long Parquet, the job of panel.py's second table and no more.

Same windows, batch, steps and learning rate, one thread; one forecast of every series' last rows, scored.
"""

import argparse
import json
import logging
import warnings

import numpy as np
import pandas as pd
import torch

warnings.filterwarnings("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


def main() -> None:
    """Train, score, print one JSON line."""
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import NLinear

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parquet")
    for name, value in (("lookback", 96), ("horizon", 24), ("steps", 200), ("batch", 1024)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frame = pd.read_parquet(arguments.parquet)
    last = frame.groupby("unique_id", sort=False).tail(arguments.horizon)
    model = NLinear(
        h=arguments.horizon, input_size=arguments.lookback, loss=MSE(), max_steps=arguments.steps, learning_rate=1e-3,
        batch_size=32, windows_batch_size=arguments.batch, scaler_type="identity", val_check_steps=arguments.steps,
        enable_progress_bar=False, enable_model_summary=False, logger=False, enable_checkpointing=False,
    )  # fmt: skip
    forecaster = NeuralForecast(models=[model], freq="h", local_scaler_type="standard")
    forecaster.fit(frame.drop(last.index), val_size=arguments.horizon)
    forecast = forecaster.predict()["NLinear"].to_numpy()
    print(json.dumps({"mae_raw": float(np.abs(forecast - last["y"].to_numpy()).mean())}))


if __name__ == "__main__":
    main()
