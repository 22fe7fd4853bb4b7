"""Scores are those of fev (github.com/autogluon/fev): its published baselines, to 1e-6, by the product's own backtest.

fev takes each metric by window and by target column, over the series of the window, and averages: MASE is scaled by the
history before the cutoff, WAPE is sum |e| over sum |y|. `ETT_1H` has its twenty windows a horizon apart, from the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tsforecast as tsf
from tsforecast.backtesting.backtest import Backtest
from tsforecast.quantiles import QuantileScores

PLAIN = ("model=seasonal_naive", "feature=[]", "scaler=none", "quantiles=[]", "calibration=none", "tracking=none")


@pytest.fixture(scope="module")
def ett(ett_dir: Path) -> pd.DataFrame:
    """ETTh1 and ETTh2 as two series of seven columns."""
    frames = {name: pd.read_csv(ett_dir / f"{name}.csv", parse_dates=["date"]) for name in ("ETTh1", "ETTh2")}
    return pd.concat([frame.assign(unique_id=name) for name, frame in frames.items()], ignore_index=True)


def backtested(frame: pd.DataFrame, target: list[str], *overrides: str, out: Path | None = None) -> Backtest:
    dataset = {"data": frame, "id": "unique_id", "time": "date", "target": target}
    found = tsf.backtest(
        *PLAIN, "report=none", "backtest.val=168", "backtest.refit=never", *overrides, out=out, **dataset
    )
    assert found is not None
    return found


def test_the_windows_of_ett_1h_score_as_fev_publishes(ett: pd.DataFrame, tmp_path: Path) -> None:
    columns = [name for name in ett if name not in ("date", "unique_id")]
    backtested(ett, columns, "lookback=168", "horizon=168", "backtest.windows=20", out=tmp_path)
    means = tsf.leaderboard([tmp_path]).fev().set_index("model_name")[["MASE", "WAPE"]]
    assert means.loc["seasonal_naive"].tolist() == pytest.approx([1.3227158902, 0.2864224587], abs=1e-6)
    assert means.loc["naive"].tolist() == pytest.approx([1.7184141817, 0.338907016], abs=1e-6)


def test_every_channel_of_etth_as_a_series_scores_as_fev_publishes(ett: pd.DataFrame) -> None:
    long = ett.melt(["unique_id", "date"], value_name="y")
    long["unique_id"] += long.pop("variable")
    found = backtested(long, ["y"], "lookback=24", "horizon=24", "backtest.windows=1")
    (own,) = found.scored["seasonal_naive"]
    assert own.scores.summary()["mase"] == pytest.approx(0.9316203197, abs=1e-6)
    assert own.scores.summary()["wape"] == pytest.approx(0.1220896594, abs=1e-6)
    levels = tuple(np.linspace(0.1, 0.9, 9).round(1))
    spread = QuantileScores(levels, 24)  # fev takes a point forecast as each of its quantiles
    label, point = (own.frame[name].to_numpy().reshape(-1, 24, 1) for name in ("y", "seasonal_naive"))
    spread.update(*[label, np.repeat(point[..., None], 9, axis=3)] * 2)
    assert spread.summary()["wql"] == pytest.approx(0.1220896594, abs=1e-6)
