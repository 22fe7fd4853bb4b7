"""Windows against a slow loop over rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tsforecast.types import Encoded
from tsforecast.windows import Windows


def two_series(missing: bool = False) -> Encoded:
    target = np.arange(50, dtype=np.float32).reshape(25, 2)
    if missing:
        target[[3, 17], 0] = np.nan
    known = np.arange(25, dtype=np.float32)[:, None] * 10
    return Encoded(np.array([0, 10, 25]), target, np.zeros((25, 0), np.float32), known, np.ones((2, 0), np.float32))


def test_every_window_of_every_series_is_found_and_none_crosses_a_border() -> None:
    e = two_series()
    windows = Windows.over(e, lookback=4, horizon=3, begin=np.array([0, 18]), end=np.array([10, 25]))
    expected = [(0, o) for o in range(4, 8)] + [(1, o) for o in range(18, 23)]
    assert list(zip(windows.series.tolist(), windows.origins.tolist(), strict=True)) == expected
    batch, labels = windows.window(slice(None)), windows.label(slice(None))
    for i, (_, origin) in enumerate(expected):
        np.testing.assert_array_equal(batch.target[i], e.target[origin - 4 : origin])
        np.testing.assert_array_equal(batch.known[i], e.known[origin - 4 : origin + 3])
        np.testing.assert_array_equal(labels[i], e.target[origin : origin + 3])


@pytest.mark.parametrize(("stride", "count"), [(1, 4), (2, 2), (3, 2), (100, 1)])
def test_when_origins_are_strided_then_the_first_stays(stride: int, count: int) -> None:
    windows = Windows.over(two_series(), lookback=4, horizon=3, begin=np.array([0, 25]), end=np.array([10, 25]),
                           stride=stride)  # fmt: skip
    assert windows.origins.tolist() == [4 + stride * i for i in range(count)]


def test_when_a_segment_is_too_short_then_it_has_no_window() -> None:
    windows = Windows.over(two_series(), lookback=9, horizon=3, begin=np.array([0, 10]), end=np.array([10, 12]))
    assert len(windows) == 0


def test_a_value_missing_before_the_window_does_not_reach_into_it() -> None:
    e = two_series(missing=True)
    windows = Windows.over(e, lookback=4, horizon=3, begin=np.array([7, 21]), end=np.array([10, 25]))
    window = windows.window(slice(0, 1))
    assert window.observed is not None
    assert not window.observed[0, 0, 0]  # row 3 is the first row of the window that ends before row 7
    assert window.target[0, 0, 0] == e.target[4, 0]  # filled backward from within


@pytest.mark.parametrize("convert", [None, torch.as_tensor])
def test_a_window_is_scaled_by_the_moments_of_what_was_observed_in_it(convert: Any) -> None:
    e = replace(two_series(missing=True), local=True)
    e.target[4:8, 1] = np.nan  # all that one window has
    borders = {"begin": np.array([0, 25]), "end": np.array([10, 25])}
    windows = Windows.over(e, lookback=4, horizon=2, **borders)
    found = (windows.to(convert) if convert else windows).window(slice(None))
    whole = Windows.over(replace(two_series(), local=True), lookback=4, horizon=2, **borders).window(slice(None))
    assert found.center is not None
    for i, origin in enumerate(windows.origins):
        for c in range(2):
            seen = e.target[origin - 4 : origin, c]
            seen = seen[~np.isnan(seen)]
            wanted = (seen.mean(), seen.std() or 1.0) if len(seen) else (0.0, 1.0)
            assert (found.center[i, 0, c], found.scale[i, 0, c]) == pytest.approx(wanted, rel=1e-6)
            if len(seen) == 4:  # to the bit, whatever is beside it
                assert float(found.scale[i, 0, c]) == whole.scale[i, 0, c]
    filled = Windows.over(replace(e, filled=True), lookback=4, horizon=2, **borders).window(slice(0, 1))
    assert filled.center[0, 0, 0] == pytest.approx(np.array([0, 2, 4, 4]).mean())
