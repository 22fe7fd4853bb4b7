"""Boosted trees, against XGBoost fed by hand, ridge regression, and scikit-learn's checks of an estimator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator
from tests.contracts.conftest import compose
from tests.errors import has, refused
from tests.models.test_linear import encoded, windows

from tsforecast.config.compose import build
from tsforecast.errors import ConfigError, DataError
from tsforecast.features.window import Lags
from tsforecast.models import tree_json, trees
from tsforecast.models.boosting import XGBoost
from tsforecast.models.design import design, step_names, step_rows
from tsforecast.models.feed import Part, Store
from tsforecast.models.linear import LinearForecaster, Ridge
from tsforecast.models.trees import TreeForecaster
from tsforecast.types import Dims, Encoded, Window
from tsforecast.windows import Windows

L, H = 12, 4
PLAIN: dict[str, Any] = {"min_child_weight": 1.0, "subsample": 1.0, "colsample_bytree": 1.0, "patience": None}


def problem(**sizes: Any) -> tuple[Encoded, Windows, Windows, Dims]:
    e = encoded(**sizes)
    return e, windows(e, 0, 300), windows(e, 300, 400), e.dims(L, H, 1)


def whole(w: Windows) -> Window:
    return w.window(slice(None))


# --- the trees -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [0, 3])
def test_direct_boosters_are_those_of_an_explicit_matrix_of_the_same_rows(known: int) -> None:
    _, train, val, dims = problem(channels=2, past=2, known=known)
    fitted = XGBoost(rounds=6, learning_rate=0.3, **PLAIN).fit(train, val, dims)
    window, label = train.batch(slice(None))
    assert len(fitted.boosters) == dims.channels * H
    for c in range(dims.channels):
        history = window.target[..., c]
        for h in range(H):
            rows = np.concatenate(
                [history - history[:, -1:], window.past.reshape(len(label), -1), window.known[:, L + h]], axis=1
            )
            matrix = xgb.QuantileDMatrix(rows, label=label[:, h, c] - history[:, -1])
            options = {"max_depth": 4, "learning_rate": 0.3, "seed": 1}
            expected = xgb.train(options, matrix, 6).predict(xgb.DMatrix(rows)) + history[:, -1]
            np.testing.assert_allclose(fitted.predict(window)[:, h, c], expected, atol=1e-5)


def test_the_matrix_is_fed_in_batches_and_the_trees_do_not_depend_on_their_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, train, val, dims = problem(channels=1)
    once = XGBoost(rounds=5, **PLAIN).fit(train, val, dims)
    gathered: list[int] = []
    gather = Windows.window

    def counted(self: Windows, index: Any) -> Window:
        window = gather(self, index)
        gathered.append(len(window.target))
        return window

    monkeypatch.setattr("tsforecast.models.feed._ROWS", 64)
    monkeypatch.setattr(Windows, "window", counted)
    batched = XGBoost(rounds=5, **PLAIN).fit(train, val, dims)
    assert max(gathered) == 64
    # the sketch of the quantiles is exact for so few rows, however they come
    np.testing.assert_allclose(batched.predict(whole(val)), once.predict(whole(val)), atol=1e-5)


@pytest.mark.parametrize("strategy", ["direct", "shared"])
@pytest.mark.parametrize("base", [None, Ridge([0.1])])
def test_a_window_alone_is_forecast_to_the_bit_as_in_any_batch(strategy: str, base: Ridge | None) -> None:
    _, train, val, dims = problem(channels=3, past=2, known=2)
    fitted = XGBoost(strategy=strategy, base=base, rounds=5, min_child_weight=1.0).fit(train, val, dims)
    expected = fitted.predict(whole(val))
    assert expected.shape == (len(val), H, 3)
    for i in (0, 7, 50):
        np.testing.assert_array_equal(fitted.predict(val.window(slice(i, i + 1)))[0], expected[i])
    np.testing.assert_array_equal(fitted.predict(val.window(np.arange(len(val))[::-1]))[::-1], expected)


@pytest.mark.parametrize("strategy", ["direct", "shared"])
def test_a_wave_is_forecast_far_better_than_by_its_last_value(strategy: str) -> None:
    t = np.arange(600)
    wave = (np.sin(t / 12 * 2 * np.pi) + np.sin(t / 5))[:, None].astype(np.float32)
    e = Encoded(np.array([0, 600]), wave, *(np.zeros((600, 0), np.float32),) * 2, np.zeros((1, 0), np.float32))
    train, val, test = windows(e, 0, 400), windows(e, 400, 500), windows(e, 500, 600)
    fitted = XGBoost(strategy=strategy, rounds=100, learning_rate=0.2, **PLAIN).fit(train, val, e.dims(L, H, 12))
    label, window = test.label(slice(None)), whole(test)
    error = np.mean((fitted.predict(window) - label) ** 2)
    assert error < 0.05 * np.mean((window.target[:, -1:] - label) ** 2)


def test_a_level_never_seen_moves_the_forecast_by_as_much() -> None:
    _, train, val, dims = problem(channels=1)
    fitted = XGBoost(rounds=5, **PLAIN).fit(train, val, dims)
    window = replace(whole(val), target=np.round(whole(val).target * 256) / 256)
    shifted = fitted.predict(replace(window, target=window.target + 64))
    np.testing.assert_allclose(shifted, fitted.predict(window) + 64, atol=1e-5)


def test_a_refit_with_the_rounds_that_were_chosen_is_the_fit_that_chose_them() -> None:
    e, train, val, dims = problem(channels=2, known=2)
    e.target[:, 0] = np.sin(4 * e.target[:, 0])  # which no linear map forecasts
    for base in (None, Ridge()):
        model = XGBoost(base=base, learning_rate=0.2, min_child_weight=1.0, patience=3)
        fitted = model.fit(train, val, dims)
        assert len(set(fitted.chosen["rounds"])) > 1
        refitted = model.refitting(fitted.chosen).fit(train, windows(e, 0, 0), dims)
        assert refitted.chosen == fitted.chosen
        np.testing.assert_array_equal(refitted.predict(whole(val)), fitted.predict(whole(val)))
    assert model.patience == 3


# --- the margin ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["direct", "shared"])
def test_with_no_rounds_the_forecast_is_ridges(strategy: str) -> None:
    _, train, val, dims = problem(channels=2)
    fitted = XGBoost(strategy=strategy, base=Ridge(), rounds=0).fit(train, val, dims)
    np.testing.assert_allclose(
        fitted.predict(whole(val)), Ridge().fit(train, val, dims).predict(whole(val)), rtol=1e-6, atol=1e-6
    )


def test_boosting_on_ridge_is_boosting_its_residual() -> None:
    _, train, val, dims = problem(channels=1)
    fitted = XGBoost(base=Ridge([0.1]), rounds=8, **PLAIN).fit(train, val, dims)
    ridge = Ridge([0.1]).fit(train, val, dims)
    window, label = train.batch(slice(None))
    residual = (label - ridge.predict(window))[:, 1, 0]
    rows, _ = design(window)
    options = {"max_depth": 4, "learning_rate": 0.1, "base_score": 0.0}
    trees = xgb.train(options, xgb.QuantileDMatrix(rows, label=residual), 8)
    expected = ridge.predict(window)[:, 1, 0] + trees.predict(xgb.DMatrix(rows))
    np.testing.assert_allclose(fitted.predict(window)[:, 1, 0], expected, atol=1e-4)


# --- one booster for all channels and steps ------------------------------------------------------------------------


def test_a_row_of_a_shared_booster_is_what_its_names_say() -> None:
    season, step, channel, b = 5, 2, 1, 7
    e = replace(encoded(channels=2, past=1, known=1), window_features=(Lags((3,)),))
    window = windows(e, 0, 300).window(slice(None))
    z, past, known = window.target[b, :, channel], window.past[b, :, 0], window.known[b, :, 0]
    last, row = z[-1], {}
    for lag in range(2, L + 1):
        row[f"lag {lag}"] = z[L - lag] - last
    for n in (5, 10, 12):
        row[f"mean of {n}"] = z[L - n :].mean() - last
    row |= {"std of 12": z.std(), "own lag": z[L - 3], "wind lag 1": past[-1], "hour lag 1": known[L - 1]}
    row |= {"channel": channel, "step": step + 1, "hour": known[L + step]}
    for back in (1, 2):
        row[f"season lag {back}"] = z[L + step - back * season] - last
    row |= {"wind season lag 1": past[L + step - season], "hour season lag 1": known[L + step - season]}
    dims = replace(e.dims(L, H, season), tabular=1)
    covariates = {"past": [("wind", 0)], "known": [("hour", 0)], "static": []}
    names = [name for name, _ in step_names(dims, covariates, ["own lag"])]
    steps = np.broadcast_to(np.arange(H), (len(window.target), 2, H))
    found = step_rows(window, steps, season).reshape(-1, 2, H, len(names))[b, channel, step]
    assert sorted(names) == sorted(row)
    np.testing.assert_allclose(found, [row[name] for name in names], atol=1e-6)


def test_a_shared_booster_is_xgboosts_on_the_residual_of_a_ridge_that_knows_the_window_alone() -> None:
    e, train, val, dims = problem(channels=2, past=1, known=2)
    plain = {**PLAIN, "base": Ridge([0.1]), "params": {"base_score": 0.0}}
    fitted = XGBoost(strategy="shared", rounds=6, **plain).fit(train, val, dims)
    none, window = np.zeros((len(e.target), 0), np.float32), whole(train)
    bare = replace(e, past=none, known=none)
    ridge = Ridge([0.1]).fit(windows(bare, 0, 300), windows(bare, 300, 400), bare.dims(L, H, 1))
    start = ridge.predict(windows(bare, 0, 300).window(slice(None))) - window.target[:, -1:]
    label = train.label(slice(None)) - window.target[:, -1:]
    rows = step_rows(window, np.broadcast_to(np.arange(H), (len(label), 2, H)), 1)
    residual = (label - start).swapaxes(1, 2).reshape(-1)
    options = {"max_depth": 4, "learning_rate": 0.1, "seed": 1, "base_score": 0.0}
    expected = xgb.train(options, xgb.QuantileDMatrix(rows, label=residual), 6).predict(xgb.DMatrix(rows))
    trees = expected.reshape(len(label), 2, H).swapaxes(1, 2)
    np.testing.assert_allclose(fitted.predict(window), window.target[:, -1:] + start + trees, atol=1e-3)


@pytest.mark.parametrize(
    ("channels", "series", "shared"), [(16, 1, False), (17, 1, True), (1, 16, False), (1, 17, True)]
)
def test_beyond_sixteen_series_and_channels_all_share_one_booster(channels: int, series: int, shared: bool) -> None:
    e = encoded(rows=40 * series, channels=channels)
    e = replace(e, offsets=np.arange(series + 1) * 40, static=np.zeros((series, 0), np.float32))
    fitted = XGBoost(rounds=1, patience=None).fit(panel(e), panel(e), e.dims(L, H, 1))
    assert len(fitted.boosters) == (1 if shared else channels * H)


def test_beyond_five_hundred_boosters_one_is_shared() -> None:
    e = encoded(rows=150, channels=5)
    wide = windows(e, 0, 150, horizon=101)
    assert len(XGBoost(rounds=1, patience=None).fit(wide, wide, e.dims(L, 101, 1)).boosters) == 1


def test_a_shared_booster_reads_no_more_rows_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    matrix = Store.matrix
    monkeypatch.setattr(Store, "matrix", lambda *a: [made := matrix(*a), read.append(made.num_row())][0])
    _, train, val, dims = problem(channels=3)
    counts = []
    for rows in (100, 1000, 10**6, "all"):
        read.clear()
        first = XGBoost(strategy="shared", rounds=2, rows=rows).fit(train, val, dims)
        counts.append(read[-2])
        again = XGBoost(strategy="shared", rounds=2, rows=rows).fit(train, val, dims)
        np.testing.assert_array_equal(first.predict(whole(val)), again.predict(whole(val)))
    everything = len(train) * 3 * H
    assert counts == [99, 855, everything, everything]  # 33 windows of 3 channels, 285 of one step each, all there is


# --- more rows than memory holds -----------------------------------------------------------------------------------


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders lie in a test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("strategy", "known"), [("direct", 0), ("direct", 2), ("shared", 2)])
def test_rows_that_lie_in_files_give_the_bytes_of_those_in_memory_and_leave_no_file(
    strategy: str, known: int, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    e, _, _, dims = problem(channels=2, past=1, known=known)
    e.target[40:90] = np.nan  # whole pages of windows without a label
    train, val = windows(e, 0, 300), windows(e, 300, 400)
    monkeypatch.setattr("tsforecast.models.feed._ROWS", 16)
    files, matrix = [], Store.matrix
    monkeypatch.setattr(Store, "matrix", lambda *a: [matrix(*a), files.extend(empty.glob("*/*.page"))][0])
    model = XGBoost(strategy=strategy, rows="all", base=Ridge(), rounds=8, min_child_weight=1.0)
    held = model.fit(train, val, dims).state()
    assert not files
    stored = replace(model, memory=0.0).fit(train, val, dims).state()
    assert {file.name.partition("-")[0] for file in files} == {"training", "validation"}
    assert held.keys() == stored.keys()
    assert all(np.array_equal(held[key], stored[key]) for key in held)
    assert not [*empty.iterdir()]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("memory", [0.0, 1.0])
@pytest.mark.parametrize("at", [1, 3, 8, 13, 20, 22, 100])  # five pages in each of some passes, then trees
def test_an_interrupt_ends_the_fit_and_leaves_no_file(
    at: int, memory: float, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, train, val, dims = problem(channels=2)
    interrupted(monkeypatch, at)

    def stop(step: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        XGBoost(strategy="direct", rounds=3, memory=memory).fit(train, val, dims, on=stop)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not [*empty.iterdir()]


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Ctrl-C at a page, and pages so small that there are several."""
    read, pages = [0], Part.pages

    def stopped(self: Part, step: int) -> Iterator[Any]:
        for page in pages(self, step):
            read[0] += 1
            if read[0] == at:
                signal.raise_signal(signal.SIGINT)
            yield page

    monkeypatch.setattr("tsforecast.models.feed._ROWS", 64)
    monkeypatch.setattr(Part, "pages", stopped)


