"""`bentoml serve`: a class service around the app of `asgi.py`, so that both adapters give the same bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")  # before the import; only this value keeps its telemetry off

import bentoml
from bentoml.exceptions import BentoMLException

from tsforecast.errors import TsforecastError
from tsforecast.serving.store import VARIABLE, in_store, is_uri, stored

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_state: dict[str, Any] = {}  # the app of a worker; the parent process, which only watches it, never imports it


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    """The app, in a shape that BentoML does not take apart: answers to unknown paths are its own too."""
    await _state["app"](scope, receive, send)


def _model() -> bentoml.models.BentoModel | None:
    """What `bentoml build` packs: the bundle in the model store, when it is to come from there."""
    try:
        return bentoml.models.BentoModel(stored(os.environ.get(VARIABLE)).tag) if in_store() else None
    except TsforecastError as error:
        raise BentoMLException(str(error)) from None


@bentoml.service(
    name="forecaster",
    image=bentoml.images.Image(base_image="python:3.11-slim", distro="slim"),  # not "debian", which brings a compiler
    http={"host": "127.0.0.1", "port": 3000},
    workers=1,
    traffic={"timeout": 300},
    logging={"access": {"enabled": False}},  # the app writes a line of its own
    metrics={"enabled": False},  # and has /metrics
)
@bentoml.asgi_app(everything)
class Forecaster:
    """Serves the bundle that TSFORECAST_BUNDLE names, or the newest in the Bento model store."""

    model = _model()

    def __init__(self) -> None:
        from tsforecast.serving.asgi import create_app

        _state["app"] = create_app()
        _state["app"].state.server.start()

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def stand_by(self) -> None:
        """Ready to take leave of callers."""
        _state["app"].state.server.drain_on_term()

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def look() -> None:
        """A wrong path is told once, before any worker starts."""
        path = os.environ.get(VARIABLE, "")
        if in_store() or is_uri(path) or (Path(path) / "manifest.json").is_file():
            return  # the parent stays small: a worker reads it
        from tsforecast.bundle import Bundle

        try:
            Bundle.load(path)
        except TsforecastError as error:
            raise BentoMLException(str(error)) from None

    async def __is_ready__(self) -> bool:
        server = _state["app"].state.server
        return bool(server.engine.ready and not server.draining)
