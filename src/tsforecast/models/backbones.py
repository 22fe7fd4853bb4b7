"""Networks of other libraries as backbones, and categories as embeddings for networks that take numbers."""

from __future__ import annotations

import inspect
import logging
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from tsforecast.errors import ConfigError, nearest
from tsforecast.types import Dims, Window

_GROUPS = ("past", "known", "static")


@dataclass(frozen=True)
class NeuralForecast:
    """A network of NeuralForecast's, built from the sizes of the problem; its training code is not used.

    Parameters
    ----------
    network
        A partial of a class of `neuralforecast.models` with the parameters of its architecture. Sizes, covariates,
        loss, optimizer and scaling are not among them: they come from the data and from `Neural`.

    Raises
    ------
    ConfigError
        The class does not take a parameter, or forecasts one step at a time.
    """

    network: Callable[..., nn.Module]

    def __post_init__(self) -> None:
        kind, given = self._kind, getattr(self.network, "keywords", {})
        base = next(c for c in kind.__mro__ if c.__name__ == "BaseModel")
        allowed = sorted(set(inspect.signature(kind).parameters) - set(inspect.signature(base).parameters) - {"kwargs"})
        if unknown := sorted(set(given) - set(allowed)):
            near, got = nearest(unknown[0], allowed), given[unknown[0]]
            what, where = f"{kind.__name__} has no such parameter", f"model.backbone.network.{unknown[0]}"
            fix = (
                f"did you mean {near}?" if near else "learning rate, batch size and loss belong one level up, to model"
            )
            raise ConfigError(what, where=where, got=got, allowed=", ".join(allowed), fix=fix)
        recurrent = inspect.signature(kind).parameters.get("recurrent")
        if given.get("recurrent", recurrent.default) if recurrent else kind.RECURRENT:
            raise ConfigError("this network forecasts one step from the one before; all steps at once are needed",
                              where="model.backbone.network", got=kind.__name__,
                              fix="recurrent=false, where the network has it, or another network")  # fmt: skip

    @property
    def _kind(self) -> Any:
        return getattr(self.network, "func", self.network)

    @property
    def uses(self) -> frozenset[str]:
        """The covariates that the class says it reads.

        A multivariate network takes one static row for all windows, not one each: it goes without. To a univariate
        one, window features are static: one value per window and channel.
        """
        kind = self._kind
        flags = {"past": kind.EXOGENOUS_HIST, "known": kind.EXOGENOUS_FUTR}
        flags |= dict.fromkeys(("static", "tabular"), kind.EXOGENOUS_STAT and not kind.MULTIVARIATE)
        return frozenset(name for name, used in flags.items() if used)

    def strides(self, lookback: int) -> dict[str, int]:
        """The parameters that say how many rows are read at a time, of which the lookback is no multiple."""
        found = {name: each.default for name, each in inspect.signature(self._kind).parameters.items()}
        found |= getattr(self.network, "keywords", {})
        halved = found.get("down_sampling_window", 1) ** found.get("down_sampling_layers", 1)
        rows = {"patch_len": found.get("patch_len", 1), "down_sampling_window": halved}
        return {name: size for name, size in rows.items() if lookback % size}

    def __call__(self, dims: Dims) -> nn.Module:
        """The network, its weights drawn from the seed of the global generator, which is left as it was.

        Raises
        ------
        ConfigError
            The network refuses its parameters, or cannot learn quantiles.
        """
        from neuralforecast.losses.pytorch import MAE, MQLoss  # they decide the size of the output, no more

        loss = MQLoss(quantiles=list(dims.quantiles)) if dims.quantiles else MAE()
        sizes = {"past": dims.past, "known": dims.known, "static": dims.static + dims.tabular}
        names = {f"{kind}_exog_list": [f"{group}_{i}" for i in range(sizes[group] if group in self.uses else 0)] or None
                 for kind, group in zip(("hist", "futr", "stat"), _GROUPS, strict=True)}  # fmt: skip
        try:
            with _own_randomness() as seed:
                inner = self.network(h=dims.horizon, input_size=dims.lookback, loss=loss, valid_loss=loss,
                                     random_seed=seed, scaler_type="identity", **names,
                                     **({"n_series": dims.channels} if self._kind.MULTIVARIATE else {}))  # fmt: skip
        except Exception as error:  # what these constructors raise has no type of its own
            raise ConfigError("the network cannot be built", where="model.backbone.network", got=error,
                              fix="compare its parameters with NeuralForecast's documentation") from error  # fmt: skip
        adapter = _Multivariate if self._kind.MULTIVARIATE else _Univariate
        return adapter(inner, dims, self.uses)