def test_a_signal_whose_handler_goes_on_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, train, val, dims = problem(channels=1)
    monkeypatch.setattr("tsforecast.models.feed._ROWS", 64)
    expected = XGBoost(rounds=3).fit(train, val, dims).state()
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        interrupted(monkeypatch, 8)
        found = XGBoost(rounds=3).fit(train, val, dims).state()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]
    assert all(np.array_equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("at", [1, 2, 9, 19])
def test_an_error_while_rows_are_read_is_that_error(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, train, val, dims = problem(channels=1)
    interrupted(monkeypatch, at)
    monkeypatch.setattr(signal, "raise_signal", lambda number: (_ for _ in ()).throw(MemoryError("no more")))
    with pytest.raises(MemoryError, match="no more"):
        XGBoost(rounds=3).fit(train, val, dims)


@pytest.mark.skipif(xgb.build_info()["USE_CUDA"], reason="this XGBoost may find a GPU")
@pytest.mark.filterwarnings("ignore:.*Device is changed")
def test_a_gpu_whose_xgboost_reads_no_files_of_such_rows_is_given_them_from_memory(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, train, val, dims = problem(channels=1)
    monkeypatch.setattr("tsforecast.models.boosting._refusal", lambda options: None)
    stores, matrix = set(), Store.matrix
    monkeypatch.setattr(Store, "matrix", lambda *a: [matrix(*a), stores.add(a[0])][0])
    XGBoost(device="cuda", rounds=1, memory=0.0).fit(train, val, dims)  # which here goes on without one
    assert stores == {Store(256)}


def test_rows_that_the_disk_has_no_room_for_are_refused_before_any_is_read(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, train, val, dims = problem(channels=1)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with refused(ConfigError, where=f"model.rows, in {empty}", fix=has("TMPDIR=")):
        XGBoost(rows="all", memory=0.0).fit(train, val, dims)
    assert not [*empty.iterdir()]


def test_a_direct_fit_that_would_take_long_says_so_before_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    _, train, val, dims = problem(channels=2)
    with pytest.raises(InterruptedError):
        XGBoost(strategy="direct", rounds=10**6).fit(train, val, dims, on=interrupt)
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("8 boosters of 285 rows and 12 columns may take up to 1")
    assert told.endswith("model.strategy=shared takes less")
    caplog.clear()
    XGBoost(rounds=2).fit(train, val, dims)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def interrupt(step: int, loss: float) -> None:
    raise InterruptedError


def panel(e: Encoded) -> Windows:
    """All windows of all series."""
    return Windows.over(e, lookback=L, horizon=H, begin=e.offsets[:-1], end=e.offsets[1:])


# --- objectives ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts() -> tuple[Windows, Windows, Windows, Dims]:
    """Parts that sell now and then, each at a rate of its own that doubles on every fourth day."""
    rng, n, t = np.random.default_rng(4), 40, 160
    rate = rng.uniform(0.05, 2.0, (n, 1)) * np.where(np.arange(t) % 4 == 0, 2.0, 0.5)
    y = rng.poisson(rate).astype(np.float32).reshape(-1, 1)
    none = np.zeros((n * t, 0), np.float32)
    e = Encoded(np.arange(n + 1) * t, y, none, none, np.zeros((n, 0), np.float32))
    ends = [e.offsets[:-1] + rows for rows in (0, 100, 120, 160)]
    train, val, test = (Windows.over(e, lookback=L, horizon=H, begin=a, end=b) for a, b in pairwise(ends))
    return train, val, test, e.dims(L, H, 4)


@pytest.mark.parametrize("objective", ["tweedie", "poisson"])
@pytest.mark.parametrize("strategy", ["direct", "shared"])
def test_intermittent_demand_is_forecast_without_bias_never_below_zero(
    parts: tuple[Windows, Windows, Windows, Dims], objective: str, strategy: str
) -> None:
    train, val, test, dims = parts
    fitted = XGBoost(strategy=strategy, objective=objective, base=Ridge()).fit(train, val, dims)
    again = TreeForecaster(H, 1, season=fitted.season, floor=fitted.floor).restore(fitted.state())
    forecast, label = again.predict(whole(test)), test.label(slice(None))
    assert forecast.min() >= 0
    assert abs(forecast.sum() / label.sum() - 1) < 0.06
    level = whole(test).target.mean(axis=1, keepdims=True)
    assert np.mean((forecast - label) ** 2) < 0.85 * np.mean((level - label) ** 2)


def test_absolute_error_forecasts_the_median_of_skewed_targets_and_squared_error_their_mean(
    parts: tuple[Windows, Windows, Windows, Dims],
) -> None:
    train, val, test, dims = parts
    label, error = test.label(slice(None)), {}
    for objective in ("squarederror", "absoluteerror", "quantile"):  # which is the median without levels
        forecast = XGBoost(objective=objective).fit(train, val, dims).predict(whole(test))
        error[objective] = np.mean(np.abs(forecast - label)), np.mean((forecast - label) ** 2)
    for objective in ("absoluteerror", "quantile"):
        assert error[objective][0] < error["squarederror"][0]
        assert error[objective][1] > error["squarederror"][1]


@pytest.mark.parametrize("objective", ["tweedie", "poisson"])
def test_a_target_below_zero_is_refused_by_what_counts_from_zero(objective: str) -> None:
    _, train, val, dims = problem(channels=1)
    with refused(ConfigError, where="model.objective", got=has(objective, "-"), fix=has("scaler=none")):
        XGBoost(objective=objective).fit(train, val, dims)


# --- early stopping, quantiles, categories -------------------------------------------------------------------------


def test_a_booster_stops_where_its_validation_loss_is_lowest() -> None:
    _, train, val, dims = problem(channels=1, seed=5)
    options = {**PLAIN, "patience": 5}
    fitted = XGBoost(rounds=200, learning_rate=0.3, **options).fit(train, val, dims)
    every = XGBoost(rounds=200, learning_rate=0.3, **PLAIN).fit(train, val, dims)
    rows, last = design(whole(val))
    for h, (stopped, full) in enumerate(zip(fitted.boosters, every.boosters, strict=True)):
        label = val.label(slice(None))[:, h, 0] - last[:, 0]
        n = stopped.num_boosted_rounds()
        assert n < 200
        losses = [np.mean((full.inplace_predict(rows, iteration_range=(0, i)) - label) ** 2) for i in range(1, n + 6)]
        assert int(np.argmin(losses)) == n - 1


def test_where_no_tree_betters_ridge_on_validation_there_is_none() -> None:
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((400, 1)).astype(np.float32)
    e = Encoded(np.array([0, 400]), noise, *(np.zeros((400, 0), np.float32),) * 2, np.zeros((1, 0), np.float32))
    train, val, dims = windows(e, 0, 150), windows(e, 150, 400), e.dims(L, H, 1)
    fitted = XGBoost(base=Ridge(), learning_rate=1.0, min_child_weight=1.0).fit(train, val, dims)
    assert min(booster.num_boosted_rounds() for booster in fitted.boosters) == 0
    assert fitted.importance() is not None
    label, window = val.label(slice(None)), whole(val)
    ridge = Ridge().fit(train, val, dims).predict(window)
    assert np.mean((fitted.predict(window) - label) ** 2) <= np.mean((ridge - label) ** 2) + 1e-6


def test_learned_quantiles_hold_their_share_of_the_labels() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((3000, 1)).astype(np.float32)
    e = Encoded(np.array([0, 3000]), noise, *(np.zeros((3000, 0), np.float32),) * 2, np.zeros((1, 0), np.float32))
    train, val = windows(e, 0, 2000), windows(e, 2000, 3000)
    dims = e.dims(L, H, 1, quantiles=(0.1, 0.5, 0.9))
    for base, strategy in ((None, "direct"), (Ridge(), "direct"), (Ridge(), "shared")):
        model = XGBoost(strategy=strategy, base=base, objective="quantile", rounds=60, learning_rate=0.2, max_depth=3)
        forecast = model.fit(train, val, dims).predict(whole(val))
        assert forecast.shape == (len(val), H, 1, 3)
        share = (val.label(slice(None))[..., None] <= forecast).mean(axis=(0, 1, 2))
        np.testing.assert_allclose(share, [0.1, 0.5, 0.9], atol=0.06)
        assert (np.diff(forecast, axis=-1) >= 0).mean() > 0.99


@pytest.mark.parametrize("strategy", ["direct", "shared"])
def test_a_category_is_split_as_one_and_not_as_a_number(strategy: str) -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 20, (800, 1)).astype(np.float32)
    effect = rng.permutation(np.repeat([0, 5], 10)).astype(np.float32)  # one threshold of the code says little
    target = effect[codes[:, 0].astype(int)][:, None]
    plain = Encoded(np.array([0, 800]), target, np.zeros((800, 0), np.float32), codes, np.zeros((1, 0), np.float32))
    errors = []
    for e in (replace(plain, cardinality={"known": (20,)}), plain):
        train, val = windows(e, 0, 600), windows(e, 600, 800)
        model = XGBoost(strategy=strategy, rounds=30, max_depth=2, learning_rate=0.3, **PLAIN)
        fitted = model.fit(train, val, e.dims(L, H, 1))
        errors.append(np.mean((fitted.predict(whole(val))[:, 0] - val.label(slice(None))[:, 0]) ** 2))
    assert errors[0] < 0.5 * errors[1]


def test_windows_with_a_missing_label_are_left_out() -> None:
    e, train, val, dims = problem(channels=1)
    e.target[100] = np.nan
    train, val = windows(e, 0, 300), windows(e, 300, 400)
    clean = [i for i in range(len(train)) if not np.isnan(train.label(slice(i, i + 1))).any()]
    fitted = XGBoost(rounds=3, **PLAIN).fit(train, val, dims)
    expected = XGBoost(rounds=3, **PLAIN).fit(train.subset(clean), val, dims)
    np.testing.assert_array_equal(fitted.predict(whole(val)), expected.predict(whole(val)))
    e.target[:] = np.nan
    with refused(DataError, where="training rows", got="285 windows, all with missing targets"):
        XGBoost(rounds=3).fit(train, val, dims)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_base_forecasts_every_window_and_channel_once_however_many_channels_there_are(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, predict = [], LinearForecaster.predict
    monkeypatch.setattr(
        LinearForecaster, "predict", lambda self, w: [read.append(w.target[:, 0].size), predict(self, w)][1]
    )
    _, train, val, dims = problem(channels=channels)
    XGBoost(rounds=1, base=Ridge()).fit(train, val, dims)
    assert sum(read) == channels * (len(train) + len(val))


# --- what a person reads -------------------------------------------------------------------------------------------


def test_features_have_names_that_a_person_can_read() -> None:
    e = encoded(channels=2, past=1, known=1)
    names = {"target": ("HUFL", "OT"), "past": ("wind [m/s]",), "known": ("hour",)}
    e = replace(e, names=names, window_features=(Lags((1, 3)),))
    fitted = XGBoost(rounds=2).fit(windows(e, 0, 300), windows(e, 300, 400), e.dims(L, H, 1))
    lags = [f"lag {lag}" for lag in range(L, 0, -1)]
    expected = [*(f"HUFL {lag}" for lag in lags), *(f"wind (m/s) {lag}" for lag in lags), "hour", "lag 1", "lag 3"]
    assert fitted.boosters[0].feature_names == expected
    assert fitted.boosters[-1].feature_names[:1] == ["OT lag 12"]


def test_the_lag_that_decides_is_the_most_important() -> None:
    rng = np.random.default_rng(2)
    target = rng.standard_normal((1200, 1)).astype(np.float32)
    for t in range(8, 1200):
        target[t] = 0.95 * target[t - 8] + 0.3 * target[t]
    e = Encoded(np.array([0, 1200]), target, *(np.zeros((1200, 0), np.float32),) * 2, np.zeros((1, 0), np.float32),
                names={"target": ("OT",)})  # fmt: skip
    fitted = XGBoost(rounds=10).fit(windows(e, 0, 900, horizon=1), windows(e, 900, 1200, horizon=1), e.dims(L, 1, 1))
    assert next(iter(fitted.importance())) == "OT lag 8"


# --- what is saved -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["direct", "shared"])
def test_boosters_are_json_that_xgboost_itself_reads(strategy: str, tmp_path: Path) -> None:
    _, train, val, dims = problem(channels=1)
    fitted = XGBoost(strategy=strategy, base=Ridge(), rounds=4).fit(train, val, dims)
    state = fitted.state()
    first = sorted(state)[-1]
    (tmp_path / "trees.json").write_bytes(state[first].tobytes())
    assert xgb.Booster(model_file=tmp_path / "trees.json").feature_names == fitted.boosters[-1].feature_names
    again = TreeForecaster(horizon=H, channels=1, season=fitted.season, linear=True).restore(state)
    np.testing.assert_array_equal(again.predict(whole(val)), fitted.predict(whole(val)))


def test_more_boosters_than_four_digits_count_come_back_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 10_003
    raw = {f"trees-{i:04d}": np.frombuffer(str(i).encode(), np.uint8) for i in range(count)}
    monkeypatch.setattr(trees, "_booster", lambda raw: raw.tobytes())
    fitted = TreeForecaster(horizon=count, channels=1).restore(raw)
    assert list(map(int, fitted.boosters)) == list(range(count))
    del raw["trees-0007"]
    with pytest.raises(KeyError):
        fitted.restore(raw)


FLIPS = """
import sys
import numpy as np
from tests.models.test_boosting import problem, whole
from tsforecast.models.boosting import XGBoost
from tsforecast.models.trees import TreeForecaster

rng, refused = np.random.default_rng(0), 0
for objective, quantiles in (("squarederror", ()), ("quantile", (0.1, 0.5, 0.9))):
    encoded, train, val, dims = problem(channels=1)
    dims = type(dims)(**{**vars(dims), "quantiles": quantiles})
    model = XGBoost(rounds=2, max_depth=3, objective=objective)
    fitted, rows = model.fit(train, val, dims), whole(val)
    state = fitted.state()
    content = state["trees-0000"]
    for bit in rng.choice(len(content) * 8, 600, replace=False):
        damaged = content.copy()
        damaged[bit // 8] ^= 1 << bit % 8
        again = TreeForecaster(H, fitted.channels, quantiles=fitted.quantiles)
        try:
            again.restore({**state, "trees-0000": damaged}).predict(rows)
        except (ValueError, LookupError, TypeError, OverflowError):
            refused += 1
print(refused)
""".replace("H,", f"{H},")


def test_whichever_bit_of_a_file_of_trees_is_flipped_the_process_lives() -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(Path(__file__).parents[2]), *filter(None, sys.path))),
    }
    done = subprocess.run([sys.executable, "-c", FLIPS], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100


@pytest.mark.parametrize(
    ("key", "value"),
    [("id", 7), ("left_children", [9] * 3), ("parents", [5] * 3), ("split_indices", [12] * 3)],
    ids=str,
)
def test_a_tree_that_points_beyond_an_array_is_refused(key: str, value: object) -> None:
    _, train, val, dims = problem(channels=1)
    fitted = XGBoost(rounds=1, max_depth=1, **PLAIN).fit(train, val, dims)
    content = json.loads(fitted.state()["trees-0000"].tobytes())
    content["learner"]["gradient_booster"]["model"]["trees"][0][key] = value
    with pytest.raises(ValueError, match="damaged"):
        tree_json.check(json.dumps(content).encode())


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": 1.0},
        {"booster": "dart", "rate_drop": 0.3},
        {"grow_policy": "lossguide", "max_leaves": 5},
        {"num_parallel_tree": 3},
        {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]},
        {"max_cat_to_onehot": 1},
        {"multi_strategy": "multi_output_tree"},
        {"multi_strategy": "multi_output_tree", "min_child_weight": 1e9},
    ],
    ids=str,
)
def test_whatever_xgboost_writes_is_a_sound_file(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.random((300, 3)), rng.integers(0, 9, (300, 1))], axis=1)
    multi = "multi_strategy" in options  # without categories
    label = rows[:, :2] if multi else rows[:, 3] % 2 + rows[:, 0]
    types = ["q"] * 3 + ["q" if multi else "c"]
    data = xgb.QuantileDMatrix(rows, label=label, feature_types=types, enable_categorical=True)
    for rounds in (0, 5):
        tree_json.check(bytes(xgb.train({"max_depth": 5, **options}, data, rounds).save_raw("json")))


