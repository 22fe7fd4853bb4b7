"""What is left open is chosen by a ridge on the validation windows: on nothing else, and told."""

from __future__ import annotations

import shlex
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
from tsforecast.models.design import covariate_columns, design
from tsforecast.models.moments import Moments, Solved
from tsforecast.training.selection import Selection, selected
from tsforecast.types import Dims, Window

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


def noisy(rows: int = 260, noise: int = 3) -> pd.DataFrame:
    """A series that a known covariate moves, beside some that do nothing, and too few rows to see that they do not."""
    rng = np.random.default_rng(1)
    cause = rng.standard_normal(rows)
    frame = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=rows, freq="D"), "cause": cause})
    for i in range(noise):
        frame[f"noise{i}"] = rng.standard_normal(rows).cumsum()
    kind = np.array(["red", "green"])[rng.integers(0, 2, rows)]
    return frame.assign(kind=kind, y=3 * cause + 2 * (kind == "red") + rng.standard_normal(rows))


COVARIATES = {"target": ["y"], "past": ["noise0"], "known": ["cause", "noise1", "noise2", "kind"],
              "categorical": ["kind"]}  # fmt: skip
DAYS = ("lookback=14", "horizon=7", "quantiles=[]")


def note(frame: pd.DataFrame, *overrides: str, **dataset: list[str]) -> tuple[list[str], float]:
    """The words that leave out what is named, and the error on validation."""
    result = tsf.train(*DAYS, *overrides, data=frame, **{**COVARIATES, **dataset})
    last = result.table().splitlines()[-2:]
    named = last[0].startswith("left out, these lower the squared error of a ridge on validation:")
    return [*shlex.split(last[1])] * named, result.metrics["val/mse"]


def test_covariates_that_worsen_the_validation_score_are_named_with_what_to_type() -> None:
    words, with_all = note(noisy(), "feature.calendar.fields=[hour,weekday,month]")
    keys = {key: set(names[1:-1].split(",")) - {""} for key, _, names in (word.partition("=") for word in words)}
    assert keys["feature"] == set()  # of days drawn at random
    assert {"cause", "kind"} <= keys["dataset.known"] < set(COVARIATES["known"])
    kept = {key.partition(".")[2]: [each for each in COVARIATES[key.partition(".")[2]] if each in names]
            for key, names in keys.items() if key != "feature"}  # fmt: skip
    assert note(noisy(), "feature=[]", **kept)[1] < 0.98 * with_all
    assert note(noisy(), "model.lambdas=[0.1]")[0]  # it has chosen nothing, and so solved nothing that is kept
    assert not note(noisy(), "evaluation.covariates=false")[0]
    assert not note(noisy(), "model=naive")[0]
    assert not note(noisy(noise=0), "feature=[]", past=[], known=["cause", "kind"])[0]


def test_rows_behind_validation_name_no_covariate() -> None:
    data = noisy()
    borders = tsf.train(*DAYS, data=data, **COVARIATES).data.borders
    later = data.copy()
    later.loc[int(borders.val_end[0]) :, ["y", "cause", "noise0", "noise1", "noise2"]] *= 1000.0
    assert note(data)[0] == note(later)[0] != []


def test_on_beijing_what_is_named_is_better_left_out() -> None:
    first = tsf.train()
    words = shlex.split(first.table().splitlines()[-1])
    assert words == ["dataset.past=[DEWP,TEMP,PRES,Is,Ir]"]
    assert tsf.train(*words).metrics["val/mse"] < 0.99 * first.metrics["val/mse"]


def test_a_solution_without_columns_is_that_of_the_other_columns_alone() -> None:
    x, y = RNG.standard_normal((200, 9)), RNG.standard_normal((200, 3))
    x[:, 4] = 0.0  # as a feature that never moves
    xx, xy = x[:150].T @ x[:150] + 5 * np.eye(9), x[:150].T @ y[:150]
    late, label = x[150:], y[150:]
    judge = Moments(50, late.T @ late, late.T @ label, float((label**2).sum()), late.sum(0), label.sum(0), 1e-12)
    whole = Solved(np.linalg.inv(xx), np.linalg.solve(xx, xy), judge)
    kept = [0, 2, 5, 7, 8]
    for found in (whole.without(np.array([1, 3, 4, 6])),
                  whole.without(np.array([3]), whole=True).without(np.array([1, 4, 6]))):  # fmt: skip
        weight = np.linalg.solve(xx[np.ix_(kept, kept)], xy[kept])
        np.testing.assert_allclose(found.weight[kept], weight, atol=1e-12)
        np.testing.assert_allclose(found.error, ((late[:, kept] @ weight - label) ** 2).sum())


def test_a_covariate_is_found_in_the_columns_of_the_design_that_it_fills() -> None:
    cardinality = {"past": (0, 3), "known": (2, 0, 0), "static": (0, 4)}
    dims = Dims(5, 2, 1, past=2, known=3, static=2, tabular=1, cardinality=cardinality)
    shapes = {"past": (1, 5, 2), "known": (1, 7, 3), "static": (1, 2)}
    base = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    for group, columns in covariate_columns(dims).items():
        for j, own in enumerate(columns):
            moved = {name: values.copy() for name, values in base.items()}
            moved[group][..., j] = 1.0
            rows = [
                design(
                    Window(np.zeros((1, 5, 1), np.float32), tabular=np.zeros((1, 1, 1), np.float32), **values),
                    cardinality,
                )[0]
                for values in (base, moved)
            ]
            changed = set(np.flatnonzero(rows[0][0] != rows[1][0]))
            assert changed <= set(own)
            assert len(own) == len(changed) * (max(cardinality[group][j], 2) / 2 if cardinality[group][j] else 1)


def test_a_series_that_begins_too_late_for_an_earlier_cutoff_is_not_judged_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="tsforecast")
    long = [noisy().assign(id=name) for name in "mn"]
    found = []
    for name in "az":  # first of the series, and last
        late = noisy().tail(25).assign(id=name, y=lambda rows: 1e3 * rows["y"] + 1e5)
        overrides = ("dataset=long", *DAYS, "scaler=auto", "split=tail", "split.val=7", "split.test=7")
        columns = {"id": "id", "time": "date", **COVARIATES}
        result = tsf.train(*overrides, "split.short=pad", data=pd.concat([*long, late]), **columns)
        found.append((words(caplog)[-1], result.table().splitlines()[-1]))
    assert found[0] == found[1]
