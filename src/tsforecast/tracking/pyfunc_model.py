"""The bundle as an MLflow pyfunc: MLflow keeps this script beside the bundle and runs it to load the model.

Models-from-code: no object is pickled, and the forecast is `Bundle.forecast`, as everywhere else.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

import tsforecast


class BundleModel(PythonModel):  # type: ignore[misc]
    """History in the data set's own layout in; the long frame `unique_id, ds, cutoff, channel, y_hat` out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the bundle MLflow laid out."""
        self.bundle = tsforecast.load_bundle(context.artifacts["bundle"])

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Forecast the steps after the last row of every series."""
        return self.bundle.forecast(model_input).to_frame()


set_model(BundleModel())
