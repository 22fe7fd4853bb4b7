"""What is left open is chosen by a ridge on the validation windows: on nothing else, and told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.errors import has, refused

import tsforecast as tsf
from tsforecast.config.compose import compose
from tsforecast.config.experiment import experiment
from tsforecast.config.job import Job
from tsforecast.data.schema import Schema
from tsforecast.data.sources import FrameSource, Loaded
from tsforecast.errors import ConfigError, DataError
from tsforecast.experiment import Experiment, run_experiment
from tsforecast.features.scaling import LogScaler, StandardScaler
from tsforecast.training.selection import Selection, selected

SMALL = ("horizon=4", "tracking=none", "report=none")
RNG = np.random.default_rng(0)


def shops(rows: int = 300) -> pd.DataFrame:
    """Sales that grow by a rate: straight lines once logarithms are taken."""
    time, t = pd.date_range("2020-01-01", periods=rows, freq="D"), np.arange(rows)
    rates = {"a": 0.012, "b": 0.008, "c": 0.015}
    return pd.concat(
        pd.DataFrame({"unique_id": name, "ds": time, "y": 20 * np.exp(rate * t + 0.02 * RNG.standard_normal(rows))})
        for name, rate in rates.items()
    )


def planned(frame: pd.DataFrame, *overrides: str) -> tuple[Experiment, Loaded]:
    cfg, chosen = compose("train", ["dataset=long", "dataset.path=memory", *SMALL, *overrides])
    return experiment(Job(cfg, chosen, source=FrameSource(frame, Schema(id="unique_id")))).reading()


def words(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if "chosen on validation, by" in each.message]


def test_each_option_has_the_validation_score_that_a_run_with_it_has(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="tsforecast")
    data = shops()
    open_, loaded = planned(data, "scaler=auto", "lookback=21", "quantiles=[]")
    assert isinstance(selected(open_, loaded).features.scaler, LogScaler)
    stated, _ = planned(data, "scaler=log1p", "lookback=21", "quantiles=[]")
    expected = run_experiment(stated, parts=("val",)).metrics["val/mase"]
    assert f"log1p {expected:.4f}" in words(caplog)[0]
    assert len(words(caplog)[0].split(",")) == 7  # all six, behind the choice


def test_rows_behind_validation_play_no_part(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="tsforecast")
    open_, loaded = planned(shops(), "scaler=auto", "lookback=[28,14,7]")
    for horizon in (4, 12):  # 12: earlier rows judge too
        found = replace(open_, horizon=horizon)
        data, target = selected(found, loaded).encoded(loaded), loaded.panel.target.copy()
        for begin, end in zip(*data.borders.rows("cal"), strict=True):
            target[begin : end + 60] = -1e6 * RNG.random((len(target[begin : end + 60]), 1))  # and log1p takes none
        poisoned = replace(loaded, panel=replace(loaded.panel, target=target))
        caplog.clear()
        first, second = selected(found, loaded), selected(found, poisoned)
        assert (first.features.scaler, first.lookback) == (second.features.scaler, second.lookback)
        assert len(words(caplog)) == 4
        assert words(caplog)[:2] == words(caplog)[2:]


def test_an_option_that_refuses_the_rows_is_told_and_where_all_do_it_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="tsforecast")
    open_, loaded = planned(shops().assign(y=lambda rows: rows.y - 500), "scaler=auto", "lookback=14")
    assert isinstance(selected(open_, loaded).features.scaler, StandardScaler)
    assert "scaler=log1p is not tried" in caplog.text
    logs = {"log1p": LogScaler(), "log1p-global": LogScaler("global")}
    with refused(DataError, what=has("negative values"), fix="scaler=standard"):
        selected(replace(open_, scalers=logs), loaded)


def test_the_first_option_stays_unless_another_is_clearly_better() -> None:
    assert Selection("scaler", {"standard": 1.0, "log1p": 0.991}).best == "standard"
    assert Selection("scaler", {"standard": 1.0, "log1p": 0.98, "log1p-window": 0.97}).best == "log1p-window"
    assert str(Selection("lookback", {"14": 2.0, "7": 1.0})).startswith("lookback=7 chosen on validation")


def test_where_all_is_stated_nothing_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="tsforecast")
    stated, loaded = planned(shops(), "lookback=[14]")
    assert stated.prepare(loaded).dims.lookback == 14
    assert not [each for each in caplog.records if "ridge" in each.message]


def test_each_fold_chooses_by_itself_from_the_rows_before_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="tsforecast")
    asked = ("dataset=long", "scaler=auto", "lookback=[14,7]", *SMALL, "backtest.windows=3", "backtest.step=20",
             "backtest.val=40", "feature=[]")  # fmt: skip
    data, found = shops(), []
    for seed in (0, 1):
        noise = np.where(data.ds >= data.ds.max() - pd.Timedelta("43D"), np.random.default_rng(seed).random(900), 0)
        caplog.clear()
        frame = tsf.backtest(*asked, data=data.assign(y=data.y * (1 + 9 * noise)), id="unique_id").frame
        assert len(words(caplog)) == 6  # scaler and lookback of three folds
        found.append((words(caplog)[:2], frame[frame.cutoff == frame.cutoff.min()]["ridge"].to_numpy()))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_what_was_chosen_is_served_refitted_and_rerun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shops().to_csv("x.csv", index=False)
    asked = ("dataset=long", "dataset.path=x.csv", "scaler=auto", "lookback=[28,14]", "refit=all", *SMALL)
    run = tsf.train(*asked, out="run")
    bundle = tsf.load_bundle("run/bundle")
    assert isinstance(bundle.features.scaler, LogScaler)
    assert bundle.dims.lookback == run.data.dims.lookback
    assert bundle.forecast(shops().groupby("unique_id").tail(bundle.dims.lookback)).values.shape == (3, 4, 1)
    assert tsf.rerun("run").agrees


@pytest.mark.parametrize("got", ["[]", "[7,0]", "[soon]"])
def test_a_lookback_to_choose_from_that_is_none_is_refused(got: str) -> None:
    with refused(ConfigError, where="lookback", allowed="1, 2, ...", got={"[]": [], "[7,0]": 0, "[soon]": "soon"}[got]):
        planned(shops(), f"lookback={got}")
