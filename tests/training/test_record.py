"""What a run leaves to be compared by is read again as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tsforecast as tsf
from tsforecast.training.record import FILE, Record

SMALL = ("lookback=24", "horizon=4", "model=ridge", "quantiles=[0.1,0.5,0.9]", "tracking=none", "report=none")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    time = pd.date_range("2024-01-01", periods=400, freq="h", tz="Europe/Berlin")
    wave = np.sin(np.arange(400) / 24 * 2 * np.pi)
    return pd.DataFrame({"date": time, "load": wave + 0.1 * rng.standard_normal(400), "b": rng.standard_normal(400)})


def test_a_record_is_read_as_it_was_written(frame: pd.DataFrame, tmp_path: Path) -> None:
    result = tsf.train(*SMALL, data=frame, out=tmp_path / "run")
    written, read = result.record(), Record.load(tmp_path / "run" / FILE)
    assert [*read.scores] == ["ridge", "naive", "seasonal_naive"]
    for name, scores in written.scores.items():
        assert read.scores[name].summary() == scores.summary()
        np.testing.assert_array_equal(read.scores[name].losses, scores.losses)
        assert read.losses(name, "mase").equals(written.losses(name, "mase").set_axis(read.losses(name, "mase").index))
    assert (read.windows["cutoff"] == written.windows["cutoff"].dt.tz_convert(None)).all()
    assert read.facts["data"] == written.facts["data"]
    assert read.seconds["ridge"] > 0 < read.scores["ridge"].seconds


def test_of_a_run_from_before_a_score_was_there_only_that_score_is_unknown(frame: pd.DataFrame, tmp_path: Path) -> None:
    scores = tsf.train(*SMALL, data=frame, out=tmp_path / "run").record().scores["ridge"].summary()
    with np.load(tmp_path / "run" / FILE) as stored:
        older = {name: array for name, array in stored.items() if not name.endswith("/error")}
    assert len(older) < len(stored.files)
    np.savez(tmp_path / "run" / FILE, **older)
    read = Record.load(tmp_path / "run" / FILE).scores["ridge"].summary()
    unknown = {name for name, score in read.items() if score != scores[name]}
    assert unknown == {"bias"}
    assert np.isnan(read["bias"])


def test_losses_of_windows_are_the_scores(frame: pd.DataFrame) -> None:
    record = tsf.train(*SMALL, data=frame).record()
    for loss in ("mse", "mae", "mase", "mae_raw"):
        assert record.losses("ridge", loss).mean() == pytest.approx(record.scores["ridge"].summary()[loss], rel=1e-5)


def test_a_backtest_records_its_folds(frame: pd.DataFrame, tmp_path: Path) -> None:
    found = tsf.backtest(*SMALL, "backtest.windows=3", "backtest.step=6", data=frame, out=tmp_path / "run")
    assert found is not None
    read = Record.load(tmp_path / "run" / FILE)
    assert (read.facts["step"], read.facts["horizon"], len(read.facts["rows"])) == (6, 4, 3)
    assert len(read.losses("naive", "mae")) == 3
    by_fold = found.by_fold.loc["ridge", "mae"].tolist()
    assert read.losses("ridge", "mae").tolist() == pytest.approx(by_fold, rel=1e-5)
    assert [each["mae"] for each in read.folds["ridge"]] == by_fold


def test_a_run_keeps_forecasts_of_evenly_spaced_cutoffs(frame: pd.DataFrame, tmp_path: Path) -> None:
    result = tsf.train(*SMALL, data=frame, out=tmp_path / "run")
    kept = pd.read_parquet(tmp_path / "run" / "forecasts.parquet")
    assert {"unique_id", "ds", "cutoff", "channel", "y", "ridge", "ridge-lo-80", "naive", "seasonal_naive"} <= set(kept)
    cutoffs = kept["cutoff"].unique()
    assert len(kept) == 8 * 2 * 4
    assert len(cutoffs) == 8
    own = kept[(kept["cutoff"] == cutoffs[3]) & (kept["channel"] == "load")]
    history = frame[frame["date"] <= cutoffs[3]].assign(date=lambda rows: rows["date"].dt.tz_convert("Europe/Berlin"))
    again = result.bundle.forecast(history).to_frame()
    again = again[again["channel"] == "load"]
    np.testing.assert_array_equal(own["ridge"].to_numpy(), again["y_hat"].to_numpy())
    np.testing.assert_array_equal(own["ridge-hi-80"].to_numpy(), again["y_hat-hi-80"].to_numpy())
    truth = frame.set_index("date")["load"].loc[own["ds"]]
    np.testing.assert_allclose(own["y"], truth, rtol=1e-6)


def test_a_baseline_that_is_the_model_is_kept_once_with_its_intervals(frame: pd.DataFrame, tmp_path: Path) -> None:
    tsf.train(*SMALL, "model=naive", data=frame, out=tmp_path / "run")
    kept = pd.read_parquet(tmp_path / "run" / "forecasts.parquet")
    assert [*kept][5:] == ["naive", "naive-lo-80", "naive-hi-80", "seasonal_naive"]
