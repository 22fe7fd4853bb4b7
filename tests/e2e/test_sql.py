"""From a database to a bundle, and what the bundle says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy

from .conftest import Cli

SMALL = ("model=ridge", "lookback=24", "horizon=4", "quantiles=[]", "report=none", "tracking=none", "hydra.run.dir=run")
ASKED = 'dataset.query="select date, y from power order by date"'


def test_what_a_database_answers_is_trained_on_and_evaluated_when_it_is_asked_again(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = sqlalchemy.create_engine("sqlite:///x.db")
    pd.read_csv("x.csv", parse_dates=["date"]).to_sql("power", engine, index=False)
    engine.dispose()
    monkeypatch.setenv("PLACE", "x.db")
    assert cli("train", "dataset=sql", "dataset.address=sqlite:///$PLACE", ASKED, *SMALL) == 0
    about = json.loads(Path("run/bundle/provenance.json").read_text())
    assert about["data"]["source"] == about["config"]["dataset"]["address"] == "sqlite:///$PLACE"
    capsys.readouterr()
    assert cli("evaluate", "bundle=run/bundle", "hydra.run.dir=again") == 1
    assert "dataset=sql dataset.address=... dataset.query=..." in capsys.readouterr().err
    again = ("dataset=sql", "dataset.address=sqlite:///x.db", ASKED, "hydra.run.dir=again")
    assert cli("evaluate", "bundle=run/bundle", *again) == 0
    scores = [json.loads(Path(run, "metrics.json").read_text())["test/mae"] for run in ("run", "again")]
    assert scores[0] == scores[1]


def test_a_password_that_is_typed_is_refused_and_stands_in_no_file(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("train", "dataset=sql", "dataset.address=postgresql://me:s3cret@host/x", ASKED, *SMALL) == 1
    told = capsys.readouterr().err
    assert "me:***@host" in told[told.index("Error: ") :]
    files = [file.read_text() for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert "me:***@host" in "".join(files)
    assert "s3cret" not in "".join(files)


def test_a_query_without_quotes_is_told_to_have_some(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("train", "dataset=sql", "dataset.address=sqlite:///x.db", "dataset.query=select date, y from x") == 1
    assert "quote the value" in capsys.readouterr().err
