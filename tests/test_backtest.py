"""A backtest is what a person would do by hand: cut, fit, forecast, score; whoever carries it out."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tsforecast as tsf
from tests.errors import has, refused
from tsforecast.backtesting import backtest as backtesting
from tsforecast.backtesting import fits as carried
from tsforecast.backtesting.backtest import Backtest
from tsforecast.errors import ConfigError, DataError, OutputError
from tsforecast.training.calibrate import Conformal

SMALL = ("lookback=24", "horizon=4", "model=ridge", "quantiles=[0.1,0.5,0.9]", "tracking=none", "report=none")
ROWS, H = 400, 4
NAMES = ("ridge", "theta")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    time = pd.date_range("2024-01-01", periods=ROWS, freq="h")
    wave = np.sin(np.arange(ROWS) / 24 * 2 * np.pi)
    return pd.DataFrame({"date": time, "load": wave + 0.1 * rng.standard_normal(ROWS), "b": rng.standard_normal(ROWS)})


def run(frame: pd.DataFrame, *overrides: str, out: Path | None = None) -> Backtest:
    found = tsf.backtest(*SMALL, *overrides, data=frame, out=out)
    assert found is not None
    return found


def test_a_fold_forecasts_what_its_rows_alone_give(frame: pd.DataFrame) -> None:
    found = run(frame, "backtest.windows=3")
    assert list(found.frame) == [
        *("unique_id", "ds", "cutoff", "channel", "y", "ridge", "ridge-lo-80", "ridge-hi-80", "naive", "seasonal_naive")
    ]
    for fold in range(3):
        cutoff = ROWS - (3 - fold) * H
        poisoned = frame.copy()
        poisoned.loc[cutoff:, ["load", "b"]] = 1e3 * np.random.default_rng(fold).standard_normal((ROWS - cutoff, 2))
        other = run(poisoned, "backtest.windows=3").scored
        for name in ("ridge", "naive", "seasonal_naive"):
            ours, theirs = found.scored[name][fold].frame, other[name][fold].frame
            pd.testing.assert_frame_equal(ours.drop(columns="y"), theirs.drop(columns="y"), check_exact=True)
            assert not ours["y"].equals(theirs["y"])


def test_scores_are_those_of_the_frame(frame: pd.DataFrame) -> None:
    found = run(frame, "backtest.windows=3", "backtest.step=7")
    table, long = found.scores, found.frame
    errors = (long["ridge"] - long["y"]).abs()
    assert table.loc["ridge", "mae_raw"] == pytest.approx(errors.mean(), rel=1e-6)
    inside = (long["ridge-lo-80"] <= long["y"]) & (long["y"] <= long["ridge-hi-80"])
    assert table.loc["ridge", "coverage-80"] == pytest.approx(inside.mean())
    by_fold = errors.groupby(long["cutoff"]).mean()
    np.testing.assert_allclose(found.by_fold.loc["ridge"]["mae_raw"], by_fold, rtol=1e-6)
    assert table.loc["ridge", "mae_raw_se"] == pytest.approx(by_fold.sem(), rel=1e-6)


def test_behind_a_gap_the_rows_of_the_gap_are_not_scored_nor_seen(frame: pd.DataFrame) -> None:
    found = run(frame, "backtest.windows=2", "backtest.gap=5")
    hours = (found.frame["ds"] - found.frame["cutoff"]) / pd.Timedelta(hours=1)
    assert sorted(set(hours)) == [6, 7, 8, 9]
    assert found.frame["ds"].max() == frame["date"].iloc[-1]
    naive = found.frame[found.frame["channel"] == "load"]
    known = frame.set_index("date")["load"]
    np.testing.assert_allclose(naive["naive"], known[naive["cutoff"]], rtol=1e-6)


def test_a_fit_forecasts_the_folds_up_to_the_next(frame: pd.DataFrame) -> None:
    every, never = (run(frame, "backtest.windows=3", f"backtest.refit={refit}") for refit in ("every", "never"))
    first, *others = ([each.scored["ridge"][i].frame for each in (every, never)] for i in range(3))
    assert first[0].equals(first[1])
    assert not any(ours["ridge"].equals(theirs["ridge"]) for ours, theirs in others)
    assert np.isfinite([each.seconds for each in never.scored["ridge"]]).tolist() == [True, False, False]


def test_models_of_other_lookbacks_give_the_same_numbers_whichever_is_named_first() -> None:
    wave = 20 * np.sin(np.arange(60) / 12 * 2 * np.pi) + np.random.default_rng(0).standard_normal(60)
    sales = pd.DataFrame({"date": pd.date_range("2020-01-01", periods=60, freq="MS"), "sales": 100 + wave})
    own = ("lookback=auto", "horizon=6", "quantiles=[]", "backtest.windows=2")
    found = {first: run(sales, *own, f"backtest.models=[{first},{other}]") for first, other in (NAMES, NAMES[::-1])}
    for name in NAMES:
        ours, theirs = (each.frame[name].to_numpy() for each in found.values())
        np.testing.assert_array_equal(ours, theirs)
    lookbacks = {name: each.reading()[0].lookback for name, each in found["ridge"].experiments.items()}
    assert lookbacks["theta"] > lookbacks["ridge"]


def test_in_parallel_the_numbers_are_the_same(frame: pd.DataFrame) -> None:
    serial, parallel = (run(frame, "backtest.windows=3", f"backtest.n_jobs={n}") for n in (1, 2))
    pd.testing.assert_frame_equal(serial.frame, parallel.frame, check_exact=True)
    pd.testing.assert_frame_equal(serial.scores, parallel.scores, check_exact=True)


@pytest.mark.skipif(
    "TSFORECAST_RAY" not in os.environ, reason="Ray takes a minute to start: TSFORECAST_RAY=1 asks for it"
)
def test_on_ray_the_numbers_are_the_same(frame: pd.DataFrame) -> None:
    own = ("backtest.windows=3", "backtest.n_jobs=2", "backtest.executor=ray")
    pd.testing.assert_frame_equal(run(frame, "backtest.windows=3").frame, run(frame, *own).frame, check_exact=True)


def test_models_share_the_folds_and_the_encoded_data(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Any] = []
    original = carried.Experiment.prepare
    monkeypatch.setattr(
        carried.Experiment,
        "prepare",
        lambda self, loaded=None, *, like=None: prepared.append(like) or original(self, loaded, like=like),
    )
    found = run(frame, "backtest.windows=2", "backtest.models=[ridge,seasonal_naive]")
    assert [each is None for each in prepared] == [True, False] * 2
    assert next(iter(found.scored)) == "ridge"
    alone = run(frame, "backtest.windows=2")
    assert found.scores.loc["ridge"].equals(alone.scores.loc["ridge"])


def test_an_interrupted_backtest_goes_on_where_it_was(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[int] = []
    original = carried.run_experiment

    def counted(experiment: Any, *args: Any, **kwargs: Any) -> Any:
        fits.append(experiment.split.number)
        if len(fits) == 3:
            raise KeyboardInterrupt
        return original(experiment, *args, **kwargs)

    monkeypatch.setattr(carried, "run_experiment", counted)
    with pytest.raises(KeyboardInterrupt):
        run(frame, "backtest.windows=4", out=tmp_path / "run")
    found = run(frame, "backtest.windows=4", out=tmp_path / "run")
    assert fits == [0, 1, 2, 2, 3]
    monkeypatch.undo()
    whole = run(frame, "backtest.windows=4")
    pd.testing.assert_frame_equal(found.frame, whole.frame, check_exact=True)
    pd.testing.assert_frame_equal(found.scores, whole.scores, check_exact=True)
    for each in ("values", "statistics"):
        np.testing.assert_array_equal(getattr(found.errors("ridge"), each), getattr(whole.errors("ridge"), each))
    assert set(json.loads((tmp_path / "run/folds/0/ridge/result.json").read_text())) >= {"fold", "model", "mae"}
    assert pd.read_parquet(tmp_path / "run" / "forecasts.parquet").equals(whole.frame)


def test_folds_of_another_backtest_are_not_taken_for_its_own(frame: pd.DataFrame, tmp_path: Path) -> None:
    run(frame, "backtest.windows=2", out=tmp_path / "run")
    with refused(OutputError):  # it is finished
        run(frame, "backtest.windows=2", out=tmp_path / "run")
    (tmp_path / "run" / "scores.csv").unlink()
    with refused(OutputError, where="hydra.run.dir"):
        run(frame, "backtest.windows=2", "lookback=23", out=tmp_path / "run")
    with refused(OutputError, where="hydra.run.dir"):
        run(frame.assign(load=frame["load"] + 1), "backtest.windows=2", out=tmp_path / "run")


def test_what_cannot_be_backtested_is_told_before_a_fit(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "run_experiment", pytest.fail)
    with refused(DataError, where="backtest"):
        run(frame, "backtest.windows=99")
    with refused(ConfigError, where="backtest.gap", got=ROWS, allowed=f"less than {ROWS} rows"):
        run(frame, f"backtest.gap={ROWS}")
    with refused(ConfigError, where="backtest.val", fix="backtest.val=204, or a smaller backtest.gap"):
        run(frame, "backtest.gap=200")
    with refused(ConfigError, where="objective", got="val/mae"):
        run(frame, "objective=val/mae")
    with refused(ConfigError):
        run(frame, "backtest.models=[ridge,rigde]")
    with refused(ConfigError, where="backtest.executor", got="dask"):
        run(frame, "backtest.executor=dask", "backtest.windows=2")
    with refused(ConfigError, where="backtest.window", fix="did you mean backtest.windows?"):
        run(frame, "backtest.window=3")


def test_short_series_are_left_out_where_the_split_drops_them(frame: pd.DataFrame) -> None:
    long = pd.concat([frame.tail(rows).assign(unique_id=str(rows)) for rows in (400, 300, 60)])
    how = {"time": "date", "id": "unique_id", "target": ["load"]}
    with refused(DataError, where="backtest", fix="backtest.windows=6"):
        tsf.backtest(*SMALL, "backtest.windows=7", data=long, **how)
    for size in ("lookback=24", "lookback=60"):  # which holds too few folds, and no window at all
        found = tsf.backtest(*SMALL, "backtest.windows=7", "split.short=drop", size, data=long, **how)
        assert found is not None
        assert set(found.frame["unique_id"]) == {"300", "400"}
        alone = tsf.backtest(*SMALL, "backtest.windows=7", size, data=long[long["unique_id"] != "60"], **how)
        assert alone is not None
        pd.testing.assert_frame_equal(found.frame, alone.frame, check_exact=True)


def test_what_is_deployed_forecasts_the_series_that_were_left_out_as_the_split_says(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    long = pd.concat([frame.tail(rows).assign(unique_id=str(rows)) for rows in (400, 300, 30)])
    how = {"time": "date", "id": "unique_id", "target": ["load"], "out": tmp_path / "run"}
    tsf.backtest(*SMALL, "backtest.windows=3", "split.short=naive", "refit=all", data=long, **how)
    found = tsf.load_bundle(tmp_path / "run" / "bundle").forecast(long)
    assert found.fallback is not None
    assert dict(zip(found.ids, found.fallback, strict=True)) == {"400": False, "300": False, "30": True}
    np.testing.assert_array_equal(found.values[2, :, 0], frame["load"].to_numpy(np.float32)[-24:][:H])


def test_a_fold_without_anything_to_score_is_told_before_a_fit(
    frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carried, "run_experiment", pytest.fail)
    gone = frame.copy()
    gone.loc[ROWS - 2 * H : ROWS - H - 1, ["load", "b"]] = np.nan
    with refused(DataError, where="backtest, 2024-01-17 08:00:00 to 2024-01-17 11:00:00", got="fold 1, of 3"):
        run(gone, "backtest.windows=3")
    for gap, least in ((0, 4), (2, 6)):
        with refused(ConfigError, where="backtest.val", got=3, allowed=f"{least} or more"):
            run(frame, "backtest.windows=3", "backtest.val=3", f"backtest.gap={gap}")


def test_what_fails_in_a_fold_says_where_and_what_is_kept(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = carried.run_experiment

    def failing(experiment: Any, *args: Any, **kwargs: Any) -> Any:
        if experiment.label == "nlinear" and experiment.split.number == 1:
            raise ConfigError("no", where="model")
        return original(experiment, *args, **kwargs)

    monkeypatch.setattr(carried, "run_experiment", failing)
    models = ("backtest.models=[ridge,nlinear]", "trainer.max_epochs=1", "trainer.enable_progress_bar=false")
    with refused(ConfigError, where="model, of nlinear in fold 1"):
        run(frame, "backtest.windows=3", *models, out=tmp_path / "run")
    assert "7 finished results are kept" in caplog.text
    monkeypatch.undo()
    again = run(frame, "backtest.windows=3", *models[1:], out=tmp_path / "run")
    assert again.frame["ridge"].equals(run(frame, "backtest.windows=3").frame["ridge"])


def test_a_key_that_one_of_the_models_does_not_have_names_the_model(frame: pd.DataFrame) -> None:
    with refused(ConfigError, where="model.batch_size, for ridge of backtest.models"):
        run(frame, "model=nlinear", "backtest.models=[nlinear,ridge]", "model.batch_size=8")
    with refused(ConfigError, where="model, for ridge of backtest.models", fix=has("leave out the model")):
        run(frame, "model=nlinear", "backtest.models=[nlinear,ridge]", "++model.batch_size=8")
    with refused(ConfigError, where="model.batch_size", fix=has("model=NAME")):
        run(frame, "backtest.models=[nlinear]", "model.batch_size=8")


def test_what_is_deployed_is_not_the_one_with_the_lowest_r2(frame: pd.DataFrame) -> None:
    with refused(ConfigError, where="objective", got="backtest/r2"):
        run(frame, "backtest.models=[ridge,seasonal_naive]", "refit=all", "objective=backtest/r2")


def test_jobs_are_counted(frame: pd.DataFrame) -> None:
    with refused(ConfigError, where="backtest.n_jobs", got=0):
        run(frame, "backtest.n_jobs=0")
    with refused(ConfigError, where="backtest.refit", got=True):
        run(frame, "backtest.refit=true")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_tells_folds_the_best_and_the_time_left_on_a_terminal_alone(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    screen = StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    found = run(frame, "backtest.windows=2", out=tmp_path / "run")
    shown = screen.getvalue().split("\r")
    if not terminal:
        assert not any("fold/s" in each for each in shown)
        return
    first = found.by_fold["mae"].xs(0, level="fold")
    assert any("6/6" in each or "5/6" in each for each in shown)
    assert any(f"best mae {first['ridge']:.4g}, ridge" in each and "?fold/s" in each for each in shown)


def test_a_listener_may_end_a_backtest(frame: pd.DataFrame) -> None:
    plain = run(frame, "backtest.windows=2")
    (experiment,) = plain.experiments.values()
    alone = {"ridge": replace(experiment, baselines={})}
    seen: list[int] = []
    ask: Callable[[Any], bool] = lambda scored: bool(seen.append(scored.fold)) or len(seen) == 2  # noqa: E731
    found = backtesting.backtest(alone, backtesting.Folds(windows=4), on=ask)
    assert seen == [0, 1]
    assert len(found.scored["ridge"]) == 2


def test_what_is_deployed_is_fitted_on_all_rows_with_intervals_from_the_folds(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    found = run(
        frame, "backtest.windows=6", "backtest.models=[ridge,seasonal_naive]", "refit=all", out=tmp_path / "run"
    )
    best = found.scores["mae"][["ridge", "seasonal_naive"]].idxmin()
    bundle = tsf.load_bundle(tmp_path / "run" / "bundle")
    assert bundle.metadata["chosen_until"] == str(frame["date"].iloc[-1])
    assert bundle.metadata["scores"]["backtest/mae"] == pytest.approx(found.scores["mae"][best])
    assert bundle.offsets is not None
    wanted = Conformal()(bundle, found.errors(best), (0.1, 0.5, 0.9))
    np.testing.assert_array_equal(bundle.offsets, wanted.offsets)
    assert bundle.forecast(frame).values.shape == (1, H, 2)


def test_a_backtest_draws_its_last_folds_with_their_intervals(frame: pd.DataFrame) -> None:
    found = run(frame, "backtest.windows=3")
    first, last = found.fans(2)
    assert (first.label, last.label) == ("fold 1", "fold 2")
    own = found.scored["ridge"][2].frame.query("channel == 'b'")
    np.testing.assert_array_equal(last.forecast, own["ridge"])
    np.testing.assert_array_equal(last.intervals["80"][0], own["ridge-lo-80"])
    np.testing.assert_array_equal(last.target[-H:], own["y"])
    assert len(found.plot(2).axes) == 2
    assert repr(found) == f"{found.title}\n\n{found.table()}"


def test_in_mlflow_each_model_is_a_run_below_that_of_the_backtest_with_a_fold_a_step(
    frame: pd.DataFrame, tmp_path: Path, tracking_database: Path
) -> None:
    from mlflow.tracking import MlflowClient

    store = f"sqlite:///{shutil.copy(tracking_database, tmp_path)}"
    found = run(frame, "backtest.windows=3", "tracking=mlflow", f"tracking.uri={store}", out=tmp_path / "out")
    client = MlflowClient(store)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    named = {each.data.tags["model"]: each for each in runs if "mlflow.parentRunId" in each.data.tags}
    (whole,) = (each for each in runs if "mlflow.parentRunId" not in each.data.tags)
    assert set(named) == {"ridge", "naive", "seasonal_naive"}
    origin = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert origin["seconds"]["folds"] > 0
    for model, each in named.items():
        assert each.data.tags["mlflow.parentRunId"] == whole.info.run_id
        for key, value in (("data.digest", origin["data"]["digest"]), ("packages.digest", origin["packages_digest"])):
            assert each.data.tags[key] == whole.data.tags[key] == value
        told = client.get_metric_history(each.info.run_id, "fold/mae")
        assert [point.value for point in told] == [fold.scores.summary()["mae"] for fold in found.scored[model]]
        assert [point.step for point in told] == [0, 1, 2]
    (data,) = whole.inputs.dataset_inputs
    assert json.loads(data.dataset.profile) == {"num_rows": ROWS, "sha256": origin["data"]["digest"]}
