"""Pretrained networks against the packages they were published with, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fracast import FracastModel
from safetensors.torch import load_file, save_file
from scipy.stats import norm
from tests.errors import has, refused
from tests.pretrained import small_fracast

import tsforecast as tsf
from tsforecast.errors import ConfigError
from tsforecast.models.ensemble import Ensemble
from tsforecast.models.linear import Ridge
from tsforecast.models.neural import Neural
from tsforecast.models.pretrained import Pretrained, between, load
from tsforecast.training.export import to_onnx
from tsforecast.training.results import seen
from tsforecast.types import Dims, Window

PUBLISHED = Path(__file__).parent / "published"


def window(lookback: int, gaps: float = 0.1) -> tuple[Window, np.ndarray]:
    """Two windows of two channels with gaps, and the four series with NaN for these."""
    rng = np.random.default_rng(0)
    daily = 5 * np.sin(np.arange(lookback) / 24 * 2 * np.pi)[None, :, None]
    values = (3 + daily + rng.normal(size=(2, lookback, 2))).astype(np.float32)
    seen = rng.random(values.shape) >= gaps
    filled = torch.from_numpy(np.where(seen, values, -99).astype(np.float32))
    empty = torch.zeros(2, 0)
    series = np.where(seen, values, np.nan).transpose(0, 2, 1).reshape(4, lookback)
    return Window(filled, empty, empty, empty, empty, torch.from_numpy(seen)), series


@pytest.mark.parametrize(("lookback", "horizon"), [(300, 100), (2100, 8)])
def test_fracast_forecasts_what_its_package_does(lookback: int, horizon: int) -> None:
    read, series = window(lookback)
    with torch.no_grad():
        found = Pretrained()(Dims(lookback, horizon, 2, quantiles=(0.1, 0.5, 0.9)))(read).numpy()
    published = FracastModel.from_pretrained(weights="fp32").forecast(series, horizon=horizon)[..., [0, 4, 8]]
    np.testing.assert_allclose(found, published.reshape(2, 2, horizon, 3).transpose(0, 2, 1, 3), rtol=0, atol=2e-5)


@pytest.mark.parametrize("values", ["odd", "long", "short"])
@pytest.mark.parametrize("layout", ["chronos_bolt", "timesfm"])
def test_a_layout_forecasts_what_its_package_does(layout: str, values: str) -> None:
    """With drawn weights and rows that are no whole patches; `published/make.py` has written them down."""
    network, reference = load(PUBLISHED / layout), np.load(PUBLISHED / layout / "reference.npz")
    network.season = 12
    series = reference[f"{values}_values"][:, -network.context :]
    seen = np.isfinite(series)
    given = (np.where(seen, series, -99).astype(np.float32), seen.astype(np.float32))
    with torch.no_grad():
        found = network(*map(torch.from_numpy, given)).numpy()
    np.testing.assert_allclose(found, reference[f"{values}_quantiles"].transpose(0, 2, 1), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("layout", ["chronos_bolt", "timesfm"])
def test_a_layout_is_served_as_onnx(layout: str) -> None:
    """The export compares itself with torch; on a machine with onnxruntime alone it forecasts the same."""
    dims = Dims(100, 25, 2, quantiles=(0.1, 0.5, 0.9))
    network, (read, _) = Pretrained(str(PUBLISHED / layout))(dims).eval(), window(100, gaps=0)
    with torch.no_grad():
        expected = network(read).numpy()
    arrays = Window(**{name: None if each is None else each.numpy() for name, each in vars(read).items()})
    np.testing.assert_allclose(to_onnx(network, dims).predict(arrays), expected, rtol=1e-4, atol=1e-3)


def test_other_levels_are_interpolated_and_the_tails_are_normal() -> None:
    levels, wanted = np.arange(0.1, 0.95, 0.1), [0.01, 0.05, 0.1, 0.25, 0.5, 0.97]
    found = 7 + 2 * norm.ppf(levels) @ between(levels, wanted).T
    np.testing.assert_allclose(found, 7 + 2 * norm.ppf(wanted), rtol=1e-5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_fracast(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng, time = np.random.default_rng(1), pd.date_range("2024-01-01", periods=600, freq="h")
    return pd.DataFrame(
        {"date": time, "load": 500 + 90 * np.sin(np.arange(600) / 24 * 2 * np.pi) + rng.normal(size=600)}
    )


def trained(frame: pd.DataFrame, weights: Path, *overrides: str) -> tsf.Result:
    given = (f"weights={weights}", "lookback=100", "horizon=40", "quantiles=[]", "calibration=none")
    settings = ("feature=[]", "tracking=none", "report=none", "evaluation.baselines={}", "model.most=20")
    return tsf.train(*given, *settings, "model=pretrained", *overrides, data=frame, target=["load"])


@pytest.fixture(scope="module")
def zero_shot(frame: pd.DataFrame, weights: Path) -> tsf.Result:
    return trained(frame, weights)


def test_a_bundle_forecasts_in_original_units_what_the_network_does(
    frame: pd.DataFrame, weights: Path, zero_shot: tsf.Result
) -> None:
    found = zero_shot.bundle.forecast(frame).values[0, :, 0]
    network, series = load(weights), torch.from_numpy(frame["load"].to_numpy(np.float32))[None]
    blocks: list[torch.Tensor] = []
    with torch.no_grad():
        for _ in range(4):
            blocks.append(network(series[:, -64:], torch.ones(1, 64))[..., 4])
            series = torch.cat([series, blocks[-1]], 1)
    np.testing.assert_allclose(found, torch.cat(blocks, 1)[0, :40], rtol=1e-5)


def test_when_epochs_are_trained_then_the_weights_follow_the_rows(
    frame: pd.DataFrame, weights: Path, zero_shot: tsf.Result
) -> None:
    brief = ("trainer.max_epochs=1", "+trainer.limit_train_batches=15")
    tuned = trained(frame, weights, "model.epochs=null", "model.optimizer.lr=0.01", *brief)
    assert tuned.metrics["val/mse"] < 0.7 * zero_shot.metrics["val/mse"]


def test_a_network_as_it_is_reads_as_far_back_as_rows_allow_and_one_that_learns_does_not() -> None:
    assert not Neural(Pretrained(), epochs=0).trains
    assert Neural(Pretrained(), epochs=None).trains
    assert Neural(Pretrained(), epochs=0, warm_start=Ridge()).trains


def test_a_network_that_is_not_trained_is_exported_once_however_often_it_is_fitted(
    frame: pd.DataFrame, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[Dims] = []

    def counted(network: Any, dims: Dims) -> Any:
        exported.append(dims)
        return to_onnx(network, dims)

    monkeypatch.setattr("tsforecast.training.export.to_onnx", counted)
    few = ("lookback=40", "horizon=6", "feature=[]", "tracking=none", "report=none", "split=tail", "split.val=6")
    member = f"model.backbone.weights={weights}"
    for model in ((member, "model=pretrained"), ("model=ensemble", f"members=['pretrained {member}',naive]")):
        exported.clear()
        found = tsf.train(*few, "split.test=6", "refit=all", *model, data=frame[:90], target=["load"])
        assert found.bundle.metadata["calibration"] > 10, "intervals come from fits at earlier cutoffs"
        assert len(exported) == 1
        copy.deepcopy(found.experiment)  # as for a job of a backtest that is another process


@pytest.mark.parametrize(("dataset", "stated", "said"), [("ETTh1", None, True), ("sales", None, None),
                                                        ("M4_100", None, True), ("m48", None, None),
                                                        ("ETTh1", False, False), ("sales", True, True)])  # fmt: skip
def test_whether_it_was_pretrained_on_a_dataset_is_stated_or_told_by_its_name(
    weights: Path, dataset: str, stated: bool | None, said: bool | None
) -> None:
    assert Pretrained(str(weights), stated).seen(dataset) is said


def test_an_ensemble_has_seen_what_a_member_has(weights: Path) -> None:
    models: dict[str, Any] = {
        name: Neural(Pretrained(str(weights), known)) for name, known in (("a", True), ("b", None), ("c", False))
    }
    loaded = SimpleNamespace(name="sales")
    models["ridge"] = Ridge()
    found = [seen(Ensemble(models=models, members=each), loaded) for each in ("ca", "cb", "c", ["ridge"])]
    assert found == [{"trained_on_this_dataset": known} for known in (True, None, False)] + [{}]


def test_beside_its_scores_stands_whether_it_was_pretrained_on_the_dataset(
    frame: pd.DataFrame, weights: Path, zero_shot: tsf.Result, tmp_path: Path
) -> None:
    assert zero_shot.table().endswith("not known (model.backbone.trained_on_this_dataset)")
    zero_shot.save(tmp_path / "zero_shot")
    assert "pretrained on this dataset is not known" in (tmp_path / "zero_shot/bundle/card.md").read_text()
    board = tsf.leaderboard([tmp_path / "zero_shot"])
    assert board.fev().set_index("model_name")["trained_on_this_dataset"]["pretrained"] is None
    assert "pretrained on this dataset is not known" in board.table()


def test_what_is_no_release_is_refused(weights: Path, tmp_path: Path) -> None:
    with refused(ConfigError, got=has("no directory"), what=has("config.json")):
        load(tmp_path / "nowhere")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with refused(ConfigError, got=has("pytorch_model.bin"), fix=has("pickled")):
        load(tmp_path)
    config = json.loads((weights / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 20)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with refused(ConfigError, what=has("cannot be read"), got=has("SafetensorError")):
        load(tmp_path)
    tensors = load_file(weights / "model.safetensors")
    save_file({**tensors, "core.in_proj.bias": torch.zeros(9)}, tmp_path / "model.safetensors")
    with refused(ConfigError, got="core.in_proj.bias (9,)", allowed="core.in_proj.bias (8,)"):
        load(tmp_path)
    config["model"]["d_model"] = 2**20  # a terabyte of weights, of which none is allocated
    (tmp_path / "config.json").write_text(json.dumps(config))
    with refused(ConfigError, what=has("not those of the network"), got=has("(8,")):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["GPT2Model"]}))
    with refused(ConfigError, got=has("GPT2Model"), allowed=has("fracast")):
        load(tmp_path)
