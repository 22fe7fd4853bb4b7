"""Networks that come with their weights: read from a directory of JSON and safetensors, never from a hub.

One reads one series at a time, whatever its units: it scales the values that it is given itself. So it is given windows
in scaled units, each channel by itself, and forecasts in these.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tsforecast.errors import ConfigError, listed
from tsforecast.models.backbones import Univariate
from tsforecast.models.chronos_bolt import ChronosBolt
from tsforecast.models.dilated_conv import Fracast
from tsforecast.types import Dims

_WHERE = "model.backbone.weights"
_INSTALL = "pip install 'tsforecast[fracast]'"
_FILES = ("config.json", "model.safetensors")
_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError, OSError, SafetensorError)
_LAYOUTS: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "fracast": Fracast,
    "ChronosBoltModelForForecasting": ChronosBolt,
}


@dataclass(frozen=True)
class Pretrained:
    """A pretrained network and its weights, zero-shot where `Neural` trains no epochs, else fine-tuned.

    Parameters
    ----------
    weights
        A directory with `config.json` and `model.safetensors` as published; None: those inside the package `fracast`.
    trained_on
        Names of datasets that it was pretrained on, beside those that are known of its layout.

    Raises
    ------
    ConfigError
        There are no such weights, or they are not those of the network that the configuration describes.
    """

    weights: str | None = None
    trained_on: Sequence[str] = ()
    uses: ClassVar[None] = None  # it is defined without covariates

    def __call__(self, dims: Dims) -> nn.Module:
        """The network with its weights, over windows."""
        return _Channels(_Blocks(load(_directory(self.weights)), dims), dims, frozenset())


class _Channels(Univariate):
    """Each channel by itself, and one window at a time: a network this large gains nothing from more."""

    rows = (1,)


class _Blocks(nn.Module):
    """Forecasts as far as asked for: each block of steps is made from the medians of those before it too."""

    def __init__(self, network: Any, dims: Dims) -> None:
        super().__init__()
        self.network, self.horizon = network, dims.horizon
        wanted = between(network.levels, [0.5, *(dims.quantiles or [0.5])])
        self.register_buffer("wanted", torch.from_numpy(wanted), persistent=False)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Quantiles, [B H Q], of the last values [B L 1] that its context holds."""
        values, observed = inputs["insample_y"][..., 0], inputs["insample_mask"][..., 0]
        found, network = [], self.network
        for _ in range(0, self.horizon, network.horizon):
            found.append(network(values[:, -network.context :], observed[:, -network.context :]) @ self.wanted.T)
            median = found[-1][..., 0].detach()
            values, observed = torch.cat([values, median], 1), torch.cat([observed, torch.ones_like(median)], 1)
        return torch.cat(found, 1)[:, : self.horizon, 1:]


def between(levels: Sequence[float], wanted: Sequence[float]) -> Float[np.ndarray, "W Q"]:
    """What to weigh the quantiles at Q `levels` with for those at `wanted` ones.

    Between two levels they lie on a line over the normal quantiles of the levels, beyond the outermost on the line from
    the median through it: as if the tails were normal.
    """
    z, own = (np.array([NormalDist().inv_cdf(level) for level in each]) for each in (wanted, levels))
    weights = np.stack([np.interp(z, own, row) for row in np.eye(len(own))], axis=1)
    median = np.array([np.interp(0.0, own, row) for row in np.eye(len(own))])
    for i, edge in ((i, own[0] if z[i] < own[0] else own[-1]) for i in np.flatnonzero((z < own[0]) | (z > own[-1]))):
        weights[i] = median + z[i] / edge * (weights[i] - median)
    return weights.astype(np.float32)


def _directory(weights: str | None) -> Path:
    """Where the weights lie."""
    if weights is not None:
        return Path(weights).expanduser()
    if (found := importlib.util.find_spec("fracast")) is None:
        what, fix = "the package with the default weights is missing", f"{_INSTALL}, or {_WHERE}=DIR"
        raise ConfigError(what, where=_WHERE, got="null", fix=fix)
    return Path(str(found.origin)).parent / "weights"


def load(directory: Path) -> nn.Module:
    """The network that `config.json` describes with the weights of `model.safetensors`.

    Raises
    ------
    ConfigError
        A file is missing or damaged, the layout is not known, or tensors are missing, spare or of another shape.
    """
    if missing := [name for name in _FILES if not (directory / name).is_file()]:
        there = listed(sorted(path.name for path in directory.iterdir())) if directory.is_dir() else "no directory"
        what, fix = f"there is no {listed(missing)}", "weights that are pickled have to be saved as safetensors first"
        raise ConfigError(what, where=_WHERE, got=f"{directory}: {there}", allowed=_FILES, fix=fix)
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"))
        kind = (config.get("architectures") or [config.get("model", {}).get("family")])[0]
        if kind not in _LAYOUTS:
            what, got = "pretrained networks of this layout cannot be read", f"{kind} in {directory}"
            raise ConfigError(what, where=_WHERE, got=got, allowed=sorted(_LAYOUTS))
        with torch.device("meta"):  # sizes alone: a configuration may ask for more than the memory holds
            expected = {name: tuple(each.shape) for name, each in _LAYOUTS[kind](config).state_dict().items()}
        with safe_open(directory / "model.safetensors", "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if odd := sorted(n for n in {*expected, *shapes} if expected.get(n) != shapes.get(n)):
                got = listed([f"{n} {shapes.get(n, 'missing')}" for n in odd])
                allowed = listed([f"{n} {expected.get(n, 'absent')}" for n in odd])
                what, fix = "the weights are not those of the network in config.json", "use both files of one release"
                raise ConfigError(what, where=f"{directory}/model.safetensors", got=got, allowed=allowed, fix=fix)
            tensors = {name: file.get_tensor(name).float() for name in expected}
    except _DAMAGED as error:
        what, got = "the pretrained network cannot be read", f"{type(error).__name__}: {error}"
        fix = _INSTALL if isinstance(error, ImportError) else "use both files of one release, unchanged"
        raise ConfigError(what, where=str(directory), got=got, fix=fix) from error
    network = _LAYOUTS[kind](config)
    network.load_state_dict(tensors)
    return network
