"""Scores against scikit-learn and against slow loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from tsforecast.data.columns import LARGEST
from tsforecast.metrics import Scores, seasonal_scale

RNG = np.random.default_rng(0)
LABEL = RNG.standard_normal((50, 6, 3)).astype(np.float32)
FORECAST = (LABEL + RNG.standard_normal(LABEL.shape)).astype(np.float32)
RAW, RAW_FORECAST = LABEL * 10 + 20, FORECAST * 10 + 20
SERIES = np.repeat([0, 1], 25)
SCALE = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def scores(label: np.ndarray = LABEL, raw: np.ndarray = RAW, *, chunk: int = 50) -> Scores:
    found = Scores(("a", "b", "c"), 6, SCALE, SCALE)
    for i in range(0, 50, chunk):
        part = slice(i, i + chunk)
        found.update(label[part], FORECAST[part], raw[part], RAW_FORECAST[part], SERIES[part])
    return found


def test_the_scores_are_scikit_learns() -> None:
    summary = scores().summary()
    flat = LABEL.ravel(), FORECAST.ravel()
    raw = RAW.ravel(), RAW_FORECAST.ravel()
    assert summary["mse"] == pytest.approx(metrics.mean_squared_error(*flat), rel=1e-5)
    assert summary["mae"] == pytest.approx(metrics.mean_absolute_error(*flat), rel=1e-5)
    assert summary["rmse"] == pytest.approx(metrics.root_mean_squared_error(*flat), rel=1e-5)
    assert summary["mse_raw"] == pytest.approx(metrics.mean_squared_error(*raw), rel=1e-5)
    assert summary["mae_raw"] == pytest.approx(metrics.mean_absolute_error(*raw), rel=1e-5)


def test_scores_of_the_largest_values_that_are_read_are_numbers() -> None:
    label = np.sign(LABEL) * np.float32(LARGEST)
    found = Scores(("a", "b", "c"), 6, SCALE, SCALE)
    found.update(label, -label, label, -label, SERIES)
    assert np.isfinite(list(found.summary().values())).all()
    assert found.summary()["mse_raw"] == pytest.approx(4 * LARGEST**2, rel=1e-5)


def test_mase_is_the_mean_error_relative_to_each_series_scale() -> None:
    expected = np.mean([np.abs(RAW[b] - RAW_FORECAST[b]) / SCALE[SERIES[b]] for b in range(50)])
    assert scores().summary()["mase"] == pytest.approx(expected, rel=1e-5)


def test_bias_is_what_is_forecast_too_much_of_the_volume() -> None:
    label = RAW.astype(np.float64)
    each = (RAW_FORECAST - label).sum(axis=(0, 1)) / np.abs(label).sum(axis=(0, 1))
    assert scores().summary()["bias"] == pytest.approx(each.mean(), rel=1e-4)
    low = Scores(("a", "b", "c"), 6, SCALE, SCALE)
    low.update(LABEL, FORECAST, volume := np.abs(RAW), volume / 4, SERIES)
    assert low.summary()["bias"] == pytest.approx(-0.75, rel=1e-5)
    gone = volume.copy()
    gone[:, 1:] = np.nan  # what was not observed is neither error nor volume
    some = Scores(("a", "b", "c"), 6, SCALE, SCALE)
    some.update(np.where(np.isnan(gone), gone, LABEL), FORECAST, gone, volume / 4, SERIES)
    assert some.summary()["bias"] == pytest.approx(-0.75, rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_scores_of_chunks_are_the_scores_of_the_whole(chunk: int) -> None:
    whole, parts = scores().summary(), scores(chunk=chunk).summary()
    assert parts == pytest.approx(whole, rel=1e-5, nan_ok=True)


def test_missing_labels_do_not_count() -> None:
    label, raw = LABEL.copy(), RAW.copy()
    label[3, 2], raw[3, 2] = np.nan, np.nan
    seen = ~np.isnan(label)
    expected = np.mean((label[seen] - FORECAST[seen]) ** 2)
    assert scores(label, raw).summary()["mse"] == pytest.approx(expected, rel=1e-5)


def test_channels_and_steps_average_to_the_whole() -> None:
    found = scores()
    by_channel, by_step = found.by_channel()["mse"], found.by_step()["mse"]
    expected = np.mean((LABEL - FORECAST) ** 2, axis=(0, 1))
    np.testing.assert_allclose([by_channel[c] for c in "abc"], expected, rtol=1e-5)
    np.testing.assert_allclose(by_step, np.mean((LABEL - FORECAST) ** 2, axis=(0, 2)), rtol=1e-5)


def test_zeros_are_left_out_of_mape_and_their_share_is_told() -> None:
    raw = RAW.copy()
    raw[:5] = 0.0
    summary = scores(raw=raw).summary()
    assert summary["mape_zero_share"] == pytest.approx(0.1)
    rest = np.mean(np.abs((raw[5:] - RAW_FORECAST[5:]) / raw[5:]))
    assert summary["mape"] == pytest.approx(rest, rel=1e-4)


def test_the_seasonal_scale_is_the_seasonal_naive_error_of_the_train_rows() -> None:
    target = RNG.standard_normal((60, 2)).astype(np.float32)
    mase, rmsse = seasonal_scale(target, np.array([0, 30, 60]), np.array([0, 30]), np.array([20, 50]), 4)
    for i, begin in enumerate((0, 30)):
        change = target[begin + 4 : begin + 20] - target[begin : begin + 16]
        np.testing.assert_allclose(mase[i], np.abs(change).mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(rmsse[i] ** 2, (change**2).mean(axis=0), rtol=1e-5)


def test_merged_parts_score_as_the_whole_and_stay_as_they_were() -> None:
    raw = RAW.copy()
    raw[40:] += 500  # another level, which shifts the sums of squares
    label = LABEL.copy()
    label[40:] += 50
    parts = []
    for part in (slice(0, 20), slice(20, 40), slice(40, 50)):
        found = Scores(("a", "b", "c"), 6, SCALE, SCALE, keep=True)
        found.update(label[part], FORECAST[part], raw[part], RAW_FORECAST[part], SERIES[part])
        parts.append(found)
    before = parts[0].summary()
    merged = parts[0].merge(parts[1]).merge(parts[2])
    assert merged.summary() == pytest.approx(scores(label, raw).summary(), rel=1e-5)
    assert parts[0].summary() == before
    error, error_raw = np.abs(label - FORECAST), np.abs(raw - RAW_FORECAST)
    expected = [error, error**2, error_raw / SCALE[SERIES][:, None], error_raw]
    np.testing.assert_allclose(merged.losses, np.stack([e.mean(axis=(1, 2)) for e in expected], axis=1), rtol=1e-5)
    assert merged.summary()["wape"] == pytest.approx(
        np.mean(error_raw.sum(axis=(0, 1)) / np.abs(raw).sum(axis=(0, 1))), rel=1e-5
    )


def test_merged_folds_scale_each_error_by_its_own_fold() -> None:
    one, two = np.array([[1.0, 2.0, 4.0]]), np.array([[2.0, 3.0, 5.0]])
    folds, expected = [], []
    for scale, part in ((one, slice(0, 20)), (two, slice(20, 50))):
        found = Scores(("a", "b", "c"), 6, scale, scale)
        found.update(LABEL[part], FORECAST[part], RAW[part], RAW_FORECAST[part], np.zeros(50, int)[part])
        folds.append(found)
        expected.append(np.abs(RAW[part] - RAW_FORECAST[part]) / scale)
    assert folds[0].merge(folds[1]).summary()["mase"] == pytest.approx(np.concatenate(expected).mean(), rel=1e-5)


def test_scores_of_other_channels_are_not_merged() -> None:
    with pytest.raises(ValueError, match="channels"):
        scores().merge(Scores(("a",), 6, SCALE[:, :1], SCALE[:, :1]))
