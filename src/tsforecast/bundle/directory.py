"""A directory of data files with digests: written whole or not at all, read only as it was written.

bundle.json           sizes, schema; features, scaler and forecaster as `_target_` + parameters
features.npz          fitted arrays of the feature set, offsets of the calibration
forecaster.safetensors, *.onnx
                      what the forecaster learned
metadata.json         name, scores
provenance.json       what it was made from: configuration, data, commit, packages, host
card.md               what it is, for a person: made from the files above
golden.json           a request and its answer, which a server must give before it calls itself ready
reference.npz         how columns of training were spread, and how far forecasts were off: what a server sees drift by
manifest.json         sha256 of every other file
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tsforecast.errors import BundleError, OutputError

_T = TypeVar("_T")
_REQUIREMENT = re.compile(r"[\w.-]+(==[\w.]+)?", re.ASCII)
# What a bundle may name: its own parts, and the data and the split that it was trained on.
_MODELS = "linear|naive|ensemble|arima|classical|intermittent|onnx_runtime|trees"
_OWN = re.compile(rf"tsforecast\.(features\.\w+|models\.({_MODELS})|data\.(sources|splits))")
_AGAIN = "copy the whole directory again from where it was trained"


def is_raw(name: str) -> bool:
    """Whether a part of a forecaster's state is a file of its own, by its name."""
    return name.endswith(".onnx")


