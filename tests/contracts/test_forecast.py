"""No future, parity, order and names: over datasets, features and models of conf/, any two together.

They are in one file because a worker trains its bundles once: a file is one worker's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from tests.contracts.conftest import (
    HORIZON,
    LEVELS,
    LOOKBACK,
    ROWS,
    Trained,
    changed,
    check,
    deep,
    local,
    options,
    pairwise,
)
from tests.errors import has, refused
from tests.serving.conftest import Client, request
from tsforecast.bundle.bundle import Bundle, Prediction
from tsforecast.errors import DataError
from tsforecast.features.base import FeatureSet
from tsforecast.serving.asgi import create_app
from tsforecast.types import Forecast

Train = Callable[..., Trained]
# A model on data with missing values and covariates, and on several series: enough where features play no part.
MODELS = list(product(["beijing_pm25", "panel"], ["calendar"], options("model")))
SEEDED = [(("beijing_pm25", "panel")[i % 2], "calendar", model) for i, model in enumerate(options("model"))]
SHALLOW = [model for model in options("model") if not deep(model) and not local(model)]
CASES = sorted({*pairwise(options("dataset"), options("feature"), SHALLOW), *MODELS})


def same(a: Forecast, b: Forecast) -> None:
    assert a.channels == b.channels
    assert list(a.ids) == list(b.ids)
    assert list(a.cutoff) == list(b.cutoff)
    np.testing.assert_array_equal(a.values, b.values)
    assert a.quantile_levels == b.quantile_levels == LEVELS
    assert a.quantiles is not None
    assert b.quantiles is not None
    np.testing.assert_array_equal(a.quantiles, b.quantiles)
    assert np.isfinite(a.values).all()


LOCAL = [("panel", "calendar", "ridge", "scaler.scope=window"),
         ("beijing_pm25", "lags", "ridge", "scaler.scope=window"),
         ("etth1", "calendar", "nlinear", "scaler.scope=window")]  # fmt: skip


@pytest.mark.parametrize("key", [*CASES, *LOCAL], ids="-".join)
def test_when_everything_after_the_cutoff_changes_then_the_forecast_does_not(
    trained: Train, key: tuple[str, ...]
) -> None:
    case = trained(*key)
    cutoff = case.borders.val_end + 20
    forecasts = []
    for panel in (case.panel, changed(case.panel, cutoff)):
        windows = replace(case.data, encoded=case.bundle.features.encode(panel)).windows("test")
        at = windows.subset(windows.origins == cutoff[windows.series])
        assert len(at) == len(panel)
        forecasts.append(case.bundle.predict(at, slice(None)))
    for before, after in zip(*forecasts, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("key", [*CASES, *LOCAL], ids="-".join)
def test_a_forecast_from_the_last_rows_is_the_backtests_to_the_bit_and_the_reloaded_bundles(
    trained: Train, tmp_path: Path, key: tuple[str, ...]
) -> None:
    case = trained(*key)
    bundle = case.bundle
    alone = case.forecast(rows=LOOKBACK)
    same(alone, case.forecast())
    windows, end = case.data.windows("test"), case.panel.offsets[1:] - HORIZON
    windows = windows.subset(windows.origins > end[windows.series] - (20 if local(key[2]) else ROWS))
    last = np.flatnonzero(windows.origins == end[windows.series])
    series = bundle.features.series(case.panel.ids)[windows.series[last]]
    whole = Prediction(*(None if each is None else each[last] for each in bundle.predict(windows, slice(None))))
    values, quantiles, _ = bundle.invert(whole, series)
    np.testing.assert_array_equal(alone.values, values)
    np.testing.assert_array_equal(alone.quantiles, quantiles)
    bundle.save(tmp_path / "bundle")
    same(alone, case.forecast(Bundle.load(tmp_path / "bundle"), rows=LOOKBACK))


@pytest.mark.parametrize(("dataset", "feature", "model"), MODELS)
def test_over_http_the_forecast_is_the_bundles_to_the_bit(
    trained: Train, tmp_path: Path, dataset: str, feature: str, model: str
) -> None:
    case = trained(dataset, feature, model)
    bundle = case.saved(tmp_path / "bundle")
    app = create_app()
    app.state.server.start(str(bundle.path))
    asked = request(bundle)
    found = Client(app)("POST", "/forecast", asked)
    assert found.status == 200, found.body
    check(case.bundle, asked, found.body)
    check(Bundle.load(tmp_path / "bundle"), asked, found.body)


@pytest.mark.parametrize(("dataset", "feature", "model"), MODELS)
def test_when_columns_are_shuffled_then_the_forecast_is_the_same(
    trained: Train, dataset: str, feature: str, model: str
) -> None:
    case = trained(dataset, feature, model)
    history, future = case.history(), case.future()
    shuffled = [None if frame is None else frame[list(reversed(frame.columns))] for frame in (history, future)]
    same(case.forecast(), case.bundle.forecast(*shuffled))


@pytest.mark.parametrize("dataset", options("dataset"))
def test_when_a_channel_is_missing_or_renamed_then_the_error_names_it(trained: Train, dataset: str) -> None:
    case = trained(dataset, "calendar", "naive")
    name = "y" if "y" in case.history() else case.bundle.channels[0]
    with refused(DataError, where="history", what=has(f"{name!r} is missing")):
        case.bundle.forecast(case.history().drop(columns=name))
    with refused(DataError, where="history", what=has(f"{name!r} is missing", f"{name}_x")):
        case.bundle.forecast(case.history().rename(columns={name: f"{name}_x"}))


def test_when_a_file_of_channels_has_one_more_at_prediction_then_the_error_names_it(trained: Train) -> None:
    case = trained("wide", "calendar", "naive")
    with refused(DataError, where="history", what=has("'surplus' is not to be here")):
        case.bundle.forecast(case.history().assign(surplus=1.0))


@pytest.mark.parametrize("dataset", options("dataset"))
@pytest.mark.parametrize("scaler", options("scaler"))
def test_when_validation_and_test_rows_change_then_what_was_fitted_does_not(
    trained: Train, dataset: str, scaler: str
) -> None:
    from tests.contracts.conftest import compose
    from tsforecast.config.compose import build

    case = trained(dataset, "calendar", "naive")
    panel = replace(case.panel, target=np.abs(case.panel.target))  # log1p takes no negative values
    built = build(compose("train", f"scaler={scaler}").scaler)
    for one in built.values() if isinstance(built, dict) else [built]:  # those that scaler=auto chooses from
        states = []
        for data in (panel, changed(panel, case.borders.train_end)):
            states.append(FeatureSet((), one).fit(data.rows(case.borders.begin, case.borders.train_end)).state())
        assert states[0].keys() == states[1].keys()
        for key, value in states[0].items():
            np.testing.assert_array_equal(value, states[1][key])


@pytest.mark.parametrize(("dataset", "feature", "model"), SEEDED)
def test_the_same_seed_gives_the_same_bytes(
    trained: Train, tmp_path: Path, dataset: str, feature: str, model: str
) -> None:
    again = trained.__wrapped__(dataset, feature, model)  # type: ignore[attr-defined]
    saved = [case.bundle.save(tmp_path / str(i)) for i, case in enumerate((trained(dataset, feature, model), again))]
    assert saved[0].digest == saved[1].digest


def test_a_saved_bundle_can_be_loaded_and_forecast_without_the_training_packages(
    trained: Train, tmp_path: Path
) -> None:
    import subprocess
    import sys

    case = trained("wide", "calendar", "nlinear")
    case.bundle.save(tmp_path / "bundle")
    case.history().to_csv(tmp_path / "history.csv", index=False)
    program = (
        "import sys\n"
        "for name in ('torch', 'lightning', 'hydra', 'omegaconf', 'mlflow', 'matplotlib', 'pooch'):\n"
        "    sys.modules[name] = None\n"
        "import pandas as pd, tsforecast as tsf\n"
        "forecast = tsf.load_bundle(sys.argv[1]).forecast(pd.read_csv(sys.argv[2]))\n"
        "sys.stdout.write(repr(forecast.values.tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "bundle", tmp_path / "history.csv"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    expected = Bundle.load(tmp_path / "bundle").forecast(case.history())
    np.testing.assert_allclose(np.array(eval(done.stdout)), expected.values, rtol=1e-6)
