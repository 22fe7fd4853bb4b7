"""A directory of data files with digests: written whole or not at all, read only as it was written."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from tsforecast.errors import BundleError, OutputError

_T = TypeVar("_T")
_REQUIREMENT = re.compile(r"[\w.-]+(==[\w.]+)?", re.ASCII)
# What a bundle may name: its own parts, and the data and the split that it was trained on.
_OWN = re.compile(
    r"tsforecast\.(features\.\w+|models\.(linear|naive|onnx_runtime|trees)|data\.(generated|sources|splits))"
)
_AGAIN = "copy the whole directory again from where it was trained"


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the files and `manifest.json`, the sha256 of each, into a new directory.

    Raises
    ------
    OutputError
        The directory exists already, or cannot be written.
    """
    if path.exists():
        raise OutputError("the bundle directory exists already", where=path, fix="choose another path")
    manifest = {name: _sha256(files[name]) for name in sorted(files)}
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        for name, content in {**files, "manifest.json": to_json(manifest)}.items():
            with (scratch / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        scratch.chmod(0o755)
        scratch.rename(path)
    except OSError as error:
        raise OutputError(
            "the bundle cannot be written", where=path, got=error.strerror or error, fix="free space or permissions"
        ) from error
    finally:
        if scratch is not None:
            with contextlib.suppress(FileNotFoundError):  # renamed: it succeeded
                shutil.rmtree(scratch)


def read(path: Path, wanted: Iterable[str]) -> tuple[dict[str, bytes], str]:
    """Every file that the manifest names, each checked against its digest, and the digest of the manifest.

    Raises
    ------
    BundleError
        There is no such directory or manifest, a wanted file is not in it, or a file is missing or altered.
    """
    if not path.is_dir():
        raise BundleError("there is no bundle here", where=path, allowed="a directory that train wrote",
                          fix=f"give the path of a run's bundle/ folder, such as {path / 'bundle'}")  # fmt: skip
    if not (path / "manifest.json").is_file():
        fix = f"give {path / 'bundle'}" if (path / "bundle").is_dir() else "give the path of a run's bundle/ folder"
        raise BundleError("this directory is not a bundle: it has no manifest.json", where=path, fix=fix)
    raw = (path / "manifest.json").read_bytes()
    manifest = parse_json(raw, path / "manifest.json")
    for name in wanted:
        if name not in manifest:
            raise BundleError("the manifest lacks a file that every bundle has", where=path / "manifest.json", got=name,
                              fix=_AGAIN)  # fmt: skip
    files: dict[str, bytes] = {}
    for name, digest in manifest.items():
        if Path(name).name != name:
            raise BundleError("the manifest names a file outside the bundle", where=path / "manifest.json", got=name,
                              allowed="names without a folder", fix=_AGAIN)  # fmt: skip
        try:
            files[name] = (path / name).read_bytes()
        except (OSError, ValueError) as error:
            raise BundleError("a file of the bundle cannot be read", where=path / name, got=error,
                              fix=_AGAIN) from error  # fmt: skip
        if (found := _sha256(files[name])) != digest:
            raise BundleError("a file of the bundle was altered or is damaged", where=path / name,
                              got=f"sha256 {found[:16]}...", allowed=f"sha256 {str(digest)[:16]}...",
                              fix=_AGAIN)  # fmt: skip
    return files, _sha256(raw)


def spec(part: Any, learned: Iterable[str] = ()) -> dict[str, Any]:
    """A dataclass as `_target_` + parameters; what was `learned` is not among them."""
    parameters = {
        f.name: getattr(part, f.name)
        for f in fields(part)
        if f.init and not f.name.startswith("_") and f.name not in learned
    }
    return {"_target_": f"{type(part).__module__}.{type(part).__qualname__}", **parameters}


def allowed(*packages: str) -> tuple[str, ...]:
    """Packages whose classes a bundle may name: tsforecast, `packages`, and what TSFORECAST_ALLOW says."""
    return ("tsforecast", *packages, *filter(None, os.environ.get("TSFORECAST_ALLOW", "").split(",")))


def required(body: Mapping[str, Any], allowed: tuple[str, ...]) -> list[str]:
    """What has to be installed beside `tsforecast[serve]`, as a bundle says it, and never anything it makes up.

    Raises
    ------
    BundleError
        It asks for other packages than XGBoost and those allowed, or for more than a version.
    """
    needed = [str(each) for each in body.get("requires", ())]
    known = ("xgboost-cpu", "xgboost", *allowed[1:])
    for each in needed:
        if not _REQUIREMENT.fullmatch(each) or each.partition("==")[0] not in known:
            what, names = "the bundle asks for a package that is not allowed", ", ".join(known)
            raise BundleError(what, where="bundle.json", got=each, allowed=names)
    return needed


def build(
    spec: Mapping[str, Any],
    kind: type[_T],
    allowed: tuple[str, ...],
    requires: Sequence[str] = (),
    *,
    where: str = "bundle.json",
) -> _T:
    """The object that a `spec` describes: of this package only what a bundle may name, of others what is allowed.

    Parameters
    ----------
    requires
        What to install where its class cannot be imported.
    where
        The file it stands in.

    Raises
    ------
    BundleError
        Its class may not be named or is not installed, is no `kind`, or takes other parameters; or there is another
        `_target_` among them: a bundle is data, and nothing else in it is built.
    """
    parameters = dict(spec)
    target = str(parameters.pop("_target_", None))
    module, _, name = target.rpartition(".")
    package = module.partition(".")[0]
    if not (_OWN.fullmatch(module) if package == "tsforecast" else package in allowed):
        trust = "" if package in ("", "tsforecast") else f"; if you trust it: TSFORECAST_ALLOW={package}"
        raise BundleError("the bundle names a class that is not allowed", where=where, got=target,
                          allowed=", ".join(["its own parts of tsforecast", *allowed[1:]]),
                          fix=_AGAIN + trust)  # fmt: skip
    if '"_target_"' in json.dumps(parameters):
        raise BundleError("the bundle names a class where there is to be none", where=where, got=str(parameters)[:300],
                          fix=f"do not trust it; {_AGAIN}")  # fmt: skip
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        fix = f"pip install {' '.join(requires) or 'the package that defines it'}"
        raise BundleError(
            "the bundle names a class that is not installed", where=where, got=f"{target}: {error}", fix=fix
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, kind) and cls.__module__ == module):
        raise BundleError("the bundle names something of the wrong kind", where=where, got=target,
                          allowed=kind.__qualname__)  # fmt: skip
    try:
        return cls(**parameters)
    except Exception as error:  # of a class of someone else's: anything
        raise BundleError("the bundle has parameters that its class does not take", where=where,
                          got=f"{target}: {error}", fix="install the version that wrote it") from error  # fmt: skip


def to_json(value: object, indent: int | None = 2) -> bytes:
    """With sorted keys, so that the same value gives the same bytes."""
    return (json.dumps(value, indent=indent, sort_keys=True, default=list) + "\n").encode()


def parse_json(raw: bytes, where: Path) -> dict[str, Any]:
    """A JSON object.

    Raises
    ------
    BundleError
        It is none.
    """
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError("this file is not JSON", where=where, got=error, fix=_AGAIN) from error
    if not isinstance(parsed, dict):
        raise BundleError("this file is not a JSON object", where=where, fix=_AGAIN)
    return parsed


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
