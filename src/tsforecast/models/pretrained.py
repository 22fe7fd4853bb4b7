"""Networks that come with their weights: read from a directory of JSON and safetensors, never from a hub.

One reads one series at a time, whatever its units: it scales the values that it is given itself. So it is given windows
in scaled units, each channel by itself, and forecasts in these.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from tsforecast.models.timesfm import TimesFM
from tsforecast.types import Dims

_WHERE = "model.backbone.weights"
_INSTALL = "pip install 'tsforecast[fracast]'"
_FILES = ("config.json", "model.safetensors")
_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError, OSError, SafetensorError)
_LAYOUTS: Mapping[str, Any] = {
    "fracast": Fracast,
    "ChronosBoltModelForForecasting": ChronosBolt,
    "TimesFmModelForPrediction": TimesFM,
}


@dataclass(frozen=True)
class Pretrained:
    """A pretrained network and its weights, zero-shot where `Neural` trains no epochs, else fine-tuned.

    Parameters
    ----------
    weights
        A directory with `config.json` and `model.safetensors` as published; None: those inside the package `fracast`.
    trained_on_this_dataset
        Whether the rows that it is to forecast were among those that it was pretrained on; None: as far as the name of
        the dataset tells.

    Raises
    ------
    ConfigError
        There are no such weights, or they are not those of the network that the configuration describes.
    """

    weights: str | None = None
    trained_on_this_dataset: bool | None = None
    uses: ClassVar[None] = None  # it is defined without covariates

    def __call__(self, dims: Dims) -> nn.Module:
        """The network with its weights, over windows."""
        return _Channels(_Blocks(load(_directory(self.weights)), dims), dims, frozenset())

    def seen(self, dataset: str) -> bool | None:
        """Whether it was pretrained on the dataset of this name; None: that is not known."""
        if self.trained_on_this_dataset is None:
            begins = ("[^a-z0-9]*".join(each) for each in _described(_directory(self.weights))[1].corpus)
            # no digit behind one: M48 is not of M4
            return any(re.match(rf"{each}(?<!\d)|{each}(?!\d)", dataset.lower()) for each in begins) or None
        return self.trained_on_this_dataset


class _Channels(Univariate):
    """Each channel by itself, and one window at a time: a network this large gains nothing from more."""

    rows = (1,)


class _Blocks(nn.Module):
    """Forecasts as far as asked for: each block of steps is made from the medians of those before it too."""

    def __init__(self, network: Any, dims: Dims) -> None:
        super().__init__()
        self.network, self.horizon = network, dims.horizon
        network.season = dims.season
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


def _described(directory: Path) -> tuple[Mapping[str, Any], Any]:
    """What `config.json` says, and the class of its network."""
    if missing := [name for name in _FILES if not (directory / name).is_file()]:
        there = listed(sorted(path.name for path in directory.iterdir())) if directory.is_dir() else "no directory"
        what, fix = f"there is no {listed(missing)}", "weights that are pickled have to be saved as safetensors first"
        raise ConfigError(what, where=_WHERE, got=f"{directory}: {there}", allowed=_FILES, fix=fix)
    with _readable(directory):
        config = json.loads((directory / "config.json").read_text("utf-8"))
        kind = (config.get("architectures") or [config.get("model", {}).get("family")])[0]
    if kind not in _LAYOUTS:
        what, got = "pretrained networks of this layout cannot be read", f"{kind} in {directory}"
        raise ConfigError(what, where=_WHERE, got=got, allowed=sorted(_LAYOUTS))
    return config, _LAYOUTS[kind]


def load(directory: Path) -> nn.Module:
    """The network that `config.json` describes with the weights of `model.safetensors`.

    Raises
    ------
    ConfigError
        A file is missing or damaged, the layout is not known, or tensors are missing, spare or of another shape.
    """
    config, network = _described(directory)
    with _readable(directory), safe_open(directory / "model.safetensors", "pt") as file:
        with torch.device("meta"):  # sizes alone: a configuration may ask for more than the memory holds
            expected = {name: tuple(each.shape) for name, each in network(config).state_dict().items()}
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        if odd := sorted(n for n in {*expected, *shapes} if expected.get(n) != shapes.get(n)):
            got = listed([f"{n} {shapes.get(n, 'missing')}" for n in odd])
            allowed = listed([f"{n} {expected.get(n, 'absent')}" for n in odd])
            what, fix = "the weights are not those of the network in config.json", "use both files of one release"
            raise ConfigError(what, where=f"{directory}/model.safetensors", got=got, allowed=allowed, fix=fix)
        made: nn.Module = network(config)
        made.load_state_dict({name: file.get_tensor(name) for name in expected})
    return made


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    """What is damaged raises whatever its reader raises: it is a ConfigError."""
    try:
        yield
    except _DAMAGED as error:
        what, got = "the pretrained network cannot be read", f"{type(error).__name__}: {error}"
        fix = _INSTALL if isinstance(error, ImportError) else "use both files of one release, unchanged"
        raise ConfigError(what, where=str(directory), got=got, fix=fix) from error