# --- scikit-learn --------------------------------------------------------------------------------------------------

PASSES = {
    "check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr",
    "check_no_attributes_set_in_init", "check_estimators_unfitted", "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order", "check_parameters_default_constructible", "check_get_params_invariance", "check_set_params",
}  # fmt: skip
OWN_TEST = "calls fit(X, y); the same property is tested here on windows"
OTHER_INPUT = "checks how a matrix X given by a user is read; Windows are checked where they are made"
NOT_OURS = "asks for an attribute or answer of an estimator that is fitted in place; fit returns a forecaster"
FAILS = {
    "check_dict_unchanged": OWN_TEST,
    "check_dont_overwrite_parameters": OWN_TEST,
    "check_estimators_overwrite_params": OWN_TEST,
    "check_fit_idempotent": OWN_TEST,
    "check_methods_sample_order_invariance": OWN_TEST,
    "check_methods_subset_invariance": OWN_TEST,
    "check_estimators_pickle": "calls fit(X, y); a bundle holds JSON and no pickle is read or written",
    "check_array_api_input": OTHER_INPUT,
    "check_complex_data": OTHER_INPUT,
    "check_dtype_object": OTHER_INPUT,
    "check_estimator_sparse_array": OTHER_INPUT,
    "check_estimator_sparse_matrix": OTHER_INPUT,
    "check_estimator_sparse_tag": OTHER_INPUT,
    "check_estimators_dtypes": OTHER_INPUT,
    "check_estimators_empty_data_messages": OTHER_INPUT,
    "check_estimators_nan_inf": OTHER_INPUT,
    "check_f_contiguous_array_estimator": OTHER_INPUT,
    "check_fit1d": OTHER_INPUT,
    "check_fit2d_1feature": OTHER_INPUT,
    "check_fit2d_1sample": OTHER_INPUT,
    "check_fit2d_predict1d": OTHER_INPUT,
    "check_positive_only_tag_during_fit": OTHER_INPUT,
    "check_readonly_memmap_input": OTHER_INPUT,
    "check_estimators_fit_returns_self": NOT_OURS,
    "check_fit_check_is_fitted": NOT_OURS,
    "check_fit_score_takes_y": NOT_OURS,
    "check_n_features_in": NOT_OURS,
    "check_n_features_in_after_fitting": NOT_OURS,
    "check_pipeline_consistency": NOT_OURS,
}
CHECKS = list(estimator_checks_generator(XGBoost(), legacy=True))


