"""What README.md and docs/ tell a reader to type works: their blocks marked `<!-- test -->` are run in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tsforecast.metrics import Scores

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^<!-- test -->\n+```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)[^)]*\)")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the marked blocks."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory that has the repository's data, as a clone has."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_when_a_reader_types_what_a_page_says_then_it_works(page: Path, folder: Path) -> None:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
    }
    for language, text in blocks(page):
        if language == "bash":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{page.name}:\n{text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
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
