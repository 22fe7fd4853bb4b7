"""`train` in this process, on a small file: what is told before the fit, and what is kept when something fails."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pandas as pd
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from tests.errors import has, refused
from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle
from tsforecast.config.command import command
from tsforecast.config.compose import CONF_DIR
from tsforecast.config.roots import keys_of
from tsforecast.errors import ConfigError, DataError
from tsforecast.train import main
from tsforecast.training import fit as fitting

ROWS, LOOKBACK, HORIZON = 300, 12, 4
SMALL = ("dataset=wide", "feature=[]", f"lookback={LOOKBACK}", f"horizon={HORIZON}", "quantiles=[0.25,0.5,0.75]",
         "tracking=none", "report=none")  # fmt: skip
Run = Callable[..., Path]


@pytest.fixture
def frame() -> pd.DataFrame:
    values = np.sin(np.arange(ROWS) / 4)[:, None] + np.random.default_rng(0).normal(size=(ROWS, 2)) * 0.1
    return pd.DataFrame(values, columns=["a", "b"]).assign(date=pd.date_range("2024", periods=ROWS, freq="h"))


@pytest.fixture
def run(tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Trains on the frame with further arguments, and gives the run's directory."""
    monkeypatch.chdir(tmp_path)

    def call(*overrides: str) -> Path:
        out = tmp_path / "run"
        out.mkdir()
        frame.to_csv(tmp_path / "my.csv", index=False)
        GlobalHydra.instance().clear()
        keys_of("train")  # whichever test ran before
        with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            cfg = hydra.compose("train", overrides=[*SMALL, "dataset.path=my.csv", "model=naive", *overrides],
                                return_hydra_config=True)  # fmt: skip
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir, cfg.hydra.job.name = str(out), "train"
            HydraConfig.instance().set_config(cfg)
            del cfg["hydra"]
        level, handlers = logging.root.level, list(logging.root.handlers)
        try:
            main(cfg)
        finally:
            for handler in [each for each in logging.root.handlers if each not in handlers]:
                handler.close()
            logging.root.handlers, logging.root.level = handlers, level
        return out

    return call


