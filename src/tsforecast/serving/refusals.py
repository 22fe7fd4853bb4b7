"""What a server answers where there is no forecast: one shape, whoever notices."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from tsforecast.errors import RequestError, TsforecastError
from tsforecast.serving.contract import problem
from tsforecast.serving.settings import Settings


def as_json(content: dict[str, Any], status: int = 200) -> Response:
    """A response of JSON."""
    return Response(
        orjson.dumps(content, default=str, option=orjson.OPT_APPEND_NEWLINE), status, media_type="application/json"
    )


def refusal(scope: Scope, error: TsforecastError) -> Response:
    """The response that tells an error, which is kept for the log."""
    scope["refused"] = error
    status = error.status if isinstance(error, RequestError) else 422
    answer = as_json(problem(error), status)
    if status in (429, 503):
        answer.headers["Retry-After"] = "1"
    return answer


def refuse(request: Request, error: Exception) -> Response:
    """What FastAPI's routes raise, as a response."""
    if isinstance(error, TsforecastError):
        return refusal(request.scope, error)
    assert isinstance(error, HTTPException)
    kind = {404: "not_found", 405: "method"}.get(error.status_code, "request")
    told = RequestError(str(error.detail), status=error.status_code, code=kind, where=request.url.path,
                        got=request.method, allowed=(error.headers or {}).get("Allow"))  # fmt: skip
    refused = refusal(request.scope, told)
    refused.headers.update(error.headers or {})
    return refused


def too_large(settings: Settings) -> RequestError:
    """413."""
    return RequestError(
        "the body is too large",
        status=413,
        code="too_large",
        where="body",
        allowed=f"{settings.max_body:g} MiB",
        fix="send fewer series, or raise TSFORECAST_MAX_BODY",
    )


def late(settings: Settings) -> RequestError:
    """408."""
    return RequestError("the body did not arrive in time", status=408, code="late", where="body",
                        allowed=f"{settings.patience:g} seconds")  # fmt: skip


def left() -> RequestError:
    """For a caller that has gone."""
    return RequestError("the caller left before the body had arrived", where="body")


def busy(what: str, allowed: str) -> RequestError:
    """429."""
    return RequestError(what, status=429, code="busy", allowed=allowed,
                        fix="come back after the seconds that Retry-After says")  # fmt: skip


def not_ready(got: str | None = None) -> RequestError:
    """503."""
    return RequestError("the server is not ready", status=503, code="not_ready", got=got, fix="look at its log")


def failed() -> RequestError:
    """500."""
    return RequestError("the server failed", status=500, code="internal", fix="look at its log, by the request id")
