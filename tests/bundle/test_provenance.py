"""What a result was made from, in and outside a git work tree."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import secrets
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import pytest

from tsforecast.bundle.provenance import changed, differences, digest_of, git, packages, portable, provenance, tags


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


def test_the_files_of_a_folder_that_the_commit_has_not_are_named_staged_ones_too(tmp_path: Path) -> None:
    conf = repository(tmp_path) / "conf"
    assert changed(tmp_path) == set()
    conf.mkdir()
    for name in ("kept", "altered"):
        (conf / f"{name}.yaml").write_text("a: 1\n")
    command(tmp_path, "add", "conf")
    command(tmp_path, "commit", "-q", "-m", "second")
    for name in ("altered", "staged", "new name"):
        (conf / f"{name}.yaml").write_text("a: 2\n")
    command(tmp_path, "add", "conf/staged.yaml")
    (tmp_path / "model.py").write_text("x = 3\n")  # of another folder
    assert changed(conf) == {conf / f"{name}.yaml" for name in ("altered", "staged", "new name")}
    outside = tmp_path.with_name("outside")
    outside.mkdir()
    assert changed(outside) == set()


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
    assert record["host"]["python"] == platform.python_version()
    assert record["seed"] == 1
    assert record["packages"]["numpy"] == version("numpy")
    assert packages(["numpy", "no-such-package"]) == {"numpy": version("numpy")}


def test_all_that_is_installed_is_listed_with_the_versions_that_python_knows() -> None:
    paths = [place for place in sys.path if "site-packages/" not in place]  # ray puts a folder of its own there
    found = reversed([*distributions(path=paths)])
    assert packages() == {re.sub(r"[-_.]+", "-", each.name).lower(): each.version for each in found}


def test_what_a_package_puts_on_the_path_for_itself_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("site-packages", "site-packages/big/vendored"):
        (tmp_path / place / f"{Path(place).name.replace('-', '_')}-1.0+cpu.dist-info").mkdir(parents=True)
        monkeypatch.syspath_prepend(str(tmp_path / place))
    assert packages(["site-packages", "vendored"]) == {"site-packages": "1.0+cpu"}


def test_the_digest_of_the_packages_is_that_of_sorted_lines() -> None:
    expected = hashlib.sha256(b"numpy==2.1\npandas==2.2\n").hexdigest()
    assert digest_of({"pandas": "2.2", "numpy": "2.1"}) == expected
    assert digest_of({"pandas": "2.2", "numpy": "2.2"}) != expected


def test_no_password_is_kept_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    password = secrets.token_hex(8)  # which the work tree's own changes do not hold
    address = f"postgresql://me:{password}@host/db"
    monkeypatch.setattr("sys.argv", ["train", f"dataset.address={address}"])
    record = provenance({"dataset": {"address": [address]}}, overrides=[f"dataset.address={address}"])
    assert password not in json.dumps(record)
    assert record["config"]["dataset"]["address"] == ["postgresql://me:***@host/db"]


def test_a_configuration_names_the_places_of_its_machine() -> None:
    paths = {"root_dir": "/home/me", "data_dir": "/home/me/data", "output_dir": "/home/me/outputs"}
    places = ["/home/me/data/x.csv", "/home/me/y", "/home/meme/y", "sqlite:////home/me/a.db", "a /home/me", "/home/me"]
    assert portable({"a": [*places, 1, None]}, paths) == {
        "a": [
            "${paths.data_dir}/x.csv", "${paths.root_dir}/y", "/home/meme/y", "sqlite:///${paths.root_dir}/a.db",
            "a /home/me", "${paths.root_dir}", 1, None,
        ]
    }  # fmt: skip
    assert portable("/x", {"root_dir": "/"}) == "/x"


def test_what_differs_between_two_records_is_told_by_name_then_and_now() -> None:
    then = {"packages": {"numpy": "2.1", "old": "1"}, "git": {"commit": "a", "diff": "x"}, "host": {"python": "3.11"}}
    now = {"packages": {"numpy": "2.2", "new": "1"}, "git": None, "host": {"python": "3.11"}, "data": {"digest": "d"}}
    assert differences(then, then) == {}
    changes = hashlib.sha256(b"x").hexdigest()[:12]
    assert differences(then, now) == {
        "data": ("none", "d"), "git commit": ("a", "none"), "uncommitted changes": (changes, "none"),
        "package numpy": ("2.1", "2.2"), "package old": ("1", "none"), "package new": ("none", "1"),
    }  # fmt: skip


def test_tags_are_text_and_what_is_not_known_has_none() -> None:
    origin: dict[str, Any] = {"git": {"commit": None, "dirty": True}, "seed": 0, "data": {"digest": "a"}, "host": None}
    assert tags(origin) == {"git.dirty": "true", "data.digest": "a", "seed": "0"}
    origin |= {"overrides": ["model=ridge", "name=a b"], "parents": {"run": "0", "rerun": "models:/load/3"}}
    origin["data"]["parts"] = {
        part: {"rows": 5, "first": f"{part} 0", "last": f"{part} 4"} for part in ("train", "test")
    }
    assert tags(origin) == {
        "git.dirty": "true", "data.digest": "a", "seed": "0", "overrides": "model=ridge 'name=a b'",
        "parents.rerun": "models:/load/3",
        "data.parts": "train: 5 rows, train 0 to train 4; test: 5 rows, test 0 to test 4",
    }  # fmt: skip
