"""A bundle loaded through MLflow forecasts what the bundle itself does, to the bit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.errors import has, refused
from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.errors import DataError
from tsforecast.fallback import Fallback
from tsforecast.features.base import FeatureSet
from tsforecast.features.scaling import StandardScaler
from tsforecast.models.linear import Ridge
from tsforecast.tracking.runs import MLflowTracker
from tsforecast.windows import Windows

L, H = 12, 4


@pytest.fixture(scope="module")
def tracker(tracking_database: Path, tmp_path_factory: pytest.TempPathFactory) -> MLflowTracker:
    return MLflowTracker(f"sqlite:///{shutil.copy(tracking_database, tmp_path_factory.mktemp('store'))}")


def wide(rows: int = 120, tz: str | None = None) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    time = pd.date_range("2024-01-01", periods=rows, freq="h", tz=tz)
    return pd.DataFrame({"date": time, "load": rng.normal(size=rows).cumsum(), "visits": rng.integers(0, 9, rows)})


def long(rows: int = 60) -> pd.DataFrame:
    """Two shops with a price known ahead and a size."""
    shops = [
        wide(rows).assign(shop=name, price=np.arange(rows) % 5 + i, size=i).drop(columns="load")
        for i, name in enumerate(("b", "a"))
    ]
    return pd.concat(shops, ignore_index=True)


LONG = Schema(time="date", id="shop", target=("visits",), known=("price",), static=("size",), freq="h")


def saved(frame: pd.DataFrame, schema: Schema, path: Path, least: int = L) -> Bundle:
    """Where `least` rows of a series are enough for it, it has a fallback for fewer."""
    static = frame[["shop", "size"]].drop_duplicates() if schema.static else None
    panel = to_panel(frame.drop(columns=list(schema.static)), schema, static=static)
    features = FeatureSet((), StandardScaler()).fit(panel)
    encoded = features.encode(panel, pad=L - least)
    windows = Windows.over(encoded, lookback=L, horizon=H, begin=panel.offsets[:-1], end=panel.offsets[1:])
    dims = encoded.dims(L, H, 24)
    forecaster = Ridge().fit(windows, windows, dims)
    bundle = Bundle(schema=schema.resolved(panel), dims=dims, features=features, forecaster=forecaster)
    if least < L:
        bundle = replace(bundle, fallback=Fallback.of(windows, 24, ()))
    return golden.with_golden(bundle, panel, probes=1).save(path)


def logged(tracker: MLflowTracker, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pyfunc as a stranger would load it, with pickle refused."""
    import mlflow

    assert bundle.path is not None
    with tracker.run("r", {}, out=bundle.path.parent) as run:
        run.log_bundle(bundle.path)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)  # `set_tracking_uri` would outlive the test
    return mlflow.pyfunc.load_model(f"runs:/{run.id}/model")


@pytest.mark.parametrize("tz", [None, "Europe/Berlin"])
def test_when_a_wide_bundle_is_loaded_by_mlflow_then_it_forecasts_the_same_bits(
    tracker: MLflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tz: str | None
) -> None:
    frame = wide(tz=tz)
    bundle = saved(frame, Schema(freq="h"), tmp_path / "bundle")
    model = logged(tracker, bundle, monkeypatch)
    expected = bundle.forecast(frame.tail(L)).to_frame()
    for given in (frame.tail(L), frame, frame.tail(L)[["visits", "date", "load"]]):
        pd.testing.assert_frame_equal(model.predict(given), expected)
    as_text = model.predict(frame.tail(L).assign(date=lambda f: f["date"].astype(str)))
    np.testing.assert_array_equal(as_text["y_hat"], expected["y_hat"])
    assert list(expected.columns) == [column.name for column in model.metadata.get_output_schema()]


