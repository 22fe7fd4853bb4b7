"""Any exported network as a forecaster: ONNX Runtime, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from tsforecast.models.base import Forecaster
from tsforecast.types import Window


@dataclass
class OnnxForecaster(Forecaster):
    """Runs an ONNX graph whose inputs are arrays of the window and whose output is [B H C] or [B H C Q].

    Unlike the linear map, a network's sums depend on the batch it runs in, in the last bits: forecasts of one
    window agree to about 1e-6 relative between batches.

    Parameters
    ----------
    inputs
        Which arrays of the window the graph takes, in order.
    """

    inputs: Sequence[str] = ("target",)
    graph: np.ndarray = field(init=False, default_factory=lambda: np.zeros(0, np.uint8), repr=False)

    def predict(self, window: Window) -> Float[np.ndarray, "B H C *Q"]:
        """Forecasts in scaled units."""
        feeds = {name: np.ascontiguousarray(getattr(window, name), dtype=np.float32) for name in self.inputs}
        return np.asarray(self._session.run(None, feeds)[0])

    def state(self) -> dict[str, np.ndarray]:
        """The serialised graph, as bytes."""
        return {"network.onnx": self.graph}

    def restore(self, state: Mapping[str, np.ndarray]) -> Self:
        """Set the graph and start a session on one thread."""
        import onnxruntime

        self.graph = np.asarray(state["network.onnx"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            self.graph.tobytes(), options, providers=["CPUExecutionProvider"]
        )
        return self
