"""One LightningModule around any network, and the settings it is trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tsforecast.errors import count
from tsforecast.models.base import Forecaster
from tsforecast.models.linear import Ridge
from tsforecast.types import Dims


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3)


@dataclass(frozen=True)
class Neural:
    """A network and how it is trained; the trainer is chosen apart.

    Parameters
    ----------
    backbone
        `backbone(dims)` gives an `nn.Module` whose `forward(window)` gives [B H C] in scaled units, or [B H C Q] when
        `dims` has quantiles.
    loss
        `loss(forecast, label)` of the observed values of a point forecast; quantiles are learned with the `Pinball`
        loss whatever it says.
    optimizer
        `optimizer(parameters)`.
    scheduler
        `scheduler(optimizer)`, stepped once an epoch; None for a constant rate.
    batch_size
        Windows in a step.
    val_batch_size
        Windows in a validation step.
    patience
        Epochs without a better validation loss before training stops.
    warm_start
        A ridge regression whose solution the network starts from; only for networks with `warm_start`.
    learns_quantiles
        Whether the network learns the levels of `quantiles`; else it forecasts a point, around which calibration
        places them.
    epochs
        Exactly so many are trained and the last weights kept, whatever `trainer.max_epochs` and the validation loss
        say; None: until `patience` ends, and the best weights are kept.
    most
        Windows of the validation, calibration and test rows that are forecast, evenly spaced, and one of each series at
        least, where a forecast is dear; None: all.
    """

    backbone: Callable[[Dims], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.mse_loss
    optimizer: Callable[[Any], torch.optim.Optimizer] = _adam
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None
    batch_size: int = 32
    val_batch_size: int = 512
    patience: int = 3
    warm_start: Ridge | None = None
    learns_quantiles: bool = False
    epochs: int | None = None
    most: int | None = None
    uses: frozenset[str] | None = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        for name in ("batch_size", "val_batch_size", "patience"):
            count(f"model.{name}", getattr(self, name))
        if self.epochs is not None:
            count("model.epochs", self.epochs, 0)
        if self.most is not None:
            count("model.most", self.most)
        network = getattr(self.backbone, "func", self.backbone)
        uses = getattr(network, "uses", ())
        object.__setattr__(self, "uses", None if uses is None else frozenset(uses))

    @property
    def trains(self) -> bool:
        """Whether it learns from train windows: a pretrained network as it is does not."""
        return self.epochs != 0 or self.warm_start is not None

    @property
    def refits(self) -> int | None:
        """As of an `Estimator`: where nothing is trained a fit is cheap."""
        return 5 if self.trains else None

    @cached_property
    def as_it_is(self) -> dict[Any, Forecaster]:
        """What a network is served as that is not trained, by seed and sizes: fits anew would export the same."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: each for name, each in self.__dict__.items() if name != "as_it_is"}  # nor its sessions

    def refitting(self, chosen: Mapping[str, Any]) -> Neural:
        """With exactly the `epochs`, and from the warm start, that were chosen."""
        if not self.trains:
            return self
        start = self.warm_start and self.warm_start.refitting(chosen["warm_start"])
        return replace(self, epochs=chosen["epochs"], warm_start=start)


class Pinball(nn.Module):
    """The mean over quantile levels of the pinball loss (Koenker & Bassett, Regression Quantiles, Econometrica 1978).

    Parameters
    ----------
    quantile_levels
        Q of them, the last axis of the forecast.
    """

    def __init__(self, quantile_levels: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("quantile_levels", torch.tensor(quantile_levels), persistent=False)

    def forward(self, forecast: Tensor, label: Tensor) -> Tensor:
        """Of a forecast [... Q] and a label [...]: a number."""
        error = label[..., None] - forecast
        return torch.maximum(self.quantile_levels * error, (self.quantile_levels - 1) * error).mean()


def masked(loss: Callable[[Tensor, Tensor], Tensor], forecast: Tensor, label: Tensor, missing: bool) -> Tensor:
    """The loss over the observed labels; zero where a batch has none."""
    if not missing:
        return loss(forecast, label)
    observed = ~label.isnan()
    return loss(forecast[observed], label[observed]) if bool(observed.any()) else forecast.sum() * 0.0
