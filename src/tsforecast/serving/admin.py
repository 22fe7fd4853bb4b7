"""`POST /admin/reload`: a route that is there only where TSFORECAST_ADMIN_KEY is."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from tsforecast.errors import RequestError
from tsforecast.serving.keys import Keys
from tsforecast.serving.refusals import as_json
from tsforecast.serving.settings import flag

if TYPE_CHECKING:
    from tsforecast.serving.asgi import Server


def add_admin(app: FastAPI, server: Server, key: str) -> None:
    """The route, for whoever says `Authorization: Bearer KEY`."""
    own = Keys({"admin": sha256(key.encode()).digest()})

    @app.post("/admin/reload", include_in_schema=False)  # the document is for those who ask for forecasts
    async def reload(request: Request) -> Response:
        """Serve what TSFORECAST_BUNDLE stands for now; 422 says why the old one stays."""
        own.named(dict(request.scope["headers"]))
        names = [name for name, _ in request.query_params.multi_items()]
        if names not in ([], ["allow_schema_change"]):
            what, allowed = "there is no such parameter, or it is there twice", "allow_schema_change"
            raise RequestError(what, where="query", got=names, allowed=allowed)
        allow = flag("allow_schema_change", request.query_params.get("allow_schema_change", ""))
        swapped = await server.slot.reload(allow=allow)
        return as_json({"swapped": swapped, **server.slot.live.about})