def test_when_the_bundle_has_covariates_then_one_frame_carries_them(
    tracker: MLflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = long()
    bundle = saved(frame, LONG, tmp_path / "bundle")
    asked = frame.assign(visits=frame["visits"].where(frame.groupby("shop").cumcount() < 60 - H))
    model = logged(tracker, bundle, monkeypatch)
    history, future = asked.dropna().drop(columns="size"), asked[asked["visits"].isna()]
    expected = bundle.forecast(history, future, static=frame[["shop", "size"]].drop_duplicates()).to_frame()
    pd.testing.assert_frame_equal(model.predict(asked), expected)
    with refused(DataError, where="visits", allowed="empty targets there, and values of the known covariates"):
        model.predict(frame)


@pytest.mark.parametrize("schema", [LONG, Schema(time="date", id="shop", target=("visits",), freq="h")])
def test_when_series_have_few_rows_then_they_are_padded_or_flagged_as_by_the_bundle(
    tracker: MLflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: Schema
) -> None:
    frame = long()[["date", "shop", "visits", *schema.known, *schema.static]]
    bundle = saved(frame, schema, tmp_path / "bundle", least=6)
    model, ahead = logged(tracker, bundle, monkeypatch), H if schema.known else 0
    declared = [column.name for column in model.metadata.get_output_schema()]
    for rows, flagged in (({"b": L, "a": 8}, []), ({"b": 3, "a": 7}, ["b"]), ({"a": 1, "b": 6}, ["a"])):
        asked = pd.concat([frame[frame["shop"] == name].tail(n + ahead) for name, n in rows.items()])
        future = asked.groupby("shop").tail(ahead)
        asked["visits"] = asked["visits"].mask(asked.index.isin(future.index))
        given = [future[["date", "shop", "price"]], frame[["shop", "size"]].drop_duplicates()] if ahead else [None] * 2
        history = asked.drop(index=future.index)[["date", "shop", "visits", *schema.known]]
        found, expected = model.predict(asked), bundle.forecast(history, given[0], static=given[1]).to_frame()
        pd.testing.assert_frame_equal(found, expected)
        assert {*found["unique_id"]} == {"a", "b"}
        assert {*declared} - {*found} == (set() if flagged else {"fallback"})
        if flagged:
            assert [*found.loc[found["fallback"].notna(), "unique_id"].unique()] == flagged


def test_when_the_frame_is_wrong_then_the_bundles_own_message_comes_through(
    tracker: MLflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = saved(wide(), Schema(target=("load", "visits"), freq="h"), tmp_path / "bundle")
    model = logged(tracker, bundle, monkeypatch)
    with refused(DataError, where="history", what=has("'load' is missing")):
        model.predict(wide().drop(columns="load"))
    with refused(DataError, where="load, visits", what=has("are they history, or to be forecast?")):
        model.predict(pd.concat([wide(), wide(H).filter(["date"]).assign(load=np.nan, visits=np.nan)]))


def test_when_the_model_is_loaded_by_a_fresh_process_then_its_example_works(
    tracker: MLflowTracker, tmp_path: Path
) -> None:
    frame = wide()
    bundle = saved(frame, Schema(freq="h"), tmp_path / "bundle")
    with tracker.run("r", {}, out=tmp_path) as run:
        run.log_bundle(tmp_path / "bundle")
    code = (
        "import mlflow, sys; model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "assert not {'torch', 'lightning', 'hydra'} & set(sys.modules)\n"
        "model.predict(model.input_example).to_csv(sys.argv[2], index=False)"
    )
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": str(tracker.uri),
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    subprocess.run(
        [sys.executable, "-c", code, f"runs:/{run.id}/model", str(tmp_path / "out.csv")], check=True, env=environment
    )
    got = pd.read_csv(tmp_path / "out.csv", parse_dates=["ds", "cutoff"])
    expected = bundle.forecast(frame.tail(L)).to_frame()
    assert (got["ds"].to_numpy() == expected["ds"].to_numpy()).all()
    np.testing.assert_allclose(got["y_hat"], expected["y_hat"], rtol=1e-6)


def test_when_models_are_not_logged_then_there_is_none(tracker: MLflowTracker, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    saved(wide(), Schema(freq="h"), tmp_path / "bundle")
    with MLflowTracker(tracker.uri, log_model=False).run("r", {}, out=tmp_path) as run:
        run.log_bundle(tmp_path / "bundle")
    assert MlflowClient(tracker.uri).get_run(run.id).outputs.model_outputs == []
