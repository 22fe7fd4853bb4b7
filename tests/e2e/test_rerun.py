"""A run repeated elsewhere from what it says of itself: the same weights, and what differs is said before it starts."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tsforecast as tsf
from tests.e2e.conftest import Cli, Run
from tests.errors import has, has_parts, refused
from tsforecast.config.recorded import recompose
from tsforecast.errors import BundleError
from tsforecast.training.record import Record

HERE = ("tracking=none", "report=none")
SHORT = ("lookback=48", "horizon=24", "trainer.max_epochs=1", "trainer.limit_train_batches=10")
MODELS = {
    "ridge": (),
    "nlinear": ("model.warm_start=null",),  # random weights, or it might end where ridge does
    "xgboost": ("model.rounds=2", "evaluation.stride=24"),
    "nhits": ("evaluation.stride=24",),
}
SMALL = ("dataset=wide", "model=ridge", "lookback=24", "horizon=6", *HERE)


def learned(bundle: Path) -> dict[str, str]:
    """The digests of what a fit gives, by file."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    about = {"metadata.json", "provenance.json", "golden.json"}
    return {name: digest for name, digest in manifest.items() if name not in about and not name.endswith(".md")}


@pytest.mark.parametrize("model", MODELS)
def test_a_bundle_alone_is_repeated_elsewhere_with_the_same_weights_and_scores(
    model: str, run: Run, tmp_path: Path, ett_dir: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    done = run(first, "train", "+experiment=etth1", f"model={model}", *SHORT, *MODELS[model], *HERE, "hydra.run.dir=a")
    assert done.returncode == 0, done.stderr
    shutil.move(first / "a" / "bundle", second / "alone")
    done = run(second, "rerun", "alone", *HERE, "hydra.run.dir=b")
    assert done.returncode == 0, done.stderr
    assert len(learned(second / "alone")) >= 3
    assert learned(second / "alone") == learned(second / "b" / "bundle")
    assert "Weights  the same, bit for bit" in done.stdout
    assert "Data, packages, code and host are those of alone" in done.stderr
    then, now = (json.loads((place / "metrics.json").read_text()) for place in (first / "a", second / "b"))
    assert {k: v for k, v in then.items() if "time/" not in k} == {k: v for k, v in now.items() if "time/" not in k}
    configs = [Record.load(place / "scores.npz").facts["configs"] for place in (first / "a", second / "b")]
    assert configs[0] == configs[1]
    assert str(tmp_path) not in json.dumps(configs)


def test_a_rerun_is_repeated_as_the_first_was_and_names_what_it_repeats(cli: Cli) -> None:
    assert cli("train", *SMALL, "dataset.path=x.csv", "hydra.run.dir=a") == 0
    assert cli("rerun", "a", *HERE, "hydra.run.dir=b") == 0
    assert cli("rerun", "b", *HERE, "name=third", "hydra.run.dir=c") == 0
    third = tsf.load_bundle("c/bundle")
    assert third.metadata["name"] == "third"
    assert third.provenance["parents"] == {"rerun": "b/bundle"}
    assert third.provenance["overrides"] == [*SMALL, "dataset.path=x.csv"]
    assert learned(Path("a/bundle")) == learned(Path("c/bundle"))


def test_other_rows_are_told_before_the_fit_and_so_is_by_how_much_scores_differ(cli: Cli, run: Run) -> None:
    assert cli("train", *SMALL, "dataset.path=x.csv", "hydra.run.dir=a") == 0
    rows = pd.read_csv("x.csv")
    rows.loc[5, "y"] += 1
    rows.to_csv("x.csv", index=False)
    done = run(Path.cwd(), "rerun", "a", *HERE, "hydra.run.dir=b")
    assert done.returncode == 1
    digests = [tsf.load_bundle(f"{each}/bundle").provenance["data"]["digest"][:12] for each in "ab"]
    assert done.stderr.index(f"data: {digests[0]} -> {digests[1]}") < done.stderr.index("ridge lambda")
    assert "Traceback" not in done.stderr
    assert "Weights  differ" in done.stdout
    mse = [json.loads(Path(each, "metrics.json").read_text())["test/mse"] for each in "ab"]
    shown = next(line.split() for line in done.stdout.splitlines() if line.startswith("test/mse "))
    assert [float(each) for each in shown[1:]] == pytest.approx([*mse, mse[1] - mse[0]], rel=1e-4, abs=1e-6)


def test_rows_that_are_gone_are_asked_for_and_those_given_are_read(cli: Cli, run: Run) -> None:
    assert cli("train", *SMALL, "dataset.path=x.csv", "hydra.run.dir=a") == 0
    Path("elsewhere").mkdir()
    Path("x.csv").rename("elsewhere/y.csv")
    done = run(Path.cwd(), "rerun", "a", *HERE, "hydra.run.dir=b")
    assert has_parts(done.error, where="x.csv", fix=has("+dataset.path=FILE"))
    assert not Path("b/bundle").exists()
    assert cli("rerun", "a", "+dataset.path=elsewhere/y.csv", *HERE, "hydra.run.dir=c") == 0


def test_rows_of_a_public_dataset_are_read_from_where_they_lie_also_altered_ones(
    cli: Cli, ett_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("model=seasonal_naive", "lookback=48", "horizon=24")
    assert cli("train", "+experiment=etth1", *short, f"paths.data_dir={ett_dir}", *HERE, "hydra.run.dir=a") == 0
    shutil.copy(ett_dir / "ETTh1.csv", "mine.csv")
    assert cli("rerun", "a", "+dataset.path=mine.csv", *HERE, "hydra.run.dir=b") == 0
    lines = Path("mine.csv").read_text().splitlines()
    lines[12000] = lines[12000].rpartition(",")[0] + ",99.0"
    Path("mine.csv").write_text("\n".join(lines) + "\n")
    capsys.readouterr()
    assert cli("rerun", "a", "+dataset.path=mine.csv", *HERE, "hydra.run.dir=c") == 1
    told = capsys.readouterr()
    assert "Scores   differ" in told.out
    assert "data: f18de3ad269c -> " in told.err


@pytest.mark.parametrize(("key", "value"), [("overrides", None), ("data", None), ("host", "x"), ("git", [1])])
def test_a_record_that_is_damaged_is_told(key: str, value: object) -> None:
    origin = {"config": {"dataset": {}}, "overrides": [], "choices": {}, "data": {}, "host": {}, "git": None}
    with refused(BundleError, what="the record of the run is damaged", got=[key]):
        recompose(origin | {key: value}, Path("bundle"), {})


def test_a_record_does_not_choose_where_files_are_written(cli: Cli, tmp_path: Path) -> None:
    words = ("model=nlinear", *SMALL[2:], "dataset=wide", "dataset.path=x.csv", "trainer.max_epochs=1")
    assert cli("train", *words, "trainer/logger=csv", "hydra.run.dir=a") == 0
    record = json.loads((place := Path("a/bundle/provenance.json")).read_text())
    record["config"]["trainer"]["logger"]["csv"]["name"] = str(tmp_path / "elsewhere")
    place.write_text(json.dumps(record))
    manifest = json.loads(Path("a/bundle/manifest.json").read_text())
    manifest["provenance.json"] = hashlib.sha256(place.read_bytes()).hexdigest()
    Path("a/bundle/manifest.json").write_text(json.dumps(manifest))
    assert cli("rerun", "a", *HERE, "hydra.run.dir=b") == 0
    assert not (tmp_path / "elsewhere").exists()


def test_from_python_a_frame_is_given_again_and_what_is_compared_comes_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=400).cumsum()
    frame = pd.DataFrame({"date": pd.date_range("2024", periods=400, freq="h"), "y": values})
    tsf.train(*SMALL[1:], data=frame, out=tmp_path / "a")
    with refused(BundleError, where="dataset.path", fix=has("+dataset.path=FILE.csv")):
        tsf.rerun(tmp_path / "a")
    found = tsf.rerun(tmp_path / "a", data=frame)
    assert found.agrees
    assert not found.differences
    assert found.scores.loc["test/mse", "then"] == found.result.metrics["test/mse"]
    other = tsf.rerun(tmp_path / "a", data=frame.assign(y=values + np.arange(400)))
    assert not other.agrees
    assert [*other.differences] == ["data"]
    assert other.weights[0] == found.weights[1] != other.weights[1]


def test_a_tracked_run_is_repeated_by_its_id(cli: Cli, tracking_database: Path) -> None:
    shutil.copy(tracking_database, "mlflow.db")
    assert cli("train", *SMALL[:-2], "report=none", "dataset.path=x.csv", "hydra.run.dir=a") == 0
    from mlflow import MlflowClient

    client = MlflowClient("sqlite:///mlflow.db")
    (found,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    kept = tsf.load_bundle("a/bundle").provenance
    assert found.data.tags["data.digest"] == kept["data"]["digest"]
    assert found.data.tags["packages.digest"] == kept["packages_digest"]
    shutil.rmtree("a")
    assert cli("rerun", f"runs:/{found.info.run_id}", *HERE, "hydra.run.dir=b") == 0
    assert tsf.load_bundle("b/bundle").provenance["parents"]["rerun"].startswith(f"runs:/{found.info.run_id}")


def test_a_run_that_was_cut_off_is_one_to_resume(cli: Cli, run: Run) -> None:
    assert cli("train", *SMALL, "dataset.path=x.csv", "hydra.run.dir=a") == 0
    shutil.rmtree("a/bundle")
    done = run(Path.cwd(), "rerun", "a", *HERE, "hydra.run.dir=b")
    assert has_parts(done.error, where="a", fix=has("python -m tsforecast.train resume=a"))
    assert not Path("b/bundle").exists()


def test_a_backtest_is_repeated_by_its_own_command(cli: Cli, run: Run) -> None:
    words = [*SMALL, "dataset.path=x.csv", "refit=all", "backtest.windows=2"]
    assert cli("backtest", *words, "hydra.run.dir=a") == 0
    done = run(Path.cwd(), "rerun", "a", *HERE, "hydra.run.dir=b")
    assert has_parts(done.error, got="a backtest", fix=has("python -m tsforecast.backtest " + " ".join(SMALL)))
