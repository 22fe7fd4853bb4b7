"""Networks of other libraries as backbones, and categories as embeddings for networks that take numbers."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast
from unittest.mock import patch

import torch
from lightning.pytorch.utilities.seed import isolate_rng
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
        kind, given, where = self._kind, getattr(self.network, "keywords", {}), "model.backbone.network"
        base = next(c for c in kind.__mro__ if c.__name__ == "BaseModel")
        parameters = inspect.signature(kind).parameters
        allowed = sorted(set(parameters) - set(inspect.signature(base).parameters) - {"kwargs"})
        for name in sorted(set(given) - set(allowed)):
            near, what = nearest(name, allowed), f"{kind.__name__} has no such parameter"
            fix = f"did you mean {near}?" if near else "learning rate, batch size and loss belong to model"
            raise ConfigError(what, where=f"{where}.{name}", got=given[name], allowed=allowed, fix=fix)
        if given.get("recurrent", parameters["recurrent"].default if "recurrent" in parameters else kind.RECURRENT):
            what = "this network forecasts one step from the one before; all steps at once are needed"
            fix = "recurrent=false, where the network has it, or another network"
            raise ConfigError(what, where=where, got=kind.__name__, fix=fix)

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
        given: dict[str, Any] = {"n_series": dims.channels} if self._kind.MULTIVARIATE else {}
        for kind, group in zip(("hist", "futr", "stat"), _GROUPS, strict=True):
            size = sizes[group] if group in self.uses else 0
            given[f"{kind}_exog_list"] = [f"{group}_{i}" for i in range(size)] or None
        given |= {"h": dims.horizon, "input_size": dims.lookback, "loss": loss, "valid_loss": loss}
        try:
            with _own_randomness() as seed:
                inner = self.network(random_seed=seed, scaler_type="identity", **given)
        except Exception as error:  # what these constructors raise has no type of its own
            what, fix = "the network cannot be built", "compare its parameters with NeuralForecast's documentation"
            raise ConfigError(what, where="model.backbone.network", got=error, fix=fix) from error
        adapter = _Multivariate if self._kind.MULTIVARIATE else Univariate
        return adapter(inner, dims, self.uses)


@contextmanager
def _own_randomness() -> Iterator[int]:
    """The seed the caller set; what a constructor does to the global generators is undone, and not logged."""
    quiet = logging.root.manager.disable
    with isolate_rng(include_cuda=False), patch.dict(os.environ):  # it sets PL_GLOBAL_SEED too
        logging.disable(logging.INFO)
        try:
            yield torch.initial_seed() % 2**32
        finally:
            logging.disable(quiet)


class _Adapter(nn.Module):
    """A window as the dict that NeuralForecast's networks take, and their output as [B H C] or [B H C Q]."""

    def __init__(self, network: nn.Module, dims: Dims, uses: frozenset[str]) -> None:
        super().__init__()
        self.network, self.dims, self.uses = network, dims, uses
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Dropout) and child.p == 0:  # draws its numbers all the same: 30 % of a step
                    setattr(module, name, nn.Identity())

    def _inputs(self, window: Any) -> dict[str, Tensor | None]:
        """What the network reads, laid out as in the window; static covariates apart."""
        target: Tensor = window.target
        observed = torch.ones_like(target) if window.observed is None else window.observed.to(target.dtype)
        past, known = (self._read(window, group) for group in ("past", "known"))
        return {"insample_y": target, "insample_mask": observed, "hist_exog": past, "futr_exog": known}

    def _read(self, window: Any, group: str) -> Tensor | None:
        return getattr(window, group) if getattr(self.dims, group) and group in self.uses else None


class Univariate(_Adapter):
    """Every channel is a window of its own; covariates are shared by the channels."""

    def forward(self, window: Window) -> Tensor:
        """Forecasts in scaled units, [B H C] or [B H C Q]."""
        channels, inputs = self.dims.channels, self._inputs(window)

        def fold(values: Any) -> Tensor:  # [B X C] to [B*C X 1]
            return values.transpose(1, 2).flatten(0, 1)[..., None]

        def share(values: Tensor | None) -> Tensor | None:  # [B ...] to [B*C ...]
            return values if values is None or channels == 1 else values.repeat_interleave(channels, dim=0)

        static, tabular = share(self._read(window, "static")), self._read(window, "tabular")
        if tabular is not None:
            tabular = fold(tabular)[..., 0]
            static = tabular if static is None else torch.cat([static, tabular], dim=1)
        inputs |= {name: fold(inputs[name]) for name in ("insample_y", "insample_mask")}
        inputs |= {name: share(inputs[name]) for name in ("hist_exog", "futr_exog")}
        out = self.network(inputs | {"stat_exog": static})
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
            group = {"P": "past", "F": "known", "S": "static"}[title[0]]  # of Past, Future, Static
            weights = table["importance"] if group == "static" else table.mean(axis=0)
            found[group] = {}
            for column, value in weights.items():
                name = readable.get(str(column), str(column))
                found[group][name] = found[group].get(name, 0.0) + float(value)  # the columns of an embedding are one
        found["attention"] = [float(value) for value in attention[self.dims.lookback :].mean(axis=0)]
        return found


class _Multivariate(_Adapter):
    """The channels are read together; covariates are repeated for each."""

    def forward(self, window: Window) -> Tensor:
        """Forecasts in scaled units, [B H C] or [B H C Q]."""
        channels, inputs = self.dims.channels, self._inputs(window)
        for name in ("hist_exog", "futr_exog"):  # [B X P] to [B P X C]
            if (values := inputs[name]) is not None:
                inputs[name] = values.transpose(1, 2)[..., None].expand(-1, -1, -1, channels)
        out = self.network(inputs | {"stat_exog": None})
        # Levels first: networks that normalise channels undo it on [B H*Q C].
        return out.unflatten(2, (-1, channels)).transpose(2, 3) if self.dims.quantiles else out


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
        columns = {f"{group}_{i}": size for group, sizes in self.sizes.items() for i, size in enumerate(sizes) if size}
        tables = {name: nn.Embedding(size, min(50, (size + 1) // 2)) for name, size in columns.items()}
        self.tables = nn.ModuleDict(tables)
        widths: dict[str, Any] = {
            group: sum(self._width(group, i) for i in range(len(sizes))) for group, sizes in self.sizes.items()
        }
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
        columns = getattr(window, group).split(1, dim=-1)
        names = [f"{group}_{i}" for i in range(len(columns))]
        parts = [
            self.tables[name](column[..., 0].long()) if name in self.tables else column
            for name, column in zip(names, columns, strict=True)
        ]
        return torch.cat(parts, dim=-1)


def network(backbone: Callable[[Dims], nn.Module], dims: Dims) -> nn.Module:
    """`backbone(dims)`, behind embeddings where there are categories that it does not take as codes itself."""
    kind = getattr(backbone, "func", backbone)
    if any(map(any, dims.cardinality.values())) and not getattr(kind, "takes_codes", False):
        return Embedded(backbone, dims)
    return backbone(dims)
