"""Fitting a network under Lightning: one gather per batch, best weights kept, every epoch resumable."""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from tsforecast import errors
from tsforecast.errors import ConfigError
from tsforecast.models.backbones import network as build
from tsforecast.models.neural import Neural, Pinball, masked
from tsforecast.training.checkpoints import Best, Whole, check_checkpoint
from tsforecast.training.export import served
from tsforecast.training.fit import Fitted, Fitting, fit, started
from tsforecast.types import Dims, Window
from tsforecast.windows import Windows

log = logging.getLogger(__name__)
Batch = tuple[Window, Tensor]
_EXPLAINED = 256  # validation windows


class Batches(IterableDataset[Batch]):
    """Whole batches, gathered at once on the device the arrays are on.

    The order of an epoch depends on the seed and the epoch alone, so that a resumed run sees the same batches.

    Attributes
    ----------
    share
        Place among the processes that train together, and their number: of the batches of an epoch each takes every
        n-th, and all take as many, some twice where they do not divide.
    """

    def __init__(self, windows: Windows, size: int, *, seed: int | None = None) -> None:
        self.windows, self.size, self.seed, self.epoch = windows, size, seed, 0
        self.device, self.share = torch.device("cpu"), (0, 1)
        self._placed: Windows | None = None

    def __len__(self) -> int:
        return math.ceil(math.ceil(len(self.windows) / self.size) / self.share[1])

    def __iter__(self) -> Iterator[Batch]:
        order = torch.arange(len(self.windows))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
            order = torch.randperm(len(self.windows), generator=generator)
        batches, (place, count) = order.split(self.size), self.share
        own = [batches[i % len(batches)] for i in range(place, place + len(self) * count, count)]
        if self.device.type == "cpu":  # numpy gathers faster than torch on a processor; the tensors share its memory
            for index in own:
                window, label = self.windows.batch(index.numpy())
                yield _tensors(window), torch.from_numpy(label)
            return
        if self._placed is None:
            self._placed = self.windows.to(lambda array: torch.as_tensor(array, device=self.device))
        for index in own:
            yield self._placed.batch(index.to(self.device))


def _tensors(window: Window) -> Window:
    tensors: dict[str, Any] = {name: None if a is None else torch.from_numpy(a) for name, a in vars(window).items()}
    return Window(**tensors)


