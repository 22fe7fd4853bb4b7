"""What may be asked of a server by its owner: routes that are there only where their secrets are."""

from __future__ import annotations

import base64
import hmac
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI, Request, Response

from tsforecast.errors import RequestError
from tsforecast.serving.bell import Ring
from tsforecast.serving.keys import Keys
from tsforecast.serving.refusals import as_json, check_query
from tsforecast.serving.settings import ADMIN_KEY, WEBHOOK_SECRET, flag

if TYPE_CHECKING:
    from tsforecast.serving.asgi import Server

log = logging.getLogger(__name__)
_SIGNATURE, _TIME, _DELIVERY = "X-MLflow-Signature", "X-MLflow-Timestamp", "X-MLflow-Delivery-Id"
_FRESH = 300  # seconds that a delivery may be old, or the two clocks apart
_EVENTS = (("model_version_alias", "created"), ("model_version", "created"))  # after which a name stands for another


@dataclass
class Signed:
    """Checks that a delivery is MLflow's own, from now, and there for the first time.

    Attributes
    ----------
    seen
        Deliveries of late, and when they were sent.
    """

    secret: bytes
    seen: dict[str, int] = field(default_factory=dict)

    def check(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise a RequestError unless it is; the time it takes tells nothing of the signature that it should have."""
        delivery, sent = headers.get(_DELIVERY, ""), headers.get(_TIME, "")
        own = hmac.digest(self.secret, f"{delivery}.{sent}.".encode() + body, "sha256")
        given = headers.get(_SIGNATURE, "").encode()
        if not hmac.compare_digest(b"v1," + base64.b64encode(own), given):
            raise _untrue(_SIGNATURE, "it is not signed with the secret of this server", "v1,HMAC-SHA256 in base64")
        now = int(time.time())
        if not re.fullmatch(r"\d{1,12}", sent) or abs(now - int(sent)) > _FRESH:
            raise _untrue(_TIME, "it was not sent just now", f"{now}, {_FRESH} seconds more or less")
        self.seen = {name: then for name, then in self.seen.items() if abs(now - then) <= _FRESH}
        if delivery in self.seen:
            raise _untrue(_DELIVERY, "it has come before", "each delivery once")
        self.seen[delivery] = int(sent)


def _untrue(where: str, what: str, allowed: str) -> RequestError:
    fix = "give the webhook the secret in TSFORECAST_WEBHOOK_SECRET, and look at both clocks"
    return RequestError(what, status=403, code="signature", where=where, allowed=allowed, fix=fix)


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


def add_webhook(app: FastAPI, server: Server, secret: str) -> None:
    """The route, for whoever signs with the secret."""
    signed = Signed(os.fsencode(secret))

    @app.post("/admin/mlflow", include_in_schema=False)
    async def moved(request: Request) -> Response:
        """Look what the model that has moved stands for now, in all workers, soon after this is answered."""
        body = await request.body()
        signed.check(request.headers, body)
        try:
            event: dict[str, Any] = orjson.loads(body)
            model = str(event["data"].get("name"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what, allowed = "this is no event of MLflow's", "an object with entity, action and data"
            raise RequestError(what, where="body", got=repr(error), allowed=allowed) from None
        names = server.shelf.of(model) if (event.get("entity"), event.get("action")) in _EVENTS else ()
        if names:
            log.info("MLflow tells that %s has moved", model, extra={"names": names, "told": event["data"]})
            server.bell.ring(Ring(names, moved=True))
        return as_json({"looks": names}, 202 if names else 200)
