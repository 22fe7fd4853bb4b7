"""`bentoml serve`: a class service around the app of `asgi.py`, so that both adapters give the same bytes."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
import click
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.exceptions import BentoMLException
from circus.controller import Controller  # type: ignore[import-untyped]

import tsforecast
from tsforecast.bundle import directory
from tsforecast.errors import BundleError, TsforecastError
from tsforecast.registry import in_bento, in_mlflow
from tsforecast.serving.keys import Keys
from tsforecast.serving.settings import ADMIN_KEY, RELOAD, WEBHOOK_SECRET, Settings
from tsforecast.serving.store import SEVERAL, VARIABLE, BentoStore, asked, served, shelved

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)
_METRICS = "TSFORECAST_METRICS"  # where the workers of one server count together; set for them, by their parent
_state: dict[str, Any] = {}  # the app of a worker; the parent process, which only watches it, never imports it


def forecaster_app(app: ASGIApp) -> ASGIApp:
    """The app of `asgi.py` in place of BentoML's routes: its answers, limits and probes are the same in both."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if scope["type"] == "lifespan" else _state["app"])(scope, receive, send)

    return call


def _model() -> bentoml.models.BentoModel | None:
    """What `bentoml build` packs: the bundle in the model store, when it is to come from there."""
    try:
        return bentoml.models.BentoModel(BentoStore().get(asked()).tag) if in_bento(asked()) else None
    except TsforecastError as error:
        raise BentoMLException(str(error)) from None


class _Image(bentoml.images.Image):
    def freeze(self, bento_fs: Path, *rest: Any) -> Any:
        """When it is built: with what the bundle needs, and without source files that git does not track."""
        if _packed is None:
            fix = "bentoml models list; then TSFORECAST_BUNDLE=TAG bentoml build"
            what = "an image holds a bundle of the Bento model store"
            raise BentoMLException(str(BundleError(what, where=VARIABLE, got=asked(), allowed="a tag", fix=fix)))
        body = Path(_packed.resolve().path, "bundle.json")
        if needed := directory.required(directory.parse_json(body.read_bytes(), body), directory.allowed()):
            self.python_packages(*needed)
        source = Path(tsforecast.__file__).parents[1]
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=source, capture_output=True, text=True).stdout
        for file in bento_fs.glob("src/tsforecast/**/*.*") if listed else ():
            if (name := file.relative_to(bento_fs / "src").as_posix()) not in listed.split("\0"):
                log.warning("left out of the image, as git does not track it: %s", name)
                file.unlink()
        return super().freeze(bento_fs, *rest)


def _located() -> Path:
    """The bundle's directory; an address is fetched by a process that may import what this one need not."""
    if not in_mlflow(asked()):
        return served().path.resolve()
    folder = tempfile.mkdtemp(prefix="tsforecast-bundle-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(_elsewhere(f"store.served(into=pathlib.Path({folder!r})).path").splitlines()[-1])


def _elsewhere(what: str) -> str:
    """What a process prints that may import more than this one."""
    command = f"import pathlib; from tsforecast.serving import store; print({what})"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    if done.returncode:
        raise BundleError(done.stderr.strip().partition("BundleError: ")[2] or done.stderr.strip())
    return done.stdout


def _pinned(path: Path) -> tuple[str, str]:
    """The variable that tells every worker exactly what to serve, also one that is started after a crash."""
    if not shelved():
        return VARIABLE, str(path)
    folder = Path(tempfile.mkdtemp(prefix="tsforecast-bundles-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "bundles").write_text(_elsewhere("store.exactly()"), encoding="utf-8")
    return SEVERAL, str(folder / "bundles")


def _address() -> str | None:
    """Where `bentoml serve` is to listen, as the command or else the configuration says; started otherwise: unknown."""
    command = click.get_current_context(silent=True)
    return None if command is None else str(command.params.get("host") or BentoMLContainer.http.host.get())


def _look_often() -> None:
    """Look once a second whether a worker is still there: BentoML does so every ten, and has no setting for it."""
    start = Controller.start

    def sooner(self: Controller) -> None:
        self.check_delay = 1000  # milliseconds
        start(self)

    Controller.start = sooner


_packed = _model()


@bentoml.service(
    name="forecaster",
    image=_Image(base_image="python:3.11-slim", distro="slim"),  # not "debian", which brings a compiler
    http={"host": "127.0.0.1", "port": 3000},
    workers=1,
    traffic={"timeout": 300},
    logging={"access": {"enabled": False}},  # the app writes a line of its own
    metrics={"enabled": False},  # and has /metrics
)
class Forecaster:
    """Serves the bundle that TSFORECAST_BUNDLE names, or the newest in the Bento model store."""

    model = _packed

    def __init__(self) -> None:
        if _METRICS in os.environ:  # BentoML's own is shared with, and emptied by, every other server of its home
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ[_METRICS]
        from tsforecast.serving.asgi import create_app

        _state["app"] = create_app()
        _state["app"].state.server.start()

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def stand_by(self) -> None:
        """Looks after connections, and takes leave of callers."""
        _state["app"].state.server.watch(shared=True)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def close(self) -> None:
        """Tells what is not told yet."""
        _state["app"].state.server.close()

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def look() -> None:
        """A wrong setting or bundle is told once, before any worker starts; this process stays small."""
        try:
            Settings.from_environment()
            Keys.from_environment().check_address(_address())
            directory.read(path := _located(), ())
            if not any(map(os.environ.get, (RELOAD, ADMIN_KEY, WEBHOOK_SECRET))):  # else each looks for itself
                variable, pinned = _pinned(path)
                os.environ[variable] = pinned
        except TsforecastError as error:
            raise BentoMLException(str(error)) from None
        _look_often()
        os.environ[_METRICS] = folder = tempfile.mkdtemp(prefix="tsforecast-metrics-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


Forecaster.add_asgi_middleware(forecaster_app)  # type: ignore[attr-defined]
