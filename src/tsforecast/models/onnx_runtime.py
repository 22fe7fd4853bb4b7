"""Any exported network as a forecaster: ONNX Runtime, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float

from tsforecast.models.base import Forecaster
from tsforecast.types import Window


@dataclass
class OnnxForecaster(Forecaster):
    """Runs an ONNX graph whose inputs are arrays of the window and whose output is [B H C] or [B H C Q].

    The sums inside a network depend, in the last bits, on how many windows it reads at a time. It always reads
    `rows` of them, the last batch filled up, so that a window's forecast is the same to the bit in every batch.

    Parameters
    ----------
    inputs
        Which arrays of the window the graph takes, in order.
    rows
        Windows in a run of the graph.
    """

    inputs: Sequence[str] = ("target",)
    rows: int = 1
    graph: np.ndarray = field(init=False, default_factory=lambda: np.zeros(0, np.uint8), repr=False)

    def predict(self, window: Window) -> Float[np.ndarray, "B H C *Q"]:
        """Forecasts in scaled units."""
        count, feeds = len(window.target), {name: _array(window, name) for name in self.inputs}
        if surplus := -count % self.rows:
            feeds = {name: np.concatenate([a, np.repeat(a[-1:], surplus, axis=0)]) for name, a in feeds.items()}
        found = [
            self._session.run(None, {name: array[i : i + self.rows] for name, array in feeds.items()})[0]
            for i in range(0, count, self.rows)
        ]
        return np.concatenate(found)[:count]

    def state(self) -> dict[str, np.ndarray]:
        """The serialised graph, as bytes."""
        return {"network.onnx": self.graph}

    def restore(self, state: Mapping[str, np.ndarray]) -> Self:
        """Set the graph and start a session on one thread."""
        import onnxruntime

        self.graph = np.asarray(state["network.onnx"])
        if b"\n\x08location\x12" in self.graph.tobytes():  # of weights in another file, wherever that is
            raise ValueError("the graph names files outside the bundle")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            self.graph.tobytes(), options, providers=["CPUExecutionProvider"]
        )
        return self


@dataclass
class DearForecaster(OnnxForecaster):
    """A graph that takes so long that not all windows are forecast.

    Parameters
    ----------
    most
        Windows of the validation, calibration and test rows that are forecast, evenly spaced; None: all.
    """

    most: int | None = None
    probes: ClassVar[int] = 4


def _array(window: Window, name: str) -> np.ndarray:
    """An array of the window as float32; where nothing was missing, all was observed."""
    values = getattr(window, name)
    return np.ascontiguousarray(np.ones_like(window.target) if values is None else values, dtype=np.float32)
