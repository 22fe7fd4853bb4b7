"""Levels, ordering and conformal offsets against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.errors import has, refused
from tsforecast.errors import ConfigError
from tsforecast.metrics import QuantileScores
from tsforecast.quantiles import check_quantiles, conformal, intervals, ordered
from tsforecast.types import quantile_names

LEVELS = (0.05, 0.1, 0.5, 0.9, 0.95)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bad", [[0.0, 0.5], [0.5, 1.0], [0.5, 1.5], [-0.1, 0.5], [True, 0.5], ["a", 0.5], [0.5, 0.5]])
def test_when_a_level_is_not_between_0_and_1_or_there_twice_then_it_is_refused(bad: list) -> None:
    with refused(ConfigError, where="quantiles", fix=has("quantiles=[")):
        check_quantiles(bad, learned=False)


def test_only_a_model_that_learns_quantiles_needs_the_median() -> None:
    assert check_quantiles([0.9, 0.1], learned=False) == (0.1, 0.9)
    with refused(ConfigError, where="quantiles", got=[0.9, 0.1], allowed="0.5 among them"):
        check_quantiles([0.9, 0.1], learned=True)


def test_levels_and_intervals_have_the_names_neuralforecast_gives_them() -> None:
    assert quantile_names(LEVELS) == ["lo-90", "lo-80", "median", "hi-80", "hi-90"]
    assert quantile_names((0.025, 0.995)) == ["lo-95", "hi-99"]
    assert intervals(LEVELS) == {"90": (0, 4), "80": (1, 3)}
    assert intervals((0.1, 0.5)) == {}


@given(
    hnp.arrays(np.float32, (2, 3, 1, 5), elements=st.floats(-1e3, 1e3, width=32)),
    hnp.arrays(np.float32, (2, 3, 1), elements=st.floats(-1e3, 1e3, width=32)),
)
def test_ordered_quantiles_never_cross_contain_the_point_and_only_widen(
    quantiles: np.ndarray, point: np.ndarray
) -> None:
    out = ordered(quantiles, point, LEVELS)
    assert (np.diff(out, axis=-1) >= 0).all()
    np.testing.assert_array_equal(out[..., 2], point)
    assert (out[..., :2] <= quantiles[..., :2]).all()
    assert (out[..., 3:] >= quantiles[..., 3:]).all()


def test_quantiles_in_order_around_the_point_are_left_alone() -> None:
    quantiles = np.sort(RNG.standard_normal((4, 3, 2, 5)), axis=-1)
    np.testing.assert_array_equal(ordered(quantiles, quantiles[..., 2], LEVELS), quantiles)


def test_conformal_offsets_are_the_order_statistics_of_the_definition() -> None:
    residuals = RNG.standard_normal((99, 2, 3, 1))
    offsets = conformal(residuals, (0.05, 0.5, 0.95))
    ranked = np.sort(residuals[:, 1, 2, 0])
    assert offsets[1, 2].tolist() == pytest.approx([ranked[4], 0.0, ranked[94]])  # 5th and 95th of 99


def test_missing_labels_do_not_count_and_too_few_give_the_extreme_residual() -> None:
    residuals = np.full((200, 1, 1, 1), np.nan)
    residuals[:5, 0, 0, 0] = [3, 1, 2, 5, 4]
    assert conformal(residuals, (0.05, 0.95))[0, 0].tolist() == [1.0, 5.0]


@pytest.mark.parametrize("learned", [1, 3])
def test_when_residuals_are_exchangeable_then_each_side_covers_its_share(learned: int) -> None:
    levels, n = (0.05, 0.5, 0.95), 400
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        quantiles = rng.standard_normal((2 * n, 1, 1, 1)) + np.linspace(-0.1, 0.1, learned)  # far too narrow
        label = quantiles[..., [learned // 2]] + rng.gamma(2.0, size=(2 * n, 1, 1, 1))  # skewed, heteroscedastic
        offsets = conformal(label[:n] - quantiles[:n], levels)
        out = quantiles[n:] + offsets
        covered.append([(label[n:, ..., 0] < out[..., 0]).mean(), (label[n:, ..., 0] <= out[..., 2]).mean()])
    below, under = np.mean(covered, axis=0)
    assert below == pytest.approx(0.05, abs=0.004)  # a standard error is about 0.001
    assert under == pytest.approx(0.95, abs=0.004)


def slow_scores(label: np.ndarray, quantiles: np.ndarray) -> dict[str, float]:
    loss, total, cells, inside, width = 0.0, 0.0, 0, 0, 0.0
    for b, h, c in np.ndindex(label.shape):
        y = label[b, h, c]
        if np.isnan(y):
            continue
        cells, total = cells + 1, total + abs(y)
        for q, level in enumerate(LEVELS):
            e = y - quantiles[b, h, c, q]
            loss += 2 * (level * e if e >= 0 else (level - 1) * e) / len(LEVELS)
        inside += quantiles[b, h, c, 0] <= y <= quantiles[b, h, c, 4]
        width += quantiles[b, h, c, 4] - quantiles[b, h, c, 0]
    return {"wql": loss / total, "crps_raw": loss / cells, "coverage-90": inside / cells, "width-90_raw": width / cells}


def test_quantile_scores_are_those_of_a_slow_loop_whatever_the_batches() -> None:
    label = RNG.standard_normal((20, 4, 2)) * 3 + 1
    label[2, 1, 0] = np.nan
    quantiles = np.sort(RNG.standard_normal((20, 4, 2, 5)) * 3, axis=-1)
    whole, parts = QuantileScores(LEVELS, 4), QuantileScores(LEVELS, 4)
    whole.update(label / 2, quantiles / 2, label, quantiles)
    for i in range(0, 20, 7):
        part = slice(i, i + 7)
        parts.update(label[part] / 2, quantiles[part] / 2, label[part], quantiles[part])
    summary, expected = whole.summary(), slow_scores(label, quantiles)
    assert {key: summary[key] for key in expected} == pytest.approx(expected)
    assert parts.summary() == pytest.approx(summary)
    assert summary["crps"] == pytest.approx(summary["crps_raw"] / 2)
    assert np.average(whole.by_step()["coverage-90"], weights=[20, 19.5, 20, 20]) == pytest.approx(
        expected["coverage-90"]
    )


def test_the_crps_of_many_levels_nears_the_closed_form_of_a_normal_forecast() -> None:
    from scipy import stats

    levels = tuple((np.arange(199) + 1) / 200)
    label = np.array([0.3, -1.2, 2.0]).reshape(3, 1, 1)
    quantiles = np.broadcast_to(stats.norm.ppf(levels), (3, 1, 1, 199))
    scores = QuantileScores(levels, 1)
    scores.update(label, quantiles, label, quantiles)
    y = label.ravel()
    closed = np.mean(y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi))
    assert scores.summary()["crps"] == pytest.approx(closed, rel=0.02)
