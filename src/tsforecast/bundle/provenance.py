"""What a result was made from: the commit, the uncommitted changes, the interpreter and the packages."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RUNTIMES = ("onnxruntime", "xgboost", "xgboost-cpu")
NETWORKS = ("torch", "lightning", "neuralforecast", "onnx", "onnxscript")
SERVED = ("tsforecast", "numpy", "pandas", "pyarrow", "holidays", "safetensors", *RUNTIMES)
PACKAGES = (*SERVED, "hydra-core", "omegaconf", "mlflow", "scikit-learn", *NETWORKS)


def provenance(config: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON-able record of what this process runs on.

    Parameters
    ----------
    config
        The resolved configuration, kept as it is.

    Returns
    -------
    dict
        `command`, `python`, `platform`, `packages` (installed ones of a known list, with versions), `git` and `config`.
        `git` is that of the package: None where no work tree tracks it, as when it came in a wheel, else `commit` (None
        before the first one), `branch`, `dirty`, and `diff`: tracked changes against the commit, which with it restore
        the tracked files. Untracked files are only named.
    """
    here = Path(__file__)
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages(),
        # An environment inside somebody's work tree is no part of it.
        "git": git(here.parent) if _git(here.parent, "ls-files", here.name) else None,
        "config": config,
    }


def packages(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def git(directory: Path) -> dict[str, Any] | None:
    """Commit, branch and uncommitted changes of the work tree around `directory`; None when there is none."""
    status = _git(directory, "status", "--porcelain=v2", "--branch", "--untracked-files=normal")
    if status is None:
        return None
    lines = status.splitlines()
    head = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    changes = [line for line in lines if not line.startswith("# ")]
    commit = None if head["branch.oid"] == "(initial)" else head["branch.oid"]
    tracked = commit is not None and any(not line.startswith("? ") for line in changes)
    return {
        "commit": commit,
        "branch": head["branch.head"],
        "dirty": bool(changes),
        "diff": _git(directory, "diff", "--binary", "HEAD") if tracked else "",
        "untracked": [line[2:] for line in changes if line.startswith("? ")],
    }


def _git(directory: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):  # no git here: say so with None, the run goes on
        return None
    return done.stdout if done.returncode == 0 else None
