"""Lightning's loggers beside tracking: what they write is what the fit tells, in the directory of the run."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tensorboardX.proto.event_pb2 import Event
from tests.errors import has, refused

import tsforecast as tsf
from tsforecast.config.compose import compose, options
from tsforecast.errors import ConfigError

SMALL = ("lookback=24", "horizon=4", "quantiles=[]", "calibration=none", "tracking=none", "report=none", "feature=[]")
NETWORK = ("model=dlinear", "model.patience=9", "trainer.max_epochs=3", "trainer.enable_progress_bar=false")
BOTH = "trainer/logger=[csv,tensorboard]"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    wave = np.sin(np.arange(300) / 24 * 2 * np.pi) + 0.1 * np.random.default_rng(0).standard_normal(300)
    return pd.DataFrame({"date": pd.date_range("2024-01-01", periods=300, freq="h"), "load": wave})


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value by name, read off the event files' own format: length, checksum, message, checksum."""
    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("events.*")):
        raw, at = file.read_bytes(), 0
        while at < len(raw):
            (length,) = struct.unpack_from("<Q", raw, at)
            event = Event.FromString(raw[at + 12 : at + 12 + length])
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
            at += 16 + length
    return found


@pytest.mark.parametrize("trainer", options("trainer"))
def test_every_trainer_takes_any_number_of_loggers(trainer: str) -> None:
    for chosen, names in ((None, None), ("csv", ["csv"]), ("[csv,tensorboard]", ["csv", "tensorboard"])):
        cfg, _ = compose("train", [f"trainer={trainer}", *[f"trainer/logger={chosen}"] * bool(chosen)])
        assert (list(cfg.trainer.logger) if names else cfg.trainer.logger) == (names or False)


def test_loggers_write_every_epoch_and_the_configuration_into_the_directory_of_the_run(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = tsf.train(*SMALL, *NETWORK, BOTH, data=frame, out=tmp_path / "run")
    history = pd.DataFrame(result.fitted.history)
    assert len(history) == 3
    table = pd.read_csv(tmp_path / "run" / "csv" / "metrics.csv").rename(columns={"step": "epoch"})
    pd.testing.assert_frame_equal(table[history.columns], history, check_exact=False, rtol=1e-6)
    drawn = scalars(tmp_path / "run" / "tensorboard")
    assert {*drawn} - {"hp_metric"} == {"train/loss", "val/loss", "lr"}
    for name in ("train/loss", "val/loss", "lr"):
        assert [step for step, _ in drawn[name]] == [0, 1, 2]
        np.testing.assert_allclose([value for _, value in drawn[name]], history[name], rtol=1e-6)
    for folder in ("csv", "tensorboard"):
        parameters = yaml.unsafe_load((tmp_path / "run" / folder / "hparams.yaml").read_text())
        assert (parameters["lookback"], parameters["model"]["patience"]) == (24, 9)
    assert not [*(tmp_path / "elsewhere").iterdir()]


def test_without_a_directory_of_the_run_loggers_write_nothing(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tsf.train(*SMALL, *NETWORK, BOTH, data=frame)
    assert not [*tmp_path.iterdir()]


def test_a_logger_whose_package_is_not_installed_says_what_to_install(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(f"lightning.fabric.loggers.tensorboard.{name}", False)
    with refused(ConfigError, where="trainer.logger.tensorboard", fix=has("pip install tensorboard")):
        tsf.train(*SMALL, *NETWORK, BOTH, data=frame, out=tmp_path / "run")


def test_a_model_without_a_trainer_says_that_loggers_have_no_effect(
    frame: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tsf.train(*SMALL, "model=ridge", BOTH, data=frame)
    assert "without effect: trainer/logger" in caplog.text
