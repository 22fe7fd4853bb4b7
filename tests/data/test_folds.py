"""Folds lie where a person would draw them, and say so when they do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import refused

from tsforecast.data.folds import Folds, diagram
from tsforecast.data.frames import to_panel
from tsforecast.data.panel import Panel
from tsforecast.data.schema import Schema
from tsforecast.errors import ConfigError, DataError


def panel(*lengths: int) -> Panel:
    frames = [
        pd.DataFrame({"id": f"s{i}", "date": pd.date_range("2024", periods=n, freq="D"), "y": np.arange(n) % 7})
        for i, n in enumerate(lengths)
    ]
    return to_panel(pd.concat(frames), Schema(id="id", time="date", target=["y"]))


def rows(found: Any, series: int = 0) -> list[list[int]]:
    ends = ("begin", "train_end", "val_end", "test_end")
    return [[int(getattr(fold.borders, each)[series]) for each in ends] for fold in found]


@given(
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(0, 4),
    st.one_of(st.none(), st.integers(12, 20)),
    st.integers(0, 5),
)
def test_folds_are_those_of_a_slow_loop(windows: int, step: int, gap: int, train: int | None, val: int) -> None:
    n, lookback, horizon = 100, 4, 3
    found = Folds(windows=windows, step=step, gap=gap, train=train)(panel(n), np.array([val]), lookback, horizon)
    expected: list[list[int]] = []
    cutoff = n - horizon - gap  # rows known at the last cutoff
    while len(expected) < windows:
        begin = 0 if train is None else cutoff - val - train
        expected.insert(0, [begin, cutoff - val, cutoff, cutoff + gap + horizon])
        cutoff -= step
    assert rows(found) == expected


def test_each_series_is_cut_from_its_own_end() -> None:
    both = panel(60, 40)
    found = Folds(windows=2)(both, np.array([5, 3]), 4, 6)
    assert rows(found, 0) == [[0, 43, 48, 54], [0, 49, 54, 60]]
    assert rows(found, 1) == [[60, 85, 88, 94], [60, 91, 94, 100]]


@pytest.mark.parametrize(("refit", "fitted"), [("every", [0, 1, 2, 3, 4]), ("never", [0] * 5), (2, [0, 0, 2, 2, 4])])
def test_refit_says_whose_fit_forecasts(refit: str | int, fitted: list[int]) -> None:
    found = Folds(windows=5, refit=refit)(panel(100), np.array([5]), 4, 6)
    assert [fold.fitted for fold in found] == fitted


def test_folds_that_do_not_fit_say_how_many_would() -> None:
    with refused(DataError, fix="backtest.windows=3") as error:
        Folds(windows=9, step=5)(panel(30), np.array([4]), 4, 6)
    assert "3 would" in error.value.what
    assert len(Folds(windows=3, step=5)(panel(30), np.array([4]), 4, 6)) == 3
    with refused(DataError):
        Folds(windows=1, gap=200)(panel(30), np.array([4]), 4, 6)
    with refused(DataError) as error:
        Folds(windows=2)(panel(90, 20), np.array([4, 4]), 4, 6)
    assert "s1 has 20 rows" in error.value.what


@pytest.mark.parametrize(
    ("key", "value"), [("windows", 0), ("step", 0), ("gap", -1), ("train", 1.5), ("refit", "often"), ("refit", 0)]
)
def test_a_number_that_is_none_is_named(key: str, value: Any) -> None:
    with refused(ConfigError, where=f"backtest.{key}"):
        Folds(**{key: value})
    with refused(ConfigError, where="backtest.train", allowed="10 or more"):
        Folds(train=9)(panel(100), np.array([5]), 4, 6)


def test_a_diagram_is_drawn_to_scale_with_the_dates_that_are_scored() -> None:
    found = Folds(windows=1, gap=6, train=24)(panel(48), np.array([6]), 4, 6)
    text = diagram(panel(48), found, 6, "s: 1 fold")
    assert text.splitlines()[1] == (
        "    0  ------========================++++++......######  24 train, 6 val, 6 test: 2024-02-12 00:00:00 to "
        "2024-02-17 00:00:00"
    )


def test_a_series_without_a_value_before_the_first_cutoff_does_not_hold_the_folds() -> None:
    both = panel(40, 40)
    both.target[40:62] = np.nan  # of the second the first 22
    folds, val = Folds(windows=5), np.array([4, 4])  # whose first cutoff is at row 20, with 16 to train on
    assert folds.fitting(both, val, 4, 4).tolist() == [7, 3]
    with refused(DataError, fix="backtest.windows=3") as error:
        folds(both, val, 4, 4)
    assert "s1 has 40 rows, the first 22 without a value" in error.value.what
    for fold in Folds(windows=3)(both, val, 4, 4):
        known = both.rows(fold.borders.begin, fold.borders.train_end)
        assert not np.isnan(known.select(np.array([False, True])).target).all()
