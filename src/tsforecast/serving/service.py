"""`bentoml serve`: a class service around the app of `asgi.py`, so that both adapters give the same bytes."""

from __future__ import annotations

import os

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")  # before the import; only this value keeps its telemetry off

import bentoml
from bentoml.exceptions import BentoMLException
from starlette.types import Receive, Scope, Send

from tsforecast.errors import TsforecastError
from tsforecast.serving.asgi import create_app
from tsforecast.serving.store import is_tag, locate, stored

api = create_app()


async def everything(scope: Scope, receive: Receive, send: Send) -> None:
    """The app, in a shape that BentoML does not take apart: answers to unknown paths are its own too."""
    await api(scope, receive, send)


@bentoml.service(
    name="forecaster",
    http={"host": "127.0.0.1", "port": 3000},
    workers=1,
    traffic={"timeout": 300},
    logging={"access": {"enabled": False}},  # the app writes a line of its own
    metrics={"enabled": False},  # and has /metrics
)
@bentoml.asgi_app(everything)
class Forecaster:
    """Serves the bundle that TSFORECAST_BUNDLE names, or the newest in the Bento model store."""

    if is_tag():
        model = bentoml.models.BentoModel(stored(os.environ.get("TSFORECAST_BUNDLE")).tag)

    def __init__(self) -> None:
        api.state.server.start()

    @bentoml.on_startup
    async def stand_by(self) -> None:
        """Ready to take leave of callers."""
        api.state.server.drain_on_term()

    @bentoml.on_deployment
    @staticmethod
    def nothing_to_serve() -> None:
        """Said once, before any worker starts."""
        try:
            locate()
        except TsforecastError as error:
            raise BentoMLException(str(error)) from None

    async def __is_ready__(self) -> bool:
        return bool(api.state.server.engine.ready and not api.state.server.draining)
