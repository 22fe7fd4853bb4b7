"""What may be asked of a server by its owner: routes that are there only where their secrets are."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from tsforecast.serving.bell import Ring
from tsforecast.serving.keys import Keys
from tsforecast.serving.refusals import as_json, check_query
from tsforecast.serving.settings import ADMIN_KEY, WEBHOOK_SECRET, flag
from tsforecast.serving.webhook import add_webhook

if TYPE_CHECKING:
    from tsforecast.serving.asgi import Server


def add_admin(app: FastAPI, server: Server) -> None:
    """`POST /admin/reload`, for whoever says `Authorization: Bearer KEY`, and `/admin/mlflow` for MLflow."""
    if secret := os.environ.get(WEBHOOK_SECRET):
        add_webhook(app, server, secret)
    if not (key := os.environ.get(ADMIN_KEY)):
        return
    own = Keys({"admin": sha256(key.encode()).digest()})

    @app.post("/admin/reload", include_in_schema=False)  # the document is for those who ask for forecasts
    async def reload(request: Request) -> Response:
        """Serve what TSFORECAST_BUNDLE, or one name of several, stands for now; 422 says why the old one stays."""
        own.named(dict(request.scope["headers"]))
        check_query(request.scope, ("allow_schema_change", "model"))
        allow = flag("allow_schema_change", request.query_params.get("allow_schema_change", ""))
        name = server.shelf.named(request.query_params.get("model"))
        swapped, live = await server.shelf.reload(name, allow=allow)
        server.bell.ring(Ring((name,), allow=allow, done=os.getpid()))  # the others follow once it was right here
        return as_json({"swapped": swapped, **live.about})
