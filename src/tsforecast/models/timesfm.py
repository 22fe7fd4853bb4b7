"""TimesFM 2: a decoder that reads a series patch by patch and forecasts a longer block after each.

Das et al., A decoder-only foundation model for time-series forecasting, ICML 2024. Parts are called as in the published
weights, those of `TimesFmModelForPrediction`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tsforecast.models.networks import ResidualBlock, RMSNorm

_block = partial(ResidualBlock, first="input_layer", activation=nn.functional.silu)


class TimesFM(nn.Module):
    """The network.

    Rows before the first observed one are not read; other gaps are read as they are filled.

    Parameters
    ----------
    config
        Its `config.json`.

    Attributes
    ----------
    context, horizon, levels, corpus
        As of `Fracast`.
    season
        Rows of one season: 1 and 4 are taken for yearly and quarterly rows, 12 and 52 for monthly and weekly ones.
    """

    corpus: tuple[str, ...] = ("m4", "electricity", "traffic", "weather", "favorita", "wiki", "libcity")

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, inner, self.levels = config["hidden_size"], config["intermediate_size"], config["quantiles"]
        self.context, self.horizon, self.season = config["context_length"], config["horizon_length"], 24
        self.patch, self.least = config["patch_length"], config["tolerance"]
        parts: dict[str, nn.Module] = {"input_ff_layer": _block(2 * self.patch, inner, width)}
        parts["freq_emb"] = nn.Embedding(config["freq_size"], width)
        parts["layers"] = nn.ModuleList(_Layer(config) for _ in range(config["num_hidden_layers"]))
        if config["use_positional_embedding"]:
            parts["position_emb"] = _Positions(width, config["min_timescale"], config["max_timescale"])
        self.decoder = nn.ModuleDict(parts)
        self.horizon_ff_layer = _block(width, inner, self.horizon * (1 + len(self.levels)))

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """Quantiles [B H Q] in the units of `values` [B L]."""
        surplus = (-int(values.shape[1]) % self.patch, 0)
        begun = (observed.cumsum(1) > 0).to(values.dtype)
        parts = (nn.functional.pad(each, surplus) for each in (values * begun, begun))
        rows, read = (each.unflatten(1, (-1, self.patch)) for each in parts)
        # scaled by the first patch of three values or more, else by the last
        enough = read.sum(2) >= 3
        enough = torch.cat([enough[:, :-1], enough[:, -1:] | ~enough[:, :-1].any(1, keepdim=True)], 1).to(values.dtype)
        first = (enough * (enough.cumsum(1) == 1))[..., None] * read
        count = first.sum((1, 2), keepdim=True).clamp(min=1)
        mean = (rows * first).sum((1, 2), keepdim=True) / count
        scale = (((rows - mean) * first).square().sum((1, 2), keepdim=True) / count).sqrt()
        scale = torch.where(scale < self.least, 1.0, scale)
        blank = 1 - read.amax(2)
        x = self.decoder["input_ff_layer"](torch.cat([(rows - mean) / scale * read, 1 - read], 2))
        if "position_emb" in self.decoder:
            x = x + self.decoder["position_emb"](blank)
        often: Any = self.decoder["freq_emb"]
        x = x + often.weight[2 if self.season in (1, 4) else int(self.season in (12, 52))]
        least = torch.finfo(values.dtype).min
        later = torch.full([int(x.shape[1])] * 2, least, device=x.device).triu(1)
        hidden = torch.minimum(blank[:, None, None] * least, later)
        for layer in self.decoder["layers"]:
            x = layer(x, hidden, blank[..., None])
        steps = self.horizon_ff_layer(x[:, -1]).unflatten(1, (self.horizon, -1))[..., 1:]  # the first is the mean
        return steps * scale + mean


class _Positions(nn.Module):
    """Sines and cosines of the places of patches, counted from the first that is not blank."""

    def __init__(self, width: int, shortest: float, longest: float) -> None:
        super().__init__()
        step = math.log(longest / shortest) / max(width // 2 - 1, 1)
        self.register_buffer("inv_timescales", shortest * torch.exp(torch.arange(width // 2) * -step))

    def forward(self, blank: Tensor) -> Tensor:
        """[B N D] of what is blank, [B N]."""
        place = torch.arange(int(blank.shape[1]), device=blank.device) - blank.sum(1, keepdim=True)
        angle = place[..., None] * self.inv_timescales
        return torch.cat([angle.sin(), angle.cos()], 2)


class _Layer(nn.Module):
    """Attention to what came before, each dimension of the queries with a scale of its own, and two linear maps."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, inner, self.size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
        heads = config["num_attention_heads"] * self.size
        parts: dict[str, nn.Module] = {f"{name}_proj": nn.Linear(width, heads) for name in "qkv"}
        self.self_attn = nn.ModuleDict({**parts, "o_proj": nn.Linear(heads, width)})
        self.self_attn.register_parameter("scaling", nn.Parameter(torch.ones(self.size)))
        gate, down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.mlp = nn.ModuleDict({"gate_proj": gate, "down_proj": down, "layer_norm": nn.LayerNorm(width, 1e-6)})
        self.input_layernorm = RMSNorm(width, config["rms_norm_eps"])

    def forward(self, x: Tensor, hidden: Tensor, blank: Tensor) -> Tensor:
        """[B N D]; `hidden` adds to the scores of what is not to be seen."""
        own, y = self.self_attn, self.input_layernorm(x)
        q, k, v = (own[f"{name}_proj"](y).unflatten(2, (-1, self.size)).transpose(1, 2) for name in "qkv")
        scale = nn.functional.softplus(own.scaling) * (math.log2(math.e) / math.sqrt(self.size))
        weights = ((q * scale) @ k.transpose(2, 3) + hidden).softmax(3)
        x = x + own["o_proj"]((weights @ v).transpose(1, 2).flatten(2))
        gate = self.mlp["gate_proj"](self.mlp["layer_norm"](x)).relu()
        return x + self.mlp["down_proj"](gate) * (1 - blank)