def never(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("it was fitted")


@pytest.fixture
def unfitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit is a failure of the test."""
    monkeypatch.setattr("tsforecast.experiment.fit", never)


def written(out: Path) -> tuple[Bundle, dict[str, float]]:
    return Bundle.load(out / "bundle"), json.loads((out / "metrics.json").read_text())


# --- what is told before the fit -----------------------------------------------------------------------------------


def test_the_digest_is_that_of_the_file_as_it_was_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[str] = []

    def fit(*args: Any, **kwargs: Any) -> Any:
        before.append(hashlib.sha256(Path("my.csv").read_bytes()).hexdigest())
        Path("my.csv").write_text("something else")
        return fitting_fit(*args, **kwargs)

    fitting_fit = fitting.fit
    monkeypatch.setattr("tsforecast.experiment.fit", fit)
    bundle, _ = written(run())
    assert bundle.provenance["data"]["digest"] == before[0]


def test_a_run_that_dies_in_the_fit_has_left_what_it_was_made_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*args: Any, **kwargs: Any) -> Any:
        raise SystemExit(9)

    monkeypatch.setattr("tsforecast.experiment.fit", fit)
    with pytest.raises(SystemExit):
        run("seed=7", "split.train=0.5", "split.val=0.24", "split.test=0.26")
    left = json.loads(Path("run/provenance.json").read_text())
    assert left["seed"] == left["config"]["seed"] == 7
    assert left["choices"]["model"] == "naive"
    assert left["data"]["digest"] == hashlib.sha256(Path("my.csv").read_bytes()).hexdigest()
    parts = {name: (each["rows"], each["first"], each["last"]) for name, each in left["data"]["parts"].items()}
    stamps = pd.read_csv("my.csv", parse_dates=["date"])["date"].astype(str)
    ends = {"train": (0, 150), "val": (150, 186), "cal": (186, 222), "test": (222, ROWS)}
    assert parts == {name: (end - begin, stamps[begin], stamps[end - 1]) for name, (begin, end) in ends.items()}
    assert "seconds" not in left


def test_what_a_run_was_made_from_lies_in_its_directory_as_in_its_bundle_with_the_seconds_it_took(run: Run) -> None:
    bundle, _ = written(out := run("refit=all"))
    assert json.loads((out / "provenance.json").read_text()) == bundle.provenance
    assert list(bundle.provenance["seconds"]) == ["fit", "read", "refit", "score"]
    assert all(each > 0 for each in bundle.provenance["seconds"].values())
    assert str(out.parent) not in json.dumps(bundle.provenance["config"])


@dataclass
class Stamp:
    """A feature; what `shift` is after it was made is not saved."""

    value: Any = 1
    shift: float = field(default=0.0, init=False)

    def names(self) -> tuple[str, ...]:
        return ("stamp",)

    def transform(self, time: pd.DatetimeIndex, freq: str) -> np.ndarray:
        return np.full((len(time), 1), self.shift, np.float32)


class NoDataclass(Stamp):
    """A feature of its own kind."""


def local() -> Any:
    """A feature whose class nobody can import."""

    @dataclass
    class Hidden(Stamp):
        pass

    return Hidden()


def moved() -> Stamp:
    """A feature with a state that is not among its parameters."""
    feature = Stamp()
    feature.shift = 3.0
    return feature


def unwritable() -> Stamp:
    """A feature with a parameter that is no JSON."""
    return Stamp(value=never)


@pytest.mark.usefixtures("unfitted")
@pytest.mark.parametrize("target", ["local", "moved", "unwritable"])
def test_a_feature_that_cannot_be_saved_is_told_before_the_fit(run: Run, target: str) -> None:
    with pytest.raises(ConfigError) as told:
        run(f"+feature.own={{_target_: tests.test_train.{target}}}", "unused_covariates=ignore")
    assert told.value.where == "feature"


@pytest.mark.usefixtures("unfitted")
@pytest.mark.parametrize(("first", "last"), [(181, 210), (211, 240), (241, ROWS - 1)], ids=["val", "cal", "test"])
def test_rows_that_nothing_can_be_chosen_or_scored_on_are_told_before_the_fit(
    run: Run, frame: pd.DataFrame, first: int, last: int
) -> None:
    frame.loc[first - 5 : last, ["a", "b"]] = np.nan
    with refused(DataError, what=has("observed value")):
        run("split.train=0.6", "split.val=0.2", "split.test=0.2")


@pytest.mark.usefixtures("unfitted")
@pytest.mark.parametrize("name", ["NODE_RANK", "LOCAL_RANK"])
def test_a_rank_that_the_environment_left_behind_is_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError) as told:
        run()
    assert (told.value.where, told.value.got) == (name, "1")


def test_a_rank_beyond_the_trainers_processes_is_an_error_for_networks_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_RANK", "1")
    with pytest.raises(ConfigError) as told:
        run("model=dlinear", "unused_covariates=ignore")
    assert told.value.where == "NODE_RANK"


@pytest.mark.parametrize(
    ("arguments", "idle"),
    [
        (["trainer.max_epochs=3", "trainer=gpu", "+trainer.max_steps=9"], ["trainer.max_epochs", "trainer", "+"]),
        (["model=xgboost", "model.rounds=2", "model.objective=quantile", "trainer=cpu", "trainer.accelerator=cpu",
          "trainer.max_epochs=3"], ["trainer.max_epochs"]),
        (["seed=3"], []),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_said_to_a_trainer_that_the_model_does_not_have_is_told_once(
    run: Run, arguments: list[str], idle: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = run(*arguments)
    found = [line for line in (out / "train.log").read_text().splitlines() if "without effect" in line]
    assert len(found) == bool(idle)
    keys = found[0].partition("without effect: ")[2].split(", ") if found else []
    assert len(keys) == len(idle)
    assert set(keys) >= set(idle) - {"+"}


def test_when_memory_runs_out_then_the_fix_is_what_to_make_smaller(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(cfg: Any) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train", "hydra.run.dir=run"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit):
        command(task, "train")
    said = capsys.readouterr().err
    assert "9 GiB" in said
    assert "lookback" in said
    assert "--trace" not in said


# --- what is kept when something fails -----------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [LOOKBACK, 5 * LOOKBACK])
def test_rows_missing_before_the_end_of_the_train_rows_do_not_stop_a_run(
    run: Run, frame: pd.DataFrame, missing: int
) -> None:
    end = int(ROWS * 0.7)
    frame.loc[end - missing : end - 1, ["a", "b"]] = np.nan
    bundle, scores = written(run())
    assert bundle.golden is not None
    assert scores["test/mae"] > 0


def broken(*args: Any, **kwargs: Any) -> Any:
    raise DataError("broken")


@pytest.mark.parametrize(
    ("what", "scored"),
    [
        ("tsforecast.bundle.golden.with_golden", True),
        ("tsforecast.report.plots.Report.write", True),
        ("tsforecast.metrics.Scores.summary", False),
        ("tsforecast.models.linear.LinearForecaster.importance", True),
    ],
)
def test_whatever_fails_after_a_fit_leaves_weights_and_scores(
    run: Run, monkeypatch: pytest.MonkeyPatch, what: str, scored: bool
) -> None:
    rehearse = golden.rehearse

    def rehearsed(*args: Any) -> None:
        rehearse(*args)
        monkeypatch.setattr(what, broken)

    monkeypatch.setattr(golden, "rehearse", rehearsed)
    with pytest.raises(DataError, match="broken"):
        run("model=ridge", "report=default")
    bundle, scores = written(Path("run"))
    assert bundle.quantile_levels == (0.25, 0.5, 0.75)
    assert ("test/mae" in scores) == scored


def note(file: str) -> Any:
    """A callback of a user's own, which writes a file."""
    from lightning.pytorch.callbacks import LambdaCallback

    return LambdaCallback(on_fit_end=lambda *_: Path(file).write_text("called") and None)


def test_the_last_lines_say_that_the_warm_start_is_what_is_kept_and_own_callbacks_are_called(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run("model=nlinear", "model.optimizer.lr=10", "trainer.max_epochs=1", "trainer.enable_progress_bar=false",
        "+trainer.callbacks=[{_target_: tests.test_train.note, file: called}]")  # fmt: skip
    assert "what is kept is the warm start, a ridge regression" in capsys.readouterr().out
    assert Path("called").is_file()