def write(path: Path, files: Mapping[str, Any], replace: bool = False) -> None:
    """Write the files and `manifest.json`, the sha256 of each, into a new directory.

    Parameters
    ----------
    files
        Values by name: of `.json` one that JSON has, of `.npz` and `.safetensors` arrays by name, of `.md` text, else
        bytes of uint8.

    Raises
    ------
    OutputError
        The directory exists already and is not to be replaced, or cannot be written.
    """
    if path.exists() and not replace:
        raise OutputError("the bundle directory exists already", where=path, fix="choose another path")
    raw = {name: _encoded(name, value) for name, value in files.items()}
    raw["manifest.json"] = _json({name: _sha256(content) for name, content in raw.items()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            (scratch := Path(folder, path.name)).mkdir()
            for name, content in raw.items():
                with (scratch / name).open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            if path.exists():
                path.rename(Path(folder, "before"))
            scratch.rename(path)
    except OSError as error:
        what, fix = "the bundle cannot be written", "free space or permissions"
        raise OutputError(what, where=path, got=error.strerror or error, fix=fix) from error


def weights_digest(path: Path) -> str:
    """The sha256 of what a fit gives, less what is said of it: equal where a run was repeated bit for bit."""
    manifest = parse_json((place := path / "manifest.json").read_bytes(), place)
    learned = (".npz", ".safetensors", ".onnx")
    kept = {name: digest for name, digest in manifest.items() if name == "bundle.json" or name.endswith(learned)}
    return _sha256(_json(kept))


def read(path: Path, wanted: Iterable[str]) -> tuple[dict[str, bytes], str]:
    """Every file that the manifest names, each checked against its digest, and the digest of the manifest.

    Raises
    ------
    BundleError
        There is no such directory or manifest, a wanted file is not in it, or a file is missing or altered.
    """
    place = path / "manifest.json"
    if not place.is_file():
        what = "this directory is not a bundle: it has no manifest.json" if path.is_dir() else "there is no bundle here"
        fix = f"give the path of a run's bundle/ folder, such as {path / 'bundle'}"
        raise BundleError(what, where=path, fix=fix)
    manifest = parse_json(content := place.read_bytes(), place)
    if absent := [name for name in wanted if name not in manifest]:
        fix = f"{_AGAIN}; one of an earlier version: train again"
        raise BundleError("the manifest lacks a file that every bundle has", where=place, got=absent, fix=fix)
    files: dict[str, bytes] = {}
    for name, digest in manifest.items():
        if Path(name).name != name:
            raise BundleError("the manifest names a file outside the bundle", where=place, got=name, fix=_AGAIN)
        try:
            files[name] = (path / name).read_bytes()
        except (OSError, ValueError) as error:
            what = "a file of the bundle cannot be read"
            raise BundleError(what, where=path / name, got=error, fix=_AGAIN) from error
        if (found := _sha256(files[name])) != digest:
            what = "a file of the bundle was altered or is damaged: its sha256 is another"
            raise BundleError(what, where=path / name, got=found[:16], allowed=str(digest)[:16], fix=_AGAIN)
    return files, _sha256(content)


def _encoded(name: str, value: Any) -> bytes:
    if name.endswith(".json"):
        return _json(value, indent=None if name == "golden.json" else 2)
    if name.endswith(".safetensors"):
        return bytes(save_tensors(value))
    if name.endswith(".npz"):
        np.savez(archive := io.BytesIO(), **value)
        return archive.getvalue()
    return value.encode() if isinstance(value, str) else bytes(value)


def decode(path: Path, raw: bytes) -> Any:
    """What `write` was given, of the bytes of one file; of other kinds than JSON any error."""
    if path.suffix == ".json":
        return parse_json(raw, path)
    if path.suffix == ".safetensors":
        return load_tensors(raw)
    if path.suffix == ".npz":
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            if sum(each.file_size for each in arrays.zip.infolist()) > len(raw):  # `savez` packs nothing
                raise ValueError(f"{path.name} unfolds to more than it is")
            return {key: arrays[key] for key in arrays.files}
    return np.frombuffer(raw, np.uint8)


def spec(component: Any, learned: Iterable[str] = ()) -> dict[str, Any]:
    """A dataclass as `_target_` + parameters; what was `learned` is not among them. Its `members` are such too."""
    kept = [f.name for f in fields(component) if f.init and not f.name.startswith("_") and f.name not in learned]
    target = f"{type(component).__module__}.{type(component).__qualname__}"
    parts = {name: getattr(component, name) for name in kept}
    if "members" in parts:
        parts["members"] = {name: spec(each, each.state()) for name, each in parts["members"].items()}
    return {"_target_": target, **parts}


def allowed(*packages: str) -> tuple[str, ...]:
    """Packages whose classes a bundle may name: tsforecast, `packages`, and what TSFORECAST_ALLOW says."""
    return ("tsforecast", *packages, *filter(None, os.environ.get("TSFORECAST_ALLOW", "").split(",")))


def required(body: Mapping[str, Any], allowed: tuple[str, ...]) -> list[str]:
    """What has to be installed beside `tsforecast[serve]`, as a bundle says it, and never anything it makes up.

    Raises
    ------
    BundleError
        It asks for other packages than XGBoost, statsmodels and those allowed, or for more than a version.
    """
    needed, known = (
        [str(each) for each in body.get("requires", ())],
        ("xgboost-cpu", "xgboost", "statsmodels", *allowed[1:]),
    )
    for each in needed:
        if not _REQUIREMENT.fullmatch(each) or each.partition("==")[0] not in known:
            what = "the bundle asks for a package that is not allowed"
            raise BundleError(what, where="bundle.json", got=each, allowed=known)
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
        what, own = "the bundle names a class that is not allowed", ("its own parts of tsforecast", *allowed[1:])
        trust = "" if package in ("", "tsforecast") else f"; if you trust it: TSFORECAST_ALLOW={package}"
        raise BundleError(what, where=where, got=target, allowed=own, fix=_AGAIN + trust)
    members = parameters.pop("members", None)
    if '"_target_"' in json.dumps(parameters):
        what, fix = "the bundle names a class where there is to be none", f"do not trust it; {_AGAIN}"
        raise BundleError(what, where=where, got=str(parameters)[:300], fix=fix)
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        what, fix = "a class of the bundle is not installed", " ".join(requires) or "the package that defines it"
        raise BundleError(what, where=where, got=f"{target}: {error}", fix=f"pip install {fix}") from error
    if not (isinstance(cls, type) and issubclass(cls, kind) and cls.__module__ == module):
        what = "the bundle names something of the wrong kind"
        raise BundleError(what, where=where, got=target, allowed=kind.__qualname__)
    if members is not None:  # by the same rules, and none of them has members
        if any("members" in each for each in members.values()):
            raise BundleError("a member of an ensemble is none itself", where=where, got=target, fix=_AGAIN)
        parameters["members"] = {name: build(each, kind, allowed, requires) for name, each in members.items()}
    try:
        return cls(**parameters)
    except Exception as error:  # of a class of someone else's: anything
        what, fix = "the bundle has parameters that its class does not take", "install the version that wrote it"
        raise BundleError(what, where=where, got=f"{target}: {error}", fix=fix) from error


def _json(value: object, indent: int | None = 2) -> bytes:
    """With sorted keys, so that the same value gives the same bytes."""
    return (json.dumps(value, indent=indent, sort_keys=True, default=list) + "\n").encode()


def parse_json(raw: bytes, where: Path) -> dict[str, Any]:
    """A JSON object; a BundleError when it is none."""
    try:
        if isinstance(parsed := json.loads(raw), dict):
            return parsed
        raise ValueError(f"it is a {type(parsed).__name__}")
    except (ValueError, RecursionError) as error:
        raise BundleError("this file is not a JSON object", where=where, got=error, fix=_AGAIN) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
