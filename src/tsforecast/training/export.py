"""From a trained network to ONNX, compared with torch before it is trusted."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from tsforecast.errors import ConfigError
from tsforecast.models.base import Forecaster
from tsforecast.models.networks import Linear
from tsforecast.models.neural import Neural
from tsforecast.models.onnx_runtime import DearForecaster, OnnxForecaster
from tsforecast.types import Dims, Window

_TOLERANCE = 1e-4  # of the largest forecast; a wrong graph is off by far more, float32 sums by far less
_ROWS = (8, 16, 1)  # windows in a run: few, so that one forecast is quick, enough for the calls not to count
_OPSET = 18


class _Positional(nn.Module):
    """The network over plain tensors, as an export wants it."""

    def __init__(self, network: nn.Module, names: tuple[str, ...], dims: Dims) -> None:
        super().__init__()
        self.network, self.names, self.dims = network, names, dims

    def forward(self, *tensors: Tensor) -> Tensor:
        given: dict[str, Any] = dict(zip(self.names, tensors, strict=True))
        for name, shape in _shapes(self.dims).items():
            if name not in given:
                given[name] = tensors[0].new_zeros(tensors[0].shape[0], *shape)
        given["observed"] = given["observed"] > 0.5
        out: Tensor = self.network(Window(**given))
        return out


def served(model: Neural, network: nn.Module, dims: Dims, seed: int) -> Forecaster:
    """The forecaster of a network, free of torch: a linear map or ONNX, made once where nothing is trained."""
    if isinstance(network, Linear):
        return network.collapse()
    if (key := (seed, repr(dims))) in model.as_it_is:
        return model.as_it_is[key]
    forecaster = to_onnx(network, dims)
    if model.most is not None:
        forecaster = DearForecaster(forecaster.inputs, forecaster.rows, model.most).restore(forecaster.state())
    if not model.trains:
        model.as_it_is[key] = forecaster
    return forecaster


def to_onnx(network: nn.Module, dims: Dims) -> OnnxForecaster:
    """Export, and compare with torch at several batch sizes, one window included.

    The graph has one batch size, the forecaster's `rows`: no network can have a batch size wrongly written into it,
    and a forecast is the same to the bit in every batch. The tracing exporter comes first: it takes a second where
    the newer one takes 8 to 35, and keeps an LSTM as one operator, which the newer one unrolls row by row.

    Raises
    ------
    ConfigError
        The network cannot be exported, or its graph computes something else.
    """
    wrapper, reasons = _Positional(network, tuple(_example(dims, 1)), dims).eval(), []
    for dynamo in (False, True):
        for rows in getattr(network, "rows", _ROWS):
            try:
                forecaster = _exported(wrapper, rows, dynamo=dynamo)
            except Exception as error:  # exporters raise anything; without a graph that holds, all reasons are told
                reasons.append((str(error).strip() or type(error).__name__).splitlines()[0])
                break
            if (fault := _fault(forecaster, wrapper)) is None:
                return forecaster
            reasons.append(fault)
    what, got = "the trained network cannot be served: its ONNX export failed", "; ".join(dict.fromkeys(reasons))
    fix = "use operations that torch.onnx exports; the checkpoint is kept"
    raise ConfigError(what, where="model.backbone", got=got, fix=fix)


def _exported(wrapper: _Positional, rows: int, *, dynamo: bool) -> OnnxForecaster:
    """The graph, less the inputs that the network does not read and the traces of where it was made."""
    tensors, file = tuple(_example(wrapper.dims, rows).values()), io.BytesIO()
    names = {"input_names": list(wrapper.names), "output_names": ["forecast"]}
    for talkative in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    with warnings.catch_warnings(), _silence():
        warnings.simplefilter("ignore")
        target = None if dynamo else file  # the newer exporter returns what it makes
        made = torch.onnx.export(wrapper, tensors, target, **names, dynamo=dynamo, opset_version=_OPSET, verbose=False)
    model = onnx.load_from_string(file.getvalue()) if made is None else made.model_proto
    read = {name for node in model.graph.node for name in node.input}
    for value in [value for value in model.graph.input if value.name not in read]:
        model.graph.input.remove(value)
    for message in (model, model.graph, *model.graph.node, *model.graph.value_info):
        del message.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    inputs = tuple(value.name for value in model.graph.input)
    graph = np.frombuffer(model.SerializeToString(deterministic=True), dtype=np.uint8)
    return OnnxForecaster(inputs, rows).restore({"network.onnx": graph})


@contextmanager
def _silence() -> Iterator[None]:
    """The tracing exporter prints its graph, megabytes of it, from below Python when it fails."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _fault(forecaster: OnnxForecaster, wrapper: _Positional) -> str | None:
    """Where graph and torch differ, or that a forecast depends on its place in the batch; None: all is well."""
    for batch in (1, 5, 2 * forecaster.rows + 3):
        arrays = _example(wrapper.dims, batch, seed=batch)
        with torch.no_grad():
            expected = wrapper(*arrays.values()).numpy()
        got = forecaster.predict(_window(arrays))
        allowed = _TOLERANCE * max(1.0, float(np.abs(expected).max()))
        if got.shape != expected.shape or not np.abs(got - expected).max() <= allowed:
            return f"the graph and torch disagree at batch size {batch}"
    for shift in range(1, forecaster.rows):
        moved = forecaster.predict(_window({name: array.roll(shift, 0) for name, array in arrays.items()}))
        if not np.array_equal(np.roll(got, shift, axis=0), moved):
            return f"a forecast depends on its place among {forecaster.rows} windows"
    return None


def _window(arrays: dict[str, Tensor]) -> Any:
    values: dict[str, Any] = dict.fromkeys(("past", "known", "static", "tabular"))
    return Window(**(values | {name: array.numpy() for name, array in arrays.items()}))


def _example(dims: Dims, batch: int, seed: int = 0) -> dict[str, Tensor]:
    """Random arrays of a window: numbers, codes where there are categories, nine in ten values observed."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: shape for name, shape in _shapes(dims).items() if 0 not in shape}
    arrays = {name: torch.randn(batch, *shape, generator=generator) for name, shape in shapes.items()}
    arrays["observed"] = (arrays["observed"] < 1.28).float()
    for group, sizes in dims.cardinality.items():
        for i, size in ((i, size) for i, size in enumerate(sizes) if size):
            arrays[group][..., i] = torch.randint(size, arrays[group].shape[:-1], generator=generator).float()
    return arrays


def _shapes(dims: Dims) -> dict[str, tuple[int, ...]]:
    """The arrays of a window that a network may read, less the batch axis."""
    return {
        "target": (dims.lookback, dims.channels),
        "past": (dims.lookback, dims.past),
        "known": (dims.lookback + dims.horizon, dims.known),
        "static": (dims.static,),
        "tabular": (dims.tabular, dims.channels),
        "observed": (dims.lookback, dims.channels),
    }
