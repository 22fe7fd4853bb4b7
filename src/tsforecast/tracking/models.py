"""A bundle as an MLflow model: what any MLflow tool can load, serve and look at."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from tsforecast.bundle import directory, golden
from tsforecast.bundle.provenance import SERVED, packages
from tsforecast.data.schema import Schema
from tsforecast.fallback import Fallback
from tsforecast.types import quantile_names

OUTPUT = {"unique_id": "string", "ds": "datetime", "cutoff": "datetime", "channel": "string", "y_hat": "float"}
DIGEST = "tsforecast.digest"  # the tag of a logged model and of a version that says which bundle it is


def write_model(bundle: Path, folder: Path, *, run_id: str | None = None, model_id: str | None = None) -> None:
    """Write the bundle as a pyfunc model into a new folder: no pickle, and the bundle's golden request as its example.

    Parameters
    ----------
    run_id, model_id
        Of the tracked run and of the logged model that it becomes part of.

    Raises
    ------
    BundleError
        There is no bundle, or it was altered.
    """
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import AnyType, ColSpec
    from mlflow.types.schema import Schema as Columns

    files, _ = directory.read(bundle, ("bundle.json", "features.npz"))
    stored = {name: directory.parse_json(files[name], bundle / name) for name in files if name.endswith(".json")}
    body, schema = stored["bundle.json"], Schema(**stored["bundle.json"]["schema"])
    example = _example(stored.get("golden.json", {}), schema.id)
    # Any type, none required: MLflow's own check refuses whole numbers, time zones and dates as text, all of
    # which a bundle reads, and a bundle says better what is wrong.
    columns = Columns([ColSpec(AnyType(), str(name), required=False) for name in schema.columns])
    levels = quantile_names(body["quantile_levels"])
    outputs = OUTPUT | {f"y_hat-{name}": "float" for name in levels if name != "median"}
    told = [ColSpec(kind, name) for name, kind in outputs.items()]
    if Fallback.restore(directory.decode(bundle / "features.npz", files["features.npz"])):
        told.append(ColSpec("string", "fallback", required=False))  # where a series is too short
    pyfunc.save_model(
        str(folder),
        mlflow_model=Model(run_id=run_id, model_id=model_id),
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        artifacts={"bundle": str(bundle)},
        signature=ModelSignature(columns, Columns(told)),
        input_example=example,
        pip_requirements=[f"{name}=={version}" for name, version in packages(SERVED).items()],
    )


def _example(request: dict[str, Any], id: str | None) -> pd.DataFrame | None:
    """The golden request of a bundle as one frame; None where it has none."""
    parts = [name for name in ("history", "known_future", "static") if name in request]
    return golden.joined({name: pd.DataFrame(request[name]) for name in parts}, id) if parts else None


def log_model(connection: Any, experiment: str, bundle: Path, run: str | None = None) -> Any:
    """The logged model of a bundle, of a run or of none: the one there is, completed where files lack, or new."""
    from mlflow.entities import LoggedModelOutput

    _, digest = directory.read(bundle, ())
    there = connection.search_logged_models([experiment], f"tags.`{DIGEST}` = '{digest}'")
    model = next((each for each in there if run in (None, each.source_run_id)), None)
    model = model or connection.create_logged_model(experiment, "model", run, {DIGEST: digest})
    if model.status != "READY" or not connection.list_logged_model_artifacts(model.model_id):
        with tempfile.TemporaryDirectory() as scratch:
            write_model(bundle, folder := Path(scratch) / "model", run_id=run, model_id=model.model_id)
            connection.log_model_artifacts(model.model_id, str(folder))
        model = connection.finalize_logged_model(model.model_id, "READY")
    if run and model.model_id not in logged_by(connection, run):
        connection.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    return model


def logged_by(connection: Any, run: str) -> list[str]:
    """The ids of the models that a run has logged."""
    outputs = connection.get_run(run).outputs
    return [each.model_id for each in (outputs.model_outputs if outputs else ())]
