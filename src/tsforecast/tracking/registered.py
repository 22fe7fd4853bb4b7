"""The registered models of an MLflow store: bundles become versions there, and are found by what stands for them."""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tsforecast.bundle import directory, provenance
from tsforecast.errors import BundleError, OutputError, nearest
from tsforecast.tracking.journal import FILE
from tsforecast.tracking.models import DIGEST, log_model, logged_by
from tsforecast.tracking.store import Store, every, experiments, runs
from tsforecast.tracking.upload import RUN

STAGES = {"production": "champion", "staging": "candidate"}  # what aliases were called before there were any
_VERSION = re.compile(r"models:/([^/@]+)(?:([/@])([^/@]+))?")
_DESCRIPTION = 5000  # characters that the store keeps
_SHOWN = r"test/(mse|mae|mae_raw|mase|coverage-[\d.]+)"  # of the scores, as tags of a version


def installed() -> None:
    """Raise a BundleError where mlflow is not."""
    if find_spec("mlflow") is None:
        fix = "pip install mlflow, or give the path of the bundle"
        raise BundleError("an MLflow address needs mlflow", fix=fix)


class Models:
    """The registered and logged models of an MLflow store.

    Parameters
    ----------
    uri
        Of the store: see `Store`.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.store = Store(uri)

    def _asked(self, where: str, write: bool = False) -> AbstractContextManager[Any]:
        installed()
        return self.store.asked(where, OutputError if write else BundleError, write=write)

    def locate(self, address: str, into: Path | None = None) -> tuple[Path, str]:
        """The directory of the bundle at an address, on this machine, and the address of exactly this one.

        Parameters
        ----------
        into
            A folder for what is downloaded; None: one that is gone when this process ends.

        Raises
        ------
        BundleError
            There is no such thing, it holds no bundle, or MLflow does not answer.
        """
        with self._asked(address) as connection:
            from mlflow.artifacts import download_artifacts

            place, exact = self._place(connection, address)
            remote = urlsplit(place).scheme not in ("", "file")  # else it is used where it lies
            if remote and into is None:
                into = Path(tempfile.mkdtemp(prefix="tsforecast-bundle-"))
                atexit.register(shutil.rmtree, into, ignore_errors=True)
            target = str(into) if remote else None
            folder = Path(download_artifacts(artifact_uri=place, tracking_uri=self.store.uri, dst_path=target))
            if found := sorted(folder.rglob("manifest.json")):
                return found[0].parent, exact
        raise BundleError("this MLflow model holds no bundle", where=address, fix="give one that tsforecast logged")

    def exactly(self, address: str) -> str:
        """The address of exactly what one stands for now; nothing is downloaded."""
        with self._asked(address) as connection:
            return self._place(connection, address)[1]

    def _place(self, connection: Any, address: str) -> tuple[str, str]:
        """Where the files of an address are, and the address that stands for them whatever is published next."""
        kind, _, rest = address.partition(":/")
        if re.fullmatch(r"models:/m-[^/@]+", address):
            return connection.get_logged_model(rest).artifact_location, address
        if kind == "models":
            name, version = self._version(connection, address)
            return connection.get_model_version_download_uri(name, str(version)), f"models:/{name}/{version}"
        if kind != "runs" and rest:
            return address, address
        run, _, name = (rest or address).strip("/").partition("/")
        found = [connection.get_logged_model(each) for each in logged_by(connection, run)]
        models = [model for model in found if model.status == "READY"]
        exact = f"runs:/{run}/{name or 'model'}"
        for model in reversed(models):
            if model.name == (name or "model"):
                return model.artifact_location, exact
        what, fix = "this run has logged no such model", "train with tracking.log_model=true"
        raise BundleError(what, where=address, got=exact, allowed=[model.name for model in models] or None, fix=fix)

    def _version(self, connection: Any, address: str) -> tuple[str, int]:
        """The name and version that `models:/name@alias`, `models:/name/3` or `models:/name/latest` stands for."""
        name, mark, word = match.groups() if (match := _VERSION.fullmatch(address)) else (None, None, None)
        if name is None:
            allowed = "models:/NAME@ALIAS, models:/NAME/VERSION, models:/NAME/latest"
            raise BundleError("this is no address of a model", where=address, allowed=allowed)
        aliases = self._aliases(connection, name)
        versions = self._versions(connection, name)
        there = {f"models:/{name}@{alias}": number for alias, number in aliases.items()}
        there |= {f"models:/{name}/{number}": number for number in versions}
        word, stage = str(word or ""), STAGES.get(str(word).lower(), "")
        for each in (address, f"models:/{name}@{stage}"):
            if each in there:
                return name, there[each]
        if word.lower() == "latest" and versions:
            return name, versions[-1]
        kind = f"version {word}" if mark == "/" and word.isdecimal() else f"alias {stage or word!r}"
        what = f"model {name!r} has no {kind}" if word else "say which version of the model"
        fix = f"models:/{name}@{word}" if word in aliases else "give one of these"
        raise BundleError(what, where=address, allowed=[*there] or "it has no version yet", fix=fix)

    def _aliases(self, connection: Any, name: str) -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        try:
            found = connection.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            names = [each.name for each in every(connection.search_registered_models)]
            near = nearest(name, names)
            fix = f"did you mean {near}?" if near else f"python -m tsforecast.publish RUN/bundle name={name}"
            what = f"there is no registered model {name!r}"
            raise BundleError(what, where=str(self.store), got=name, allowed=names or "none yet", fix=fix) from error
        return {alias: int(version) for alias, version in sorted(found.aliases.items())}

    def _versions(self, connection: Any, name: str, digest: str | None = None) -> list[int]:
        """The versions of a model, or those that are one bundle, in order."""
        wanted = f"name = '{name}'" + (f" AND tags.`{DIGEST}` = '{digest}'" if digest else "")
        return sorted(int(each.version) for each in every(connection.search_model_versions, wanted))

    def register(self, bundle: Path, name: str | None = None) -> tuple[str, int]:
        """Make a bundle a version of a registered model, linked to the run that it comes from; its name and number.

        The same bundle is one version, also when two publish it at once.

        Raises
        ------
        BundleError
            There is no bundle, or it was altered.
        OutputError
            The store cannot be written.
        """
        files, digest = directory.read(bundle, (names := ("metadata.json", "provenance.json")))
        about, origin = (directory.parse_json(files[each], bundle / each) for each in names)
        name = re.sub(r"[^\w. -]+", "-", str(name or about.get("name") or "")).strip(" .-") or "bundle"
        with self._asked(str(bundle), write=True) as connection:
            experiment, run = _origin(connection, bundle, digest)
            experiment = experiment or self.store.experiment(connection, name)
            model = log_model(connection, experiment, bundle, run)
            if versions := self._versions(connection, name, digest):
                return name, versions[0]
            if run:
                _score(connection, run, model.model_id, about.get("scores") or {})
            card = files.get("card.md", b"").decode(errors="replace").partition("\n\n")[2]  # lists show its first line
            scores = about.get("scores") or {}  # a list of versions shows every tag
            shown = {key: each for key, each in scores.items() if re.fullmatch(_SHOWN, key)}
            facts = {**shown, "trained.until": about.get("chosen_until"), DIGEST: digest}
            tags = {**provenance.tags(origin), **facts, "weights.digest": directory.weights_digest(bundle)}
            # A database needs no id of the logged model, and would look for it in whatever store is the default here.
            linked = model.model_id if self.store.uri.startswith("http") else None
            told: Any = {"tags": tags, "description": card[:_DESCRIPTION] or None, "model_id": linked}
            _ensure(connection, name)
            made = connection.create_model_version(name, model.artifact_location, run, **told)
            first = self._versions(connection, name, digest)[0]
            if first != int(made.version):  # another process was first
                connection.delete_model_version(name, made.version)
            return name, first

    def point(self, name: str, alias: str, version: str | int) -> None:
        """Let an alias stand for a version."""
        with self._asked(f"models:/{name}@{alias}", write=True) as connection:
            from mlflow.exceptions import MlflowException

            try:
                connection.set_registered_model_alias(name, alias, str(version))
            except MlflowException:  # it looks, then inserts: of two that do so at once one fails, and finds it now
                connection.set_registered_model_alias(name, alias, str(version))

    def aliases(self, name: str) -> dict[str, int]:
        """The version of each alias of a registered model."""
        with self._asked(f"models:/{name}") as connection:
            return self._aliases(connection, name)

    def tag(self, name: str, version: str | int, key: str, value: object) -> None:
        """Note something of a version."""
        with self._asked(f"models:/{name}/{version}", write=True) as connection:
            connection.set_model_version_tag(name, str(version), key, str(value))


def _score(connection: Any, run: str, model: str, names: Iterable[str]) -> None:
    """Give a logged model those metrics of its run, with the times they have there."""
    from mlflow.entities import Metric

    told = [each for name in names for each in connection.get_metric_history(run, name)]
    connection.log_batch(run, [Metric(each.key, each.value, each.timestamp, each.step, model) for each in told])


def _ensure(connection: Any, name: str) -> None:
    """Make the registered model, unless there is one."""
    from mlflow.exceptions import MlflowException

    try:
        connection.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _origin(connection: Any, bundle: Path, digest: str) -> tuple[str | None, str | None]:
    """The experiment and the run that a bundle comes from, where this store has them.

    The run has logged it as a model, or its journal lies beside it.
    """
    for model in connection.search_logged_models(experiments(connection), f"tags.`{DIGEST}` = '{digest}'"):
        return model.experiment_id, model.source_run_id or None
    journal = bundle.absolute().parent / FILE
    if journal.is_file() and (begun := journal.read_text(encoding="utf-8").partition("\n")[0]):
        for run in runs(connection, f"tags.`{RUN}` = '{json.loads(begun)['uid']}'"):
            return run.info.experiment_id, run.info.run_id
    return None, None
