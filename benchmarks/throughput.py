"""Training throughput: NLinear on ETTh1 under Lightning, lookback 336, horizon 96, batch 32, one thread.

    python benchmarks/throughput.py [--epochs 4]

Channel-windows a second of each epoch after the first, from its first step to the start of its validation. A bare torch
loop over the same batches, network and optimizer stands beside it.
"""

import argparse
import logging
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from scoring import etth1  # first: it sets the number of threads

# isort: split
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from tsforecast.models.networks import NLinear
from tsforecast.models.neural import Neural
from tsforecast.training.fit import Fitting, fit
from tsforecast.training.neural import Batches


class Clock(Callback):
    """Seconds of training in each epoch; process time, so that neighbours on the machine do not count."""

    def __init__(self) -> None:
        self.began, self.seconds = 0.0, list[float]()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        self.began = time.process_time()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop: the last step of the epoch is done."""
        if not trainer.sanity_checking:
            self.seconds.append(time.process_time() - self.began)


def bare(batches: Batches, network: torch.nn.Module, epochs: int) -> list[float]:
    """The same steps with nothing around them."""
    optimizer, seconds = torch.optim.Adam(network.parameters(), lr=1e-3), []
    for batches.epoch in range(epochs):
        began = time.process_time()
        for window, label in batches:
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(network(window), label).backward()
            optimizer.step()
        seconds.append(time.process_time() - began)
    return seconds


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args().epochs
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    data = etth1()
    dims, train, val = data.dims, data.windows("train"), data.windows("val")
    clock = Clock()

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = partial(pl.Trainer, accelerator="cpu", max_epochs=epochs, callbacks=[clock], **quiet)
    with tempfile.TemporaryDirectory() as scratch:
        model = Neural(NLinear, patience=epochs)
        fit(model, train, val, Fitting(dims, trainer, out=Path(scratch)))
    loop = bare(Batches(train, 32, seed=1), NLinear(dims), epochs)
    print("| | channel-windows/s (median) | range |\n|---|---|---|")
    for name, seconds in (("under Lightning", clock.seconds[1:]), ("bare torch loop", loop[1:])):
        rates = [len(train) * dims.channels / each for each in seconds]
        print(f"| {name} | {median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} |")


if __name__ == "__main__":
    main()
