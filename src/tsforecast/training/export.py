"""From a trained network to ONNX, compared with torch before it is trusted."""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsforecast.errors import ConfigError
from tsforecast.models.onnx_runtime import OnnxForecaster
from tsforecast.types import Dims, Window

_INPUTS = ("target", "past", "known", "static")
_TOLERANCE = 1e-4  # of the largest forecast; a wrong graph is off by far more, float32 sums by far less


class _Positional(nn.Module):
    """The network over plain tensors, as an export wants it."""

    def __init__(self, network: nn.Module, names: tuple[str, ...], dims: Dims) -> None:
        super().__init__()
        self.network, self.names, self.dims = network, names, dims

    def forward(self, *tensors: Tensor) -> Tensor:
        given: dict[str, Any] = dict(zip(self.names, tensors, strict=True))
        batch, dims = tensors[0].shape[0], self.dims
        empty = {
            "past": (batch, dims.lookback, 0),
            "known": (batch, dims.lookback + dims.horizon, 0),
            "static": (batch, 0),
            "tabular": (batch, 0, dims.channels),
        }
        for name, shape in empty.items():
            given.setdefault(name, tensors[0].new_zeros(shape))
        out: Tensor = self.network(Window(**given))
        return out


def to_onnx(network: nn.Module, dims: Dims) -> OnnxForecaster:
    """Export with a free batch size, and compare with torch at two of them.

    Raises
    ------
    ConfigError
        The network cannot be exported, or its graph computes something else.
    """
    sizes = {
        "target": (dims.lookback, dims.channels),
        "past": (dims.lookback, dims.past),
        "known": (dims.lookback + dims.horizon, dims.known),
        "static": (dims.static,),
    }
    names = tuple(name for name in _INPUTS if sizes[name][-1])
    wrapper = _Positional(network, names, dims).eval()
    generator = torch.Generator().manual_seed(0)

    def example(batch: int) -> tuple[Tensor, ...]:
        return tuple(torch.randn(batch, *sizes[name], generator=generator) for name in names)

    def refuse(reason: object) -> ConfigError:
        return ConfigError(
            "the trained network cannot be served: its ONNX export failed",
            where="model.backbone",
            got=str(reason).strip().splitlines()[0] if str(reason).strip() else type(reason).__name__,
            fix="use operations that torch.onnx exports with a free batch size; the checkpoint is kept",
        )

    file = io.BytesIO()
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                wrapper, example(3), input_names=list(names), output_names=["forecast"], dynamo=True, verbose=False,
                dynamic_shapes={"tensors": tuple({0: torch.export.Dim.DYNAMIC} for _ in names)},
            )  # fmt: skip
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
            raise refuse(error) from error
    assert program is not None
    program.save(file)
    forecaster = OnnxForecaster(names).restore({"network.onnx": np.frombuffer(file.getvalue(), dtype=np.uint8)})
    for batch in (1, 5):
        tensors = example(batch)
        with torch.no_grad():
            expected = wrapper(*tensors).numpy()
        window: Any = type("Arrays", (), {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)})
        got = forecaster.predict(window)
        if got.shape != expected.shape or np.abs(got - expected).max() > _TOLERANCE * max(1.0, np.abs(expected).max()):
            raise refuse(f"the graph and torch disagree at batch size {batch}")
    return forecaster