class ForecastModule(pl.LightningModule):
    """Loss, optimizer and schedule around any network."""

    def __init__(self, network: nn.Module, model: Neural, train: Windows, val: Windows, fitting: Fitting) -> None:
        super().__init__()
        shuffled, ordered = Batches(train, model.batch_size, seed=fitting.seed), Batches(val, model.val_batch_size)
        self.network, self.model, self.batches = network, model, {"train": shuffled, "val": ordered}
        self.loss, self.on = Pinball(quantiles) if (quantiles := fitting.dims.quantiles) else model.loss, fitting.on
        self.history: list[dict[str, float]] = []
        self._sums: dict[str, list[Tensor]] = {"train": [], "val": []}
        self.seed, self._judged = fitting.seed, 0  # validation windows

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One step; the loss is summed on the device and read once an epoch."""
        loss = masked(self.loss, self.network(batch[0]), batch[1], self.batches["train"].windows.missing)
        self._sums["train"].append(loss.detach())
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """The same loss, without a step."""
        loss = masked(self.loss, self.network(batch[0]), batch[1], self.batches["val"].windows.missing)
        self._sums["val"].append(loss.detach() * len(batch[1]))
        self._judged += len(batch[1])

    def on_train_epoch_start(self) -> None:
        """Another order every epoch, and other dropout, as the seed and the epoch say: a resumed run has the same."""
        self.batches["train"].epoch = self.current_epoch
        torch.manual_seed(self.seed * 100_003 + self.current_epoch)

    def on_validation_epoch_end(self) -> None:
        """Record the epoch."""
        val = torch.stack(self._sums["val"]).sum() / self._judged
        self._sums["val"], self._judged = [], 0
        self.log("val/loss", val, prog_bar=True, sync_dist=True, logger=False)
        if not self.trainer.sanity_checking and self._sums["train"]:
            train = float(torch.stack(self._sums["train"]).mean())
            rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
            self.history.append({"epoch": self.current_epoch, "train/loss": train, "val/loss": float(val), "lr": rate})
            self._sums["train"].clear()

    def on_validation_end(self) -> None:
        """Tell who listens; the best weights know of the epoch already, and all processes end it together."""
        if not self.trainer.sanity_checking and self.history and self.history[-1]["epoch"] == self.current_epoch:
            end = self.tell(self.history[-1], self.trainer)
            self.trainer.should_stop |= self.trainer.strategy.reduce_boolean_decision(end, all=False)

    def tell(self, record: dict[str, float], trainer: pl.Trainer) -> bool:
        """Of an epoch: the trainer's loggers and the listener, who may end the fit."""
        for logger in trainer.loggers:
            logger.log_metrics({name: each for name, each in record.items() if name != "epoch"}, int(record["epoch"]))
        return bool(self.on.epoch(record))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """With the epochs so far, so that the curve of a resumed run is whole."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with its epochs."""
        self.history = checkpoint["history"]

    def configure_optimizers(self) -> Any:
        """As configured; the schedule moves once an epoch."""
        optimizer = _built("model.optimizer", self.model.optimizer, self.network.parameters())
        if self.model.scheduler is None:
            return optimizer
        schedule = _built("model.scheduler", self.model.scheduler, optimizer)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Batches are gathered on the device already."""
        return batch

    def on_fit_start(self) -> None:
        """Place the arrays once; every process has its share of the training, and sees all of the validation."""
        self.batches["train"].share = (self.global_rank, self.trainer.world_size)
        for batches in self.batches.values():
            batches.device = self.device


@fit.register
def _(model: Neural, train: Windows, val: Windows, fitting: Fitting) -> Fitted:
    dims, best = fitting.dims, Best(model.patience)
    # Of devices and paid services; the last one takes over once a network of NeuralForecast is imported.
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    callbacks: list[pl.Callback] = [best] if model.epochs is None else []
    settings: dict[str, Any] = {} if model.epochs is None else {"max_epochs": model.epochs}
    if fitting.out is None:
        settings |= {"enable_checkpointing": False, "logger": False}
    else:  # the last of every epoch; `save_last` without a top k would wait for the end of the training
        settings["default_root_dir"], folder = fitting.out, fitting.out / "checkpoints"
        callbacks.append(ModelCheckpoint(folder, filename="last", save_top_k=1, enable_version_counter=False))
    driver = _built("trainer", started, fitting.trainer, callbacks, **settings)
    if type(driver.strategy.checkpoint_io) is TorchCheckpointIO:
        driver.strategy.checkpoint_io = Whole()
    if driver.max_epochs is not None:
        errors.count("trainer.max_epochs", driver.max_epochs, -1)
    torch.manual_seed(fitting.seed)
    network = build(model.backbone, dims)
    _probe(network, train, dims, getattr(model.backbone, "strides", lambda _: {})(dims.lookback))
    chosen: dict[str, Any] = {"epochs": model.epochs}
    if model.warm_start is not None:
        start = getattr(network, "warm_start", None)
        if start is None:
            what, got = "this network cannot start from a ridge solution", type(network).__name__
            raise ConfigError(what, where="model.warm_start", got=got, allowed="NLinear", fix="model.warm_start=null")
        start(ridge := model.warm_start.fit(train, val, dims), train, dims.quantiles)
        chosen["warm_start"] = ridge.chosen
    module = ForecastModule(network, model, train, val, fitting)
    # of generators of their own: to begin an epoch takes a number, which dropout would miss
    loaders = [DataLoader(batches, batch_size=None, generator=torch.Generator()) for batches in module.batches.values()]
    if fitting.ckpt_path is not None:
        for record in check_checkpoint(fitting.ckpt_path, module, driver.max_epochs):  # the last may not have been told
            module.tell(record, driver)
    if model.epochs != 0:  # Lightning would forecast validation windows first
        _train(driver, module, loaders, fitting.ckpt_path)
    if best.weights:
        network.load_state_dict(best.weights)
    epochs, note = len(module.history), ""
    if model.epochs is None:
        log.info("best validation loss %.4f of %d epochs", best.loss, epochs)
        chosen["epochs"] = 0 if best.epoch is None else best.epoch + 1
    if best.weights and best.epoch is None:
        start = "untrained weights" if model.warm_start is None else "warm start, a ridge regression"
        note = f"what is kept is the {start}: no epoch of {epochs} had a lower validation loss"
    network = network.cpu().eval()
    forecaster = served(model, network, dims, fitting.seed)
    return Fitted(forecaster, module.history, partial(_insights, network, val), note, chosen)


def _train(driver: pl.Trainer, module: ForecastModule, loaders: list[Any], ckpt_path: str | None) -> None:
    """Run the trainer; an interrupt is one again, and a lack of memory says what to make smaller."""
    interrupted = signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        # No workers on purpose; an iterable dataset has a length; a refit has no validation windows; a run that
        # goes on finds its checkpoint; epochs are logged, not steps.
        needless = (
            "does not have many workers",
            "has `__len__` defined",
            "LeafSpec",
            "`DataLoader` across ranks is zero",
            "Checkpoint directory",
            "The number of training batches",
        )
        warnings.filterwarnings("ignore", "|".join(f".*{words}" for words in needless))
        try:
            driver.fit(module, *loaders, ckpt_path=ckpt_path, weights_only=True)
        except SystemExit:  # Lightning turns Ctrl-C into an exit and leaves the signal switched off
            signal.signal(signal.SIGINT, interrupted)
            raise KeyboardInterrupt from None
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
            fix = f"model.batch_size={max(1, module.model.batch_size // 2)}, or a smaller network or lookback"
            where, got = "model.batch_size", str(error).partition("\n")[0][:200]
            raise ConfigError("the training does not fit into the memory", where=where, got=got, fix=fix) from error


def _probe(network: nn.Module, train: Windows, dims: Dims, strides: Mapping[str, int]) -> None:
    """Two windows through the fresh network, so that one of the wrong shape is found before it is trained.

    Raises
    ------
    ConfigError
        The network fails, or gives another shape than [B H C] or [B H C Q].
    """
    window = _tensors(train.window(np.zeros(2, dtype=np.int64)))
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            out = network(window)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        for name, rows in strides.items():
            what = f"the network reads the lookback {rows} rows at a time"
            fix = f"lookback={-(-dims.lookback // rows) * rows}"
            where = f"model.backbone.network.{name}"
            raise ConfigError(what, where=where, got=f"lookback={dims.lookback}", fix=fix) from error
        what, allowed = "the network cannot read a window", f"a forward(window) that copes with {dims}"
        fix = "--trace shows where it fails; docs/own-model.md, the parts of a window"
        raise ConfigError(what, where="model.backbone", got=error, allowed=allowed, fix=fix) from error
    finally:
        network.train(training)
    quantiles = len(dims.quantiles)
    wanted = [2, dims.horizon, dims.channels, *[quantiles] * bool(quantiles)]
    got = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if got != wanted:
        what = "the network gives forecasts of another shape than asked for"
        allowed = f"{wanted}: windows, horizon, channels" + (", quantiles" if quantiles else "")
        fix = "forward(window) returns [B H C], with quantiles [B H C Q]; docs/own-model.md"
        fix += "" if quantiles else "; model.learns_quantiles says which"
        raise ConfigError(what, where="model.backbone", got=f"{got} for two windows", allowed=allowed, fix=fix)


def _insights(network: nn.Module, val: Windows) -> dict[str, Any]:
    """What the network says about itself, if it can, after reading windows that it was not fitted on."""
    explain = getattr(network, "insights", None)
    if explain is None or not len(val):
        return {}
    index = np.unique(np.linspace(0, len(val) - 1, min(len(val), _EXPLAINED)).astype(np.int64))
    return dict(explain(_tensors(val.window(index)), val.encoded.names))


def _built(where: str, constructor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a configured constructor gives; what it refuses is a ConfigError."""
    try:
        return constructor(*args, **kwargs)
    except (MisconfigurationException, TypeError, ValueError, AssertionError) as error:
        reason = str(error).strip().splitlines() or ["a value of the wrong kind"]
        fix = "--cfg job shows the values it was given" + ("; trainer=cpu runs everywhere" * (where == "trainer"))
        raise ConfigError(f"the {where.split('.')[-1]} cannot be built", where=where, got=reason[0], fix=fix) from error
