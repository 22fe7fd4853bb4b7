"""Where the bundle to serve is: a path, an MLflow model, or the Bento model store, into which train puts each one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from tsforecast.errors import BundleError, OutputError
from tsforecast.files import atomic

VARIABLE = "TSFORECAST_BUNDLE"
_LABEL = {"framework": "tsforecast"}
_URI = re.compile(r"^(models|runs|mlflow-artifacts|s3|gs|https?)://?")
_TAG = re.compile(r"^[a-z0-9][a-z0-9_.-]*(:[a-z0-9_.-]+)?$")


def locate(where: str | None = None) -> Path:
    """The directory of the bundle to serve.

    Parameters
    ----------
    where
        A directory, an MLflow URI (`models:/name@champion`) or a Bento tag (`etth1-nlinear:latest`). None: what
        TSFORECAST_BUNDLE says, else the newest bundle in the Bento model store.

    Raises
    ------
    BundleError
        There is nothing to serve, or one of several workers is to find out for itself what is newest.
    """
    where = where or asked()
    if where and is_uri(where):
        from tsforecast.tracking.artifacts import download_bundle

        _check_exact(where, "@" not in where and not where.endswith("/latest"), "models:/NAME/VERSION")
        return download_bundle(where)
    if not in_store(where):
        return Path(str(where))
    model = stored(where)
    _check_exact(where, where == str(model.tag), model.tag)
    return Path(model.path)


def _check_exact(where: str | None, exact: bool, instead: object) -> None:
    """Uvicorn starts a worker anew after a crash, in a process of its own, which would find what is newest by then."""
    if not exact and parent_process() is not None:
        what = "each worker would find out for itself which bundle that is, and they could serve two"
        raise BundleError(what, where=VARIABLE, got=where, fix=f"say exactly which: {VARIABLE}={instead}")


def asked() -> str | None:
    """What TSFORECAST_BUNDLE says; an empty one, as compose files pass it, says nothing."""
    return os.environ.get(VARIABLE) or None


def is_uri(where: str) -> bool:
    """Whether MLflow is to fetch it."""
    return bool(_URI.match(where))


def in_store(where: str | None = None) -> bool:
    """Whether `locate` will look into the Bento model store."""
    where = where or asked()
    return where is None or not (is_uri(where) or Path(where).exists() or not _TAG.match(where))


def stored(tag: str | None = None) -> Any:
    """The Bento model of a tag; None: the newest that train has put there.

    Raises
    ------
    BundleError
        There is none, or bentoml is not installed.
    """
    if find_spec("bentoml") is None:
        raise BundleError(
            "nothing says which bundle to serve, and without bentoml there is no model store",
            where=VARIABLE,
            got=tag,
            fix=f"{VARIABLE}=RUN/bundle, or pip install 'tsforecast[serve]'",
        )
    bentoml = _bentoml()
    try:
        models = [model for model in bentoml.models.list() if model.info.labels.items() >= _LABEL.items()]
        models.sort(key=lambda model: model.info.creation_time, reverse=True)
        if tag is not None:
            return bentoml.models.get(tag)
    except bentoml.exceptions.NotFound:
        pass
    except Exception as error:  # of yaml, of cattrs, of BentoML itself
        what, got = "a model in the Bento model store cannot be read", f"{type(error).__name__}: {error}"
        fix = f"delete it, or {VARIABLE}=RUN/bundle"
        raise BundleError(what, where=os.environ.get("BENTOML_HOME", "~/bentoml"), got=got, fix=fix) from error
    if tag is None and models:
        return models[0]
    raise BundleError(
        "there is nothing to serve",
        where=f"{VARIABLE}, and the Bento model store",
        got=tag or "no bundle",
        allowed=", ".join(str(model.tag) for model in models[:5]) or "a bundle that train wrote",
        fix=f"python -m tsforecast.train +experiment=etth1, or {VARIABLE}=RUN/bundle",
    )


class NoStore:
    """Puts bundles nowhere: `serving=none`."""

    def put(self, path: Path, name: str) -> str | None:
        """Nothing."""
        return None


class BentoStore:
    """The Bento model store, in BENTOML_HOME: what `bentoml serve` and `bentoml build` take from.

    It is written as BentoML lays it out, `models/NAME/VERSION/` with a `model.yaml`, and `models/NAME/latest`: to
    import BentoML for that takes a second of every training, and its own writing does not keep two processes apart.
    """

    def put(self, path: Path, name: str) -> str | None:
        """Copy a bundle in as `name:digest`, whole and as the newest; the tag, None when bentoml is not installed.

        Raises
        ------
        OutputError
            The store cannot be written.
        """
        if find_spec("bentoml") is None:
            return None
        digest = hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
        name, version = re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).strip("-._") or "bundle", digest[:12]
        place = Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml") / "models" / name / version
        about = {
            "name": name, "version": version, "module": "", "labels": _LABEL, "options": {}, "signatures": {},
            "metadata": {"digest": digest}, "api_version": "v1", "creation_time": datetime.now(UTC).isoformat(),
            "context": {"framework_name": "", "framework_versions": {}, "python_version": platform.python_version(),
                        "bentoml_version": importlib.metadata.version("bentoml")},
        }  # fmt: skip
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parents[2], prefix=".tsforecast-") as scratch:
                fresh = Path(scratch) / "new"
                shutil.copytree(path, fresh)
                (fresh / "model.yaml").write_text(json.dumps(about, indent=2), encoding="utf-8")  # JSON is YAML
                with suppress(FileNotFoundError):  # there before: put in again, as the newest
                    place.rename(Path(scratch) / "old")
                try:
                    fresh.rename(place)
                except OSError:
                    if not place.is_dir():  # else another process has just put the same in
                        raise
        except OSError as error:
            raise OutputError("the bundle cannot be put into the Bento model store", where=error.filename or place,
                              got=error.strerror or error, fix="see that BENTOML_HOME may be written, or serving=none",
                              ) from error  # fmt: skip
        with atomic(place.parent / "latest") as latest:
            latest.write_text(version, encoding="utf-8")
        return f"{name}:{version}"


def _bentoml() -> Any:
    """Quietly: only the value True, set before the import, keeps its telemetry off."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    import bentoml
    import bentoml.exceptions

    return bentoml
