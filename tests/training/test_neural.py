"""Networks: how they are built, trained and served, against slow loops and NeuralForecast's own training."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from neuralforecast import NeuralForecast as TheirTraining
from neuralforecast.losses.pytorch import MSE
from neuralforecast.models import LSTM, NHITS, TFT, DeepAR, PatchTST, TimeMixer, TimeXer, iTransformer
from tests.errors import has, refused
from torch import nn

import tsforecast as tsf
from tsforecast.errors import ConfigError
from tsforecast.models.backbones import Embedded, NeuralForecast, network
from tsforecast.models.linear import Ridge
from tsforecast.models.networks import DLinear, NLinear
from tsforecast.models.neural import Neural, Pinball, masked
from tsforecast.training.export import to_onnx
from tsforecast.training.fit import Fitted, Fitting, Silent, fit
from tsforecast.training.neural import Batches
from tsforecast.types import Dims, Encoded, Window
from tsforecast.windows import Windows

LEVELS = (0.1, 0.5, 0.9)


def encoded(rows: int = 400, channels: int = 2, past: int = 0, known: int = 0) -> Encoded:
    rng = np.random.default_rng(0)

    def waves(columns: int) -> np.ndarray:
        noise = rng.standard_normal((rows, columns)) * 0.3
        return (np.sin(np.arange(rows)[:, None] / 12 * 2 * np.pi + np.arange(columns)) + noise).astype(np.float32)

    names = {"known": tuple(f"hour_{i}" for i in range(known)), "past": tuple(f"wind_{i}" for i in range(past))}
    return Encoded(np.array([0, rows]), waves(channels), waves(past), waves(known), np.zeros((1, 0), np.float32),
                   names=names)  # fmt: skip


def windows(e: Encoded, begin: int, end: int, lookback: int = 24, horizon: int = 6) -> Windows:
    return Windows.over(e, lookback=lookback, horizon=horizon, begin=np.array([begin]), end=np.array([end]))


def window(dims: Dims, batch: int = 3) -> Window:
    return Window(torch.randn(batch, dims.lookback, dims.channels), torch.randn(batch, dims.lookback, dims.past),
                  torch.randn(batch, dims.lookback + dims.horizon, dims.known), torch.randn(batch, dims.static),
                  torch.randn(batch, dims.tabular, dims.channels))  # fmt: skip


def trained(
    model: Neural, e: Encoded, folder: Path | None, epochs: int, quantiles: tuple[float, ...] = (),
    ckpt_path: Path | None = None, horizon: int = 6, on: Any = None, **settings: Any,
) -> Fitted:  # fmt: skip
    trainer = partial(pl.Trainer, accelerator="cpu", max_epochs=epochs, logger=False, enable_progress_bar=False,
                      enable_model_summary=False, **settings)  # fmt: skip
    train, val = (windows(e, *rows, horizon=horizon) for rows in ((0, 300), (300, 400)))
    path = None if ckpt_path is None else str(ckpt_path)
    dims = e.dims(24, horizon, 12, quantiles)
    return fit(model, train, val, Fitting(dims, trainer, out=folder, ckpt_path=path, on=on or Silent()))


@pytest.mark.parametrize("missing", [False, True])
def test_the_pinball_loss_is_the_mean_over_levels_of_a_slow_loop(missing: bool) -> None:
    forecast, label = torch.randn(4, 5, 2, 3), torch.randn(4, 5, 2)
    if missing:
        label[0, 2] = torch.nan
    found = []
    for place in np.ndindex(4, 5, 2):
        for i, level in enumerate(LEVELS):
            error = float(label[place] - forecast[place][i])
            found.append(level * error if error >= 0 else (level - 1) * error)
    assert float(masked(Pinball(LEVELS), forecast, label, missing)) == pytest.approx(np.nanmean(found), rel=1e-5)


def test_the_weights_that_are_kept_are_those_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    e = encoded()
    model = Neural(NLinear, optimizer=partial(torch.optim.SGD, lr=0.9), batch_size=32, patience=10)  # it overshoots
    fitted = trained(model, e, tmp_path, epochs=6)
    shown, label = windows(e, 300, 400).batch(slice(None))
    kept = float(np.mean((fitted.forecaster.predict(shown) - label) ** 2))
    losses = [each["val/loss"] for each in fitted.history]
    assert kept <= min(losses) * (1 + 1e-4)
    assert losses[-1] > min(losses)


def test_a_refit_with_the_epochs_that_were_chosen_ends_at_the_weights_that_were_kept() -> None:
    e = encoded()
    model = Neural(NLinear, optimizer=partial(torch.optim.SGD, lr=0.2), batch_size=32, patience=2, warm_start=Ridge())
    shown, none = windows(e, 300, 400).window(slice(None)), windows(e, 0, 0)
    for chooses in (model, replace(model, warm_start=None)):
        fitted = trained(chooses, e, None, epochs=12)
        refitting = chooses.refitting(fitted.chosen)
        trainer = partial(pl.Trainer, accelerator="cpu", max_epochs=50, logger=False, enable_progress_bar=False)
        refitted = fit(refitting, windows(e, 0, 300), none, Fitting(e.dims(24, 6, 12), trainer))
        assert refitted.chosen == fitted.chosen
        np.testing.assert_array_equal(refitted.forecaster.predict(shown), fitted.forecaster.predict(shown))
    assert 0 < fitted.chosen["epochs"] < len(fitted.history)


@pytest.mark.parametrize(
    "settings", [{"num_sanity_val_steps": n} for n in (0, 1, 2)] + [{"limit_val_batches": 2}], ids=str
)
def test_untrained_weights_are_never_kept_where_training_bettered_them(tmp_path: Path, settings: dict) -> None:
    e = encoded()
    e.target[310:340] *= 0.01  # the first validation windows are easy, whatever the weights
    model = Neural(NLinear, optimizer=partial(torch.optim.SGD, lr=0.05), val_batch_size=8)
    fitted = trained(model, e, tmp_path, epochs=2, **settings)
    shown, label = windows(e, 300, 400).batch(slice(0, 16 if "limit_val_batches" in settings else None))
    kept = float(np.mean((fitted.forecaster.predict(shown) - label) ** 2))
    assert kept == pytest.approx(min(each["val/loss"] for each in fitted.history), rel=1e-4)
    assert fitted.note == ""


def test_a_trainers_own_callbacks_are_called_beside_those_of_the_fit(tmp_path: Path) -> None:
    class Count(pl.Callback):
        epochs = 0

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.epochs += 1

    first, second = Count(), Count()
    for given in ([first, second], first, None):
        trained(Neural(NLinear, patience=9), encoded(), tmp_path, epochs=2, callbacks=given)
        assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert (first.epochs, second.epochs) == (4, 2)


@pytest.mark.parametrize("start", [Ridge(), None])
def test_when_no_epoch_betters_the_start_then_the_fit_says_what_is_kept(tmp_path: Path, start: Ridge | None) -> None:
    model = Neural(NLinear, optimizer=partial(torch.optim.SGD, lr=50.0), warm_start=start, patience=9)
    fitted = trained(model, encoded(), tmp_path, epochs=2)
    assert ("ridge" if start else "untrained") in fitted.note
    assert "2" in fitted.note


def test_the_default_nlinear_does_not_scatter_about_the_ridge_solution_that_it_starts_from() -> None:
    """At ten times the rate the first epoch is .2 % worse on validation, and the second .3 % better than that."""
    words = ("+experiment=etth2", "lookback=168", "split.test=200")
    run = tsf.train("model=nlinear", "model.patience=9", "trainer.max_epochs=2", *words)
    ridge = tsf.train("model=ridge", *words).metrics["val/mse"]
    assert [each["val/loss"] for each in run.fitted.history] == pytest.approx([ridge, ridge], rel=5e-4)
    assert run.metrics["val/mse"] < (1 + 1e-5) * ridge


def test_the_curve_of_a_resumed_run_is_that_of_the_whole_run(tmp_path: Path) -> None:
    model, e = Neural(DLinear, patience=9), encoded()
    whole = trained(model, e, tmp_path / "whole", epochs=4)
    half = trained(model, e, tmp_path / "half", epochs=2)
    assert half.history == whole.history[:2]
    rest = trained(model, e, tmp_path / "rest", epochs=4, ckpt_path=tmp_path / "half" / "checkpoints" / "last.ckpt")
    assert [each["epoch"] for each in rest.history] == [0, 1, 2, 3]
    assert rest.history == whole.history


class Dropout(nn.Sequential):
    """A linear map of the window after dropout: an epoch depends on the random numbers before it."""

    def __init__(self, dims: Dims) -> None:
        super().__init__(nn.Dropout(0.3), nn.Linear(dims.lookback, dims.horizon))

    def forward(self, window: Window) -> torch.Tensor:
        return super().forward(window.target.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("patience", [1, 9])
@pytest.mark.parametrize("until", ["in epoch 1", "in epoch 2", "while saving 2", "the end"])
def test_a_fit_that_is_cut_off_anywhere_ends_in_the_state_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: str, patience: int
) -> None:
    e, heard = encoded(), Told()
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=0.9)  # the fifth epoch is the first to be worse
    scheduler = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)
    model = Neural(Dropout, optimizer=optimizer, scheduler=scheduler, batch_size=32, patience=patience)
    whole = trained(model, e, tmp_path / "whole", epochs=7)
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"

    class Cut(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if until == f"in epoch {trainer.current_epoch}" and trainer.global_step % 9 == 4:
                raise LookupError

    def save(checkpoint: dict[str, Any], path: Any) -> None:
        if until == f"while saving {checkpoint['epoch']}":
            Path(path).write_bytes(b"half")
            raise LookupError
        kept(checkpoint, path)

    kept = torch.save
    with monkeypatch.context() as patched, nullcontext() if until == "the end" else pytest.raises(LookupError):
        patched.setattr(torch, "save", save)
        trained(model, e, tmp_path / "cut", epochs=7, callbacks=[Cut()])
    assert [file.name for file in last.parent.iterdir()] == ["last.ckpt"]
    done = torch.load(last, weights_only=True)["epoch"]
    assert until == "the end" or done == int(until[-1]) - 1
    rest = trained(model, e, tmp_path / "cut", epochs=7, ckpt_path=last, on=heard)
    assert rest.history == whole.history == heard.records
    assert rest.chosen == whole.chosen
    ours, theirs = (torch.load(tmp_path / run / "checkpoints" / "last.ckpt") for run in ("cut", "whole"))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)
    shown = windows(e, 300, 400).window(slice(None))
    np.testing.assert_array_equal(rest.forecaster.predict(shown), whole.forecaster.predict(shown))
    assert len(whole.history) == {1: 5, 9: 7}[patience]


class Told:
    """Listens."""

    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []

    def epoch(self, record: Any) -> None:
        self.records.append(dict(record))


def test_a_checkpoint_that_does_not_fit_is_refused_before_training(tmp_path: Path) -> None:
    e = encoded()
    trained(Neural(DLinear), e, tmp_path, epochs=2)
    resume: dict[str, Any] = {"ckpt_path": tmp_path / "checkpoints" / "last.ckpt", "folder": tmp_path / "again"}
    with refused(ConfigError, where="ckpt_path", got=has("rest.weight [6, 24]"), allowed=has("[5, 24]")):
        trained(Neural(DLinear), e, epochs=4, horizon=5, **resume)
    with refused(ConfigError, where="trainer.max_epochs", got=1, allowed="2 or more"):
        trained(Neural(DLinear), e, epochs=1, **resume)
    with refused(ConfigError, where="ckpt_path", got=has("rest.weight"), allowed=has("linear.weight [6, 24]")):
        trained(Neural(NLinear), e, epochs=4, **resume)
    (tmp_path / "file").write_text("date,value")
    for path in (tmp_path / "file", tmp_path / "nowhere"):
        with refused(ConfigError, where="ckpt_path", fix=has("checkpoints/last.ckpt")):
            trained(Neural(DLinear), e, epochs=4, **resume | {"ckpt_path": path})


@pytest.mark.parametrize(
    "error",
    [MemoryError("Unable to allocate 9 GiB"), torch.OutOfMemoryError("CUDA out of memory."),
     RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_when_memory_runs_out_then_the_error_names_the_batch_size(tmp_path: Path, error: Exception) -> None:
    def full(forecast: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        raise error

    with pytest.raises(ConfigError) as told:
        trained(Neural(NLinear, loss=full, batch_size=64), encoded(), tmp_path, epochs=1)
    assert told.value.where == "model.batch_size"
    assert "model.batch_size=32" in str(told.value)


def test_every_epoch_leaves_a_checkpoint_to_resume_from(tmp_path: Path) -> None:
    class Look(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            files = [file.name for file in (tmp_path / "checkpoints").glob("*")]
            assert files == (["last.ckpt"] if trainer.current_epoch else [])

    trained(Neural(NLinear, patience=9), encoded(), tmp_path, epochs=3, callbacks=[Look()])
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 2


def test_a_listener_hears_of_every_epoch_and_ends_the_fit_with_the_best_weights_so_far(tmp_path: Path) -> None:
    class Third:
        def __init__(self) -> None:
            self.heard: list[dict[str, float]] = []

        def epoch(self, record: Any) -> bool:
            self.heard.append(dict(record))
            return len(self.heard) == 3

    e, on = encoded(), Third()
    model = Neural(NLinear, optimizer=partial(torch.optim.SGD, lr=0.9), patience=9)  # it overshoots
    fitted = trained(model, e, tmp_path, epochs=6, on=on)
    assert on.heard == fitted.history
    assert [record["epoch"] for record in on.heard] == [0, 1, 2]
    shown, label = windows(e, 300, 400).batch(slice(None))
    kept = float(np.mean((fitted.forecaster.predict(shown) - label) ** 2))
    assert kept <= min(record["val/loss"] for record in on.heard) * (1 + 1e-4)


def test_what_a_listener_raises_ends_the_fit(tmp_path: Path) -> None:
    class Pruner:
        def epoch(self, record: Any) -> None:
            raise LookupError("pruned")

    with pytest.raises(LookupError, match="pruned"):
        trained(Neural(NLinear), encoded(), tmp_path, epochs=2, on=Pruner())


def test_without_a_folder_nothing_is_written_and_the_forecasts_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    e, shown = encoded(), windows(encoded(), 300, 400).window(slice(None))
    with_files = trained(Neural(DLinear), e, tmp_path / "run", epochs=2)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    without = trained(Neural(DLinear), e, None, epochs=2)
    assert not list((tmp_path / "empty").rglob("*"))
    assert without.history == with_files.history
    assert np.array_equal(without.forecaster.predict(shown), with_files.forecaster.predict(shown))


def test_what_is_no_model_is_refused() -> None:
    e = encoded()
    parts = (windows(e, 0, 300), windows(e, 300, 400))
    with pytest.raises(ConfigError) as refused:
        fit(object(), *parts, Fitting(e.dims(24, 6, 12), pl.Trainer))
    assert (refused.value.where, refused.value.got) == ("model._target_", "object")


def test_processes_that_train_together_share_the_batches_of_an_epoch() -> None:
    epochs, parts = [], windows(encoded(), 24, 200)
    for place in range(3):
        batches = Batches(parts, 16, seed=1)
        batches.share = (place, 3)
        epochs.append([float(label.sum()) for _, label in batches])
        assert len(batches) == len(epochs[-1]) == 4
    whole = [float(label.sum()) for _, label in Batches(parts, 16, seed=1)]
    assert len(whole) == 11
    assert [epochs[i % 3][i // 3] for i in range(12)] == [*whole, whole[0]]


@pytest.mark.parametrize(
    ("answer", "got", "allowed"),
    [
        (lambda w: w.target, "[2, 24, 2]", "[2, 6, 2]"),
        (lambda w: w.target @ w.past, "Expected size", "forward(window)"),
    ],
)
def test_when_a_network_does_not_fit_the_data_then_the_error_comes_before_training_and_names_the_shapes(
    tmp_path: Path, answer: Callable[[Window], Any], got: str, allowed: str
) -> None:
    class Wrong(nn.Linear):
        def __init__(self, dims: Dims) -> None:
            super().__init__(1, 1)

        def forward(self, w: Window) -> Any:
            return answer(w)

    with refused(ConfigError, where="model.backbone", got=has(got), allowed=has(allowed)):
        trained(Neural(Wrong), encoded(), tmp_path, epochs=1)


@pytest.mark.parametrize(
    ("kind", "parameters", "name", "fix"),
    [
        (TimeXer, {"patch_len": 32, "hidden_size": 8, "d_ff": 8}, "patch_len", 32),
        (TimeMixer, {"d_model": 8, "d_ff": 8, "down_sampling_layers": 4}, "down_sampling_window", 32),
    ],
)
def test_when_the_lookback_does_not_fit_what_a_network_reads_at_a_time_then_the_error_names_the_parameter(
    tmp_path: Path, kind: Any, parameters: dict, name: str, fix: int
) -> None:
    with pytest.raises(ConfigError) as told:
        trained(Neural(NeuralForecast(partial(kind, **parameters))), encoded(), tmp_path, epochs=1)
    assert told.value.where == f"model.backbone.network.{name}"
    assert told.value.fix == f"lookback={fix}"


def test_when_a_network_forgets_the_quantiles_then_the_error_says_so(tmp_path: Path) -> None:
    class Point(nn.Module):
        def __init__(self, dims: Dims) -> None:
            super().__init__()
            self.map = nn.Linear(24, 6)

        def forward(self, w: Window) -> Any:
            return self.map(w.target.transpose(1, 2)).transpose(1, 2)

    with refused(ConfigError, where="model.backbone", got=has("[2, 6, 2]"), allowed=has("[2, 6, 2, 3]")):
        trained(Neural(Point, learns_quantiles=True), encoded(), tmp_path, epochs=1, quantiles=LEVELS)


def test_learned_quantiles_cover_what_they_say_more_or_less(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbone = NeuralForecast(partial(NHITS, mlp_units=[[16, 16]] * 3))
    e = encoded()
    logging.getLogger("pytorch_lightning").setLevel(logging.INFO)  # as its import does
    with caplog.at_level(logging.INFO):
        fitted = trained(Neural(backbone, learns_quantiles=True, patience=9), e, tmp_path, epochs=8, quantiles=LEVELS)
    assert not [each for each in caplog.records if "lightning" in each.name], "of devices that are not there"
    shown, label = windows(e, 300, 400).batch(slice(None))
    forecast = fitted.forecaster.predict(shown)
    assert forecast.shape == (*label.shape, 3)
    below = [(label < forecast[..., i]).mean() for i in range(3)]
    assert below[0] < 0.3 < below[1] + 0.1 < 0.8 < below[2] + 0.1


def test_quantiles_that_are_learned_start_about_ridge_as_far_as_its_errors_reach(tmp_path: Path) -> None:
    still = partial(torch.optim.SGD, lr=1e-12)
    model, e = Neural(NLinear, optimizer=still, learns_quantiles=True, warm_start=Ridge()), encoded()
    shown, label = windows(e, 0, 300).batch(slice(None))
    found = trained(model, e, tmp_path, epochs=1, quantiles=LEVELS).forecaster.predict(shown)
    ridge = Ridge().fit(windows(e, 0, 300), windows(e, 300, 400), e.dims(24, 6, 12)).predict(shown)
    apart = found - ridge[..., None]
    np.testing.assert_allclose(apart, np.broadcast_to(apart[:1, :, :1], apart.shape), atol=1e-4)
    below = (label[..., None] < found).mean(axis=(0, 2))
    np.testing.assert_allclose(below, np.tile(LEVELS, (6, 1)), atol=2 / (label.size / 6))


def test_a_network_starts_from_the_weights_neuralforecast_gives_it_and_leaves_the_generators_alone() -> None:
    dims = Dims(24, 6, 1)
    torch.manual_seed(7)
    state = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())
    ours = NeuralForecast(partial(NHITS))(dims).state_dict()
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1] == random.getstate()
    assert np.array_equal(state[2], np.random.get_state()[1])
    theirs = NHITS(h=6, input_size=24, random_seed=7).state_dict()
    assert all(torch.equal(value, ours[f"network.{name}"]) for name, value in theirs.items() if "blocks" in name)


def test_a_univariate_network_forecasts_every_channel_as_if_it_were_alone() -> None:
    dims = Dims(24, 6, 3, past=2, known=4, static=1, tabular=2, quantiles=LEVELS)
    torch.manual_seed(0)
    net = NeuralForecast(partial(TFT, hidden_size=8))(dims).eval()
    shown = window(dims)
    whole = net(shown)
    net.dims = replace(dims, channels=1)
    for c in range(3):
        alone = net(replace(shown, target=shown.target[..., c : c + 1], tabular=shown.tabular[..., c : c + 1]))
        torch.testing.assert_close(alone[:, :, 0], whole[:, :, c])


def test_quantiles_of_a_multivariate_network_stay_with_their_channel() -> None:
    dims = Dims(24, 6, 2, quantiles=LEVELS)
    net = NeuralForecast(partial(iTransformer, hidden_size=8, n_heads=2, d_ff=8))(dims).eval()
    shown = window(dims)
    level = torch.tensor([0.0, 1000.0])
    out = net(replace(shown, target=shown.target + level))
    assert out.shape == (3, 6, 2, 3)
    assert (out - level[:, None]).abs().max() < 50


@pytest.mark.parametrize(
    ("kind", "parameters", "where", "fix"),
    [
        (NHITS, {"mlp_unit": 3}, ".mlp_unit", "did you mean mlp_units?"),
        (NHITS, {"learning_rate": 0.1}, ".learning_rate", "to model"),
        (DeepAR, {}, "", "recurrent=false"),
        (LSTM, {"recurrent": True}, "", "recurrent=false"),
    ],
)
def test_when_a_parameter_cannot_be_then_composing_says_so(kind: Any, parameters: dict, where: str, fix: str) -> None:
    with refused(ConfigError, where=f"model.backbone.network{where}", fix=has(fix)):
        NeuralForecast(partial(kind, **parameters))


def test_the_covariates_a_network_uses_are_those_its_class_says_it_reads() -> None:
    found = {kind: Neural(NeuralForecast(partial(kind))).uses for kind in (TFT, PatchTST, iTransformer)}
    assert found == {TFT: {"past", "known", "static", "tabular"}, PatchTST: set(), iTransformer: {"known"}}


def test_categories_reach_a_network_as_learned_vectors_and_numbers_as_they_are() -> None:
    seen: list[Window] = []

    class Spy(nn.Module):
        def __init__(self, dims: Dims) -> None:
            super().__init__()
            assert (dims.past, dims.cardinality) == (4, {})

        def forward(self, w: Window) -> Any:
            seen.append(w)
            return w.target[:, -6:]

    dims = Dims(24, 6, 1, past=2, cardinality={"past": (0, 5)})
    net = network(Spy, dims)
    assert isinstance(net, Embedded)
    shown = window(dims)
    shown.past[..., 1] = torch.randint(5, (3, 24)).float()
    net(shown)
    assert torch.equal(seen[0].past[..., 0], shown.past[..., 0])
    table = net.tables["past_1"].weight
    assert torch.equal(seen[0].past[1, 7, 1:], table[int(shown.past[1, 7, 1])])
    assert to_onnx(net.eval(), dims).inputs == ("target",)


@pytest.mark.parametrize("kind", [NLinear, DLinear])
def test_a_linear_network_with_categories_collapses_to_the_same_forecasts(kind: Any) -> None:
    dims = Dims(24, 6, 2, past=2, static=1, quantiles=LEVELS, cardinality={"past": (0, 5), "static": (3,)})
    net, shown = network(kind, dims), window(dims)
    shown.past[..., 1], shown.static[:, 0] = torch.randint(5, (3, 24)).float(), torch.tensor([0.0, 1, 2])
    arrays: Any = Window(
        *(getattr(shown, n).numpy() for n in ("target", "past", "known", "static")), np.empty((3, 0, 2))
    )
    shown = replace(shown, tabular=torch.empty(3, 0, 2))
    np.testing.assert_allclose(net.collapse().predict(arrays), net(shown).detach(), atol=1e-5)


def test_a_trained_tft_says_what_it_attended_to_and_weights_sum_to_one(tmp_path: Path) -> None:
    model = Neural(NeuralForecast(partial(TFT, hidden_size=8)), learns_quantiles=True)
    found = trained(model, encoded(past=1, known=2), tmp_path, epochs=1, quantiles=LEVELS).insights
    assert set(found["past"]) == {"wind_0", "hour_0", "hour_1", "target"}
    assert set(found["known"]) == {"hour_0", "hour_1"}
    for weights in (found["past"].values(), found["known"].values(), found["attention"]):
        assert sum(weights) == pytest.approx(1, abs=1e-4)
    assert len(found["attention"]) == 30


@pytest.mark.parametrize(
    ("kind", "parameters"), [(NHITS, {"mlp_units": [[16, 16]] * 3}), (TFT, {"hidden_size": 8, "dropout": 0.0})]
)
def test_training_reaches_the_validation_loss_of_neuralforecasts_own(
    tmp_path: Path, kind: Any, parameters: dict
) -> None:
    e, steps = encoded(channels=1), 60
    own = Neural(NeuralForecast(partial(kind, **parameters)), batch_size=1000, patience=steps)
    ours = trained(own, e, tmp_path, epochs=steps).history[-1]["val/loss"]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    # All windows in every step, as above; theirs are five more, whose labels run out of the data.
    model = kind(h=6, input_size=24, loss=MSE(), max_steps=steps, learning_rate=1e-3, windows_batch_size=300 - 24,
                 batch_size=1, scaler_type="identity", random_seed=1, num_lr_decays=-1,
                 **parameters, **quiet)  # fmt: skip
    frame = pd.DataFrame({"unique_id": "a", "ds": np.arange(300), "y": e.target[:300, 0]})
    training = TheirTraining([model], freq=1)
    training.fit(frame)
    adapter = NeuralForecast(partial(kind, **parameters))(e.dims(24, 6, 12))
    adapter.network = training.models[0].cpu().eval()
    shown, label = windows(e, 300, 400).batch(slice(None))
    given: Any = {
        name: torch.from_numpy(getattr(shown, name)) for name in ("target", "past", "known", "static", "tabular")
    }
    with torch.no_grad():
        theirs = float(torch.mean((adapter(Window(**given)) - torch.from_numpy(label)) ** 2))
    assert ours == pytest.approx(theirs, rel=0.02)
