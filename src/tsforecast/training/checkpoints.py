"""What a training keeps: the best weights, and checkpoints that fit the network they are resumed with."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from tsforecast.errors import ConfigError
from tsforecast.files import atomic


class Best(Callback):
    """Keeps the weights of the lowest validation loss and stops when it has not fallen for `patience` epochs.

    The state before the first step counts too: a warm start that training cannot better is kept. Part of every
    checkpoint, so that a resumed run goes on with the same best.
    """

    def __init__(self, patience: int) -> None:
        self.patience, self.waited, self.loss = patience, 0, math.inf
        self.epoch: int | None = None  # None: the state before the first step
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare; what was judged on some of the windows alone, before the first step, cannot be compared."""
        if trainer.sanity_checking and trainer.num_sanity_val_batches != trainer.num_val_batches:
            return
        loss = float(trainer.callback_metrics["val/loss"])
        if loss < self.loss:
            network: nn.Module = pl_module.network
            self.loss, self.waited = loss, 0
            self.epoch = None if trainer.sanity_checking else trainer.current_epoch
            self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        elif not trainer.sanity_checking:
            self.waited += 1
            trainer.should_stop = trainer.should_stop or self.waited >= self.patience

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that is resumed after its last epoch has no further one; Lightning does not keep that it stopped."""
        trainer.should_stop = trainer.should_stop or self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"waited": self.waited, "loss": self.loss, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.__dict__.update(state_dict)


class Whole(TorchCheckpointIO):
    """Files that appear whole or not at all; Lightning's are moved from the temporary folder, which may be a copy."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Beside its place, and then into it; a store that is no folder has its own way."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with atomic(Path(path)) as scratch:
            torch.save(checkpoint, scratch)


def check_checkpoint(path: str, module: nn.Module, epochs: int | None) -> list[dict[str, float]]:
    """The history of the epochs in a checkpoint that can be resumed from.

    Raises
    ------
    ConfigError
        The file is no checkpoint, holds another network, or has more than `epochs` behind it.
    """
    reason = "no state of a run"
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        found, reason = None, str(error).partition("\n")[0][:200]
    if not isinstance(found, dict) or not {"state_dict", "history", "epoch"} <= set(found):
        fix = "give the path of a run's checkpoints/last.ckpt; delete a damaged one, and resume= begins anew"
        raise ConfigError("this is not a checkpoint of a run", where="ckpt_path", got=f"{path}: {reason}", fix=fix)
    given, wanted = (
        {f"{name.removeprefix('network.')} {list(value.shape)}" for name, value in state.items()}
        for state in (found["state_dict"], module.state_dict())
    )
    if given != wanted:
        got, allowed = (", ".join(sorted(own)[:3]) for own in (given - wanted, wanted - given))
        fix = "resume with the lookback, horizon, model and data of its run: see the config.yaml there"
        what = "this is a checkpoint of another network"
        raise ConfigError(what, where="ckpt_path", got=got, allowed=allowed, fix=fix)
    done = found["epoch"] + 1
    if epochs is not None and 0 <= epochs < done:
        what, fix = "the checkpoint has more epochs behind it than are asked for", f"trainer.max_epochs={done + 10}"
        raise ConfigError(what, where="trainer.max_epochs", got=epochs, allowed=f"{done} or more", fix=fix)
    history: list[dict[str, float]] = found["history"]
    return history
