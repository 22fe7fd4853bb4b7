"""The commands as a user types them, on real data, right and wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.errors import has, has_parts

from .conftest import Run

ROOT = Path(__file__).parents[2]
QUIET = ("tracking=none", "report=none")
SHORT = ("dataset.path=short.csv", "dataset.sha256=null")  # where how good the model is plays no part


def process(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Where a process of its own is the point; all other commands run in this one."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def scores(run: Run, folder: Path, *arguments: str) -> dict[str, float]:
    done = run(folder, "train", *QUIET, "hydra.run.dir=run", *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads((folder / "run" / "metrics.json").read_text())
    return found


@pytest.mark.parametrize(
    ("model", "horizon", "mse"),
    [("naive", 96, 1.2944), ("naive", 336, 1.3299), ("seasonal_naive", 96, 0.5122), ("seasonal_naive", 336, 0.6499)],
)
def test_the_baselines_have_the_protocols_scores_to_four_decimals(
    run: Run, tmp_path: Path, ett_dir: Path, model: str, horizon: int, mse: float
) -> None:
    found = scores(run, tmp_path, "+experiment=etth1", f"model={model}", f"horizon={horizon}")
    assert round(found["test/mse"], 4) == mse
    assert round(found[f"baseline/{model}/test/mse"], 4) == mse


@pytest.mark.parametrize(
    ("model", "horizon", "mse", "mae"),
    [
        ("ridge", 96, 0.371, 0.396),
        ("ridge", 720, 0.433, 0.46),
        ("nlinear", 96, 0.3745, 0.396),
        ("nlinear", 720, 0.441, 0.46),
    ],
)
def test_linear_models_reach_the_published_scores_on_etth1(
    run: Run, tmp_path: Path, ett_dir: Path, model: str, horizon: int, mse: float, mae: float
) -> None:
    found = scores(run, tmp_path, "+experiment=etth1", f"model={model}", f"horizon={horizon}")
    assert found["test/mse"] <= mse
    assert found["test/mae"] <= mae
    assert found["test/mse"] < found["baseline/seasonal_naive/test/mse"]
    assert {"val/mse", "test/mse_raw", "test/mae/channel/OT", f"test/mse/step/{horizon}", "time/fit_seconds"} <= set(
        found
    )


@pytest.fixture(scope="module")
def demo(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, a trained run and its log."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "data").mkdir()
    shutil.copy(ROOT / "data" / "beijing_pm25.csv", folder / "data")
    pd.read_csv(ROOT / "data" / "beijing_pm25.csv", dtype=str).tail(6000).to_csv(folder / "short.csv", index=False)
    done = run(folder, "train", *QUIET, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_demo_beats_seasonal_naive(demo: Path) -> None:
    found = json.loads((demo / "run" / "metrics.json").read_text())
    assert found["test/mae"] < found["baseline/seasonal_naive/test/mae"]


def test_predict_writes_the_bundles_forecast(run: Run, demo: Path) -> None:
    done = run(demo, "predict", "bundle=run/bundle", "input=data/beijing_pm25.csv", "output=next.csv", "plot=next.png")
    assert done.returncode == 0, done.stderr
    import tsforecast as tsf

    frame = pd.read_csv(demo / "data" / "beijing_pm25.csv")
    assert f"Read {len(frame)} rows of 1 series; used the last 168" in done.stderr
    expected = tsf.load_bundle(demo / "run" / "bundle").forecast(frame).to_wide()
    written = pd.read_csv(demo / "next.csv", parse_dates=["date"])
    assert (demo / "next.png").read_bytes().startswith(b"\x89PNG")
    assert written["date"].tolist() == expected["date"].tolist()
    assert written["pm2.5"].to_numpy() == pytest.approx(expected["pm2.5"].to_numpy(), rel=1e-6)


def test_a_file_that_ends_without_targets_is_refused_unless_they_are_said_to_be_history(run: Run, demo: Path) -> None:
    frame = pd.read_csv(demo / "data" / "beijing_pm25.csv").tail(200)
    frame.loc[frame.index[-3:], "pm2.5"] = None
    frame.to_csv(demo / "open.csv", index=False)
    words = ("bundle=run/bundle", "input=open.csv", "output=open_end.csv")
    done = run(demo, "predict", *words)
    assert done.returncode == 1
    assert "have no targets: are they history, or to be forecast?" in done.stderr
    assert "stale=ignore" in done.stderr
    assert not (demo / "open_end.csv").exists()
    assert run(demo, "predict", *words, "stale=ignore").returncode == 0


def test_evaluate_finds_the_score_that_train_found(run: Run, demo: Path) -> None:
    done = run(demo, "evaluate", "bundle=run/bundle", "hydra.run.dir=again")
    assert done.returncode == 0, done.stderr
    trained, again = (json.loads((demo / d / "metrics.json").read_text()) for d in ("run", "again"))
    assert again["test/mse"] == trained["test/mse"]
    assert again["baseline/naive/test/mae"] == trained["baseline/naive/test/mae"]


@pytest.mark.parametrize("short", ["drop", "naive"])
def test_what_train_prints_runs_on_the_file_it_read_when_short_series_are_left_out(
    run: Run, tmp_path: Path, short: str
) -> None:
    rng = np.random.default_rng(0)
    sizes = {"a": 150, "b": 150, "tiny": 9, "retired": 40}
    parts = [
        pd.DataFrame({"unique_id": name, "ds": pd.date_range("2024-01-01", periods=n), "y": rng.normal(size=n)})
        for name, n in sizes.items()
    ]
    pd.concat(parts).to_csv(tmp_path / "sales.csv", index=False)
    done = run(
        tmp_path, "train", *QUIET, "dataset=long", "dataset.path=sales.csv", "model=ridge", "lookback=14", "horizon=7",
        "split=tail", "split.val=14", "split.test=14", f"split.short={short}", "calibration=none", "quantiles=[]",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    commands = {line.split()[2]: line.split()[3:] for line in done.stdout.splitlines() if "-m tsforecast." in line}
    predicted = run(tmp_path, "predict", *commands["tsforecast.predict"])
    assert predicted.returncode == 0, predicted.stderr
    by = "1 of 4 series forecast by seasonal_naive"
    said = {
        "drop": ["2 of 4 series are left out: tiny (9 rows), retired (not trained on)"],
        "naive": [
            f"{by}, for fewer rows than",
            "that the model needs: tiny (9)",
            f"{by}, as the model was not trained on",
        ],
    }
    assert [each for each in said[short] if each not in predicted.stderr] == []
    forecast = pd.read_csv(tmp_path / "forecast.csv")
    if short == "naive":
        naive = forecast[forecast["fallback"] == "seasonal_naive"]
        wanted = np.concatenate([part["y"].tail(7) for part in parts[2:]])
        assert naive["unique_id"].tolist() == ["tiny"] * 7 + ["retired"] * 7
        np.testing.assert_allclose(naive["y_hat"], wanted, rtol=1e-6)
        forecast = forecast[forecast["fallback"].isna()]
    assert set(forecast["unique_id"]) == {"a", "b"}
    evaluated = run(tmp_path, "evaluate", *commands["tsforecast.evaluate"], "report=none", "hydra.run.dir=again")
    assert evaluated.returncode == 0, evaluated.stderr
    trained, again = (json.loads((tmp_path / d / "metrics.json").read_text()) for d in ("run", "again"))
    assert again["test/mse"] == trained["test/mse"]
    twice = run(tmp_path, "evaluate", *commands["tsforecast.evaluate"], "report=none", "hydra.run.dir=again")
    assert has_parts(twice.error, where="hydra.run.dir", got=str(tmp_path / "again"), what=has("metrics.json"))


def test_evaluate_scores_what_predict_would_read_constant_channels_among_it(run: Run, demo: Path) -> None:
    frame = pd.read_csv(demo / "data" / "beijing_pm25.csv")
    flat = frame.assign(**{"pm2.5": 5.0})[list(reversed(frame.columns))]
    flat.to_csv(demo / "flat.csv", index=False)
    done = run(demo, "evaluate", "bundle=run/bundle", "+dataset.path=flat.csv", "report=none", "hydra.run.dir=flat")
    assert done.returncode == 0, done.stderr
    assert json.loads((demo / "flat" / "metrics.json").read_text())["baseline/naive/test/mae_raw"] == 0


def test_publish_names_what_serves_the_bundle_and_train_prints_both_commands(run: Run, demo: Path) -> None:
    done = run(demo, "train", *QUIET, "model=naive", "hydra.run.dir=naive")
    assert "python -m tsforecast.publish naive/bundle" in done.stdout
    assert "TSFORECAST_BUNDLE=naive/bundle bentoml serve tsforecast.serving.service:Forecaster" in done.stdout
    done = run(demo, "publish", "naive/bundle", "to=bento", "name=My naive")
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256((demo / "naive" / "bundle" / "manifest.json").read_bytes()).hexdigest()
    serve = f"TSFORECAST_BUNDLE=my-naive:{digest[:12]} bentoml serve tsforecast.serving.service:Forecaster"
    assert serve in done.stdout
    assert has_parts(run(demo, "publish", "naive").error, where="naive", fix=has("naive/bundle"))  # a bare word


def test_a_version_in_the_registry_is_scored_and_forecasts_by_its_alias(
    run: Run, demo: Path, tracking_database: Path
) -> None:
    shutil.copy(tracking_database, demo)
    done = run(demo, "publish", "run/bundle", "name=pm25")
    assert done.returncode == 0, done.stderr
    assert "models:/pm25/1 is in the registry, as candidate" in done.stdout
    assert "TSFORECAST_BUNDLE=models:/pm25/1 bentoml serve" in done.stdout
    assert "python -m tsforecast.promote model=pm25 from=1\n" in done.stdout
    done = run(demo, "evaluate", "models:/pm25@candidate", "report=none", "hydra.run.dir=aliased")
    assert done.returncode == 0, done.stderr
    again, trained = (json.loads((demo / d / "metrics.json").read_text()) for d in ("aliased", "run"))
    assert again["test/mse"] == trained["test/mse"]
    words = ("input=data/beijing_pm25.csv", "output=by_alias.csv")
    assert run(demo, "predict", "models:/pm25/Staging", *words).returncode == 0
    assert run(demo, "predict", "bundle=run/bundle", words[0], "output=by_path.csv").returncode == 0
    assert (demo / "by_alias.csv").read_bytes() == (demo / "by_path.csv").read_bytes()
    none = run(demo, "predict", "bundle=models:/pm25@champion", *words)
    assert has_parts(none.error, where="models:/pm25@champion", allowed=has("models:/pm25@candidate, models:/pm25/1"))


def test_a_run_that_is_a_version_already_ends_with_what_promotes_it(
    run: Run, demo: Path, tracking_database: Path
) -> None:
    shutil.copy(tracking_database, demo)
    done = run(demo, "train", *QUIET, "model=naive", "publish=mlflow", "publish.name=of run", "hydra.run.dir=version")
    assert done.returncode == 0, done.stderr
    assert "python -m tsforecast.promote model='of run' from=1\n" in done.stdout
    assert "tsforecast.publish" not in done.stdout


def test_train_publishes_when_asked_to(run: Run, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    naive = ("train", *QUIET, "model=naive", "publish=bento")
    done = run(demo, *naive, "hydra.run.dir=published")
    assert done.returncode == 0, done.stderr
    assert "TSFORECAST_BUNDLE=beijing_pm25-naive:" in done.stdout
    assert "tsforecast.publish" not in done.stdout
    monkeypatch.setitem(sys.modules, "bentoml", None)
    assert has_parts(run(demo, *naive, "hydra.run.dir=absent").error, fix=has("pip install 'tsforecast[serve]'"))
    assert not (demo / "absent" / "metrics.json").exists()  # told before the fit


def test_train_alone_imports_nothing_that_publishes_or_serves(demo: Path) -> None:
    words = ["train", *QUIET, "model=naive", "hydra.run.dir=alone"]
    script = f"import sys; sys.argv = {words}; from tsforecast import __main__; sys.argv.insert(0, ''); __main__.main()"
    script += "; sys.exit(any(name.startswith(('bentoml', 'fastapi', 'tsforecast.serving')) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], cwd=demo).returncode == 0
    assert (demo / "alone" / "bundle").is_dir()


HELP = "--help lists the groups, --cfg job shows the keys, --trace where an error comes from"
LAMBDAS = {"where": "model.lambdas", "what": has("non-negative, finite")}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("horizn=24", {"where": "horizn", "fix": "did you mean horizon?"}),
        ("serving=bento", {"where": "serving", "fix": "did you mean publish?"}),
        ("path=x.csv", {"where": "path", "fix": "did you mean dataset.path?"}),
        ("max_epochs=3", {"where": "max_epochs", "fix": "did you mean trainer.max_epochs?"}),
        ("input=x.csv", {"where": "input", "what": "Could not override 'input'."}),
        ("dataset=x.csv", {"got": "x.csv", "fix": "a file of your own is dataset=wide dataset.path=x.csv"}),
        ("+horizn=24", {"where": "horizn", "fix": "did you mean horizon?"}),
        ("evaluation.strid=2", {"where": "evaluation.strid", "fix": "did you mean evaluation.stride?"}),
        ("+evaluation.strid=2", {"where": "evaluation.strid", "fix": "did you mean evaluation.stride?"}),
        (
            "+feature.calendar.field=[hour]",
            {"where": "feature.calendar", "fix": has("mean feature.calendar.fields?")},
        ),
        ("model=rigde", {"where": "model", "got": "rigde", "fix": "did you mean model=ridge?"}),
        ("feature=[calender]", {"where": "feature", "got": "calender", "fix": "did you mean feature=calendar?"}),
        ("experiment=etth1", {"what": has("+experiment=etth1")}),
        ("+experiment=etth9", {"where": "experiment", "got": "etth9", "allowed": has("etth1, etth2")}),
        (
            "--config-name=foo",
            {
                "where": "--config-name",
                "got": "foo",
                "allowed": has("evaluate, leaderboard, predict, promote, publish"),
            },
        ),
        ("dataset=csv dataset.path=x.csv", {"where": "dataset", "got": "csv", "allowed": has("long", "wide")}),
        ("trainer=null", {"what": has("Config group", "NoneType"), "fix": HELP}),
        ("horizon=0", {"where": "horizon", "got": "0", "allowed": "1, 2, ..."}),
        ("horizon=abc", {"where": "horizon", "got": "abc", "allowed": "1, 2, ..."}),
        ("season=0", {"where": "season", "got": "0", "allowed": "1, 2, ..."}),
        ("threads=0", {"where": "threads", "got": "0", "allowed": "1, 2, ..."}),
        ("seed=-1", {"where": "seed", "got": "-1", "allowed": "0 to 2**32 - 1"}),
        ("model.lambdas=[nan]", {**LAMBDAS, "got": "nan"}),
        ("model.lambdas=[foo]", {**LAMBDAS, "got": "foo"}),
        ("model.lambdas=[-1]", {**LAMBDAS, "got": "-1"}),
        ("split.train=nan", {"where": "split", "got": "train=nan val=0.1 test=0.2", "what": has("add up to 1")}),
        ("split.train=0.9", {"where": "split", "got": "train=0.9 val=0.1 test=0.2", "what": has("add up to 1")}),
        ("split.train=abc", {"where": "split", "allowed": has("train: float")}),
        ("lookback=50000", {"where": has("split", "lookback 50000"), "fix": has("lookback=72 horizon=24")}),
        ("feature=[lags] feature.lags.steps=[999]", {"where": "feature.lags", "fix": has("lookback=999")}),
        ("dataset=wide", {"where": "dataset.path", "fix": has("dataset.path=")}),
        ("dataset=wide dataset.path=data/beijing.csv", {"where": "data/beijing.csv", "fix": has("beijing_pm25.csv")}),
        ("model=nlinear trainer.max_epochs=abc", {"where": "trainer.max_epochs", "got": "abc"}),
        ("model=nlinear ckpt_path=data/beijing_pm25.csv", {"where": "ckpt_path", "got": has("beijing_pm25.csv")}),
        ("model=nlinear ckpt_path=nowhere.ckpt", {"where": "ckpt_path", "fix": has("checkpoints/last.ckpt")}),
    ],
)
def test_a_wrong_argument_gives_one_message_with_the_fix_and_no_traceback(
    run: Run, demo: Path, arguments: str, parts: dict[str, Any]
) -> None:
    done = run(demo, "train", *QUIET, *SHORT * ("ckpt_path" in arguments), "hydra.run.dir=wrong", *arguments.split())
    assert has_parts(done.error, **parts)
    assert not (demo / "wrong" / "bundle").exists()
    assert not (demo / "wrong" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("lokback: 10", {"what": has("'experiment/mine'"), "fix": "did you mean lookback?"}),
        ("seed: ten", {"what": has("'experiment/mine'", "'ten'")}),
        ("lookback: [10", {"what": has('mine.yaml", line 3', "flow sequence")}),
    ],
)
def test_what_is_wrong_in_a_users_own_file_is_told_with_its_name(
    run: Run, tmp_path: Path, text: str, parts: dict[str, Any]
) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    assert has_parts(run(tmp_path, "train", *QUIET, "+experiment=mine").error, **parts)


def test_a_finished_run_is_not_written_over(run: Run, demo: Path) -> None:
    before = {file: file.read_bytes() for file in (demo / "run").rglob("*") if file.is_file()}
    done = run(demo, "train", *QUIET, "hydra.run.dir=run", "model=naive")
    assert has_parts(done.error, where="hydra.run.dir", got=str(demo / "run"), what=has("bundle"))
    assert {file: file.read_bytes() for file in (demo / "run").rglob("*") if file.is_file()} == before


def test_evaluate_finds_a_relative_dataset_from_elsewhere_and_warns_of_rows_that_were_trained_on(
    run: Run, demo: Path
) -> None:
    own = ("dataset=wide", "dataset.path=data/beijing_pm25.csv", "dataset.target=[pm2.5]", "dataset.past=[]")
    own = (*own, "dataset.time=[year,month,day,hour]", "model=seasonal_naive", "hydra.run.dir=own")
    done = run(demo, "train", *QUIET, *own)
    assert done.returncode == 0, done.stderr
    elsewhere = demo / "elsewhere"
    elsewhere.mkdir()
    done = run(elsewhere, "evaluate", "bundle=../own/bundle", "report=none", "hydra.run.dir=scores")
    assert done.returncode == 0, done.stderr
    assert "trained or chosen" not in done.stderr
    trained, again = (json.loads((demo / d / "metrics.json").read_text()) for d in ("own", "elsewhere/scores"))
    assert again["test/mse"] == trained["test/mse"]
    done = run(demo, "evaluate", "bundle=own/bundle", "split.test=0.5", "split.train=0.4", "report=none")
    assert done.returncode == 1  # the split is the bundle's own, so there is no key to change
    done = run(demo, "evaluate", "bundle=own/bundle", "split=fraction", "split.test=0.5", "split.train=0.4",
               "report=none", "hydra.run.dir=more")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "trained or chosen" in done.stderr


def test_when_a_bundle_is_damaged_then_predict_says_which_file_and_writes_nothing(run: Run, demo: Path) -> None:
    damaged = demo / "damaged"
    shutil.copytree(demo / "run" / "bundle", damaged, dirs_exist_ok=True)
    for name in ("forecaster.safetensors", "features.npz", "bundle.json"):
        whole = (damaged / name).read_bytes()
        (damaged / name).write_bytes(whole[:-3])
        done = run(demo, "predict", "bundle=damaged", "input=data/beijing_pm25.csv", "output=never.csv")
        (damaged / name).write_bytes(whole)
        assert has_parts(done.error, where=has(name))
        assert not (demo / "never.csv").exists()


def test_when_a_bundle_names_a_function_among_its_values_then_evaluate_does_not_call_it(run: Run, demo: Path) -> None:
    forged = demo / "forged"
    shutil.copytree(demo / "run" / "bundle", forged)
    about = json.loads((forged / "provenance.json").read_text())
    about["config"]["dataset"]["static_path"] = {"_target_": "os.mkdir", "path": "called"}
    (forged / "provenance.json").write_text(json.dumps(about))
    manifest = json.loads((forged / "manifest.json").read_text())
    manifest["provenance.json"] = hashlib.sha256((forged / "provenance.json").read_bytes()).hexdigest()
    (forged / "manifest.json").write_text(json.dumps(manifest))
    done = run(demo, "evaluate", "bundle=forged", "hydra.run.dir=never")
    assert not (demo / "called").exists()
    assert has_parts(done.error, where="provenance.json")


@pytest.mark.parametrize("verb", ["check", "train", "evaluate", "predict"])
def test_help_lists_what_can_be_chosen(run: Run, demo: Path, verb: str) -> None:
    done = run(demo, verb, "--help")
    assert done.returncode == 0
    models = {"dlinear,", "nlinear,", "ridge,", "seasonal_naive,", "tft,", "xgboost,"}
    assert models <= set(done.stdout.split()) if verb == "train" else not models & set(done.stdout.split())
    assert f"python -m tsforecast.{verb} " in done.stdout


def test_a_run_resumed_from_its_checkpoint_ends_where_the_whole_run_ends(run: Run, demo: Path) -> None:
    quick = ("model=dlinear", "model.patience=9", "trainer.limit_train_batches=20", "trainer.limit_val_batches=4",
             "trainer.enable_progress_bar=false")  # fmt: skip
    for name, more in (
        ("whole", ["trainer.max_epochs=4"]),
        ("half", ["trainer.max_epochs=2"]),
        ("rest", ["trainer.max_epochs=4", "ckpt_path=half/checkpoints/last.ckpt"]),
    ):
        done = run(demo, "train", *QUIET, *SHORT, *quick, f"hydra.run.dir={name}", *more)
        assert done.returncode == 0, done.stderr
    whole, rest = (json.loads((demo / d / "metrics.json").read_text()) for d in ("whole", "rest"))
    assert rest["test/mse"] == pytest.approx(whole["test/mse"], rel=1e-6)


@pytest.mark.parametrize(("verb", "argument"), [("evaluate", "model=ridge"), ("predict", "dataset=wide")])
def test_a_group_of_another_command_is_named(run: Run, demo: Path, verb: str, argument: str) -> None:
    assert argument.partition("=")[0] in str(run(demo, verb, "bundle=run/bundle", argument).error)


def test_a_directory_in_which_a_run_is_at_work_is_left_alone(run: Run, demo: Path) -> None:
    import fcntl

    (demo / "taken").mkdir()
    with (demo / "taken" / "train.log").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        done = run(demo, "train", *QUIET, "hydra.run.dir=taken", "model=naive")
    assert has_parts(done.error, where="hydra.run.dir", got=str(demo / "taken"), fix=has("wait"))
    assert [file.name for file in (demo / "taken").iterdir()] == ["train.log"]


def test_when_predict_would_write_over_what_it_reads_then_it_does_not(run: Run, demo: Path) -> None:
    (demo / "plan.csv").write_text("date\n")
    done = run(
        demo, "predict", "bundle=run/bundle", "input=data/beijing_pm25.csv", "known_future=plan.csv", "output=plan.csv"
    )
    assert has_parts(done.error, where="output", what=has("replace an input"))
    assert (demo / "plan.csv").read_text() == "date\n"


def test_two_processes_train_one_model_and_leave_one_run(demo: Path, tracking_database: Path) -> None:
    shutil.copy(tracking_database, demo / "ddp.db")
    short = ("trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=20", "report=none")
    where = ("tracking.uri=sqlite:///ddp.db", "hydra.run.dir=ddp")
    done = process(demo, "tsforecast.train", "model=dlinear", "trainer=ddp", *SHORT, *short, *where)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Run directory") == 1
    assert (demo / "ddp" / "train.log").read_text().count("best validation loss") == 1
    assert json.loads((demo / "ddp" / "metrics.json").read_text())["test/mae"] > 0
    with sqlite3.connect(demo / "ddp.db") as database:
        assert database.execute("select status from runs").fetchall() == [("FINISHED",)]


def test_a_sweep_in_several_processes_is_refused(run: Run, demo: Path) -> None:
    done = run(demo, "train", "-m", *QUIET, "model=dlinear", "trainer=ddp", "trainer.accelerator=cpu", "horizon=12,24")
    assert has_parts(done.error, where="trainer.devices", got="2", fix="trainer.devices=1")


def test_a_process_that_fails_says_so_to_the_shell_and_prints_nothing_as_a_result(tmp_path: Path) -> None:
    done = process(tmp_path, "tsforecast", "train", "horizn=24")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "did you mean horizon?" in done.stderr
    assert "Traceback" not in done.stderr
