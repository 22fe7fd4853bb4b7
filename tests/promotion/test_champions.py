"""A champion that cannot be compared with: it is refused and recorded, and a reason is the way past it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.errors import has, refused

import tsforecast as tsf
from tsforecast.errors import ConfigError
from tsforecast.registry import Registry

COLUMNS = {"time": "date", "target": ["y"]}


@pytest.fixture
def weather() -> pd.DataFrame:
    """Hours of something daily, and a wind that says nothing of it."""
    rng, rows = np.random.default_rng(0), 1000
    y = 10 + 3 * np.sin(np.arange(rows) * 2 * np.pi / 24) + rng.normal(0, 1, rows)
    return pd.DataFrame(
        {"date": pd.date_range("2024-01-01", periods=rows, freq="h"), "y": y, "wind": rng.normal(size=rows)}
    )


@pytest.fixture
def registry(
    tracking_database: Path, tmp_path: Path, weather: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> Registry:
    """`y`: the first version uses the wind, and is champion; the second does without, and is candidate."""
    shutil.copy(tracking_database, tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    words = ("lookback=48", "horizon=12", "quantiles=[]", "feature=[]", "report=none", "tracking=none")
    few = ("model=xgboost", "model.rounds=2")
    registry = Registry()
    for name, own, past in (("with", few, ["wind"]), ("without", ("model=ridge",), [])):
        tsf.train(*words, *own, data=weather, out=tmp_path / name, past=past, **COLUMNS)
        registry.publish(tmp_path / name / "bundle", to="mlflow", name="y")
    registry.point("y", "champion", 1)
    return registry


def test_a_champion_that_has_lost_a_sensor_is_told_and_can_be_replaced_with_a_reason(
    registry: Registry, weather: pd.DataFrame
) -> None:
    calm = weather.drop(columns="wind")
    refusal = tsf.promote("model=y", data=calm)
    assert refusal.record["state"] == "refused"
    assert str(refusal.refusal.got) == has("comparable: the champion cannot forecast these rows", "'wind' is missing")
    assert registry.aliases("y") == {"candidate": 2, "champion": 1}
    assert tsf.promote("model=y", "force=true", "reason='no wind any more'", data=calm).done
    assert registry.aliases("y") == {"candidate": 2, "champion": 2, "previous": 1}


def test_each_bundle_reads_its_own_columns_of_a_frame(registry: Registry, weather: pd.DataFrame) -> None:
    found = tsf.promote("model=y", "gate=none", data=weather).record
    assert {*found["scores"]} == {"candidate", "champion", "seasonal_naive"}
    assert found["scores"]["candidate"]["mae_raw"] != found["scores"]["champion"]["mae_raw"]


def test_a_champion_whose_files_are_lost_is_told_and_can_be_replaced_with_a_reason(
    registry: Registry, weather: pd.DataFrame
) -> None:
    shutil.rmtree(registry.resolve("models:/y/1").path.parents[1])
    refusal = tsf.promote("model=y", data=weather)
    assert str(refusal.refusal.got) == has("comparable: the champion cannot be loaded")
    assert refusal.record["champion"] == {"reference": "models:/y/1", "version": 1}
    assert tsf.promote("model=y", "force=true", "reason=lost", data=weather).done
    assert registry.aliases("y")["champion"] == 2


def test_an_alias_that_mlflow_would_refuse_is_refused_before_there_is_a_record(
    registry: Registry, weather: pd.DataFrame, tmp_path: Path
) -> None:
    with refused(ConfigError, where="to", got="a b"):
        tsf.promote("model=y", "to='a b'", data=weather)
    assert not (tmp_path / "outputs/promotions").exists()
