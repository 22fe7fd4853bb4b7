"""What is installed and where things lie: packages, the machine, every file in conf/, public data, the two stores."""

from __future__ import annotations

import hashlib
import inspect
import platform
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from packaging.requirements import Requirement

from tsforecast.bundle.provenance import changed, packages
from tsforecast.checkup.findings import Findings
from tsforecast.config.compose import build, composing, explain, folders
from tsforecast.config.roots import COMMANDS, CONF_DIR
from tsforecast.errors import BundleError, TsforecastError, listed

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
    from tsforecast.tracking.upload import close_dead

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


ASIDE = ("hydra/", "local/")  # in every composition
SEARCH = "hydra/sweeper=optuna"  # whose keys a sampler may refer to
ABOUT = ("dataset", "split", "feature", "scaler", "model", "calibration", "evaluation")  # what an experiment is about


def configurations(found: Findings, paths: DictConfig) -> dict[str, Any]:
    """Tell of each file that is at fault, and how many are not; gives the datasets that can be built, by option.

    The package's own, as they are committed, are built where it is tested: that imports every library there is.
    """
    package, *own = map(_files, folders())
    files = dict(sorted(({name: each[name] for each in own for name in each} | package).items()))  # as Hydra chooses
    altered = changed(CONF_DIR)
    mine = {name for name, place in files.items() if name not in package or place in altered}
    wide = [name for name, place in files.items() if "# @package _global_" in place.read_text("utf-8", "replace")]
    built: dict[str, Any] = {}
    faults: dict[str, TsforecastError] = {}
    with composing() as composed, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for command in COMMANDS:
            with _kept(faults, command):
                composed(command, [])
        narrow = [name for name in files if name not in wide]
        tested, untested = [name for name in narrow if name not in mine], [[name] for name in narrow if name in mine]
        for names in filter(None, (tested, *untested)):  # one after the other all of them would take ten seconds
            with _kept(faults, names[0]):
                words = ["+{0}@callbacks.{2}={1}".format(*name.rsplit("/", 1), _key(name)) for name in names]
                cfg = composed("train", [SEARCH, *words])
                cfg.paths = paths
            for name in names if names[0] not in faults else ():
                with _kept(faults, name):
                    if name in mine or name.startswith("dataset/"):
                        built[name] = _build(cfg.callbacks[_key(name)])
        for name in wide:
            with _kept(faults, name):
                cfg = composed("train", ["+{}={}".format(*name.split("/"))])
                for group in ABOUT if name in mine else ():
                    _build(cfg[group])
    found.part, total = "Configurations", len(COMMANDS) + len(files)
    yours = " and, where they are yours, can be built" if mine else ""
    found.tell("files", f"{total - len(faults)} of {total} compose{yours}, in {listed(folders())}")
    for name, error in faults.items():
        found.fault(name, _of_file(name, files.get(name, CONF_DIR / f"{name}.yaml"), error))
    for place in (each[name] for each in own for name in each if name in package):
        found.tell("hidden", f"{place} is not read: the package has a file of this name", fix="give it another")
    return {name.removeprefix("dataset/"): each for name, each in built.items() if name.startswith("dataset/")}


def _files(root: Path) -> dict[str, Path]:
    """The options of all groups by `group/option`; a file that begins with `_` is a part of others."""
    files = filter(Path.is_file, root.glob("*/**/[!_]*.yaml"))
    found = {place.relative_to(root).with_suffix("").as_posix(): place for place in files}
    return {name: place for name, place in found.items() if not name.startswith(ASIDE)}


def _key(name: str) -> str:
    return name.replace("/", "-")


@contextmanager
def _kept(faults: dict[str, TsforecastError], name: str) -> Iterator[None]:
    """Inside, whatever goes wrong is a fault of that file."""
    try:
        yield
    except Exception as error:  # of YAML, of Hydra, of whatever class a file names
        faults[name] = explain(error, "train", [])


def _of_file(name: str, place: Path, error: TsforecastError) -> TsforecastError:
    """The error in the words of the file, which was composed beside the callbacks."""
    hint = f": {error.fix}" if error.fix and not error.fix.startswith("--") else ""
    parts = error.parts | {"what": error.what, "fix": f"mend {place}{hint}"}
    beside, group = f"callbacks.{_key(name)}", name.rpartition("/")[0]
    return TsforecastError(**{key: text and text.replace(beside, group) for key, text in parts.items()})  # type: ignore[arg-type]


def _build(node: Any) -> Any:
    """A node built; where it asks for more, its class is to know the keys that it has."""
    if not isinstance(node, DictConfig):
        return None
    if not OmegaConf.missing_keys(node):
        return build(node)
    keys = {str(name): None for name in node if not str(name).startswith("_")}
    inspect.signature(get_object(node._target_)).bind_partial(**keys)
    return None
