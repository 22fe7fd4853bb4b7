"""What is installed and where things lie: packages, the machine, public data, the tracking store, the model store."""

from __future__ import annotations

import hashlib
import platform
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from packaging.requirements import Requirement

from tsforecast.bundle.provenance import packages
from tsforecast.checkup.configurations import configurations
from tsforecast.checkup.findings import Findings
from tsforecast.config.compose import build
from tsforecast.errors import BundleError, listed

BUILDS = ("xgboost", "xgboost-cpu")  # of one package: the later one overwrites the files of the earlier
EXTRAS = {
    "": "to do anything",
    "train": "to train, tune and track",
    "serve": "to serve with BentoML or FastAPI",
    "xgboost": "model=xgboost",
    "xgboost-cpu": "model=xgboost, without CUDA",
    "stats": "model=ets, theta, arima, mstl",
    "ray": "folds and trials on a cluster",
}
FREE = 1 << 30  # bytes


def house(found: Findings, cfg: DictConfig) -> None:
    """Look at everything that is the same for all experiments."""
    installed(found)
    machine(found, Path(cfg.paths.output_dir))
    data(found, configurations(found, cfg.paths))
    stores(found, cfg)


def installed(found: Findings) -> None:
    """Packages by extra, their versions held against what this package asks for."""
    found.part, there = "Installed", packages()
    if "tsforecast" not in there:
        found.tell("tsforecast", "runs from its source", fix="pip install -e . to have versions compared")
        return
    found.tell("python", f"{platform.python_version()}, tsforecast {there['tsforecast']}")
    if there.keys() >= set(BUILDS):
        text = f"{' and '.join(BUILDS)} are both installed: one overwrites the other"
        words = "pip uninstall -y xgboost xgboost-cpu && pip install 'tsforecast[xgboost-cpu]'"
        found.tell("xgboost", text, "fix", words)
    wanted = [Requirement(each) for each in requires("tsforecast") or ()]
    for extra, use in EXTRAS.items():
        asked = [each for each in wanted if bool(extra) == ("extra" in str(each.marker))]
        own = [each for each in asked if each.marker is None or each.marker.evaluate({"extra": extra})]
        gone = [each.name for each in own if each.name not in there]
        if not own or (extra in BUILDS and extra in gone and there.keys() & set(BUILDS)):
            continue
        versions = packages([each.name for each in own])
        if gone:
            words = f"pip install 'tsforecast[{extra}]'".replace("[]", "")
            level = "fix" if extra in ("", "train") else "absent"
            found.tell(extra or "core", f"not installed: {listed(gone)}; {use}: {words}", level, words, versions)
        else:
            text = ", ".join(f"{name} {version}" for name, version in versions.items())
            found.tell(extra or "core", text, facts=versions)
        for each in own:
            if (version := there.get(each.name)) and not each.specifier.contains(version, prereleases=True):
                text = f"{version} is installed, {each.specifier} is needed"
                found.tell(each.name, text, "fix", f"pip install '{each.name}{each.specifier}'")


def machine(found: Findings, out: Path) -> None:
    """What torch computes on, and the place that runs are written to."""
    found.part = "Machine"
    if find_spec("torch"):
        import torch

        cuda = torch.cuda.is_available()
        names = listed(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) if cuda else ""
        device = f"cuda ({names})" if cuda else "mps" if torch.backends.mps.is_available() else "cpu"
        found.tell("torch", f"{torch.__version__}, {device}, threads: {torch.get_num_threads()}")
    place = next(folder for folder in (out, *out.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        fix = "paths.output_dir=FOLDER, one that may be written"
        found.tell("outputs", f"{out} cannot be written: {error.strerror}", "fix", fix)
        return
    full = ("fix", "free some space, or paths.output_dir=FOLDER") if free < FREE else ()
    found.tell("outputs", f"{out} may be written, {free / FREE:,.1f} GiB free", *full)


def data(found: Findings, datasets: Mapping[str, Any]) -> None:
    """The files of the datasets that name one: there with the stated digest, altered, or yet to be downloaded."""
    from tsforecast.data.sources import Dataset

    found.part = "Data"
    for option, source in datasets.items():
        if not isinstance(source, Dataset) or "://" in source.path:
            continue
        if (here := source.here) is None:
            how = ": it is downloaded when it is first used" * bool(source.url)
            found.tell(option, f"{source.path} is not here{how}", "absent" if source.url else "note")
        elif source.sha256 and here.is_file() and hashlib.sha256(here.read_bytes()).hexdigest() != source.sha256:
            again = f"rm {here}" if source.url else f"git checkout -- {here}"
            found.tell(option, f"{here} was altered or cut short: it has another digest than is stated", "fix", again)
        else:
            found.tell(option, f"{here}{', digest as stated' * bool(source.sha256)}")


def stores(found: Findings, cfg: DictConfig) -> None:
    """The store that runs are recorded in, and the one that is served from."""
    from tsforecast.tracking.store import Store
    from tsforecast.tracking.sync import close_dead

    found.part = "Stores"
    with found.trying("tracking"):
        if uri := getattr(build(cfg.tracking), "uri", None):
            found.tell("tracking", Store(uri).answers())
            with found.trying("dead runs"):
                for line in close_dead(Path(cfg.paths.output_dir), uri):
                    found.tell("dead runs", f"closed as FAILED: {line}", "note")
        else:
            found.tell("tracking", "tracking=none: no run is recorded", "note")
    if find_spec("bentoml") is None:
        return
    from tsforecast.serving.store import BentoStore

    with found.trying("bento"):
        try:
            found.tell("bento", f"the newest bundle is {BentoStore().get().tag}")
        except BundleError as error:
            if error.got:
                raise
            found.tell("bento", "no bundle is published yet", "absent")  # of an empty store there is nothing to name
