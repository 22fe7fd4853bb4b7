"""Bundles back out of MLflow."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tsforecast.errors import BundleError


def download_bundle(uri: str) -> Path:
    """The bundle inside a logged or registered model, in a local directory.

    Parameters
    ----------
    uri
        `models:/<id>`, `models:/<name>@<alias>`, `models:/<name>/<version>` or `runs:/<run>/model`.

    Raises
    ------
    BundleError
        MLflow is not installed, does not find the model, or the model holds no bundle.
    """
    if find_spec("mlflow") is None:
        what, fix = "an MLflow address needs mlflow", "pip install mlflow, or give the path of the bundle"
        raise BundleError(what, where=uri, fix=fix)
    from tsforecast.tracking.client import import_mlflow

    import_mlflow()
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(download_artifacts(artifact_uri=uri))
    except (MlflowException, OSError) as error:
        got, fix = str(error).partition("\n")[0], "look at the address, and at MLFLOW_TRACKING_URI"
        raise BundleError("MLflow does not give this model", where=uri, got=got, fix=fix) from error
    found = sorted(folder.rglob("manifest.json"))
    if not found:
        raise BundleError("this MLflow model holds no bundle", where=uri, fix="give one that tsforecast logged")
    return found[0].parent
