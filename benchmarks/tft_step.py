"""A training step of the TFT: here against NeuralForecast's own training of the same network, in turn.

    python benchmarks/tft_step.py [--steps 60] [--rounds 3]

Hidden size 32, 64 windows of 168 + 24 rows, two past and three known covariates, five quantiles, one thread. Processor
seconds a step after the first ten, and the peak memory of each process.
"""

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np

LEVELS, LOOKBACK, HORIZON, BATCH, WARM = (0.05, 0.1, 0.5, 0.9, 0.95), 168, 24, 64, 10
PARAMETERS = {"hidden_size": 32, "n_head": 4}


def clock(base: type) -> Any:
    """A callback of either Lightning that notes the processor time of every step."""

    class Clock(base):
        """Notes it."""

        times: ClassVar[list[float]] = []  # of the class: NeuralForecast trains with a copy of its callbacks

        def on_train_batch_end(self, *_: Any) -> None:
            """A step is done."""
            self.times.append(time.process_time())

    return Clock()


def ours(data: np.ndarray, steps: int) -> list[float]:
    """Under our LightningModule."""
    import lightning.pytorch as pl
    import torch
    from neuralforecast.models import TFT

    from tsforecast.models.backbones import NeuralForecast
    from tsforecast.models.neural import Neural
    from tsforecast.training.fit import Fitting
    from tsforecast.training.neural import ForecastModule
    from tsforecast.types import Encoded
    from tsforecast.windows import Windows

    torch.set_num_threads(1)
    encoded = Encoded(np.array([0, len(data)]), data[:, :1], data[:, 1:3], data[:, 3:], np.zeros((1, 0), np.float32))
    windows = Windows.over(encoded, lookback=LOOKBACK, horizon=HORIZON, begin=np.array([0]), end=np.array([len(data)]))
    backbone = NeuralForecast(partial(TFT, **PARAMETERS))
    model = Neural(backbone, batch_size=BATCH, learns_quantiles=True)
    torch.manual_seed(1)
    dims, timer = encoded.dims(LOOKBACK, HORIZON, 24, LEVELS), clock(pl.Callback)
    module = ForecastModule(backbone(dims), model, windows, windows, Fitting(dims, pl.Trainer))
    pl.Trainer(accelerator="cpu", max_steps=steps, logger=False, enable_progress_bar=False, enable_checkpointing=False,
               enable_model_summary=False, limit_val_batches=0, callbacks=[timer]).fit(module)  # fmt: skip
    return timer.times


def theirs(data: np.ndarray, steps: int) -> list[float]:
    """Through NeuralForecast's `fit`."""
    import pandas as pd
    import pytorch_lightning as pl
    import torch
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import TFT

    torch.set_num_threads(1)
    names = ["y", "p0", "p1", "k0", "k1", "k2"]
    frame = pd.DataFrame(data, columns=names).assign(unique_id="a", ds=np.arange(len(data)))
    timer = clock(pl.Callback)
    model = TFT(h=HORIZON, input_size=LOOKBACK, hist_exog_list=names[1:3], futr_exog_list=names[3:], max_steps=steps,
                loss=MQLoss(quantiles=list(LEVELS)), windows_batch_size=BATCH, batch_size=1, scaler_type="identity",
                accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
                callbacks=[timer], **PARAMETERS)  # fmt: skip
    NeuralForecast([model], freq=1).fit(frame)
    return timer.times


def main() -> None:
    """Run both sides in processes of their own, in turn; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["ours", "theirs"])
    options = parser.parse_args()
    if options.side:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        data = np.random.default_rng(0).standard_normal((5000, 6)).astype(np.float32)
        with tempfile.TemporaryDirectory() as scratch:
            os.chdir(scratch)
            times = {"ours": ours, "theirs": theirs}[options.side](data, options.steps)
            os.chdir(Path(__file__).parent)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"RESULT {median(np.diff(times)[WARM:]) * 1e3} {peak}")
        return
    found: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
    for _ in range(options.rounds):
        for side, runs in found.items():
            command = [sys.executable, __file__, "--side", side, "--steps", str(options.steps)]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            runs.append([float(each) for each in out.split("RESULT")[1].split()])
    print("| | ms a step, processor time | peak memory, MiB |\n|---|---|---|")
    for side, runs in found.items():
        print(f"| {side} | {', '.join(f'{ms:.0f}' for ms, _ in runs)} | {', '.join(f'{mb:.0f}' for _, mb in runs)} |")


if __name__ == "__main__":
    main()
