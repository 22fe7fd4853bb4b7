"""What is installed and where things lie: packages, the machine, public data, the tracking store, the model store."""

from __future__ import annotations

import hashlib
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig
from packaging.requirements import Requirement

from tsforecast.checkup.configurations import Configurations
from tsforecast.checkup.findings import Finding, tried
from tsforecast.config.compose import build
from tsforecast.errors import BundleError, listed

BUILDS = ("xgboost", "xgboost-cpu")  # of one package: the later one overwrites the files of the earlier
EXTRAS = {
    "train": "to train, tune and track",
    "serve": "to serve with BentoML or FastAPI",
    "xgboost": "model=xgboost",
    "xgboost-cpu": "model=xgboost, without CUDA",
    "ray": "folds and trials on a cluster",
}
FREE = 1 << 30  # bytes


def house(cfg: DictConfig) -> Iterator[Finding]:
    """Everything that is the same for all experiments."""
    yield from installed()
    yield from machine(Path(cfg.paths.output_dir))
    files = Configurations(cfg.paths)
    yield from data(files)
    yield from stores(cfg)
    yield from files.findings()


def installed() -> Iterator[Finding]:
    """Packages by extra, their versions held against what this package asks for."""
    part = "Installed"
    try:
        wanted = [Requirement(each) for each in requires("tsforecast") or ()]
    except PackageNotFoundError:
        yield Finding(part, "tsforecast", "runs from its source", "note", "pip install -e . to have versions compared")
        return
    yield Finding(part, "python", f"{platform.python_version()}, tsforecast {version('tsforecast')}")
    there = {each.name: _version(each.name) for each in wanted}
    if all(map(there.get, BUILDS)):
        fix = "pip uninstall -y xgboost xgboost-cpu && pip install 'tsforecast[xgboost-cpu]'"
        yield Finding(
            part, "xgboost", f"{' and '.join(BUILDS)} are both installed: one overwrites the other", "fix", fix
        )
    for extra in ("", *EXTRAS):
        own = [each for each in wanted if bool(extra) == bool(each.marker and "extra" in str(each.marker))]
        own = [each for each in own if each.marker is None or each.marker.evaluate({"extra": extra})]
        gone = [each.name for each in own if not there[each.name]]
        if not own or (extra in gone and extra in BUILDS and any(map(there.get, BUILDS))):
            continue
        words = f"pip install 'tsforecast[{extra}]'" if extra else "pip install tsforecast"
        wrong = [each for each in own if there[each.name] and not each.specifier.contains(str(there[each.name]), True)]
        found = {each.name: there[each.name] for each in own if there[each.name]}
        text = ", ".join(f"{name} {each}" for name, each in found.items())
        if gone:
            text = f"not installed: {listed(gone)}" + f"; {EXTRAS.get(extra)}: {words}" * bool(extra)
        level = "ok" if not gone else "fix" if extra in ("", "train") else "absent"
        yield Finding(part, extra or "core", text, level, words if gone else None, found)
        for each in wrong:
            text = f"{there[each.name]} is installed, {each.specifier} is needed"
            yield Finding(part, each.name, text, "fix", f"pip install '{each.name}{each.specifier}'")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine(out: Path) -> Iterator[Finding]:
    """What torch computes on, and the place that runs are written to."""
    part = "Machine"
    if find_spec("torch"):
        import torch

        cuda = torch.cuda.is_available()
        names = listed(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) if cuda else ""
        device = f"cuda ({names})" if cuda else "mps" if torch.backends.mps.is_available() else "cpu"
        yield Finding(part, "torch", f"{torch.__version__}, {device}, threads: {torch.get_num_threads()}")
    place = next(folder for folder in (out, *out.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        text = f"{out} cannot be written: {error.strerror}"
        yield Finding(part, "outputs", text, "fix", "paths.output_dir=FOLDER, one that may be written")
        return
    few = free < FREE
    text = f"{out} may be written, {free / FREE:,.1f} GiB free"
    yield Finding(part, "outputs", text, "fix" if few else "ok", "free some space, or paths.output_dir=FOLDER" * few)


def data(files: Configurations) -> Iterator[Finding]:
    """The files of the datasets that name one: there with the stated digest, altered, or yet to be downloaded."""
    from tsforecast.data.sources import Dataset

    part = "Data"
    for name, source in files.built.items():
        if not isinstance(source, Dataset) or "://" in source.path:
            continue
        option = name.partition("/")[2]
        here = None if source.here is None else Path(source.here)
        if here is None or not here.exists():
            where = f"{source.path} is not here"
            text = f"{where}: it is downloaded when it is first used" if source.url else where
            yield Finding(part, option, text, "absent" if source.url else "note")
        elif source.sha256 and here.is_file() and _digest(here) != source.sha256:
            again = f"rm {here}" if source.url else f"git checkout -- {here}"
            text = f"{here} was altered or cut short: it has another digest than is stated"
            yield Finding(part, option, text, "fix", again)
        else:
            yield Finding(part, option, f"{here}{', digest as stated' * bool(source.sha256)}")


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def stores(cfg: DictConfig) -> Iterator[Finding]:
    """The store that runs are recorded in, and the one that is served from."""
    from tsforecast.tracking.client import answers
    from tsforecast.tracking.sync import close_dead

    part = "Stores"
    tracker, wrong = tried(part, "tracking", build, cfg.tracking)
    if uri := getattr(tracker, "uri", None):
        text, wrong = tried(part, "tracking", answers, uri)
        yield from wrong or [Finding(part, "tracking", text)]
        if not wrong:
            closed, wrong = tried(part, "dead runs", close_dead, Path(cfg.paths.output_dir), uri)
            yield from wrong or (Finding(part, "dead runs", f"closed as FAILED: {line}", "note") for line in closed)
    else:
        yield from wrong or [Finding(part, "tracking", "tracking=none: no run is recorded", "note")]
    if find_spec("bentoml") is None:
        return
    from tsforecast.serving.store import BentoStore

    try:
        yield Finding(part, "bento", f"the newest bundle is {BentoStore().get().tag}")
    except BundleError as error:  # of an empty one there is nothing to name
        empty = Finding(part, "bento", "no bundle is published yet", "absent")
        yield Finding.of(part, "bento", error) if error.got else empty
