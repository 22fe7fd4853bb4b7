"""Every file in conf/ and in the user's own: it composes, and what the user's own names can be built."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from tsforecast.bundle.provenance import changed
from tsforecast.checkup.findings import Findings
from tsforecast.config.compose import build, composing, explain, folders
from tsforecast.config.roots import COMMANDS, CONF_DIR
from tsforecast.errors import TsforecastError, listed

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
