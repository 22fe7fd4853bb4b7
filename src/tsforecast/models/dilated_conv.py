"""Fracast: one dilated convolution at scales 1, 2, 4, ... over a long context, and the phases of its periods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from tsforecast.models.chronos_bolt import ChronosBolt
from tsforecast.models.networks import RMSNorm

_PERIODIC, _FOUND = "fracast._core.periodic", "significant_periods"


class Fracast(nn.Module):
    """The network of the package `fracast`, in a form that exports.

    Parameters
    ----------
    config
        Its `config.json`.

    Attributes
    ----------
    context
        Values that it reads, at most.
    horizon
        Steps that it forecasts at once.
    levels
        Of the quantiles that it forecasts.
    corpus
        How the names of datasets begin that are known to be in its corpora, those of Chronos and of fev among them.
    """

    corpus = (
        *ChronosBolt.corpus,
        "ett",
        "exchange",
        "m1",
        "m3",
        "m5",
        "nn5",
        "tourism",
        "traffic",
        "walmart",
        "weather",
    )

    def __init__(self, config: Mapping[str, Any]) -> None:
        from fracast._core.model import build_from_cfg

        super().__init__()
        sizes = config["model"]
        self.context, self.horizon, self.levels = sizes["W"], sizes["horizon"], tuple(sizes["quantiles"])
        self.core, self.head = build_from_cfg(dict(config))
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.RMSNorm):
                    setattr(module, name, RMSNorm(child.normalized_shape[0], torch.finfo(torch.float32).eps))

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """Quantiles [B H Q] in the units of `values` [B L], of which those not `observed` are not read."""
        surplus = (self.context - values.shape[1], 0)
        values, seen = nn.functional.pad(values, surplus), nn.functional.pad(observed, surplus) > 0.5
        low = torch.where(seen, values, torch.inf).amin(1, keepdim=True)
        span = (torch.where(seen, values, -torch.inf).amax(1, keepdim=True) - low).clamp(min=1e-5)
        scaled = torch.where(seen, (values - low) / span, 0.0)
        # the package's own finds the same periods by operations on complex numbers, which hardly an exporter knows
        with patch(f"{_PERIODIC}.encoder.{_FOUND}", _periods), patch(f"{_PERIODIC}.seasonal_fill.{_FOUND}", _periods):
            hidden = self.core(scaled[:, None], seen[:, None], seen[:, None].to(scaled.dtype))
            found = self.head.forward_horizon(hidden, last_obs=scaled[:, -1:], ctx=scaled, ctx_mask=seen)
        return found * span[..., None] + low[..., None]


class _Power(torch.autograd.Function):
    """The power spectrum of rows, [B n] to [B n/2+1]; no gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, size: int) -> Tensor:
        """By torch."""
        spectrum = torch.fft.rfft(rows, n=size)
        return spectrum.real.square() + spectrum.imag.square()

    @staticmethod
    def symbolic(graph: Any, rows: Any, size: int) -> Any:
        """In ONNX, whose transform gives real and imaginary parts on an axis of their own."""
        axis = graph.op("Constant", value_t=torch.tensor([2]))
        spectrum = graph.op("DFT", graph.op("Unsqueeze", rows, axis), axis_i=1, onesided_i=1)
        power = graph.op("ReduceSumSquare", spectrum, axis, keepdims_i=0)
        power.setType(rows.type().with_sizes([None, size // 2 + 1]))
        return power


def _periods(
    rows: Tensor, *, min_period: int, max_period: int, top_k: int, significance_alpha: float
) -> tuple[Tensor, None, None]:
    """Rows of the significant peaks of a periodogram, [B K], the highest first; 0: there is none.

    A peak is significant where white noise would have one as high once in 1 / `significance_alpha` windows.
    """
    size = 1 << (int(rows.shape[1]) - 1).bit_length()
    centred = nn.functional.pad(rows - rows.mean(1, keepdim=True), (0, size - int(rows.shape[1])))
    power = _Power.apply(centred.detach(), size)[:, 1:]
    share, bins = power / power.sum(1, keepdim=True).clamp(min=1e-12), size // 2
    higher = (share[:, 1:-1] > share[:, :-2]) & (share[:, 1:-1] > share[:, 2:])
    at = torch.arange(bins, device=rows.device)
    asked = (at >= size // max_period - 1) & (at < size // min_period)
    peak = nn.functional.pad(higher, (1, 1)) & asked & (share >= math.log(bins / significance_alpha) / bins)
    height, top = torch.where(peak, share, 0.0).topk(min(top_k, bins), dim=1)
    return torch.where(height > 0, torch.round(size / (top + 1.0)).long(), 0), None, None
