"""The notebooks run as they are kept, and show what they show."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What each output says, as plain text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.get("text") or output["data"]["text/plain"] for output in outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_the_outputs_that_are_kept_with_it(path: Path) -> None:
    kept = nbformat.read(path, as_version=4)
    fresh = deepcopy(kept)
    NotebookClient(fresh, timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
    for ours, theirs in zip(texts(fresh), texts(kept), strict=True):
        assert NUMBER.sub("#", ours).split() == NUMBER.sub("#", theirs).split()
        numbers = [[float(each.replace(",", "")) for each in NUMBER.findall(text)] for text in (ours, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-2)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_was_run_and_names_no_machine(path: Path) -> None:
    raw = path.read_text(encoding="utf-8")
    assert len(raw) < 100_000
    assert not re.search(r"/(home|root|tmp|work|Users)/", raw)
    cells = [cell for cell in nbformat.reads(raw, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(
        output.output_type == "error" or output.get("name") == "stderr" for c in cells for output in c.outputs
    )
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
