"""Chronos-Bolt: a T5 that reads patches of a series and forecasts quantiles of a block of steps at once.

Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, JMLR 21(140), 2020;
Ansari et al., Chronos: Learning the Language of Time Series, TMLR 2024. Parts are called as in the published weights.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tsforecast.models.networks import ResidualBlock, RMSNorm

_block = partial(ResidualBlock, first="hidden_layer", activation=nn.functional.relu)


class ChronosBolt(nn.Module):
    """The network.

    Parameters
    ----------
    config
        Its `config.json`.

    Attributes
    ----------
    context, horizon, levels, corpus
        As of `Fracast`.
    """

    corpus: tuple[str, ...] = ("electricity", "kddcup", "londonsmartmeters", "m4", "pedestrian", "rideshare", "taxi")
    corpus += ("temperaturerain", "braziliancities", "mexicocitybikes", "solar", "spanishenergy", "uber", "ushcn")

    def __init__(self, config: Mapping[str, Any]) -> None:
        own, width = config["chronos_config"], config["d_model"]
        if (kind := config["feed_forward_proj"]) != "relu" or own["input_patch_stride"] != own["input_patch_size"]:
            raise ValueError(f"feed_forward_proj is {kind}, not relu, or patches overlap")
        super().__init__()
        self.context, self.horizon, self.levels = own["context_length"], own["prediction_length"], own["quantiles"]
        self.patch, self.start = own["input_patch_size"], config.get("decoder_start_token_id", 0)
        self.reg = int(own.get("use_reg_token", False))
        self.shared = nn.Embedding(1 + self.reg, width)
        self.input_patch_embedding = _block(2 * self.patch, config["d_ff"], width)
        self.encoder = _Stack(config, config["num_layers"])
        self.decoder = _Stack(config, config.get("num_decoder_layers") or config["num_layers"], decoder=True)
        self.output_patch_embedding = _block(width, config["d_ff"], len(self.levels) * self.horizon)

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        """Quantiles [B H Q] in the units of `values` [B L], of which those not `observed` are not read."""
        count = observed.sum(1, keepdim=True).clamp(min=1)
        mean = (values * observed).sum(1, keepdim=True) / count
        scale = (((values - mean) * observed).square().sum(1, keepdim=True) / count).sqrt()
        scale = torch.where(scale == 0, 1e-5, scale)
        surplus = (-int(values.shape[1]) % self.patch, 0)
        parts = (nn.functional.pad(each, surplus) for each in ((values - mean) / scale * observed, observed))
        rows, seen = (each.unflatten(1, (-1, self.patch)) for each in parts)
        tokens, read = self.input_patch_embedding(torch.cat([rows, seen], 2)), seen.sum(2) > 0
        if self.reg:
            last = self.shared.weight[1].expand(len(tokens), 1, -1)
            tokens, read = torch.cat([tokens, last], 1), torch.cat([read, torch.ones_like(read[:, :1])], 1)
        hidden = torch.where(read, 0.0, torch.finfo(values.dtype).min)[:, None, None]
        memory = self.encoder(tokens, hidden + self.encoder.positions(int(tokens.shape[1])))
        found = self.decoder(self.shared.weight[self.start].expand(len(tokens), 1, -1), 0.0, memory, hidden)
        steps = self.output_patch_embedding(found)[:, 0].unflatten(1, (-1, self.horizon)).transpose(1, 2)
        return steps * scale[..., None] + mean[..., None]


class _Attention(nn.Module):
    """Of queries to a memory; T5 does not divide by the root of the width."""

    def __init__(self, width: int, inner: int, heads: int, buckets: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, width, bias=False)
        if buckets:
            self.relative_attention_bias = nn.Embedding(buckets, heads)

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor | float) -> Tensor:
        """[B N D] of [B N D] and [B M D]; `bias` adds to the scores, [B heads N M]."""
        pairs = ((self.q, x), (self.k, memory), (self.v, memory))
        q, k, v = (layer(each).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer, each in pairs)
        weights = (q @ k.transpose(2, 3) + bias).softmax(3)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class _Stack(nn.Module):
    """T5's encoder, or its decoder of a single token, which attends to itself whatever the positions."""

    def __init__(self, config: Mapping[str, Any], blocks: int, *, decoder: bool = False) -> None:
        super().__init__()
        width, eps, inner = config["d_model"], config["layer_norm_epsilon"], config["d_ff"]
        attention = (width, config["d_kv"] * config["num_heads"], config["num_heads"])
        buckets, self.distance = config["relative_attention_num_buckets"], config["relative_attention_max_distance"]
        self.block = nn.ModuleList()
        for i in range(blocks):
            parts: dict[str, nn.Module] = {"SelfAttention": _Attention(*attention, buckets if i == 0 else 0)}
            parts |= {"EncDecAttention": _Attention(*attention)} if decoder else {}
            wide, narrow = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)
            parts["DenseReluDense"] = nn.Sequential(OrderedDict(wi=wide, act=nn.ReLU(), wo=narrow))
            layers = [nn.ModuleDict({name: each, "layer_norm": RMSNorm(width, eps)}) for name, each in parts.items()]
            self.block.append(nn.ModuleDict({"layer": nn.ModuleList(layers)}))
        self.final_layer_norm = RMSNorm(width, eps)

    def positions(self, tokens: int) -> Tensor:
        """What the distance between two tokens adds to their score, [1 heads N N], from a table of distances."""
        table: Any = self.block[0]["layer"][0]["SelfAttention"].relative_attention_bias
        at, half = torch.arange(tokens, device=table.weight.device), table.num_embeddings // 2
        ahead = at - at[:, None]
        far, exact = ahead.abs(), half // 2
        log = (far.clamp(min=1).float() / exact).log() / math.log(self.distance / exact) * (half - exact)
        bucket = torch.where(far < exact, far, (exact + log.long()).clamp(max=half - 1)) + half * (ahead > 0)
        return table(bucket).permute(2, 0, 1)[None]

    def forward(self, x: Tensor, bias: Any, memory: Any = None, hidden: Any = None) -> Tensor:
        """[B N D]; a decoder reads the `memory`, less what is `hidden` of it."""
        for block in self.block:
            for layer in block["layer"]:
                (kind, part), (_, norm) = layer.items()
                y = norm(x)
                if kind == "DenseReluDense":
                    x = x + part(y)
                else:
                    x = x + (part(y, y, bias) if kind == "SelfAttention" else part(y, memory, hidden))
        return self.final_layer_norm(x)
