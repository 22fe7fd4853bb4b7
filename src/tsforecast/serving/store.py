"""Which bundle is to be served, and the Bento model store, into which `publish` puts one."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from importlib.util import find_spec
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from tsforecast.bundle import directory
from tsforecast.errors import BundleError, ConfigError, OutputError
from tsforecast.registry import Located, Registry, in_bento, in_mlflow
from tsforecast.serving.settings import RELOAD, entries

VARIABLE, SEVERAL = "TSFORECAST_BUNDLE", "TSFORECAST_BUNDLES"
_SERVED = re.compile(r"[\w.@-]{1,64}")
_ALLOWED = "a file with a line name=bundle for each, or name=bundle,name=bundle; a name has letters, digits, . @ - _"
_MOVES = re.compile(r"models:/[^/@]+(@.*|/\D.*)|runs:/[^/]+|[0-9a-f]{32}|.*:latest")  # may stand for another one
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_LABELS = {"framework": "tsforecast"}


def shelved() -> dict[str, str]:
    """What TSFORECAST_BUNDLES says: names, and what each stands for; none where it is not set.

    Raises
    ------
    ConfigError
        It cannot be read, holds no name or one twice, or TSFORECAST_BUNDLE says something, too.
    """
    found: dict[str, str] = {}
    if not os.environ.get(SEVERAL, "").strip():
        return found
    if said := os.environ.get(VARIABLE):
        what, where = "what is served is said twice", f"{VARIABLE}, {SEVERAL}"
        raise ConfigError(what, where=where, got=said, allowed="one of them")
    for where, entry in entries(SEVERAL, "=", _ALLOWED):
        name, _, place = (part.strip() for part in entry.partition("="))
        if not _SERVED.fullmatch(name) or not place or name in found:
            what = "a name is there twice" if name in found else "this is no name with a bundle"
            raise ConfigError(what, where=where, got=entry.strip(), allowed=_ALLOWED)
        found[name] = place
    if not found:
        raise ConfigError("there is no bundle", where=SEVERAL, allowed=_ALLOWED)
    return found


def exactly() -> str:
    """What TSFORECAST_BUNDLES says, as lines, with what each name stands for at this moment; a BundleError of none."""
    exact = {name: Registry().exact(newest(where)) for name, where in shelved().items()}
    return "\n".join(f"{name}={Path(it).resolve() if Path(it).exists() else it}" for name, it in exact.items())


def asked() -> str | None:
    """What TSFORECAST_BUNDLE says, or the first of TSFORECAST_BUNDLES; an empty one, as compose files pass it, nothing.

    A name alone that is no path is the newest of this name in the Bento model store.
    """
    return newest(os.environ.get(VARIABLE) or next(iter(shelved().values()), None))


def newest(said: str | None) -> str | None:
    """What is said of one bundle, with `:latest` behind a name alone."""
    named = said and _NAME.fullmatch(said) and not in_mlflow(said) and not Path(said).exists()
    return f"{said}:latest" if named else said


def served(where: str | None = None, into: Path | None = None) -> Located:
    """The bundle to serve.

    Parameters
    ----------
    where
        What `Registry.resolve` takes; None: what TSFORECAST_BUNDLE says, else the newest in the Bento model store.
    into
        A folder for what has to be downloaded.

    Raises
    ------
    BundleError
        There is nothing to serve, or `check_exact` refuses.
    """
    check_exact(where := newest(where) or asked())
    return Registry().resolve(where, into)


def check_exact(where: str | None) -> None:
    """Raise a BundleError where one of several workers is to find out for itself what a reference stands for, once."""
    alone = parent_process() is None or os.environ.get(RELOAD)  # uvicorn starts a worker anew after a crash
    if alone or not _MOVES.fullmatch(where or ":latest") or not (in_mlflow(where) or in_bento(where)):
        return
    what = "each worker would find out for itself which bundle that is, and they could serve two"
    place = SEVERAL if os.environ.get(SEVERAL) else VARIABLE
    raise BundleError(
        what, where=place, got=where, fix=f"say exactly which: {Registry().exact(where)}, or set {RELOAD}"
    )


class BentoStore:
    """The Bento model store, in BENTOML_HOME: what `bentoml serve` and `bentoml build` take from.

    Raises
    ------
    BundleError
        bentoml is not installed.
    """

    def __init__(self) -> None:
        if find_spec("bentoml") is None:
            fix = f"pip install 'tsforecast[serve]', or {VARIABLE}=RUN/bundle to serve a directory"
            raise BundleError("the Bento model store needs bentoml, which is not installed", fix=fix)
        import bentoml.exceptions

        self.bentoml = bentoml

    def get(self, tag: str | None = None) -> Any:
        """The Bento model of a tag; None: the newest that `publish` has put there.

        Raises
        ------
        BundleError
            There is none, or one that cannot be read.
        """
        models: list[Any] = []
        try:
            models = [each for each in self.bentoml.models.list() if each.info.labels.items() >= _LABELS.items()]
            models.sort(key=lambda model: model.info.creation_time, reverse=True)
            if tag or models:
                return self.bentoml.models.get(tag) if tag else models[0]
        except self.bentoml.exceptions.NotFound:
            pass  # told below, with what there is
        except Exception as error:  # of yaml, of cattrs, of BentoML itself
            what, got = "a model in the Bento model store cannot be read", f"{type(error).__name__}: {error}"
            where, fix = os.environ.get("BENTOML_HOME", "~/bentoml"), f"delete it, or {VARIABLE}=RUN/bundle"
            raise BundleError(what, where=where, got=got, fix=fix) from error
        where, allowed = "the Bento model store", [str(model.tag) for model in models]
        what = "the Bento model store has no such bundle" if tag else "there is nothing to serve"
        fix = "python -m tsforecast.publish RUN/bundle to=bento, or give the path RUN/bundle"
        raise BundleError(what, where=where, got=tag, allowed=allowed or None, fix=fix)

    def publish(self, path: Path, name: str | None = None) -> str:
        """Copy a bundle in as the newest; one that is there already becomes the newest again.

        Parameters
        ----------
        path
            The bundle's directory.
        name
            In place of the one that the bundle has.

        Returns
        -------
        str
            The tag, `name:version`; the version is the start of the bundle's digest.

        Raises
        ------
        BundleError
            There is no bundle, or it was altered.
        OutputError
            The store cannot be written.
        """
        from bentoml._internal.configuration.containers import BentoMLContainer
        from bentoml._internal.models.model import ModelStore

        files, digest = directory.read(path, ("metadata.json", "provenance.json"))
        name = name or directory.parse_json(files["metadata.json"], path / "metadata.json").get("name")
        name = re.sub(r"[^a-z0-9_.-]+", "-", str(name or "").lower())[:63].strip("-._") or "bundle"
        tag, about = f"{name}:{digest[:12]}", {"labels": _LABELS, "metadata": {"digest": digest}}
        try:
            models = Path(BentoMLContainer.model_store_dir.get())
            # BentoML writes a model where it is seen half-written: so into a store of its own, and from there by moves.
            with tempfile.TemporaryDirectory(dir=models.parent, prefix=".tsforecast-") as scratch:
                with self.bentoml.models.create(tag, **about, _model_store=ModelStore(scratch)) as model:
                    shutil.copytree(path, model.path, dirs_exist_ok=True)
                _merge(Path(scratch, name), models / name)
        except (OSError, self.bentoml.exceptions.BentoMLException) as error:
            what, fix = "the bundle cannot be put into the Bento model store", "see that BENTOML_HOME may be written"
            raise OutputError(what, where=os.environ.get("BENTOML_HOME", "~/bentoml"), got=error, fix=fix) from error
        return tag


def _merge(fresh: Path, place: Path) -> None:
    """Move `fresh` to `place`: at once, or file by file where it is there already, and files after directories."""
    try:
        fresh.replace(place)
    except OSError:
        if not (fresh.is_dir() and place.is_dir()):
            raise
        for each in sorted(fresh.iterdir(), key=Path.is_file):
            _merge(each, place / each.name)
