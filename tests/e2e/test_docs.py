"""What README.md and docs/ tell a reader to type works: their blocks marked `<!-- test -->` are run in order."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tracking.conftest import free_port
from tsforecast.metrics import Scores

from .conftest import Run

ROOT = Path(__file__).parents[2]
DEMO = Path("data", "beijing_pm25.csv")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^<!-- test -->\n+```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Shell = Callable[[str], tuple[int, str]]
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)[^)]*\)")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the marked blocks."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def folder(page: Path, tmp_path: Path) -> Path:
    """A working directory that has the repository's data, as a clone has.

    README is run as it is. On the other pages how good a forecast is plays no part: the lookback is short where a page
    names none, and the demo, where a page has no data of its own, its last year, without a digest to be held against.
    """
    (tmp_path / "data").mkdir()
    for file in (ROOT / "data").iterdir():  # not the folder: what is generated is not to lie in the repository
        (tmp_path / "data" / file.name).symlink_to(file)
    if page.stem != "README":
        own = tmp_path / "conf" / "local" / "default.yaml"
        own.parent.mkdir(parents=True)
        own.write_text("# @package _global_\nlookback: 48\n")
        if not any("dataset=" in text for _, text in blocks(page)):
            with own.open("a") as defaults:
                defaults.write("dataset: {sha256: null}\n")
            (tmp_path / DEMO).unlink()
            head, *rows = (ROOT / DEMO).read_bytes().splitlines(keepends=True)
            (tmp_path / DEMO).write_bytes(head + b"".join(rows[-8760:]))
    return tmp_path


@pytest.fixture
def shell(folder: Path) -> Shell:
    """A shell of a process of its own in that folder: the exit status of a text, and the end of what it printed."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
    }

    def call(text: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment, capture_output=True, text=True
        )
        return done.returncode, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"

    return call


def moved(text: str, ports: dict[str, int]) -> str:
    """A block whose servers have ports that are free here, and the time that they need here to start."""
    text = text.replace("--retry 60 ", "--retry 600 ")
    return re.sub(r"\b33[23]\d\b", lambda port: str(ports.setdefault(port[0], free_port())), text)


COMMAND = re.compile(r"(\w+=\w+ )?python -m tsforecast\.\w+ [^|&;<>`$]*$")


def lines(text: str) -> list[str]:
    """The lines of a block that stand for themselves, so that the commands among them need no process; or the block."""
    each = re.sub(r"\\\n", " ", text).strip().splitlines()
    return each if all(COMMAND.match(line) or line.startswith("head ") for line in each) else [text]


@pytest.fixture
def typed(folder: Path, shell: Shell, run: Run) -> Shell:
    """As `shell`, but a line that is a command alone runs in this process, as `python -m` runs it."""

    def call(line: str) -> tuple[int, str]:
        if "\n" in line or not COMMAND.match(line):
            return shell(line)
        words = shlex.split(line, comments=True)
        start = words.index("python")
        with pytest.MonkeyPatch.context() as environment:
            for name, _, value in (word.partition("=") for word in words[:start]):
                environment.setenv(name, value)
            done = run(folder, *words[start + 2 :])
        return done.returncode, done.stderr[-4000:]

    return call


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_when_a_reader_types_what_a_page_says_then_it_works(
    page: Path, folder: Path, shell: Shell, typed: Shell, tracking_database: Path
) -> None:
    if page.stem != "README":  # which shows that a database is made where there is none
        shutil.copy(tracking_database, folder)
    ports: dict[str, int] = {}
    for language, text in ((language, moved(text, ports)) for language, text in blocks(page)):
        if language == "bash":
            for number, line in enumerate(lines(text)):
                first = page.stem == "README" and number == 0  # a reader types it first: by a shell, in a process
                status, told = (shell if first else typed)(line)
                assert status == 0, f"{page.name}:\n{text}\n{told}"
        else:  # a file, named by the comment on its first line
            file = folder / text.splitlines()[0].removeprefix("#").strip()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_when_a_page_links_to_a_file_then_the_file_is_there(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert missing == []


def test_every_score_that_is_reported_is_defined() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    one = np.ones((1, 1))
    names = Scores(("y",), 1, one, one, quantile_levels=(0.05, 0.5, 0.95)).summary()
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_pages_that_teach_have_commands_to_run() -> None:
    taught = {page.stem for page in PAGES if blocks(page)}
    assert taught >= {"README", "own-csv", "own-model", "own-feature"}
