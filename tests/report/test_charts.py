"""Charts of a run say what they were given, the model in front."""

from __future__ import annotations

import numpy as np
from tests.test_plotting import H, fan

from tsforecast.plotting import BASELINES, draw, png
from tsforecast.report.plots import coverage_charts, error_charts, insight_charts

BY_STEP = {
    "ridge": {"mae": [0.1 * k for k in range(1, H + 1)], "mse": np.arange(1, H + 1) * 0.2, "mae_raw": [1.0] * H},
    "naive": {"mae": [0.7] * H, "mse": [0.9] * H},
    "seasonal_naive": {"mae": [0.8] * H, "mse": [float("nan")] * H},
}
COVERED = {"ridge": {**BY_STEP["ridge"], "coverage-90": [0.9, 0.88] * 3, "coverage-80": [0.8] * H}}


def test_the_model_is_in_front_and_seasonal_naive_keeps_its_colour() -> None:
    for axes in draw(error_charts(BY_STEP), "run", "", columns=2).axes:
        assert [line.get_label() for line in axes.lines] == ["seasonal naive", "naive", "ridge"]
        assert axes.lines[0].get_color() == draw([fan()], "").axes[0].lines[1].get_color() == BASELINES[0]
        assert axes.get_ylim()[0] == 0
        assert all(tick.is_integer() for tick in axes.get_xticks().tolist())


def test_coverage_is_drawn_beside_what_it_should_be_on_an_axis_of_its_own_range() -> None:
    axes = draw(coverage_charts(COVERED), "run", "").axes[0]
    assert [line.get_label() for line in axes.lines if line.get_label()[0] != "_"] == ["90 % interval", "80 % interval"]
    assert [set(line.get_ydata()) for line in axes.lines] == [{90}, {90, 88}, {80}, {80}]
    assert axes.get_ylim()[0] > 75
    assert coverage_charts(BY_STEP) == []


def test_what_a_model_leans_on_is_drawn_largest_first() -> None:
    weights = {f"lag {i}": float(i) for i in range(30)}
    bars, line = draw(insight_charts({"importance": weights, "attention": [0.1, 0.2, 0.7]}, 2), "").axes
    assert [label.get_text() for label in bars.get_yticklabels()][:2] == ["lag 29", "lag 28"]
    assert len(bars.patches) == 20
    assert bars.get_xlabel() == "weight, the first 20 of 30"
    assert list(line.lines[0].get_xdata()) == [-1, 0, 1]


def test_when_there_is_one_step_or_a_dollar_in_a_name_then_it_is_drawn() -> None:
    assert png(draw(error_charts({"ridge": {"mae": [0.1], "mse": [0.2]}}), "run", columns=2))
    name = r"price $\frac$"
    assert png(draw(insight_charts({name: {name: 1.0}}, 1), name, name))
