"""Errors at earlier cutoffs: where a fit is dear several cutoffs share one, which has seen no row behind the first."""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

import tsforecast as tsf
from tsforecast.models.ensemble import Ensemble
from tsforecast.models.linear import Ridge
from tsforecast.models.naive import SeasonalNaive
from tsforecast.result import Result
from tsforecast.training.crossfit import cross_errors
from tsforecast.training.fit import Fitting

WORDS = ("model=ridge", "lookback=12", "horizon=3", "feature=[]", "split=tail", "split.val=3", "split.test=3")
SERIES = 6


class Naive(SeasonalNaive):
    """Repeats the last value, and remembers the first row that each fit did not see."""

    def __init__(self) -> None:
        super().__init__(season=1)
        self.cutoffs: list[int] = []

    def fit(self, train: Any, val: Any, dims: Any) -> Any:
        self.cutoffs.append(int((train.origins - train.encoded.offsets[train.series]).max()) + dims.horizon)
        return super().fit(train, val, dims)


class Dear(Naive):
    """Five times at most."""

    refits: ClassVar[int] = 5  # type: ignore[misc]


@pytest.fixture(scope="module")
def run() -> Result:
    """Of six series, whose change from row r to the next is 2 r + 1, and a thousand more from series to series."""
    stamps, row = pd.date_range("2020-01-01", periods=90, freq="MS"), np.arange(90.0)
    parts = [pd.DataFrame({"unique_id": f"s{i}", "ds": stamps, "y": row**2 + 1000 * i * row}) for i in range(SERIES)]
    return tsf.train(*WORDS, "scaler=none", data=pd.concat(parts), id="unique_id", time="ds", target=["y"])


def errors(run: Result, model: Any, most: int | None = None) -> tuple[list[int], list[int]]:
    """The first row that is forecast, and the series, of each error at the earlier cutoffs."""
    data = run.data.at_most(most)
    rows = data.panel.rows(data.borders.begin, data.borders.val_end)
    found = cross_errors(model, data, rows, Fitting(data.dims, run.experiment.trainer)).values[:, 0, 0, 0]
    return [int(each % 1000 + 1) // 2 for each in found], [int(each // 1000) for each in found]


def test_where_a_fit_is_dear_twenty_cutoffs_share_five_and_each_sees_no_row_behind_its_first(run: Result) -> None:
    every, shared = Naive(), Dear()
    cutoffs = errors(run, every)
    assert errors(run, shared) == cutoffs
    assert len(shared.cutoffs) == 5
    assert sorted(every.cutoffs) == sorted({*cutoffs[0]})
    assert sorted(shared.cutoffs) == sorted(every.cutoffs)[::4]


def test_where_a_forecast_is_dear_its_share_is_of_all_cutoffs_and_series(run: Result) -> None:
    model = Naive()
    cutoffs, series = errors(run, model, most=40)
    assert len(model.cutoffs) == 7, "as many as there are forecasts of each series"
    assert cutoffs == sorted(cutoffs)
    assert len(cutoffs) == 40
    assert len({*cutoffs}) == 20
    assert {*series} == {*range(SERIES)}


def test_an_ensemble_is_refitted_as_seldom_as_its_dearest_member() -> None:
    assert Ensemble(models={"ridge": Ridge(), "dear": Dear()}).refits == 5
    assert Ensemble(models={"ridge": Ridge()}).refits is None
