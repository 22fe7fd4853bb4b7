"""Networks: plain `nn.Module`s built from the sizes of the problem.

`forward(window)` gives [B H C], or [B H C Q] where `dims` has quantiles. A class with `takes_codes` gets categories as
codes; any other gets them embedded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsforecast.errors import ConfigError
from tsforecast.models.design import by_channel, design_size
from tsforecast.models.linear import LinearForecaster
from tsforecast.types import Dims, Window
from tsforecast.windows import Windows

_CELLS = 2**22  # values of the windows that errors are taken from, at most


@runtime_checkable
class Linear(Protocol):
    """A network that is a linear map of the design, hence served by `LinearForecaster`: numpy alone."""

    def collapse(self) -> LinearForecaster:
        """The map, exactly."""


class NLinear(nn.Module):
    """The last value plus a linear map of the window relative to it and of the covariates.

    Zeng et al., Are Transformers Effective for Time Series Forecasting?, AAAI 2023. Covariates enter as more
    columns of the same map; without any this is the paper's NLinear, shared by all channels.
    """

    uses = frozenset({"past", "known", "static", "tabular"})
    takes_codes = True

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.quantiles, self.cardinality = len(dims.quantiles), dims.cardinality
        self.linear = nn.Linear(design_size(dims), dims.horizon * max(self.quantiles, 1))

    def forward(self, window: Window) -> Tensor:
        """Forecasts in scaled units, [B H C] or [B H C Q]."""
        rows, last = by_channel(window, self.cardinality, torch)
        return _steps(self.linear(rows) + last, self.quantiles)

    def collapse(self) -> LinearForecaster:
        """The map, exactly."""
        return LinearForecaster(self.quantiles, self.cardinality).restore(
            {"weight": _array(self.linear.weight).T, "bias": _array(self.linear.bias), "level": np.ones(1)}
        )

    def warm_start(self, forecaster: LinearForecaster, train: Windows, quantile_levels: Sequence[float]) -> None:
        """Start from a solution of the same map, such as ridge's; quantiles lie about it as its train errors do."""
        with torch.no_grad():
            for name in ("weight", "bias"):
                start = torch.from_numpy(np.ascontiguousarray(getattr(forecaster, name).T))
                getattr(self.linear, name).copy_(start.repeat_interleave(max(self.quantiles, 1), dim=0))
            if quantile_levels:
                self.linear.bias += torch.from_numpy(_error_quantiles(forecaster, train, quantile_levels)).reshape(-1)


def _error_quantiles(
    forecaster: LinearForecaster, windows: Windows, quantile_levels: Sequence[float]
) -> Float[np.ndarray, "H Q"]:
    """Of what the labels are above the forecasts, over windows and channels."""
    cells = len(windows) * (windows.lookback + windows.horizon) * windows.encoded.target.shape[1]
    window, label = windows.subset(slice(None, None, max(1, -(-cells // _CELLS)))).batch(slice(None))
    found = np.nanquantile(label - forecaster.predict(window), quantile_levels, axis=(0, 2)).T
    return np.ascontiguousarray(found, dtype=np.float32)


class DLinear(nn.Module):
    """One linear map of the moving average and one of what is left; covariates enter the second.

    Zeng et al., AAAI 2023. The moving average repeats the window's ends as padding.

    Parameters
    ----------
    kernel
        Rows of the moving average; odd.
    """

    uses = frozenset({"past", "known", "static", "tabular"})
    takes_codes = True

    def __init__(self, dims: Dims, kernel: int = 25) -> None:
        if kernel < 1 or kernel % 2 == 0:
            what, where = "the moving average needs an odd number of rows", "model.backbone.kernel"
            raise ConfigError(what, where=where, got=kernel, allowed="1, 3, 5, ...", fix=f"{where}=25")
        super().__init__()
        self.quantiles, self.cardinality = len(dims.quantiles), dims.cardinality
        self.trend = nn.Linear(dims.lookback, dims.horizon * max(self.quantiles, 1))
        self.rest = nn.Linear(design_size(dims), dims.horizon * max(self.quantiles, 1))
        rows = np.clip(np.arange(dims.lookback)[:, None] + np.arange(kernel) - kernel // 2, 0, dims.lookback - 1)
        average = np.zeros((dims.lookback, dims.lookback), dtype=np.float32)
        np.add.at(average, (rows, np.arange(dims.lookback)[:, None]), np.float32(1 / kernel))
        self.register_buffer("average", torch.from_numpy(average), persistent=False)

    def forward(self, window: Window) -> Tensor:
        """Forecasts in scaled units, [B H C] or [B H C Q]."""
        rows, last = by_channel(window, self.cardinality, torch)
        lookback = self.average.shape[0]
        trend = rows[..., :lookback] @ self.average + last
        rest = torch.cat([rows[..., :lookback] + last - trend, rows[..., lookback:]], dim=2)
        return _steps(self.trend(trend) + self.rest(rest), self.quantiles)

    def collapse(self) -> LinearForecaster:
        """The map, exactly: both maps through the moving average."""
        average = _array(self.average).astype(np.float64)
        trend, rest = (_array(layer.weight).T.astype(np.float64) for layer in (self.trend, self.rest))
        own = rest[: len(average)]
        weight = np.concatenate([own + average @ (trend - own), rest[len(average) :]])
        bias = _array(self.trend.bias) + _array(self.rest.bias)
        level = weight[: len(average)].sum(axis=0)
        return LinearForecaster(self.quantiles, self.cardinality).restore(
            {"weight": weight, "bias": bias, "level": level}
        )


class ResidualBlock(nn.Module):
    """Two layers beside a linear map; the `first` is called as in the weights that are published for it."""

    def __init__(
        self, inputs: int, hidden: int, outputs: int, *, first: str, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.first, self.activation = first, activation
        self.add_module(first, nn.Linear(inputs, hidden))
        self.output_layer, self.residual_layer = nn.Linear(hidden, outputs), nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[... inputs] to [... outputs]."""
        hidden: Tensor = self.activation(self.get_submodule(self.first)(x))
        return self.output_layer(hidden) + self.residual_layer(x)


class RMSNorm(nn.Module):
    """Divided by its root mean square (Zhang & Sennrich, 2019), in operations that every exporter knows."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        """Along the last axis."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def _steps(out: Tensor, quantiles: int) -> Tensor:
    """[B C H] to [B H C], or [B C H*Q] to [B H C Q]."""
    return out.unflatten(2, (-1, quantiles)).transpose(1, 2) if quantiles else out.transpose(1, 2)


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().numpy())
