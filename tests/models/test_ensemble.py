"""Ensembles against a slow search, against members whose worth is known, and against what they may not see."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import pytest
from tests.errors import has, refused

import tsforecast as tsf
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.card import card
from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.errors import BundleError, ConfigError
from tsforecast.features.base import FeatureSet
from tsforecast.features.scaling import StandardScaler
from tsforecast.models.base import Estimator, Forecaster
from tsforecast.models.ensemble import Ensemble, EnsembleForecaster, greedy
from tsforecast.models.linear import Ridge
from tsforecast.models.naive import SeasonalNaive
from tsforecast.training.crossfit import cross_errors
from tsforecast.training.ensemble import earlier, fit_ensemble
from tsforecast.training.fit import Fitting
from tsforecast.types import Window
from tsforecast.windows import Windows

ROWS, TRAIN, LOOKBACK, HORIZON, SEASON = 700, 500, 48, 8, 24


def frame() -> pd.DataFrame:
    rng, t = np.random.default_rng(3), np.arange(ROWS)
    wave = np.sin(2 * np.pi * t / SEASON)
    return pd.DataFrame(
        {"date": pd.date_range("2024-01-01", periods=ROWS, freq="h"), "load": wave + 0.3 * rng.standard_normal(ROWS)}
    )


def parts(rows: pd.DataFrame, *, poisoned: int = 0) -> tuple[Windows, Windows, Any]:
    """Train and validation windows; the first `poisoned` rows hold nonsense, unknown to the scaler."""
    panel = to_panel(rows, Schema(time="date", freq="h"))
    features = FeatureSet((), StandardScaler()).fit(panel.rows(np.array([0]), np.array([TRAIN])))
    target = panel.target.copy()
    target[:poisoned] = 1e3
    encoded = features.encode(replace(panel, target=target))
    sizes: dict[str, Any] = {"lookback": LOOKBACK, "horizon": HORIZON}
    train = Windows.over(encoded, begin=np.array([0]), end=np.array([TRAIN]), **sizes)
    val = Windows.over(encoded, begin=np.array([TRAIN + LOOKBACK]), end=np.array([ROWS]), **sizes)
    return train, val, Fitting(encoded.dims(LOOKBACK, HORIZON, SEASON), lambda **_: None)


@dataclass
class Remembered(Forecaster):
    """Gives the label of the window that it was shown, and of any other that of a window chosen by chance."""

    shown: Mapping[bytes, np.ndarray] = field(default_factory=dict)

    def predict(self, window: Window) -> np.ndarray:
        rest = list(self.shown.values())
        found = [self.shown.get(row.tobytes(), rest[int(abs(row.sum()) * 1e6) % len(rest)]) for row in window.target]
        return np.stack(found)

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> Self:
        return self


class Memory(Estimator):
    """Remembers every train window: without an error there, and of no use elsewhere."""

    uses: ClassVar[None] = None

    def fit(self, train: Windows, val: Windows, dims: Any) -> Remembered:
        window, label = train.batch(slice(None))
        return Remembered({row.tobytes(): each for row, each in zip(window.target, label, strict=True)})


@dataclass
class Fixed(Estimator):
    """A forecaster that is there already, so that a test may change the train rows behind it."""

    forecaster: Forecaster
    uses: ClassVar[None] = None

    def fit(self, train: Windows, val: Windows, dims: Any) -> Forecaster:
        return self.forecaster


@pytest.mark.parametrize("loss", ["absolute", "squared"])
def test_greedy_selection_comes_near_the_best_weights_of_a_slow_search(loss: str) -> None:
    rng = np.random.default_rng(0)
    label = rng.standard_normal((200, 3, 2))
    forecasts = np.stack([label + sigma * rng.standard_normal(label.shape) + 0.1 for sigma in (0.5, 0.7, 3.0)])
    label[:20, 0] = np.nan

    def of(weights: tuple[float, ...]) -> float:
        error = np.tensordot(weights, forecasts, axes=1) - label
        return float(np.nanmean(np.abs(error) if loss == "absolute" else error**2))

    grid = [(a, b, 1 - a - b) for a, b in product(np.linspace(0, 1, 51), repeat=2) if a + b <= 1]
    best = min(map(of, grid))
    weights, found = greedy(forecasts, label, loss, 50)
    assert found == pytest.approx(of(tuple(weights)))
    assert weights.sum() == pytest.approx(1)
    assert found == pytest.approx(best, rel=0.01)
    assert found < min(of(tuple(row)) for row in np.eye(3))


def test_a_member_that_remembers_the_train_rows_has_no_weight() -> None:
    train, val, fitting = parts(frame())
    memory, label = Memory().fit(train, val, fitting.dims), train.batch(slice(None))[1]
    np.testing.assert_array_equal(memory.predict(train.window(slice(None))), label)  # in-sample it would win
    fitted = fit_ensemble(Ensemble(models={"memory": Memory(), "ridge": Ridge()}), train, val, fitting)
    assert [*fitted.chosen["weights"]] == ["ridge"]


def test_weights_are_the_same_whatever_the_train_rows_become_after_the_fit() -> None:
    train, val, fitting = parts(frame())
    models = {"ridge": Ridge(), "seasonal_naive": SeasonalNaive(), "naive": SeasonalNaive(1)}
    first = fit_ensemble(Ensemble(models=models), train, val, fitting)
    kept = {name: Fixed(model.fit(train, val, fitting.dims)) for name, model in models.items()}
    poisoned = parts(frame(), poisoned=TRAIN)
    again = fit_ensemble(Ensemble(models=kept), *poisoned)
    assert first.chosen["weights"] == again.chosen["weights"]
    assert len(first.chosen["weights"]) > 1


def test_where_one_model_is_right_for_the_first_steps_and_another_for_the_last_each_block_has_weights_of_its_own() -> (
    None
):
    train, val, fitting = parts(frame())
    truth = val.batch(slice(None))[1]

    @dataclass
    class Half(Remembered):
        good: int = 0

        def predict(self, window: Window) -> np.ndarray:
            out = np.full((len(window.target), HORIZON, 1), 9.0, np.float32)
            steps = slice(self.good, self.good + 4)
            out[:, steps] = truth[: len(out), steps]
            return out

    halves = {"first": Fixed(Half(good=0)), "second": Fixed(Half(good=4))}
    fitted = fit_ensemble(Ensemble(models=halves), train, val, fitting)
    assert fitted.chosen["weights"] == {"first": [1, 1, 0, 0], "second": [0, 0, 1, 1]}
    np.testing.assert_array_equal(fitted.forecaster.predict(val.window(slice(None))), truth)


def test_an_ensemble_is_the_weighted_mean_of_its_members_also_when_loaded_and_fitted_on_all_rows(
    tmp_path: Path,
) -> None:
    words = ("model=ensemble", "lookback=48", "horizon=8", "feature=[]", "refit=all")
    members = ("split.train=0.6", "split.val=0.2", "members=[theta,seasonal_naive,ridge]")
    result = tsf.train(*words, *members, data=frame())
    weights, forecaster = result.fitted.chosen["weights"], result.bundle.forecaster
    assert isinstance(forecaster, EnsembleForecaster)
    assert "ridge" in weights
    assert [*forecaster.members] == sorted(weights)
    loaded = Bundle.load(result.bundle.save(tmp_path / "bundle").path or "")
    np.testing.assert_array_equal(loaded.forecast(frame()).values, result.bundle.forecast(frame()).values)
    assert loaded.forecast(frame()).quantiles is not None
    window = result.data.windows("test").window(slice(0, 5))
    alone = [member.predict(window) for member in loaded.forecaster.members.values()]  # type: ignore[attr-defined]
    mean = np.einsum("mh,mbhc->bhc", loaded.forecaster.weights, np.stack(alone))  # type: ignore[attr-defined]
    np.testing.assert_allclose(loaded.forecaster.predict(window), mean, rtol=1e-6)


def test_what_is_no_ensemble_is_refused() -> None:
    nested = Ensemble(models={"ridge": Ridge()})
    with refused(ConfigError, where="model.members", what=has("none of them is an ensemble")):
        Ensemble(models={"ensemble": nested})
    with refused(ConfigError, where="model.members", got="rigde", fix=has("ridge")):
        Ensemble(models={"ridge": Ridge()}, members=["rigde"])
    with refused(ConfigError, where="model.budget", got="5 days"):
        Ensemble(models={"ridge": Ridge()}, budget="5 days")
    with refused(ConfigError, got="rigde", allowed=has("ridge")):
        tsf.train("model=ensemble", "members=[rigde]", data=frame())


def test_a_member_of_a_bundle_is_built_by_the_rules_of_the_bundle(tmp_path: Path) -> None:
    import hashlib
    import json

    bundle = tsf.train("model=ensemble", "members=[ridge,naive]", "lookback=48", "horizon=8", data=frame()).bundle
    place = bundle.save(tmp_path / "bundle").path
    assert place is not None
    body = json.loads((place / "bundle.json").read_text())
    inside = body["forecaster"]["members"]
    for planted in ("os.system", "tsforecast.models.ensemble.EnsembleForecaster"):
        inside[next(iter(inside))] = {"_target_": planted, "members": {}}
        (place / "bundle.json").write_text(json.dumps(body))
        manifest = json.loads((place / "manifest.json").read_text())
        manifest["bundle.json"] = hashlib.sha256((place / "bundle.json").read_bytes()).hexdigest()
        (place / "manifest.json").write_text(json.dumps(manifest))
        with refused(BundleError, where="bundle.json"):
            Bundle.load(place)


def test_the_log_says_the_weights(caplog: pytest.LogCaptureFixture) -> None:
    train, val, fitting = parts(frame())
    with caplog.at_level(logging.INFO):
        fitted = fit_ensemble(Ensemble(models={"ridge": Ridge(), "naive": SeasonalNaive(1)}), train, val, fitting)
    assert "weights of 2 members learned on" in caplog.text
    assert "the same command without members= and budget=, with model=ridge" in fitted.note


def test_weights_by_quarter_of_the_horizon_are_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train, val, fitting = parts(frame())
    monkeypatch.setattr("tsforecast.training.ensemble.learned", lambda *_: [[1, 0.5, 0.5, 0.5], [0, 0.5, 0.5, 0.5]])
    with caplog.at_level(logging.INFO):
        fitted = fit_ensemble(Ensemble(models={"ridge": Ridge(), "naive": SeasonalNaive(1)}), train, val, fitting)
    assert " windows by quarter of the horizon: ridge 1.00 0.50 0.50 0.50" in caplog.text
    assert "weight by quarter of the horizon   seconds" in fitted.note


class Slow(Estimator):
    """Is fitted in rounds of a tenth of a second of its clock, without end."""

    uses: ClassVar[None] = None
    now = 0.0

    def fit(self, train: Windows, val: Windows, dims: Any, on: Any = None) -> Forecaster:
        for number in range(100):
            self.now += 0.1
            on(number, 1.0)
        raise AssertionError("nobody has ended it")


def test_within_a_budget_what_takes_too_long_or_cannot_be_fitted_is_left_out_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, val, fitting = parts(frame())
    slow = Slow()
    models = {"ridge": Ridge(), "long_season": SeasonalNaive(LOOKBACK + 1), "slow": slow, "naive": SeasonalNaive(1)}
    monkeypatch.setattr(time, "monotonic", lambda: slow.now)
    fitted = fit_ensemble(Ensemble(models=models, budget="3s"), train, val, fitting)
    assert 0 < slow.now < 3
    assert "ridge" in fitted.chosen["weights"]
    assert "left out: slow, it takes more than" in fitted.note
    assert "left out: long_season, " in fitted.note
    with refused(ConfigError, where="model.season"):  # without a budget each was asked for
        fit_ensemble(Ensemble(models=models), train, val, fitting)
    with refused(ConfigError, where="model.budget", what=has("no candidate")):
        fit_ensemble(Ensemble(models={"slow": slow}, budget=1), train, val, fitting)


@dataclass
class Lasting(Estimator):
    """Ridge, in so many seconds of a clock."""

    clock: list[float]
    seconds: int
    uses: ClassVar[None] = None

    def fit(self, train: Windows, val: Windows, dims: Any, on: Any = None) -> Forecaster:
        for number in range(self.seconds):
            self.clock[0] += 1.0
            on(number, 1.0)
        return Ridge().fit(train, val, dims)


@pytest.mark.parametrize(("budget", "until"), [("100s", np.inf), ("1h", 100.0)])  # of the model, or of the whole run
def test_what_takes_more_than_its_share_is_tried_again_once_the_others_are_done(
    monkeypatch: pytest.MonkeyPatch, budget: str, until: float
) -> None:
    train, val, fitting = parts(frame())
    clock = [0.0]
    monkeypatch.setattr("tsforecast.training.ensemble.time.monotonic", lambda: clock[0])
    models = {f"of_{n}": Lasting(clock, n) for n in (16, 18, 40)}  # 100 / 6, 84 / 6, then 57 / 3
    fitted = fit_ensemble(Ensemble(models=models, budget=budget), train, val, replace(fitting, until=until))
    assert "left out: of_40, it takes more than" in fitted.note
    assert "of_18 " in fitted.note
    assert "of_16 " in fitted.note
    assert clock[0] == 16 + (15 + 12) + 18 + 14  # what is late is ended


def test_without_time_intervals_come_from_the_last_of_the_earlier_cutoffs() -> None:
    words = ("model=ensemble", "members=[ridge]", "lookback=48", "horizon=8", "feature=[]", "split=tail")
    result = tsf.train(*words, "split.val=8", "split.test=8", data=frame())
    model, data = result.experiment.model.refitting(result.fitted.chosen), result.data
    fitting = Fitting(data.dims, result.experiment.trainer)
    given = model, data, data.rows("train")
    whole, short = cross_errors(*given, fitting), cross_errors(*given, replace(fitting, until=time.monotonic()))
    assert len(whole) == 20
    np.testing.assert_array_equal(short.values, whole.values[-1:])


def test_the_fit_that_is_kept_has_the_time_that_is_left_for_its_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def seen(*args: Any) -> Any:
        given.append(args[-1].left)
        return cross_errors(*args)

    monkeypatch.setattr("tsforecast.experiment.cross_errors", seen)
    words = ("model=auto", "budget=60s", "members=[ridge]", "lookback=48", "horizon=8", "feature=[]", "split=tail")
    tsf.train(*words, "split.val=8", "split.test=8", "refit=all", data=frame())
    scored, kept = given
    assert 0 < scored <= 30, "the other half is for the scores"
    assert 0 < kept <= 60


def test_where_validation_has_one_cutoff_earlier_ones_are_forecast_by_fits_that_have_not_seen_them() -> None:
    series = [
        frame().assign(unique_id=name, load=lambda rows, k=k: rows["load"] * k) for k, name in enumerate("abc", 1)
    ]
    panel = to_panel(pd.concat(series), Schema(time="date", id="unique_id", target=("load",), freq="h"))
    features = FeatureSet((), StandardScaler()).fit(panel)
    first, sizes = panel.offsets[:-1], {"lookback": LOOKBACK, "horizon": HORIZON}
    train, val = (
        Windows.over(features.encode(panel), begin=first + begin, end=first + end, **sizes)
        for begin, end in ((0, TRAIN), (TRAIN, TRAIN + HORIZON))
    )
    ((early, late),) = earlier(train, val, Ensemble(models={"ridge": Ridge()}), SEASON)
    assert len(late) == 9
    for name in range(3):
        last, judged = early.origins[early.series == name].max(), late.origins[late.series == name]
        assert last + HORIZON == judged.min()  # labels of the one end where those of the other begin
        assert [*judged - first[name]] == [TRAIN - 3 * HORIZON, TRAIN - 2 * HORIZON, TRAIN - HORIZON]
    assert earlier(train, train, Ensemble(models={"ridge": Ridge()}), SEASON) == []


def test_where_validation_is_shorter_than_four_horizons_as_many_earlier_cutoffs_of_each_judge_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="tsforecast")
    train, val, _ = parts(frame())
    ((_, late),) = earlier(train, val.subset(slice(2)), Ensemble(models={"ridge": Ridge()}), SEASON)
    assert [*TRAIN - late.origins] == [24 + 4, 24, 20, 16, 12, 8]
    assert "weights are learned on the last 24 train rows too" in caplog.text
    assert earlier(train, val.subset(slice(3 * HORIZON + 1)), Ensemble(models={"ridge": Ridge()}), SEASON) == []


def test_no_model_is_judged_by_windows_that_lack_a_season_which_the_last_ones_have() -> None:
    panel = to_panel(frame(), Schema(time="date", freq="h"))
    encoded = FeatureSet((), StandardScaler()).fit(panel).encode(panel, pad=LOOKBACK)
    sizes: dict[str, Any] = {"lookback": LOOKBACK, "horizon": HORIZON, "begin": np.array([0])}
    for end, judged in ((60, [52]), (50, [26, 34, 42])):
        train, val = (Windows.over(encoded, **sizes, end=np.array([rows])) for rows in (end, end + HORIZON))
        ((_, late),) = earlier(train, val.subset(slice(-1, None)), Ensemble(models={"ridge": Ridge()}), SEASON)
        assert [*late.origins] == judged


def test_auto_ends_with_a_board_of_its_candidates_and_what_trains_the_best_alone() -> None:
    words = ("model=auto", "members=[seasonal_naive,ridge,theta]", "budget=5m", "lookback=48", "horizon=8")
    result = tsf.train(*words, "feature=[]", data=frame())
    board = result.table()
    for name in ("ensemble", "seasonal_naive", "ridge", "theta"):
        assert f"\n{name} " in board
    assert board.rsplit("=", 1)[1] == min(("ridge", "seasonal_naive", "theta"), key=lambda n: _error(board, n))
    assert result.bundle.metadata["weights"] == result.fitted.chosen["weights"]
    for name, weights in result.fitted.chosen["weights"].items():
        assert f"{np.mean(weights):.2f} {name}, " in card(result.bundle)


def test_what_has_classical_members_looks_back_as_far_as_they_want() -> None:
    months = pd.date_range("2021", periods=48, freq="MS")
    rows = pd.DataFrame({"date": months, "y": 9 + np.sin(np.arange(48) * np.pi / 6)})
    words = ("calibration=none", "quantiles=[]", "evaluation.covariates=false")

    def back(*model: str) -> int:
        return tsf.train(*model, *words, data=rows).bundle.dims.lookback

    alone = back("model=theta")
    assert back("model=ensemble", "members=[ridge,theta]") == alone == 38
    assert back("model=ensemble", "members=[ridge,seasonal_naive]") == back("model=ridge") == 12


def test_a_member_may_be_changed_as_on_the_command_line() -> None:
    changed = "ridge model.lambdas=[30.0]"
    words = ("lookback=48", "horizon=8", "feature=[]", f"members=[naive,'{changed}']")
    result = tsf.train("model=ensemble", *words, data=frame())
    assert result.fitted.chosen["members"][changed]["lambda"] == 30


def test_what_needs_an_absent_package_is_left_out_within_a_budget_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "elsewhere.yaml").write_text("_target_: package_of_elsewhere.Model\n")
    monkeypatch.chdir(tmp_path)
    words = ("members=[elsewhere,ridge]", "lookback=48", "horizon=8", "feature=[]")
    with caplog.at_level(logging.WARNING):
        result = tsf.train("model=auto", *words, data=frame())
    assert [*result.fitted.chosen["members"]] == ["ridge"]
    assert "elsewhere is left out: " in caplog.text
    assert "package_of_elsewhere" in caplog.text
    with refused(ConfigError, what=has("package_of_elsewhere.Model cannot be built")):
        tsf.train("model=ensemble", *words, data=frame())


def _error(board: str, name: str) -> float:
    return float(next(line for line in board.splitlines()[::-1] if line.startswith(f"{name} ")).split()[1])


def test_each_cutoff_has_its_say_whatever_the_others_prefer() -> None:
    series = [frame().assign(unique_id=f"s{k:02}", load=lambda rows, k=k: rows["load"] * (1 + k)) for k in range(20)]
    panel = to_panel(pd.concat(series), Schema(time="date", id="unique_id", target=("load",), freq="h"))
    encoded = FeatureSet((), StandardScaler()).fit(panel).encode(panel)
    first, sizes = panel.offsets[:-1], {"lookback": LOOKBACK, "horizon": HORIZON}
    train, val = (
        Windows.over(encoded, begin=first + begin, end=first + end, **sizes)
        for begin, end in ((0, TRAIN), (TRAIN - LOOKBACK, TRAIN + HORIZON))
    )
    val = val.subset(val.origins == first[val.series] + TRAIN)

    @dataclass
    class Once(Remembered):
        def predict(self, window: Window) -> np.ndarray:
            return np.stack([self.shown.get(row.tobytes(), np.full((HORIZON, 1), 9.0)) for row in window.target])

    members = {}
    for cutoffs in range(4):  # each is right at one of them, and nowhere else
        own = val if cutoffs == 0 else train.subset(train.origins == first[train.series] + TRAIN - cutoffs * HORIZON)
        window, label = own.batch(slice(None))
        shown = {row.tobytes(): each for row, each in zip(window.target, label, strict=True)}
        members[f"at {cutoffs}"] = Fixed(Once(shown))
    fitting = Fitting(encoded.dims(LOOKBACK, HORIZON, SEASON), lambda **_: None)
    fitted = fit_ensemble(Ensemble(models=members), train, val, fitting)
    assert fitted.chosen["weights"] == {name: [0.25] for name in members}