@contextmanager
def _own_randomness() -> Iterator[int]:
    """The seed the caller set; what a constructor does to the global generators is undone."""
    states, quiet = (random.getstate(), np.random.get_state()), [logging.getLogger(n) for n in _TALKATIVE]
    variables = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    levels = [logger.level for logger in quiet]
    for logger in quiet:
        logger.setLevel(logging.WARNING)
    with torch.random.fork_rng(devices=[]):
        try:
            yield torch.initial_seed() % 2**32
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            for logger, level in zip(quiet, levels, strict=True):
                logger.setLevel(level)
            for name, value in variables.items():
                os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


_TALKATIVE = ("lightning_fabric", "lightning.fabric", "pytorch_lightning", "lightning.pytorch")


class _Adapter(nn.Module):
    """A window as the dict that NeuralForecast's networks take, and their output as [B H C] or [B H C Q]."""

    def __init__(self, network: nn.Module, dims: Dims, uses: frozenset[str]) -> None:
        super().__init__()
        self.network, self.dims, self.uses = network, dims, uses
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Dropout) and child.p == 0:  # draws its numbers all the same: 30 % of a step
                    setattr(module, name, nn.Identity())

    def _read(self, window: Any, group: str, size: int) -> Tensor | None:
        return getattr(window, group) if size and group in self.uses else None

    @staticmethod
    def _observed(window: Any) -> Tensor:
        target: Tensor = window.target
        return torch.ones_like(target) if window.observed is None else window.observed.to(target.dtype)


