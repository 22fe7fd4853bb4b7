"""What a result was made from: configuration, commit, uncommitted changes, packages, data, host."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tsforecast.errors import without_password

FILE = "provenance.json"
DATA_DIR, ROOT_DIR = PLACES = "${paths.data_dir}", "${paths.root_dir}"
RUNTIMES = ("onnxruntime", "xgboost", "xgboost-cpu", "statsmodels")
SERVED = ("tsforecast", "numpy", "pandas", "pyarrow", "holidays", "safetensors", *RUNTIMES)
_TAGGED = {"git": ("commit", "branch", "dirty"), "data": ("name", "digest")}
_TAGGED |= {"host": ("python", "platform", "processor"), "parents": ("rerun",)}
_INSTALLED = re.compile(r"([^-]+)-([^-]+)(?:-py\d.*)?\.(?:dist|egg)-info")


def provenance(
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    choices: Mapping[str, str] | None = None,
    parents: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A JSON-able record of what this process runs on, without passwords.

    Parameters
    ----------
    config
        The resolved configuration, as `portable` gives it.
    overrides, choices
        The arguments it was composed with, and the option chosen in each group.
    parents
        The runs that this one is a part of or repeats.

    Returns
    -------
    dict
        `config`, `overrides`, `choices`, `seed`, `parents`, `command`, `host`, `packages` (all that are installed, with
        versions) and `packages_digest`, `git`.
        `git` is that of the package: None where no work tree tracks it, as when it came in a wheel, else `commit` (None
        before the first one), `branch`, `dirty`, and `diff`: tracked changes against the commit, which with it restore
        the tracked files. Untracked files are only named.
    """
    here, config = Path(__file__), dict(config or {})
    record = {
        "config": config,
        "overrides": [*overrides],
        "choices": dict(choices or {}),
        "seed": config.get("seed"),
        "parents": dict(parents or {}),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "host": host(),
        "packages": packages(),
        "packages_digest": digest_of(packages()),
        # An environment inside somebody's work tree is no part of it.
        "git": git(here.parent) if _git(here.parent, "ls-files", here.name) else None,
    }
    return dict(_each(record, without_password))


def tags(origin: Mapping[str, Any]) -> dict[str, str]:
    """What of it a list of runs is searched by."""
    found = {f"{part}.{key}": (origin.get(part) or {}).get(key) for part, keys in _TAGGED.items() for key in keys}
    found |= {"packages.digest": origin.get("packages_digest"), "seed": origin.get("seed")}
    parts = (origin.get("data") or {}).get("parts") or {}
    found["data.parts"] = "; ".join("{}: {rows} rows, {first} to {last}".format(k, **each) for k, each in parts.items())
    found["overrides"] = shlex.join(origin.get("overrides") or ())
    known = {key: value for key, value in found.items() if value not in (None, "")}
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in known.items()}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What of two records may give other results, by name: then and now; of a digest its beginning."""
    old, new = _facts(then), _facts(now)
    both = {name: (old.get(name, "none"), new.get(name, "none")) for name in old | new}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def _facts(origin: Mapping[str, Any]) -> dict[str, str]:
    git, data, host = (origin.get(key) or {} for key in ("git", "data", "host"))
    facts = {"data": data.get("digest", "")[:12], "git commit": git.get("commit")}
    facts |= {"uncommitted changes": hashlib.sha256(git["diff"].encode()).hexdigest()[:12] if git.get("diff") else None}
    facts |= {key: host.get(key) for key in ("python", "platform", "processor", "gpus", "threads")}
    facts |= {f"package {name}": version for name, version in (origin.get("packages") or {}).items()}
    return {name: str(value) for name, value in facts.items() if value}


def portable(value: Any, paths: Mapping[str, str]) -> Any:
    """A configuration in which the places of one machine are names: `${paths.data_dir}/x.csv`."""
    for name in PLACES:
        if root := paths.get(name.removeprefix("${paths.").rstrip("}"), "").rstrip("/"):
            place = re.compile(rf"(^|(?<=:///)){re.escape(root)}(?=/|$)")
            value = _each(value, partial(place.sub, name))
    return value


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with each of its strings changed."""
    if isinstance(value, Mapping):
        return {key: _each(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_each(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


def packages(names: Sequence[str] = ()) -> dict[str, str]:
    """Versions of all that is installed, or of those `names` that are; read off the names of folders, in 1 ms."""
    found: dict[str, str] = {}
    for place in filter(Path.is_dir, map(Path, sys.path)):
        if any(above.name == "site-packages" for above in place.parents):  # what a package has brought for itself
            continue
        for match in filter(None, (_INSTALLED.fullmatch(each.name) for each in sorted(place.iterdir()))):
            found.setdefault(re.sub(r"[-_.]+", "-", match[1]).lower(), match[2])  # the first is the one imported
    return {name: found[name] for name in names or sorted(found) if name in found}


def digest_of(versions: Mapping[str, str]) -> str:
    """The sha256 of sorted lines `name==version`."""
    lines = sorted(f"{name}=={version}\n" for name, version in versions.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def host() -> dict[str, Any]:
    """What decides the last bits of a sum, and how long it takes; memory in bytes."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _first(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "gpus": [_first(each, "Model") for each in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))],
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": pages,
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _first(file: Path, key: str) -> str | None:
    """What the first line `key: value` of a file says."""
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else ()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)


def user() -> str:
    """Who runs this process; in a container a user may have a number and no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


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


def changed(folder: Path) -> set[Path]:
    """The files in a folder that the commit of the work tree around it has not, or has otherwise; without one, none."""
    ways = ("diff", "-z", "--name-only", "--relative", "HEAD"), ("ls-files", "-z", "--others", "--exclude-standard")
    names = "".join(_git(folder, *words, ".") or "" for words in ways).split("\0")
    return {folder / name for name in names if name}


def _git(directory: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):  # no git here: say so with None, the run goes on
        return None
    return done.stdout if done.returncode == 0 else None
