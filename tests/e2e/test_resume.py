"""A run that was cut off goes on by the name of its directory, and ends as one that was not."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

import tsforecast as tsf
from tests.errors import has, has_parts, refused
from tsforecast import experiment, result
from tsforecast.errors import ConfigError, OutputError

from .conftest import Run

DATA = Path(__file__).parents[2] / "data" / "beijing_pm25.csv"
QUIET = ("tracking=none", "report=none", "trainer.enable_progress_bar=false", "dataset.sha256=null")
NETWORK = ("model=dlinear", "model.patience=9", "trainer.max_epochs=3", "trainer.limit_train_batches=20",
           "trainer.limit_val_batches=4", "trainer/logger=csv")  # fmt: skip
MODELS = {"dlinear": NETWORK, "ridge": ("model=ridge", "refit=all")}
# What kills the process, by the moment: patched in before the command starts.
KILLS = {
    "in mid-epoch": "from tsforecast.training.neural import ForecastModule as Module\n"
    "Module.training_step = dying(Module.training_step, calls=30)",
    "while saving": "import torch; torch.save = dying(torch.save, calls=2, begun=b'half')",
    "after the bundle": "result.write_json = dying(result.write_json)",
}
PROGRAM = """
import os, signal, sys
from tsforecast import result, train
from tsforecast.config.command import command

def dying(function, calls=1, begun=None, how=signal.SIGKILL):
    seen = []
    def call(*args):
        seen.append(args)
        if len(seen) == calls:
            if begun:
                args[1].write_bytes(begun)
            os.kill(os.getpid(), how)
        return function(*args)
    return call

