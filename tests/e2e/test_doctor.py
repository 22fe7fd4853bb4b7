"""What `doctor` says of an installation and of an experiment, of whole ones and of ones broken in every way."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Silent
from tsforecast.bundle.provenance import packages
from tsforecast.checkup import house
from tsforecast.checkup.findings import Finding, Findings
from tsforecast.checkup.house import installed, machine, stores
from tsforecast.checkup.planned import planned
from tsforecast.config.compose import compose
from tsforecast.config.job import Job
from tsforecast.errors import OutputError
from tsforecast.tracking.store import Store

from .conftest import Cli

RNG = np.random.default_rng(0)
HOURS = pd.date_range("2024-01-01", periods=600, freq="h")
PANEL = pd.DataFrame({
    "unique_id": np.repeat(["a", "b", "tiny"], [600, 600, 30]), "ds": [*HOURS, *HOURS, *HOURS[:30]],
    "y": RNG.normal(size=1230), "promo": 1.0, "spare": "x",
})  # fmt: skip


def wide(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"date": HOURS, "y": RNG.normal(size=600), **columns})


def told(frame: pd.DataFrame | None, *words: str) -> list[Finding]:
    """What is said of an experiment on a frame."""
    if frame is not None:
        frame.to_csv("data.csv", index=False)
        words = (f"dataset={'long' if 'unique_id' in frame else 'wide'}", "dataset.path=data.csv", *words)
    return looked_at(planned, Job(*compose("doctor", words), words))


def looked_at(at: Callable[..., None], *args: object) -> Findings:
    found = Findings()
    at(found, *args)
    return found


def texts(found: list[Finding], name: str, level: str = "note") -> str:
    """What is said under a name at a level, and what to type."""
    return "\n".join(f"{each.text} {each.fix}" for each in found if (each.name, each.level) == (name, level))


def windows(found: list[Finding]) -> dict[str, int]:
    return {each.name: each.facts["windows"] for each in found if "windows" in each.facts}


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if "bentoml" not in path.parts}


def test_what_does_not_compose_is_a_json_document_too(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("doctor", "--json", "model=nope") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert document["error"]["where"] == "model"
    assert document["error"]["got"] == "nope"


def test_a_whole_house_and_experiment_are_one_json_document_that_ends_in_ok_and_nothing_is_written(
    cli: Cli, capsys: pytest.CaptureFixture[str], tmp_path: Path, ett_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSFORECAST_DATA_DIR", str(ett_dir))
    before = files(tmp_path)
    assert cli("doctor", "--json", "+experiment=etth1", "model=nlinear") == 0
    assert files(tmp_path) == before
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    text = Findings(Finding(**each) for each in document["findings"]).text()
    assert text.splitlines()[-1] == "ok"
    assert "8,209 windows in     8,640 rows, 2016-07-01 00:00:00 to 2017-06-25 23:00:00" in text
    facts = {each["name"]: each["facts"] for each in document["findings"] if each["part"] == "Experiment"}
    time = pd.read_csv(ett_dir / "ETTh1.csv")["date"]
    for part, first, end in (("train", 0, 8640), ("val", 8640, 11520), ("test", 11520, 14400)):
        origins = [t for t in range(336, len(time)) if first <= t and t + 96 <= end]  # obviously right, and slow
        expected = {"rows": end - first, "first": time[first], "last": time[end - 1], "windows": len(origins)}
        assert facts[part] == expected
    assert facts["sizes"] == {"lookback": 336, "horizon": 96, "season": 24}


def test_everything_that_is_broken_in_a_house_is_told_with_what_to_type(
    cli: Cli,
    capsys: pytest.CaptureFixture[str],
    nobody: str,
    slept: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TSFORECAST_DATA_DIR", raising=False)
    for file, text in {
        "conf/model/typo.yaml": "_target_: tsforecast.models.linear.Ridge\nlamdas: [1.0]\n",
        "conf/dataset/syntax.yaml": "name: [",
        "conf/model/ridge.yaml": "_target_: mine.Ridge\n",
        "conf/split/gone.yaml": "_target_: nowhere.Split\n",
        "conf/experiment/key.yaml": "# @package _global_\nhorizn: 7\n",
        "conf/gate/latin.yaml": "latency: 5 # \N{LATIN SMALL LETTER E WITH ACUTE}\n",
        "data/ETTh1.csv": "date,OT\n",
        "outputs": "a file",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text, encoding="latin-1")
    (tmp_path / "conf/model/folder.yaml").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody)
    assert cli("doctor") == 1
    assert sum(slept) < 10
    out = capsys.readouterr().out
    fixes = out.partition("To fix\n")[2]
    for place, words in {
        "model/typo: ": "lambdas",
        "dataset/syntax: ": "mend ",
        "split/gone: ": "mend ",
        "experiment/key: ": "horizon",
        "gate/latin: ": "mend ",
        "etth1: ": f"rm {tmp_path}/data/ETTh1.csv",
        "outputs: ": "paths.output_dir=",
        "tracking: ": "tracking=none",
    }.items():
        assert place in fixes
        assert words in fixes.partition(place)[2].splitlines()[1]
    assert out.splitlines()[-1] != "ok"
    ok, total = re.search(r"(\d+) of (\d+) compose", out).groups()  # type: ignore[union-attr]
    assert int(total) - int(ok) == 5
    assert f"{tmp_path}/conf/model/ridge.yaml is not read" in " ".join(out.split())
    assert "where:" not in out  # one error is not told within another


def dist(folder: Path, name: str, number: str) -> None:
    place = folder / f"{name.replace('-', '_')}-{number}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")


def test_two_builds_of_xgboost_and_a_version_out_of_bounds_are_to_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not looked_at(installed).faults
    for name, number in (("xgboost", "3.2.0"), ("xgboost-cpu", "3.2.0"), ("mlflow", "2.22.1")):
        dist(tmp_path, name, number)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    wrong = {each.name: each for each in looked_at(installed).faults}
    assert "pip uninstall -y xgboost xgboost-cpu" in str(wrong["xgboost"].fix)
    assert wrong["mlflow"].text.startswith("2.22.1 is installed")
    assert "mlflow<4,>=3.13" in str(wrong["mlflow"].fix)


def test_an_extra_that_is_not_there_is_no_fault_and_training_without_its_packages_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = {each.name: each for each in looked_at(installed)}
    assert whole["train"].facts["torch"] == version("torch")
    there = {name: number for name, number in packages().items() if name not in ("bentoml", "torch")}
    monkeypatch.setattr(house, "packages", lambda names=there: {name: there[name] for name in names if name in there})
    found = {each.name: each for each in looked_at(installed)}
    assert (found["serve"].level, found["serve"].fix) == ("absent", "pip install 'tsforecast[serve]'")
    assert "not installed: bentoml; to serve" in found["serve"].text
    assert (found["train"].level, found["train"].fix) == ("fix", "pip install 'tsforecast[train]'")


def test_a_full_disk_is_to_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [ok] = [each for each in looked_at(machine, tmp_path / "outputs") if each.name == "outputs"]
    assert ok.level == "ok"
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(100, 99, 1))  # type: ignore[attr-defined]
    [full] = [each for each in looked_at(machine, tmp_path / "outputs") if each.name == "outputs"]
    assert (full.level, full.fix) == ("fix", "free some space, or paths.output_dir=FOLDER")


def test_a_server_that_takes_connections_and_never_answers_is_told_within_seconds(
    cli: Cli, silent: Silent, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with pytest.raises(OutputError, match="timed out"):
        Store(f"http://{silent.place}").answers()
    assert silent.asked() + sum(slept) < 3


def test_a_database_of_another_version_of_mlflow_is_told_with_the_words_that_migrate_it(
    tracking_database: Path, tmp_path: Path
) -> None:
    assert Store(f"sqlite:///{tracking_database}").answers().endswith("answers")
    old = tmp_path / "old.db"
    old.write_bytes(tracking_database.read_bytes())
    with closing(sqlite3.connect(old)) as database, database:
        database.execute("update alembic_version set version_num = '0584bdc529eb'")
    with pytest.raises(OutputError) as told:
        Store(f"sqlite:///{old}").answers()
    assert told.value.fix == f"mlflow db upgrade sqlite:///{old}"
    assert "makes it" in Store(f"sqlite:///{tmp_path}/new.db").answers()
    assert not (tmp_path / "new.db").exists()


def test_gaps_and_duplicates_are_to_fix_and_the_windows_behind_them_are_told(cli: Cli) -> None:
    frame = wide().drop(index=[100, 101])
    found = told(pd.concat([frame, frame.tail(1)]), "lookback=48")
    fix = texts(found, "data", "fix")
    assert "2 timestamps missing" in fix
    assert "duplicate timestamps" in fix
    assert "dataset.gaps=fill" in fix
    assert "dataset.duplicates=last" in fix
    assert windows(found) == windows(told(wide(), "lookback=48"))
    assert "y 0.3% of all rows are missing" in texts(found, "missing")


def test_constant_and_empty_channels_are_to_fix(cli: Cli) -> None:
    found = texts(told(wide(flat=1.0, gone=np.nan)), "data", "fix")
    assert "'flat' is constant" in found
    assert "'gone' is all missing" in found


def test_a_channel_that_does_not_move_before_the_test_rows_is_known(cli: Cli) -> None:
    found = told(wide(late=np.where(np.arange(600) < 450, 3.0, RNG.normal(size=600))))
    assert texts(found, "constant").startswith("late")
    assert texts(found, "scale").startswith("1 of 2")


def test_short_series_are_named_with_what_to_drop_them_would_do(cli: Cli) -> None:
    found = told(PANEL, "lookback=48", "horizon=24")
    assert "tiny has" in texts(found, "plan", "fix")
    assert "split.short=drop" in texts(found, "plan", "fix")
    assert "1 of 3 series are too short and left out: tiny" in texts(found, "log")
    kept = told(PANEL, "lookback=48", "horizon=24", "split.short=drop")
    assert not texts(kept, "plan", "fix")
    assert windows(found)["train"] == windows(kept)["train"] == 2 * (420 - 48 - 24 + 1)


def test_series_with_less_than_a_season_are_none_that_repeat_it_and_hold_the_horizon_down(cli: Cli) -> None:
    rows = {"a": 400, "b": 400, "c": 5}
    parts = [wide().head(n).assign(shop=name).rename(columns={"y": "sales"}) for name, n in rows.items()]
    pd.concat(parts).to_csv("x.csv", index=False)
    found = told(None, "dataset=long", "dataset.path=x.csv")
    assert (
        texts(found, "scale")
        == "1 of 3 series have no more train rows than a season (24): MASE leaves them out: c None"
    )
    assert "horizon=1 for all 3 series, by the shortest: c has 5 rows" in texts(found, "log")
    assert not texts(found, "columns")  # all are taken by their names


def test_zeros_are_held_against_percentage_metrics(cli: Cli) -> None:
    values = np.ones(600) + RNG.normal(size=600)
    values[480::4] = 0  # a quarter of the test rows
    assert "y 25.0%" in texts(told(wide(y=values)), "zeros")
    assert not texts(told(wide()), "zeros")


def test_a_season_longer_than_the_lookback_is_known_and_of_a_seasonal_model_to_fix(cli: Cli) -> None:
    found = told(wide(), "lookback=12")
    assert "lookback=24" in texts(found, "sizes")
    assert not any(each.level == "fix" for each in found)
    assert "lookback=24" in texts(told(None, *_of("lookback=12", "model=seasonal_naive")), "season", "fix")
    assert not texts(told(None, *_of("lookback=48", "model=seasonal_naive")), "season", "fix")


def test_how_few_rows_a_window_holds_is_told_where_it_reaches_back_before_the_first(cli: Cli) -> None:
    months = pd.DataFrame({"date": pd.date_range("2020-01-01", periods=48, freq="MS"), "y": RNG.normal(size=48)})
    (sizes,) = (each for each in told(months, "model=theta") if each.name == "sizes")
    assert sizes.facts["least"] < sizes.facts["lookback"]
    (sizes,) = (each for each in told(months, "model=theta", "lookback=12", "horizon=6") if each.name == "sizes")
    assert "least" not in sizes.facts


def test_covariates_that_the_model_cannot_use_and_columns_that_nobody_reads_are_told(cli: Cli) -> None:
    frame = wide(temp=RNG.normal(size=600), spare="x")
    asked = ("dataset.target=[y]", "dataset.past=[temp]", "lookback=48", "feature=[]")
    found = told(frame, *asked)
    assert texts(found, "columns").startswith("not read: spare ")
    refused = told(frame, *asked, "model=patchtst")
    assert "temp" in texts(refused, "plan", "fix")
    assert "dataset.past=[]" in texts(refused, "plan", "fix")
    assert windows(refused) == windows(found)
    short = told(PANEL, "lookback=48", "horizon=24", "dataset.known=[promo]", "model=patchtst")
    assert "tiny has" in texts(short, "plan", "fix")  # and what is behind it, which is to fix all the same
    assert "promo" in texts(short, "plan", "fix")


def test_too_few_windows_for_the_quantiles_are_known(cli: Cli) -> None:
    found = told(wide().head(100), "lookback=24", "horizon=8", "quantiles=[0.001]")
    assert "too few rows for all quantiles" in texts(found, "log")
    assert windows(found)["test"] == 20 - 8 + 1
    assert "few" in texts(found, "test")


def test_data_that_is_not_here_is_not_downloaded(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TSFORECAST_DATA_DIR", raising=False)
    found = told(None, "+experiment=etth1")
    assert f"curl -Lo {tmp_path}/data/ETTh1.csv https://" in (fix := texts(found, "data", "fix"))
    assert fix.endswith(" --create-dirs")  # data/ is not there either
    assert "there is no such file" in texts(told(None, "dataset=wide", "dataset.path=gone.csv"), "data", "fix")
    assert "dataset.path=..." in texts(told(None, "dataset=wide"), "configuration", "fix")
    assert not (tmp_path / "data").exists()


def _of(*words: str) -> tuple[str, ...]:
    return ("dataset=wide", "dataset.path=data.csv", *words)


DIED = """
import os, sys
from pathlib import Path
from tsforecast.tracking.runs import MLflowTracker
with MLflowTracker(sys.argv[1]).run('died', {'a': 1}, out=Path('outputs/died')):
    os._exit(9)
"""


def test_a_run_that_died_is_closed_and_named_once(cli: Cli, tracking_database: Path, tmp_path: Path) -> None:
    shutil.copy(tracking_database, tmp_path / "mlflow.db")
    (tmp_path / "outputs/died").mkdir(parents=True)
    assert subprocess.run([sys.executable, "-c", DIED, f"sqlite:///{tmp_path}/mlflow.db"], check=False).returncode == 9
    cfg = compose("doctor", [])[0]
    [line] = [each.text for each in looked_at(stores, cfg) if each.name == "dead runs"]
    assert line.startswith("closed as FAILED: ")
    assert "outputs/died" in line
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert database.execute("select status from runs").fetchall() == [("FAILED",)]
    assert not [each for each in looked_at(stores, cfg) if each.name == "dead runs"]
