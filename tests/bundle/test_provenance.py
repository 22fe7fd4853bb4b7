"""What a result was made from, in and outside a git work tree."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tsforecast.bundle.provenance import git, packages, provenance


def command(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    run = subprocess.run(["git", *identity, *arguments], cwd=directory, capture_output=True, text=True, check=True)
    return run.stdout


def repository(directory: Path) -> Path:
    command(directory, "init", "-q", "-b", "main")
    (directory / "model.py").write_text("x = 1\n")
    command(directory, "add", "model.py")
    command(directory, "commit", "-q", "-m", "first")
    return directory


def test_when_the_work_tree_is_clean_then_the_commit_says_all(tmp_path: Path) -> None:
    found = git(repository(tmp_path))
    assert found == {
        "commit": command(tmp_path, "rev-parse", "HEAD").strip(),
        "branch": "main",
        "dirty": False,
        "diff": "",
        "untracked": [],
    }


def test_when_files_were_changed_then_the_diff_restores_them(tmp_path: Path) -> None:
    repository(tmp_path)
    (tmp_path / "model.py").write_text("x = 2  # µ\n")
    (tmp_path / "weights.bin").write_bytes(bytes(range(256)))
    command(tmp_path, "add", "weights.bin")
    (tmp_path / "notes.txt").write_text("mine")
    found = git(tmp_path)
    assert found is not None
    assert found["dirty"]
    assert found["untracked"] == ["notes.txt"]
    clone = tmp_path.with_name("clone")
    command(tmp_path.parent, "clone", "-q", str(tmp_path), str(clone))
    (tmp_path / "changes.patch").write_text(found["diff"])
    command(clone, "apply", str(tmp_path / "changes.patch"))
    for name in ("model.py", "weights.bin"):
        assert (clone / name).read_bytes() == (tmp_path / name).read_bytes()


def test_when_there_is_no_commit_yet_then_there_is_none_to_name(tmp_path: Path) -> None:
    command(tmp_path, "init", "-q")
    found = git(tmp_path)
    assert found is not None
    assert found["commit"] is None


def test_when_there_is_no_work_tree_then_git_is_none(tmp_path: Path) -> None:
    assert git(tmp_path) is None


def test_the_commit_is_the_packages_wherever_the_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = repository(tmp_path)
    before = provenance()["git"]
    monkeypatch.chdir(elsewhere)
    assert provenance()["git"] == before
    installed = elsewhere / ".venv" / "site-packages" / "provenance.py"  # inside a work tree that is not its own
    installed.parent.mkdir(parents=True)
    installed.touch()
    monkeypatch.setattr("tsforecast.bundle.provenance.__file__", str(installed))
    assert provenance()["git"] is None
    monkeypatch.setattr("tsforecast.bundle.provenance.__file__", str(elsewhere / "model.py"))
    assert provenance()["git"]["commit"] == command(elsewhere, "rev-parse", "HEAD").strip()


def test_the_record_is_json_and_names_the_interpreter_and_the_packages() -> None:
    record = json.loads(json.dumps(provenance({"seed": 1})))
    assert record["config"] == {"seed": 1}
    assert record["python"] == platform.python_version()
    assert record["packages"]["numpy"] == version("numpy")
    assert packages(["numpy", "no-such-package"]) == {"numpy": version("numpy")}
