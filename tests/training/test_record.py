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
