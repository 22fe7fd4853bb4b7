"""Intervals are as wide as a window moves where errors grow with it, and the same where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import tsforecast as tsf
from tests.errors import refused
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError, DataError
from tsforecast.features.missing import fill_forward
from tsforecast.quantiles import conformal
from tsforecast.spread import STATISTICS, Spread, statistics
from tsforecast.training.calibrate import Conformal, Errors
from tsforecast.types import Window

RNG = np.random.default_rng(0)
LEVELS = (0.05, 0.5, 0.95)


def window(target: np.ndarray) -> Window:
    empty = np.empty((len(target), 0, 0), np.float32)
    return Window(np.asarray(target, np.float32), empty, empty, np.empty((len(target), 0), np.float32), empty)


def test_the_statistics_of_a_window_are_those_of_its_rows() -> None:
    rows = RNG.standard_normal((3, 24, 2))
    found = statistics(window(rows), season=6)
    assert found.shape == (3, 2, len(STATISTICS))
    y = pd.Series(rows[1, :, 1].astype(np.float32), dtype=float)
    wanted = {
        "change": y.diff().abs().mean(),
        "deviation": y.std(ddof=0),
        "recent change": y[-6:].diff().abs().mean(),
        "recent deviation": y[-6:].std(ddof=0),
        "seasonal change": y.diff(6).abs().mean(),
        "recent seasonal change": y.diff(6).abs()[-6:].mean(),
    }
    np.testing.assert_allclose(found[1, 1], [wanted[name] for name in STATISTICS], rtol=1e-6)


def holed(rows: np.ndarray) -> Window:
    """As windows of rows that are missing, NaN, are gathered."""
    filled, observed = fill_forward(rows.astype(np.float32))
    return replace(window(filled), observed=observed)


@pytest.mark.parametrize("pad", [1, 7, 30])
def test_rows_that_are_padded_in_front_of_a_series_change_nothing(pad: int) -> None:
    rows = RNG.standard_normal((3, 24, 2))
    padded = holed(np.pad(rows, ((0, 0), (pad, 0), (0, 0)), constant_values=np.nan))
    np.testing.assert_allclose(statistics(padded, season=6), statistics(window(rows), season=6), rtol=1e-12)


def test_missing_rows_do_not_count_and_windows_and_channels_that_have_none_keep_their_bits() -> None:
    rows = RNG.standard_normal((3, 24, 2))
    holes = rows.copy()
    holes[1, [3, 4, 20], 1] = np.nan
    found, whole = statistics(holed(holes), season=6), statistics(window(rows), season=6)
    y = pd.Series(holes[1, :, 1].astype(np.float32), dtype=float)
    wanted = [y.diff().abs().mean(), y.std(ddof=0), y[-6:].diff().abs().mean(), y[-6:].std(ddof=0)]
    wanted += [y.diff(6).abs().mean(), y.diff(6).abs()[-6:].mean()]
    np.testing.assert_allclose(found[1, 1], wanted, rtol=1e-6)
    found[1, 1] = whole[1, 1]
    np.testing.assert_array_equal(found, whole)


def test_a_window_that_hardly_a_row_is_known_of_is_taken_for_a_usual_one() -> None:
    rows = RNG.standard_normal((4, 24, 1))
    for i, left in enumerate((0, 1, 2)):
        rows[i, : 24 - left] = np.nan
    every_other = np.where(np.arange(24)[:, None] % 2, RNG.standard_normal((40, 24, 1)), np.nan)
    few, sparse = statistics(holed(rows), season=6), statistics(holed(every_other), season=6)
    assert np.isnan(few[:3]).all()
    assert np.isfinite(few[3]).all()
    assert np.isnan(sparse[..., 0]).all()
    assert np.isfinite(sparse[..., [1, 3, 4]]).all()
    spread = Spread(6, (1.0, 0, 0, 1.0, 0, 0), few[3])
    np.testing.assert_array_equal(spread.of(few)[:, 0, 0], 1)
    size = sparse[:, None, :, [1]]  # errors as large as the window deviates, and no change of one step is known
    grown = Errors(size * RNG.standard_normal((40, 30, 1, 1)), sparse).spread(6, LEVELS)
    assert grown is not None
    assert np.isnan(grown.typical[:, 0]).all()
    assert np.isfinite(grown.of(few)).all()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_window_of_few_rows_has_statistics_too(rows: int) -> None:
    assert np.isfinite(statistics(window(RNG.standard_normal((2, rows, 1))), season=12)).all()


def test_a_window_that_never_moves_makes_intervals_narrow_but_not_nothing() -> None:
    spread = Spread(1, (1.0, 0, 0, 0, 0, 0), np.ones((1, 6)))
    quiet, usual, wild = (np.arange(10.0)[None, :, None] * step for step in (0, 1, 1e6))
    assert [float(spread(window(each))[0, 0, 0]) for each in (quiet, usual, wild)] == pytest.approx([0.05, 1, 20])


def test_errors_that_grow_with_their_windows_have_the_intervals_of_their_own_size() -> None:
    size = np.exp(RNG.standard_normal(2000))
    errors = size[:, None, None, None] * RNG.standard_normal((2000, 3, 1, 1))
    moved = np.repeat(size[:, None, None], 6, axis=2) * np.exp(RNG.standard_normal((2000, 1, 6)) * [0.1, *[3] * 5])
    spread = Errors(errors, moved).spread(1, LEVELS)
    assert spread is not None
    assert spread.powers == (1.0, 0, 0, 0, 0, 0)  # the one that says how large errors are, as it says it
    offsets = conformal(errors / spread.of(moved)[..., None], LEVELS)
    inside = (errors >= offsets[..., :1] * spread.of(moved)[..., None]) & (
        errors <= offsets[..., 2:] * spread.of(moved)[..., None]
    )
    for part in np.array_split(np.argsort(size), 4):  # of the calmest windows as of the wildest
        assert 0.85 < inside[part].mean() < 0.95


def test_errors_that_are_the_same_after_any_window_have_intervals_that_are() -> None:
    errors, moved = RNG.standard_normal((2000, 3, 2, 1)), np.exp(RNG.standard_normal((2000, 2, 6)))
    assert Errors(errors, moved).spread(1, LEVELS) is None
    assert Errors(errors[:1], moved[:1]).spread(1, LEVELS) is None  # nothing to choose on
    assert Errors(errors, moved).spread(1, (0.5,)) is None


def test_a_spread_is_chosen_on_no_fewer_windows_than_tell_it_from_chance() -> None:
    rng = np.random.default_rng(0)
    size = np.exp(rng.standard_normal(40))
    errors, moved = size[:, None, None, None] * rng.standard_normal((40, 3, 1, 1)), np.tile(size[:, None, None], 6)
    assert Errors(errors, moved).spread(1, LEVELS) is not None
    assert Errors(errors[1:], moved[1:]).spread(1, LEVELS) is None


def test_intervals_of_a_few_months_are_as_wide_after_any_window() -> None:
    rng, t = np.random.default_rng(0), np.arange(42)
    sales = 200 + 2 * t + 30 * np.sin(2 * np.pi * t / 12) + 10 * rng.standard_normal(42)
    rows = pd.DataFrame({"date": pd.date_range("2019", periods=42, freq="MS"), "sales": sales})
    local, same = (tsf.train("model=ridge", f"calibration.local={each}", data=rows).metrics for each in (True, False))
    assert local["test/width-90"] == pytest.approx(same["test/width-90"])
    assert local["test/coverage-90"] > 0.9


def frame() -> pd.DataFrame:
    """Sales whose swings double for a while, again and again; none is negative."""
    rows = np.arange(1500)
    swing = np.where(rows // 100 % 2, 4.0, 1.0) * np.random.default_rng(1).standard_normal(1500)
    return pd.DataFrame({"date": pd.date_range("2020", periods=1500, freq="D"), "sales": np.abs(swing)})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """As it is read from its files."""
    own = ("model=ridge", "lookback=21", "horizon=5", "feature=[]", "quantiles=[0.1,0.5,0.9]")
    found = tsf.train(*own, data=frame(), bounds={"sales": [0, None]})
    return found.bundle.save(tmp_path_factory.mktemp("spread") / "bundle")


def test_a_forecast_after_wild_rows_is_less_sure_than_after_calm_ones(bundle: Bundle) -> None:
    history = frame()
    assert bundle.spread is not None
    calm, wild = (bundle.forecast(history[:end]) for end in (1300, 1400))
    width = [float(np.diff(each.quantiles[0, :, 0, [0, 2]], axis=0).mean()) for each in (calm, wild)]
    assert width[1] > 1.5 * width[0]


def test_no_interval_is_narrower_than_its_floor_after_rows_that_never_move(bundle: Bundle) -> None:
    spread, offsets = bundle.spread, bundle.offsets
    assert spread is not None
    assert offsets is not None
    stuck = frame().tail(60).assign(sales=50.0)
    found = bundle.forecast(stuck).quantiles
    assert found is not None
    usual = (offsets[..., 2] - offsets[..., 0]) * float(bundle.features.scaler.scale[0, 0])
    np.testing.assert_allclose(found[0, ..., 2] - found[0, ..., 0], spread.floor * usual, rtol=1e-4)
    assert spread.floor == 0.25, "calibration has seen windows that are calm, but none that calm"


def test_the_floor_is_as_low_as_the_calmest_window_that_calibration_has_seen(bundle: Bundle) -> None:
    size = np.exp(2 * RNG.standard_normal(2000))
    errors = Errors(size[:, None, None, None] * RNG.standard_normal((2000, 5, 1, 1)), np.tile(size[:, None, None], 6))
    for floor, wanted in ((0.25, 0.05), (0.01, 0.01)):  # no statistic counts for less than a twentieth of the median
        spread = Conformal(floor=floor)(bundle, errors, LEVELS).spread
        assert spread is not None
        assert spread.floor == pytest.approx(wanted)
        assert spread.of(errors.statistics * 0).min() == pytest.approx(0.05)


@pytest.mark.parametrize("floor", [0, -0.1, 1.5])
def test_a_floor_that_is_no_share_is_refused(floor: float) -> None:
    with refused(ConfigError, where="calibration.floor", got=floor, allowed="above 0, and 1 at most"):
        Conformal(floor=floor)


def test_no_forecast_and_no_interval_crosses_its_bounds(bundle: Bundle) -> None:
    def of(ends: tuple[float | None, ...]) -> tuple[np.ndarray, np.ndarray]:
        found = replace(bundle, schema=replace(bundle.schema, bounds={"sales": ends})).forecast(frame())
        assert found.quantiles is not None
        return found.values, found.quantiles

    for within, free in zip(of((2.5, 4)), of((None, None)), strict=True):
        assert ((free < 2.5) | (free > 4)).any()
        np.testing.assert_array_equal(within, free.clip(2.5, 4))


def test_what_bounds_cut_is_scored_as_it_is_cut() -> None:
    """The same forecast in scaled and in original units."""
    cut = np.sin(np.arange(1500) / 5).clip(-0.5, 0.5)  # which ridge does not know to stay within
    noisy = (cut + 0.1 * RNG.standard_normal(1500)).clip(-0.5, 0.5)
    own = ("model=ridge", "lookback=21", "horizon=5", "feature=[]")
    run = tsf.train(*own, data=frame().assign(sales=noisy), bounds={"sales": [-0.5, 0.5]})
    scale = float(run.bundle.features.scaler.scale[0, 0])
    assert run.metrics["test/mae_raw"] == pytest.approx(run.metrics["test/mae"] * scale, rel=1e-5)


def test_bounds_that_are_none_are_refused() -> None:
    for ends in ([0], [1, 0], [0, "much"], [0, 0]):
        with refused(ConfigError, where="dataset.bounds.sales", got=ends):
            tsf.train(data=frame(), bounds={"sales": ends})
    with refused(ConfigError, where="dataset.bounds", got=["sale"], allowed=("sales",)):
        tsf.train(data=frame(), bounds={"sale": [0, None]})
    with refused(DataError, where="column 'sales'", allowed=[1, None]):
        tsf.train(data=frame(), bounds={"sales": [1, None]})


def test_a_bundle_that_does_not_say_a_floor_has_the_intervals_that_it_had() -> None:
    rows = RNG.standard_normal((4, 24, 2)) * np.array([1e-9, 1e-3, 1, 1e3])[:, None, None]
    rows[:, 3:9] = np.nan
    seen = holed(rows)
    state = Spread(6, (0.0, 0.5, 0.0, 1.0, 0.0, 0.0), np.ones((2, len(STATISTICS)))).state()
    del state["spread.floor"]
    restored = Spread.restore(state)
    assert restored is not None
    for b, c in np.ndindex(4, 2):
        filled = seen.target[b, :, c].astype(np.float64)
        wanted = np.clip(filled.std(), 1 / 20, 20) ** 0.5 * np.clip(filled[-6:].std(), 1 / 20, 20)
        assert restored(seen)[b, 0, c] == pytest.approx(wanted, rel=1e-6)
