"""What `check` finds in a file, and that the command it prints reads the file as it says."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsforecast.config.compose import build, compose
from tsforecast.data.panel import Panel
from tsforecast.registry import load_bundle

from .conftest import Cli

HOURS = pd.date_range("2024-01-01", periods=200, freq="h")
RNG = np.random.default_rng(0)
WIDE = pd.DataFrame({
    "load, MW": RNG.normal(size=200), "temp": RNG.normal(size=200), "kind": ["a", "b"] * 100, "when": HOURS,
})  # fmt: skip
LONG = pd.DataFrame({
    "day": np.tile(HOURS, 3), "shop": np.repeat(["a", "01", "NA"], 200), "promo": RNG.integers(0, 2, 600),
    "y": RNG.normal(size=600),
})  # fmt: skip


def printed(cli: Cli, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, Panel]:
    """What `check` prints, and the panel that the printed command reads."""
    capsys.readouterr()
    assert cli("check", *words) == 0
    out = capsys.readouterr().out
    program, overrides = out.strip().splitlines()[-1].split("tsforecast.train ")
    assert program.strip() == "python -m"
    return out, build(compose("train", shlex.split(overrides))[0].dataset).load().panel


def test_a_wide_file_is_trained_on_by_the_printed_words(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    WIDE.assign(temp=WIDE["temp"].mask(WIDE.index == 7)).to_csv("my file (1).csv", index=False)
    out, panel = printed(cli, capsys, "my file (1).csv")
    assert panel.channels == ("load, MW", "temp")
    np.testing.assert_array_equal(panel.target[:, 0], WIDE["load, MW"].to_numpy(np.float32))
    for told in ("200 rows, 4 columns", "1 missing", "text, 2 different", "1 series, freq h", "2024-01-09 07:00:00"):
        assert told in out


def test_a_long_file_is_trained_on_by_the_printed_words(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    for file, write in (("x.csv", LONG.to_csv), ("x.parquet", LONG.to_parquet)):
        write(file, index=False)
        out, panel = printed(cli, capsys, file)
        assert list(panel.ids) == ["a", "01", "NA"]
        assert panel.channels == ("y",)
        assert "3 series, freq h" in out


def test_where_rows_are_few_the_printed_words_have_windows_that_fit(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    months = pd.DataFrame({"month": pd.date_range("2020-01-01", periods=48, freq="MS"), "sales": RNG.normal(size=48)})
    months.to_csv("x.csv", index=False)
    words = shlex.split(printed(cli, capsys, "x.csv")[0].strip().splitlines()[-1])[3:]
    assert cli("train", *words, "tracking=none", "report=none", "hydra.run.dir=run") == 0
    assert load_bundle("run/bundle").metadata["name"] == "x-ridge"


def test_columns_that_the_printed_words_leave_out_are_named(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    LONG.to_csv("x.csv", index=False)
    assert "\nNot used: promo\n" in printed(cli, capsys, "x.csv")[0]
    assert "Not used" not in printed(cli, capsys, "x.csv", "dataset.known=[promo]")[0]


def test_a_column_that_counts_the_rows_is_no_target(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    WIDE.assign(No=range(3, 203)).to_csv("x.csv", index=False)
    out, panel = printed(cli, capsys, "x.csv")
    assert "No        none, it counts the rows " in out
    assert "\nNot used: kind, No\n" in out
    assert panel.channels == ("load, MW", "temp")
    WIDE[["when"]].assign(No=range(200)).to_csv("x.csv", index=False)  # what else there is to forecast
    assert printed(cli, capsys, "x.csv")[1].channels == ("No",)


def test_short_series_are_named_and_the_printed_words_have_them_forecast(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    LONG.iloc[:405].to_csv("x.csv", index=False)
    out, _ = printed(cli, capsys, "x.csv")
    assert "\nShort series\n  horizon=1 for all 3 series, by the shortest: NA has 5 rows; " in out
    assert out.rstrip().endswith(" split.short=naive")


def test_words_that_fill_gaps_are_printed_before_the_gaps_are_refused(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    WIDE.drop(index=[5, 6]).to_csv("x.csv", index=False)
    assert cli("check", "x.csv") == 1
    out, err = capsys.readouterr()
    assert "2 timestamps missing" in err
    words = shlex.split(out.strip().splitlines()[-1].split("tsforecast.train ")[1])
    assert "dataset.gaps=fill" in words
    assert len(build(compose("train", words)[0].dataset).load().panel.time) == 200


def test_an_index_without_a_name_is_not_in_the_printed_words(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    WIDE.to_csv("x.csv")
    out, panel = printed(cli, capsys, "x.csv")
    assert panel.channels == ("load, MW", "temp")
    assert "\nNot used: Unnamed: 0, kind\n" in out


@pytest.mark.parametrize(
    "name", ["load", "a b", "a,b", "pm2.5", "2", "null", "Straße [m]", "it's", '5" pipe', "a\\b", "x=1", "-"]
)
def test_a_column_of_any_name_is_found_and_written_so_that_it_is_read(
    cli: Cli, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    WIDE[["when", "temp"]].rename(columns={"temp": name}).to_csv("x.csv", index=False)
    assert printed(cli, capsys, "x.csv")[1].channels == (name,)


def test_the_parts_of_a_timestamp_are_found(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    parts = pd.DataFrame({part: getattr(HOURS, part) for part in ("year", "month", "day", "hour")})
    parts.assign(load=WIDE["temp"]).to_csv("x.csv", index=False)
    assert list(printed(cli, capsys, "x.csv")[1].time) == list(HOURS)


def test_what_is_said_of_a_file_is_kept_in_the_printed_words(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    frame = WIDE.drop(index=[5, 6], columns="load, MW")
    frame.to_csv("x.csv", index=False, sep=";", decimal=",", date_format="%d/%m/%Y %H:%M")
    said = [
        "sep=semicolon",
        "decimal=comma",
        "gaps=fill",
        "date_format=%d/%m/%Y %H:%M",
        "past=[kind]",
        "categorical=[kind]",
    ]
    words = [f"dataset.{each}" for each in said]
    out, panel = printed(cli, capsys, "input=x.csv", *words)
    assert len(panel.time) == 200
    assert panel.past_names == ("kind",)
    assert "2 of them added by gaps=fill" in out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("date,y\n2024-01-01,1\n2024-01-02\n", "Row #3"),
        ("date;y\n2024-01-01;1\n", "sep=semicolon"),
        ("date,y\n2024-01-01,1\n2024-01-02,2\n2024-01-02,3\n2024-01-03,4\n2024-01-07,5\n", "duplicate"),
        ("date,y\n2024-01-01,1\n2024-01-02,x\n2024-01-03,4\n", "not numbers"),
        ("a,y\n1,1\n2,2\n", "'date' is missing"),
        ("date,y\n", "there are no rows"),
    ],
)
def test_a_bad_file_is_refused_as_train_refuses_it(
    cli: Cli, capsys: pytest.CaptureFixture[str], content: str, told: str
) -> None:
    Path("x.csv").write_text(content)
    errors = []
    for words in (("check", "x.csv"), ("train", "dataset=wide", "dataset.path=x.csv", "tracking=none")):
        assert cli(*words) == 1
        err = capsys.readouterr().err
        errors.append(err[err.index("Error: ") :])
    assert errors[0] == errors[1]
    assert told in errors[0]


def test_columns_that_hold_lists_and_structs_are_no_obstacle(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    nested = {"tags": [[1, 2]] * len(WIDE), "place": [{"x": 1}] * len(WIDE)}
    WIDE[["when", "temp"]].assign(**nested).to_parquet("x.parquet")
    assert cli("check", "x.parquet") == 0
    out = capsys.readouterr().out
    assert "'dataset.target=[temp]'" in out
    assert "{'x': 1" in out


def test_check_leaves_nothing_behind(cli: Cli, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert cli("check", "x.csv") == 0
    assert cli("predict", "bundle=nowhere", "input=x.csv", "output=y.csv") == 1
    assert sorted(tmp_path.iterdir()) == before
