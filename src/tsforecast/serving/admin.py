"""`POST /admin/reload`: a route that is there only where TSFORECAST_ADMIN_KEY is."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from tsforecast.serving.keys import Keys
from tsforecast.serving.refusals import as_json, check_parameters
from tsforecast.serving.settings import flag

if TYPE_CHECKING:
    from tsforecast.serving.asgi import Server


def add_admin(app: FastAPI, server: Server, key: str) -> None:
    """The route, for whoever says `Authorization: Bearer KEY`."""
    own = Keys({"admin": sha256(key.encode()).digest()})

    @app.post("/admin/reload", include_in_schema=False)  # the document is for those who ask for forecasts
    async def reload(request: Request) -> Response:
        """Serve what TSFORECAST_BUNDLE, or one name of several, stands for now; 422 says why the old one stays."""
        own.named(dict(request.scope["headers"]))
        check_parameters(request, ("allow_schema_change", "model"))
        allow = flag("allow_schema_change", request.query_params.get("allow_schema_change", ""))
        swapped, live = await server.shelf.reload(request.query_params.get("model"), allow=allow)
        return as_json({"swapped": swapped, **live.about})
