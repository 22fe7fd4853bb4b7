"""One noun for the places a bundle can come from: a directory, MLflow, the Bento model store.

RUN/bundle                                     a directory
load:0123456789ab                              in the Bento model store, by its tag
runs:/<run id>[/model], <run id>               of a tracked run
models:/load@champion, models:/load/3          a version of a registered model, by its alias or number
models:/load/latest, models:/m-<model id>      the highest version; a logged model
"""

from __future__ import annotations

import logging
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError, OutputError, one_of
from tsforecast.tracking.registered import STAGES, Models, installed

log = logging.getLogger(__name__)

PLACES = ("mlflow", "bento")
_ADDRESS = re.compile(r"(models|runs|mlflow-artifacts|s3|gs|https?):/|[0-9a-f]{32}$")
_TAG = re.compile(r"[a-z0-9][a-z0-9_.-]*:[a-z0-9_.-]+")
_ALIAS = re.compile(r"(?!(latest|v\d+)$)[\w-]+", re.IGNORECASE)


@dataclass(frozen=True)
class Located:
    """Where a bundle lies on this machine, and exactly what was asked for: a path, `models:/load/3`, a whole tag."""

    path: Path
    exact: str


def in_mlflow(reference: str | None) -> bool:
    """Whether MLflow is to be asked for it."""
    return bool(_ADDRESS.match(reference or "")) and not Path(str(reference)).exists()


def in_bento(reference: str | None) -> bool:
    """Whether the Bento model store is: for nothing in particular, or for a tag that is no path."""
    return reference is None or bool(_TAG.fullmatch(reference) and not Path(reference).exists())


def meant(where: str, alias: str | None) -> str | None:
    """The alias that a word stands for; a ConfigError for one that MLflow would refuse, before anything is done."""
    if alias and not _ALIAS.fullmatch(alias):
        allowed = "letters, digits, - and _; latest and v3 are words of MLflow's own"
        raise ConfigError("this can be no alias", where=where, got=alias, allowed=allowed)
    return STAGES.get((alias or "").lower(), alias)


class Registry(Models):
    """Versions of bundles, in MLflow and in the Bento model store.

    Parameters
    ----------
    uri
        Of the MLflow store. The environment variable MLFLOW_TRACKING_URI wins over it; None: `mlflow.db` where one
        works.
    """

    def resolve(self, reference: str | os.PathLike[str] | None, into: Path | None = None) -> Located:
        """The directory of a bundle.

        Parameters
        ----------
        reference
            As above; None: the newest in the Bento model store.
        into
            A folder for what has to be downloaded; None: one that is gone when this process ends.

        Raises
        ------
        BundleError
            There is no such name, version, alias, run or tag; those that there are are listed. A path is not looked at.
        """
        text = None if reference is None else os.fspath(reference)
        if in_bento(text):
            from tsforecast.serving.store import BentoStore

            model = BentoStore().get(text)
            return Located(Path(model.path), str(model.tag))
        if in_mlflow(text):
            return Located(*self.locate(str(text), into))
        return Located(Path(str(text)), str(text))

    def exact(self, reference: str | None) -> str:
        """What `resolve` would say that a reference stands for, without fetching it; a BundleError where it is none."""
        if in_bento(reference):
            from tsforecast.serving.store import BentoStore

            return str(BentoStore().get(reference).tag)
        return self.exactly(str(reference)) if in_mlflow(reference) else str(reference)

    def publish(self, bundle: Path, *, to: str, name: str | None = None, alias: str | None = "candidate") -> str:
        """Make a bundle a version of its name; the same bundle is the same version however often.

        Parameters
        ----------
        to
            `mlflow` or `bento`.
        name
            In place of the one that the bundle has.
        alias
            What the version is called in MLflow from now on; None: by its number alone.

        Returns
        -------
        str
            What stands for it for ever: `models:/load/3`, `load:0123456789ab`.

        Raises
        ------
        ConfigError
            There is no such place, or there can be no such alias.
        BundleError
            There is no bundle, or it was altered.
        OutputError
            The store cannot be written.
        """
        one_of("to", to, PLACES)
        alias = meant("alias", alias)
        if to == "bento":
            from tsforecast.serving.store import BentoStore

            return BentoStore().publish(bundle, name)
        name, version = self.register(bundle, name)
        if alias:
            self.point(name, alias, version)
        return f"models:/{name}/{version}"


@dataclass(frozen=True)
class Publish:
    """What `train` does with the bundle when all is done: see `Registry.publish`.

    Raises
    ------
    ConfigError
        There is no such place, or there can be no such alias.
    BundleError
        What writes to it is not installed.
    """

    to: str
    name: str | None = None
    alias: str | None = "candidate"
    uri: str | None = None

    def __post_init__(self) -> None:
        one_of("publish.to", self.to, PLACES)
        meant("publish.alias", self.alias)
        if self.to == "bento":
            from tsforecast.serving.store import BentoStore

            BentoStore()
        else:
            installed()

    def __call__(self, bundle: Path) -> str | None:
        """The exact reference of what is published; None, and a warning, where the store is away: a run outlives it."""
        try:
            return Registry(self.uri).publish(bundle, to=self.to, name=self.name, alias=self.alias)
        except OutputError as error:
            name = f" name={shlex.quote(self.name)}" if self.name else ""
            later = f"python -m tsforecast.publish {shlex.quote(os.path.relpath(bundle))} to={self.to}{name}"
            log.warning("%s (%s): not published, `%s` does it later", error.what, error.parts["got"], later)
            return None


def load_bundle(reference: str | os.PathLike[str], *, allow: tuple[str, ...] = ()) -> Bundle:
    """A bundle, by a path, `models:/name@alias`, `models:/name/3`, `runs:/...` or a Bento tag: see `Bundle.load`.

    Raises
    ------
    BundleError
        There is none, or it cannot be loaded.
    """
    return Bundle.load(Registry().resolve(reference).path, allow=allow)
