"""The bundle as an MLflow pyfunc: MLflow keeps this script beside the bundle and runs it to load the model.

Models-from-code: no object is pickled, and the forecast is `Bundle.forecast`, as everywhere else.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

import tsforecast
from tsforecast.bundle import golden


class BundleModel(PythonModel):
    """History in the data set's own layout in; the long frame `unique_id, ds, cutoff, channel, y_hat, ...` out.

    A pyfunc takes one frame. Where the bundle has known covariates, the last `horizon` rows of every series are
    the ones to forecast, with empty targets; where it has static ones, they are columns of every row.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Open the bundle MLflow laid out."""
        self.bundle = tsforecast.load_bundle(context.artifacts["bundle"])

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Forecast the steps after the last row of every series."""
        history, future, static = golden.split(self.bundle, model_input)
        return self.bundle.forecast(history, future, static=static).to_frame()


set_model(BundleModel())
