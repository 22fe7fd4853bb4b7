"""The commands are what users of Hydra expect: callbacks, sweepers, logging, completion. In process, on tiny data."""

from __future__ import annotations

import logging
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback

from tsforecast.__main__ import VERBS
from tsforecast.config.closing import promoting
from tsforecast.config.command import _named

from .conftest import Cli


class Watch(Callback):
    """What Hydra tells a callback of the jobs."""

    seen: ClassVar[list[Any]] = []

    def on_job_end(self, config: Any, job_return: Any, **_: Any) -> None:
        self.seen.append((job_return.status.name, job_return._return_value))


WATCH = f"+hydra.callbacks.watch._target_={__name__}.Watch"


@pytest.fixture(autouse=True)
def watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra finds the callback, which has seen nothing yet."""
    monkeypatch.setattr(Watch, "seen", [])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Watch.__module__])


SMALL = ("dataset=wide", "dataset.path=x.csv", "model=ridge", "lookback=24", "horizon=4", "quantiles=[]",
         "report=none", "tracking=none")  # fmt: skip
TINY = ("train", *SMALL, "hydra.run.dir=run")


@pytest.mark.parametrize("word", ['a"b', "it's", "C:\\runs\\", "\\\\host\\x", 'a\\"b', "mein lauf ü", "a,{b}"])
def test_a_word_of_any_spelling_is_read_as_it_was_typed(word: str) -> None:
    (read,) = OverridesParser.create().parse_overrides(_named([word], "runs"))
    assert (read.key_or_group, read.value()) == ("runs", word)


@pytest.mark.parametrize("name", ["pm25", "of run", "Łódź ü", "it's"])
def test_what_promotes_a_version_can_be_typed_whatever_its_name(name: str) -> None:
    *_, model, number = shlex.split(promoting(f"models:/{name}/3"))
    read = OverridesParser.create().parse_overrides([model, number])
    assert [each.value() for each in read] == [name, 3]


def test_a_failed_run_is_failed_for_hydras_callbacks_and_told_once(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(*TINY, WATCH, "lookback=0") == 1
    assert [status for status, _ in Watch.seen] == ["FAILED"]
    assert "lookback" in str(Watch.seen[0][1])
    assert capsys.readouterr().err.count("Error: ") == 1


def test_the_score_that_objective_names_is_what_a_sweeper_gets(cli: Cli, tmp_path: Path) -> None:
    assert cli(*TINY, WATCH, "objective=val/rmse_raw") == 0
    scores = yaml.safe_load((tmp_path / "run" / "metrics.json").read_text())
    assert Watch.seen == [("COMPLETED", scores["val/rmse_raw"])]
    assert cli("train", *SMALL, "hydra.run.dir=default", WATCH) == 0
    assert Watch.seen[1] == ("COMPLETED", scores["val/mae"])


@pytest.mark.parametrize("name", ["test/mae", "baseline/naive/test/mae", "val/nothing", "mae", "val/crps"])
def test_only_a_score_of_the_validation_rows_can_be_returned(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert cli(*TINY, f"objective={name}") == 1
    said = capsys.readouterr().err
    assert "objective" in said
    assert "val/mae" in said
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_what_was_composed_is_kept_as_hydra_keeps_it(cli: Cli, tmp_path: Path) -> None:
    assert cli(*TINY, "seed=3") == 0
    kept = {file.stem: yaml.safe_load(file.read_text()) for file in (tmp_path / "run" / ".hydra").iterdir()}
    assert set(kept) == {"config", "hydra", "overrides"}
    assert kept["overrides"] == [*SMALL, "seed=3"]
    assert kept["config"]["seed"] == 3
    assert kept["hydra"]["hydra"]["runtime"]["choices"]["model"] == "ridge"
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert cli(*TINY, "seed=4") == 1  # the directory is taken
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


@pytest.mark.filterwarnings("ignore:Experimental rerun")
def test_hydra_can_run_a_job_again_from_its_pickle(cli: Cli, tmp_path: Path) -> None:
    saves = "+hydra.callbacks.p._target_=hydra.experimental.callbacks.PickleJobInfoCallback"
    assert cli(*TINY, saves, "hydra.output_subdir=.hydra") == 0
    scores = (tmp_path / "run" / "metrics.json").read_bytes()
    config = tmp_path / "run" / ".hydra" / "config.pickle"
    assert pickle.loads(config.read_bytes()).lookback == 24
    assert cli("train", "--experimental-rerun", str(config)) == 1  # what is finished stays
    shutil.rmtree(tmp_path / "run" / "bundle")
    (tmp_path / "run" / "metrics.json").unlink()
    assert cli("train", "--experimental-rerun", str(config)) == 0
    again = yaml.safe_load((tmp_path / "run" / "metrics.json").read_text())
    assert again["test/mae"] == yaml.safe_load(scores)["test/mae"]


def test_hydra_verbose_and_job_logging_have_their_effect(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(*TINY) == 0
    assert logging.getLogger("tsforecast").getEffectiveLevel() == logging.INFO
    assert "windows of 24 + 4 rows" in capsys.readouterr().err
    assert cli("train", *SMALL, "hydra.run.dir=verbose", "hydra.verbose=tsforecast") == 0
    assert logging.getLogger("tsforecast").getEffectiveLevel() == logging.DEBUG
    capsys.readouterr()
    assert (
        cli("train", *SMALL, "hydra.run.dir=own", "hydra.job_logging.formatters.plain.format='MINE %(message)s'") == 0
    )
    assert "MINE x: 1 series" in capsys.readouterr().err
    for name in ("run", "verbose", "own"):
        assert (tmp_path / name / "train.log").read_text().count("windows of 24 + 4 rows") == 1


def test_runs_of_a_sweep_have_a_log_each(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", *SMALL, "-m", "hydra.sweep.dir=sweep", WATCH, "horizon=3,4") == 0
    assert [status for status, _ in Watch.seen] == ["COMPLETED"] * 2
    for job, horizon in enumerate((3, 4)):
        assert f"windows of 24 + {horizon} rows" in (tmp_path / "sweep" / str(job) / "train.log").read_text()
        assert f"horizon={horizon}" in (tmp_path / "sweep" / str(job) / ".hydra" / "overrides.yaml").read_text()


@pytest.mark.parametrize("chosen", ["hydra.mode=MULTIRUN", "+experiment=both"])
def test_an_override_or_a_file_of_the_user_may_choose_to_sweep(cli: Cli, tmp_path: Path, chosen: str) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    both = "# @package _global_\nhydra:\n  mode: MULTIRUN\n"
    (tmp_path / "conf" / "experiment" / "both.yaml").write_text(both)
    assert cli("train", *SMALL, "hydra.sweep.dir=sweep", "model=naive", "horizon=3,4", chosen) == 0
    assert all((tmp_path / "sweep" / job / "bundle").is_dir() for job in "01")


@pytest.mark.parametrize(("option", "place"), [("-m", 1), ("--multirun", 4), ("-m", 99)])
def test_options_may_stand_anywhere_among_the_keys(cli: Cli, tmp_path: Path, option: str, place: int) -> None:
    words = ["train", *SMALL, "hydra.sweep.dir=sweep", "model=naive", "horizon=2,4"]
    assert cli(*words[:place], option, *words[place:]) == 0
    assert sorted(each.name for each in (tmp_path / "sweep").iterdir() if each.is_dir()) == ["0", "1"]


def test_options_that_take_a_word_keep_it(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("train", "model=naive", "--cfg", "job", "horizon=7", "--package", "model") == 0
    assert "SeasonalNaive" in capsys.readouterr().out


def test_bad_data_is_told_before_a_tracking_database_is_made(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text("date,y\n2024-01-01,abc\n")
    store = f"tracking.uri=sqlite:///{tmp_path}/runs.db"
    assert cli(*(word for word in TINY if word != "tracking=none"), store) == 1
    assert "x.csv" in capsys.readouterr().err
    assert not (tmp_path / "runs.db").exists()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tsforecast tr", set(VERBS)),
        ("tsforecast ", set(VERBS)),
        ("tsforecast train scal", {"scaler=", "scaler."}),
        ("tsforecast train  model=ridge hori", {"horizon="}),
        ("tsforecast train model=nli", {"model=nlinear"}),
        ("/opt/bin/tsforecast predict bund", {"bundle="}),
        ("tsforecast train split=", {"split=dates", "split=fraction", "split=ltsf", "split=tail"}),
    ],
)
@pytest.mark.parametrize("asked", [["-sc"], ["train", "-sc"]])
def test_a_shell_is_told_what_can_follow(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, offered: set[str],
    asked: list[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("COMP_LINE", line)
    assert cli(*asked, "query=bash") == 0
    assert set(capsys.readouterr().out.split()) == offered


def test_bash_completes_the_installed_script(tmp_path: Path) -> None:
    script = tmp_path / "tsforecast"  # as pip writes it
    script.write_text(f"#!{sys.executable}\nfrom tsforecast.__main__ import main\nmain()\n")
    script.chmod(0o755)
    bash = """eval "$(tsforecast train -sc install=bash)"
    COMP_LINE='tsforecast train model=rid'; COMP_POINT=${#COMP_LINE}; COMP_WORDS=($COMP_LINE); COMP_CWORD=2
    complete -p tsforecast; hydra_bash_completion; echo "${COMPREPLY[@]}" """
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "_HYDRA_OLD_COMP": ""}
    done = subprocess.run(
        ["bash", "-c", bash], env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-2:] == [
        "complete -o default -o nospace -F hydra_bash_completion tsforecast", "model=ridge",
    ], done.stderr  # fmt: skip
