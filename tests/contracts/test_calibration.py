"""Calibration has rows of its own, works for any model, and covers what it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.contracts.conftest import LEVELS, Trained, changed, compose
from tests.errors import has, refused
from tsforecast.config.compose import build
from tsforecast.data.panel import Panel
from tsforecast.data.splits import Borders
from tsforecast.errors import ConfigError, DataError
from tsforecast.features.base import FeatureSet
from tsforecast.quantiles import conformal
from tsforecast.training.calibrate import Conformal, Errors, NoCalibration, check_observed
from tsforecast.training.evaluate import evaluate
from tsforecast.training.prepare import check_covariates


def held_out(case: Trained, panel: Panel, part: str = "cal"):
    return replace(case.data, encoded=case.bundle.features.encode(panel)).windows(part)


def test_calibration_rows_are_the_last_of_validation_and_overlap_with_nothing() -> None:
    rows = [np.array([n]) for n in (0, 700, 800, 1000)]
    borders = Borders(*rows, calibration=0.4)
    assert [[int(edge[0]) for edge in borders.rows(part)] for part in ("train", "val", "cal", "test")] == [
        [0, 700], [700, 760], [760, 800], [800, 1000],
    ]  # fmt: skip
    assert Borders(*rows).rows("cal") == (np.array([800]), np.array([800]))


def test_offsets_follow_the_calibration_rows_alone(trained) -> None:
    case = trained("etth1", "calendar", "ridge")

    def offsets(panel: Panel) -> np.ndarray:
        found = Conformal()(case.bundle, Errors.of(case.bundle, held_out(case, panel)), LEVELS).offsets
        assert found is not None
        return found

    before = offsets(case.panel)
    np.testing.assert_array_equal(offsets(changed(case.panel, case.borders.val_end)), before)
    assert not np.array_equal(offsets(changed(case.panel, case.borders.cal_start)), before)


@pytest.mark.parametrize("model", ["naive", "seasonal_naive", "ridge", "nlinear"])
def test_on_its_own_rows_an_interval_covers_at_least_its_share(trained, model: str) -> None:
    case = trained("etth1", "calendar", model)
    windows = held_out(case, case.panel)
    summary = evaluate(case.bundle, case.panel, windows, case.data.scale).summary()
    assert 0.9 <= summary["coverage-90"] <= 0.9 + 2.5 / len(windows) * 2 + 0.02


@pytest.mark.parametrize(("levels", "needed"), [((0.05, 0.5, 0.95), 19), ((0.1, 0.5, 0.9), 9), ((0.025, 0.975), 39)])
def test_calibration_needs_as_many_windows_as_the_outermost_level_tells_ranks_apart(levels, needed) -> None:
    assert Conformal().needed(levels) == needed
    errors = np.arange(1.0, needed + 1)[:, None, None, None]
    low, high = conformal(errors, levels)[0, 0, [0, -1]]
    assert (low, high) == (1.0, needed)  # with one less, the outermost would ask for more than there is
    assert np.floor(needed * levels[0] + 1e-9) == 0


def test_where_a_step_has_too_few_errors_those_of_other_steps_count_in_units_of_their_own_size() -> None:
    rng = np.random.default_rng(0)
    errors = rng.standard_normal((12, 5, 1, 1)) * np.arange(1, 6)[:, None, None]
    pooled = conformal(errors, (0.1, 0.5, 0.9), fewest=19)
    sizes = np.abs(errors).mean(axis=(0, 2, 3))
    ranked = np.sort((errors[..., 0, 0] / sizes).ravel())
    np.testing.assert_allclose(pooled[:, 0, 2], sizes * ranked[int(np.ceil(61 * 0.9)) - 1], rtol=1e-6)
    np.testing.assert_allclose(pooled[:, 0, 0], sizes * ranked[int(np.floor(61 * 0.1)) - 1], rtol=1e-6)
    assert not pooled[:, 0, 1].any()


def test_no_calibration_serves_what_was_learned_and_refuses_what_was_not(trained) -> None:
    case = trained("etth1", "calendar", "ridge")
    assert NoCalibration()(case.bundle, None, ()).quantile_levels == ()
    NoCalibration().check(LEVELS, learned=True)
    with refused(ConfigError, where="quantiles", got=[0.05, 0.5, 0.95], fix=has("calibration=conformal")):
        NoCalibration().check(LEVELS, learned=False)


def test_when_there_is_nothing_to_calibrate_on_then_the_error_says_what_to_change(trained) -> None:
    case = trained("etth1", "calendar", "ridge")
    target = case.panel.target.copy()
    target[case.borders.cal_start[0] :, 2] = np.nan
    with refused(DataError, where="calibration", what=has("no observed value")):
        check_observed(held_out(case, replace(case.panel, target=target)).observed)
    with refused(ConfigError, where="calibration.fraction", got=1.0, allowed="above 0 and below 1"):
        Conformal(fraction=1.0)


def test_when_a_model_cannot_use_a_covariate_then_composition_stops_unless_told_to_go_on(
    trained, caplog: pytest.LogCaptureFixture
) -> None:
    class Univariate:
        uses = frozenset({"past"})

    panel = trained("panel", "calendar", "ridge").panel
    features = FeatureSet(tuple(build(compose("train", "feature=[calendar,lags]").feature).values()))
    encoded = features.fit(panel).encode(panel)
    with refused(ConfigError, where="model", allowed=["past"]) as error:
        check_covariates(Univariate(), encoded, label="mine", unused="error")
    assert "known: promo, price, event" in str(error.value)
    assert "window features: lags" in str(error.value)
    assert str(error.value).endswith("dataset.static=[] feature=[] dataset.categorical=[]")
    Univariate.uses = frozenset({"past", "static", "tabular"})
    with pytest.raises(ConfigError) as error:
        check_covariates(Univariate(), encoded, label="mine", unused="error")
    assert str(error.value).endswith("feature=[] dataset.known=[] dataset.categorical=[category]")
    Univariate.uses = frozenset({"known", "static"})  # what is left out is a number: the categories stay
    with pytest.raises(ConfigError) as error:
        check_covariates(Univariate(), encoded, label="mine", unused="error")
    assert "categorical" not in str(error.value)
    Univariate.uses = frozenset({"past"})
    check_covariates(Univariate(), encoded, label="mine", unused="ignore")
    assert "does not use known: promo" in caplog.text
    with refused(ConfigError, where="unused_covariates", got="maybe", allowed=["error", "ignore"]):
        check_covariates(Univariate(), encoded, label="mine", unused="maybe")
    check_covariates(build(compose("train", "model=naive").model), encoded, label="naive", unused="error")