def called(check: Callable[..., None]) -> str:
    return str(getattr(check, "func", check).__name__)


def test_every_check_of_scikit_learn_passes_or_is_listed_with_its_reason() -> None:
    assert {called(check) for _, check in CHECKS} <= PASSES | FAILS.keys()


@pytest.mark.parametrize(
    ("model", "check"),
    [pair for pair in CHECKS if called(pair[1]) in PASSES],
    ids=lambda each: called(each) if callable(each) else "",
)
def test_the_checks_of_scikit_learn_that_apply_pass(model: XGBoost, check: Callable[[XGBoost], None]) -> None:
    check(model)


def test_a_fit_leaves_the_parameters_alone_and_a_clone_fits_the_same() -> None:
    _, train, val, dims = problem(channels=1)
    model = XGBoost(base=Ridge(), rounds=4, params={"gamma": 0.1})
    before, attributes = model.get_params(), vars(model).copy()
    first = model.fit(train, val, dims).state()
    assert model.get_params() == before
    assert vars(model) == attributes
    for again in (model, clone(model), XGBoost(**before)):
        second = again.fit(train, val, dims).state()
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[key], second[key]) for key in first)


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "where", "got"),
    [
        ({"strategy": "stacked"}, "model.strategy", "stacked"),
        ({"objective": "huber"}, "model.objective", "huber"),
        ({"rows": 0}, "model.rows", 0),
        ({"rows": "most"}, "model.rows", "most"),
        ({"memory": -1}, "model.memory", -1),
        ({"memory": "2GB"}, "model.memory", "2GB"),
        ({"strategy": "shared", "rounds": [3, 4]}, "model.rounds", "2 numbers"),
        ({"rounds": 0}, "model.rounds", 0),
        ({"rounds": 2.5}, "model.rounds", 2.5),
        ({"patience": 0}, "model.patience", 0),
        ({"max_depth": -1}, "model", has("-1", "max_depth")),
        ({"max_depth": "deep"}, "model", has("max_depth", "deep")),
        ({"subsample": 2.0}, "model", has("subsample")),
        ({"max_bin": 1}, "model", has("max_bin")),
        ({"params": {"max_dept": 3}}, "model", has("max_dept")),
        ({"params": {"objective": "reg:nothing"}}, "model", has("reg:nothing")),
        ({"device": "tpu"}, "model.device", has("tpu")),
        ({"rounds": [3, 4]}, "model.rounds", "2 numbers"),
        ({"rounds": [3, 4, 5, 0]}, "model.rounds", 0),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_one_clear_error(wrong: dict[str, Any], where: str, got: object) -> None:
    _, train, val, dims = problem(channels=1)
    with refused(ConfigError, where=where, got=got):
        XGBoost(**wrong).fit(train, val, dims)


@pytest.mark.skipif(xgb.build_info()["USE_CUDA"], reason="this XGBoost may find a GPU")
@pytest.mark.parametrize(
    "overrides", [["trainer=gpu"], ["model.device=cuda"], ["trainer=ddp", "trainer.accelerator=gpu"]], ids=str
)
def test_a_gpu_is_asked_for_through_the_trainer_or_the_device_and_refused_where_there_is_none(
    overrides: list[str],
) -> None:
    _, train, val, dims = problem(channels=1)
    with refused(ConfigError, where="model.device", allowed=has("cuda with a GPU")):
        build(compose("train", "model=xgboost", *overrides).model).fit(train, val, dims)


def test_the_device_auto_takes_the_processor_where_there_is_no_gpu() -> None:
    _, train, val, dims = problem(channels=1)
    assert XGBoost(device="auto", rounds=2).fit(train, val, dims).boosters