{kill}
command(train.main, "train")
"""


@pytest.fixture(scope="module")
def folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the data, and an unbroken run of each model."""
    place = tmp_path_factory.mktemp("resume")
    (place / "data").mkdir()
    pd.read_csv(DATA, dtype=str).iloc[-6000:].to_csv(place / "data" / DATA.name, index=False)
    for name, words in MODELS.items():
        done = run(place, "train", *QUIET, *words, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
    return place


def killed(folder: Path, name: str, kill: str, *words: str, status: int = -signal.SIGKILL, told: str = "") -> Path:
    """A run that `kill` ends, with -9 as the system does when memory runs out."""
    command = [sys.executable, "-c", PROGRAM.format(kill=kill), *QUIET, *words, f"hydra.run.dir={name}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    assert told in done.stderr
    return folder / name


def cut_off(monkeypatch: pytest.MonkeyPatch, module: ModuleType, function: str, *words: str, **keys: Any) -> None:
    """`tsf.train`, interrupted as it calls a function."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, function, interrupted)
        with pytest.raises(KeyboardInterrupt):
            tsf.train(*words, **keys)


def weights(run: Path) -> dict[str, str]:
    """The digest of each file that decides a forecast."""
    manifest: dict[str, str] = json.loads((run / "bundle" / "manifest.json").read_text())
    found = {name: hashlib.sha256((run / "bundle" / name).read_bytes()).hexdigest() for name in manifest}
    assert found == manifest
    apart = ("metadata.json", "provenance.json", "card.md")  # which hold times, and the commit
    return {name: each for name, each in found.items() if name not in apart}


@pytest.mark.parametrize(("model", "moment"), [("dlinear", "while saving"), ("ridge", "after the bundle")])
def test_a_run_killed_at_any_moment_ends_as_the_unbroken_one(run: Run, folder: Path, model: str, moment: str) -> None:
    place = killed(folder, f"{model} {moment}", KILLS[moment], *MODELS[model])
    before = (place / "train.log").read_text()
    asked = {file.name: file.read_text() for file in [place / "config.yaml", *(place / ".hydra").iterdir()]}
    (folder / "conf" / "local").mkdir(parents=True, exist_ok=True)
    (folder / "conf" / "model").mkdir(exist_ok=True)
    (folder / "conf" / "model" / f"{model}.yaml").write_text("_target_: nothing\n")  # what was composed is what counts
    done = run(folder, "train", f"resume={place.name}")
    shutil.rmtree(folder / "conf")
    assert done.returncode == 0, done.stderr
    assert weights(place) == weights(folder / model)
    assert (place / "train.log").read_text().startswith(before)
    assert {file.name: file.read_text() for file in [place / "config.yaml", *(place / ".hydra").iterdir()]} == asked
    whole = {file.relative_to(folder / model) for file in (folder / model).rglob("*")}
    assert {file.relative_to(place) for file in place.rglob("*")} == whole
    if model == "dlinear":  # every epoch once
        assert (place / "csv" / "metrics.csv").read_bytes() == (folder / model / "csv" / "metrics.csv").read_bytes()
    left = [{k: v for k, v in json.loads((each / "metrics.json").read_text()).items() if not k.startswith("time/")}
            for each in (place, folder / model)]  # fmt: skip
    assert left[0] == left[1]


def test_a_run_that_has_ended_well_is_left_alone(run: Run, folder: Path) -> None:
    before = {file: file.read_bytes() for file in (folder / "ridge").rglob("*") if file.is_file()}
    done = run(folder, "train", "resume=ridge")
    assert has_parts(done.error, where="resume", what=has("ended well"), fix=has("metrics.json", "bundle"))
    assert {file: file.read_bytes() for file in (folder / "ridge").rglob("*") if file.is_file()} == before


def test_what_is_no_run_or_asks_for_more_is_refused(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(folder, "train", "resume=data")
    assert has_parts(done.error, where="resume", got=str(folder / "data"), allowed=has("directory of a run"))
    done = run(folder, "train", "resume=ridge/bundle")
    assert has_parts(done.error, where="resume", fix=f"resume={folder / 'ridge'}")
    done = run(folder, "train", "resume=ridge", "horizon=48", "model.lambdas=[1]")
    assert has_parts(done.error, where="resume", got="horizon=48, model.lambdas=[1]", fix=has("ckpt_path"))
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder)
    cut_off(monkeypatch, result, "write_json", *QUIET, *MODELS["ridge"], out="of here")
    done = run(folder / "elsewhere", "train", "resume=../of here")
    assert has_parts(done.error, where="resume", fix=has(f"cd {folder} "))
    done = run(folder, "backtest", "model=naive", "backtest.windows=2", *QUIET, "hydra.run.dir=folds")
    assert done.returncode == 0, done.stderr
    done = run(folder, "train", "resume=folds")
    assert has_parts(done.error, where="resume", what=has("backtest"), fix=has("backtest.windows=2 ", "run.dir="))


def test_a_run_does_not_go_on_with_other_data_and_says_what_else_has_changed(run: Run, folder: Path) -> None:
    rows = (folder / "data" / DATA.name).read_text()
    (folder / "mine.csv").write_text(rows)
    asked = (*NETWORK, "dataset.path=mine.csv", "dataset.sha256=null")
    place = killed(folder, "changed", KILLS["in mid-epoch"], *asked)
    made = json.loads((place / "provenance.json").read_text())
    made["packages"]["torch"] = "0.1"
    (place / "provenance.json").write_text(json.dumps(made))
    (folder / "mine.csv").write_text(rows.rpartition("\n43824,")[0] + "\n")
    before = (place / "checkpoints" / "last.ckpt").read_bytes()
    done = run(folder, "train", f"resume={place.name}")
    assert has_parts(done.error, where="resume", allowed=has(made["data"]["digest"][:12]), fix=has("bring back"))
    assert (place / "checkpoints" / "last.ckpt").read_bytes() == before
    (folder / "mine.csv").write_text(rows)
    done = run(folder, "train", f"resume={place.name}")
    assert done.returncode == 0, done.stderr
    assert "package torch: 0.1 -> " in done.stderr
    assert weights(place) == weights(folder / "dlinear")


def test_a_run_that_is_at_work_is_not_joined(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    cut_off(monkeypatch, result, "write_json", *QUIET, *MODELS["ridge"], out="busy")
    with (folder / "busy" / "train.log").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        done = run(folder, "train", "resume=busy")
    assert has_parts(done.error, got=str(folder / "busy"), fix=has("wait"))


def test_a_run_from_python_is_one_like_any_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    cut_off(monkeypatch, result, "write_json", *QUIET, *MODELS["ridge"], out="of python")
    found = tsf.train("resume=of python")
    assert weights(folder / "of python") == weights(folder / "ridge")
    assert found.scores.equals(tsf.train(*QUIET, *MODELS["ridge"]).scores)
    assert not (folder / "of python" / ".unfinished").exists()
    assert (folder / "of python" / ".hydra" / "overrides.yaml").is_file()
    with refused(ConfigError, where="resume", got=("out",)):
        tsf.train("resume=of python", out="elsewhere")
    assert tsf.rerun("of python").agrees
    with refused(OutputError, where="resume", what=has("ended well")):
        tsf.train("resume=of python")


def test_a_directory_that_cannot_be_one_is_refused_before_a_fit(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with refused(OutputError, where="out", got=tmp_path / "taken" / "run", fix="name another one"):
        tsf.train(*QUIET, "model=naive", out=tmp_path / "taken" / "run")


def test_a_run_of_a_frame_goes_on_with_the_frame(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    rows = pd.read_csv(DATA).iloc[:2000]
    words = (*QUIET, "model=ridge", "dataset=beijing_pm25")
    cut_off(monkeypatch, result, "write_json", *words, data=rows, out="framed")
    with refused(ConfigError, where="dataset.path", fix=has("data=FRAME")):
        tsf.train("resume=framed")
    found = tsf.train("resume=framed", data=rows)
    assert found.scores.equals(tsf.train(*words, data=rows).scores)


def test_an_interrupt_while_scoring_again_leaves_the_whole_bundle_that_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    cut_off(monkeypatch, result, "write_json", *QUIET, *MODELS["ridge"], out="scored")
    place = folder / "scored"
    whole = weights(place)
    cut_off(monkeypatch, experiment, "compare", "resume=scored")
    assert weights(place) == whole == weights(folder / "ridge")
    assert tsf.load_bundle(place / "bundle").golden is not None
    tsf.train("resume=scored")
    assert weights(place) == whole


def test_an_interrupt_says_how_to_go_on_and_that_goes_on_as_the_same_tracked_run(
    run: Run, folder: Path, tracking_database: Path
) -> None:
    shutil.copy(tracking_database, folder / "mlflow.db")
    kill = KILLS["in mid-epoch"].replace("calls", "how=signal.SIGTERM, calls")
    asked = (*NETWORK, "tracking=mlflow")
    place = killed(folder, "told how", kill, *asked, status=130, told="python -m tsforecast.train resume='told how'")
    done = run(folder, "train", f"resume={place.name}")
    assert done.returncode == 0, done.stderr
    assert weights(place) == weights(folder / "dlinear")
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("select status from runs").fetchall() == [("FINISHED",)]
        losses = database.execute("select step, value from metrics where key = 'val/loss' order by step").fetchall()
    told = pd.read_csv(folder / "dlinear" / "csv" / "metrics.csv")
    assert losses == [*told[["step", "val/loss"]].itertuples(index=False, name=None)]


def test_a_run_that_begins_anew_in_a_directory_takes_no_checkpoint_of_the_one_before(run: Run, folder: Path) -> None:
    place = folder / "anew"
    shutil.copytree(folder / "dlinear" / "checkpoints", place / "checkpoints")
    done = run(folder, "train", *QUIET, *NETWORK, "dataset.path=nowhere.csv", "hydra.run.dir=anew")
    assert done.returncode == 1
    assert "resume" not in done.stderr
    assert not (place / "checkpoints" / "last.ckpt").exists()


def test_what_else_lies_where_a_run_is_made_is_not_touched(run: Run, folder: Path) -> None:
    place = folder / "project"
    mine = [place / name for name in (".pre-commit-config.yaml", ".docker-data/a", "checkpoints/mine.pt", ".of-mine")]
    for each in mine:
        each.parent.mkdir(parents=True, exist_ok=True)
        each.touch()
    (place / ".unfinished").touch()
    scraps = [place / ".metrics-4711.json", place / ".bundle-k2_x9a1b" / "bundle"]
    scraps[0].touch()
    scraps[1].mkdir(parents=True)
    done = run(place, "train", *QUIET, "model=naive", f"dataset.path={DATA}", "hydra.run.dir=.")
    assert done.returncode == 0, done.stderr
    assert [each for each in mine if not each.exists()] == []
    assert [each for each in scraps if each.exists()] == []