class _Univariate(_Adapter):
    """Every channel is a window of its own; covariates are shared by the channels."""

    def forward(self, window: Window) -> Tensor:
        """Forecasts in scaled units, [B H C] or [B H C Q]."""
        channels = self.dims.channels

        def fold(values: Any) -> Tensor:  # [B X C] to [B*C X 1]
            return values.transpose(1, 2).flatten(0, 1)[..., None]

        def share(values: Tensor | None) -> Tensor | None:  # [B ...] to [B*C ...]
            return values if values is None or channels == 1 else values.repeat_interleave(channels, dim=0)

        static = share(self._read(window, "static", self.dims.static))
        tabular = self._read(window, "tabular", self.dims.tabular)
        if tabular is not None:
            tabular = fold(tabular)[..., 0]
            static = tabular if static is None else torch.cat([static, tabular], dim=1)
        out = self.network({
            "insample_y": fold(window.target),
            "insample_mask": fold(self._observed(window)),
            "hist_exog": share(self._read(window, "past", self.dims.past)),
            "futr_exog": share(self._read(window, "known", self.dims.known)),
            "stat_exog": static,
        })  # fmt: skip
        out = out.unflatten(0, (-1, channels)).transpose(1, 2)  # [B*C H Q] to [B H C Q]
        return out if self.dims.quantiles else out[..., 0]

    def insights(self, windows: Window, names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """What the network says about itself after reading `windows`, for those that can: none for most.

        Parameters
        ----------
        names
            Of the columns of `past`, `known` and `static`.

        Returns
        -------
        dict
            `past`, `known`, `static`: the weight of each variable, averaged over windows and rows, 1 in total.
            `attention`: of the forecast to each row of lookback and horizon, L+H numbers.
        """
        if not hasattr(self.network, "feature_importances"):
            return {}
        with torch.no_grad():
            self(windows)
            tables, attention = self.network.feature_importances(), self.network.attention_weights()
        readable = {f"{group}_{i}": name for group in _GROUPS for i, name in enumerate(names.get(group, ()))}
        readable |= {"observed_target": "target"}
        found: dict[str, Any] = {}
        for title, table in tables.items():
            group = next(group for sign, group in _TITLES.items() if title.startswith(sign))
            weights = table["importance"] if group == "static" else table.mean(axis=0)
            found[group] = {}
            for column, value in weights.items():
                name = readable.get(str(column), str(column))
                found[group][name] = found[group].get(name, 0.0) + float(value)  # the columns of an embedding are one
        found["attention"] = [float(value) for value in attention[self.dims.lookback :].mean(axis=0)]
        return found


_TITLES = {"Past": "past", "Future": "known", "Static": "static"}


class _Multivariate(_Adapter):
    """The channels are read together; covariates are repeated for each."""

    def forward(self, window: Window) -> Tensor:
        """Forecasts in scaled units, [B H C] or [B H C Q]."""

        def share(values: Tensor | None) -> Tensor | None:  # [B X P] to [B P X C]
            return None if values is None else values.transpose(1, 2)[..., None].expand(-1, -1, -1, self.dims.channels)

        out = self.network({
            "insample_y": window.target,
            "insample_mask": self._observed(window),
            "hist_exog": share(self._read(window, "past", self.dims.past)),
            "futr_exog": share(self._read(window, "known", self.dims.known)),
            "stat_exog": None,
        })  # fmt: skip
        if not self.dims.quantiles:
            return out
        # Levels first: networks that normalise channels undo it on [B H*Q C].
        return out.unflatten(2, (-1, self.dims.channels)).transpose(2, 3)


class Embedded(nn.Module):
    """Each category as a learned vector; the network inside sees numbers alone.

    A vector has (n + 1) // 2 numbers for n categories, 50 at most.

    Parameters
    ----------
    backbone
        Is built with the columns there are then.
    """

    def __init__(self, backbone: Callable[[Dims], nn.Module], dims: Dims) -> None:
        super().__init__()
        self.sizes = {group: sizes for group, sizes in dims.cardinality.items() if any(sizes)}
        self.tables = nn.ModuleDict({
            f"{group}_{i}": nn.Embedding(size, min(50, (size + 1) // 2))
            for group, sizes in self.sizes.items() for i, size in enumerate(sizes) if size
        })  # fmt: skip
        widths: dict[str, Any] = {
            group: sum(self._width(group, i) for i in range(len(sizes))) for group, sizes in self.sizes.items()
        }  # fmt: skip
        self.network = backbone(replace(dims, cardinality={}, **widths))

    def forward(self, window: Window) -> Tensor:
        """Forecasts in scaled units, [B H C] or [B H C Q]."""
        return self.network(self._embedded(window))

    def insights(self, windows: Window, names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """What the network inside says about itself; the columns of an embedding go by the category's name."""
        explain = getattr(self.network, "insights", None)
        if explain is None:
            return {}
        wide = {
            group: [name for i, name in enumerate(names.get(group, ())) for _ in range(self._width(group, i))]
            for group in _GROUPS
        }
        found: dict[str, Any] = explain(self._embedded(windows), wide)
        return found

    def _width(self, group: str, i: int) -> int:
        name = f"{group}_{i}"
        return int(cast(nn.Embedding, self.tables[name]).embedding_dim) if name in self.tables else 1

    def _embedded(self, window: Window) -> Window:
        return replace(window, **{group: self._embed(window, group) for group in self.sizes})

    def _embed(self, window: Any, group: str) -> Tensor:
        values = getattr(window, group)
        return torch.cat([
            self.tables[f"{group}_{i}"](values[..., i].long()) if size else values[..., i : i + 1]
            for i, size in enumerate(self.sizes[group])
        ], dim=-1)  # fmt: skip


def network(backbone: Callable[[Dims], nn.Module], dims: Dims) -> nn.Module:
    """`backbone(dims)`, behind embeddings where there are categories that it does not take as codes itself."""
    kind = getattr(backbone, "func", backbone)
    if any(map(any, dims.cardinality.values())) and not getattr(kind, "takes_codes", False):
        return Embedded(backbone, dims)
    return backbone(dims)
