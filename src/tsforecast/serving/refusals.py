"""What a server answers where there is no forecast: one shape, whoever notices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import Request, Response
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Scope

from tsforecast.errors import RequestError, TsforecastError

# Status to the code, what is said, and the fix.
KINDS = {
    400: ("request", "the caller left before the body had arrived", None),
    401: ("key", "this needs a key", "send it as Authorization: Bearer KEY"),
    404: ("model", "no bundle is served by that name", "GET /models lists those that are"),
    408: ("late", "the body did not arrive in time", None),
    413: (
        "too_large",
        "the body is too large",
        "send fewer series, or raise TSFORECAST_MAX_BODY (TSFORECAST_MAX_MEMORY)",
    ),
    415: ("media_type", "the body is of a kind that is not read", None),
    421: ("host", "this server does not answer for that host", "name it in TSFORECAST_HOSTS"),
    429: ("busy", "too many are waiting", "come back after the seconds that Retry-After says"),
    500: ("internal", "the server failed", "look at its log, by the request id"),
    503: ("not_ready", "the server is not ready", "look at its log"),
}


def refused(status: int, **parts: Any) -> RequestError:
    """The error of a status, with `where`, `got` and `allowed`."""
    code, what, fix = KINDS[status]
    return RequestError(what, status=status, code=code, fix=fix, **parts)


def problem(error: TsforecastError) -> dict[str, str | None]:
    """The one shape of an error: `code, message, where, got, allowed, fix`."""
    texts = {name: text and text[:1000] for name, text in error.parts.items()}
    return {"code": error.code, "message": error.what[:4000], **texts}


def as_json(content: dict[str, Any], status: int = 200) -> Response:
    """A response of JSON."""
    body = orjson.dumps(content, default=str, option=orjson.OPT_APPEND_NEWLINE)
    return Response(body, status, media_type="application/json")


def refusal(scope: Scope, error: TsforecastError) -> Response:
    """The response that tells an error, which is kept for the log."""
    scope["refused"] = error
    status, wait = (error.status, error.wait) if isinstance(error, RequestError) else (422, 1)
    answer = as_json(problem(error), status)
    if status in (429, 503):
        answer.headers["Retry-After"] = str(wait)
    if answer.status_code == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def no_route(request: Request, error: Exception) -> Response:
    """What is said of a path or a method that is not there."""
    assert isinstance(error, HTTPException)
    headers, code = error.headers or {}, {404: "not_found", 405: "method"}.get(error.status_code, "request")
    parts: dict[str, Any] = {"where": request.url.path, "got": request.method, "allowed": headers.get("Allow")}
    answer = refusal(request.scope, RequestError(str(error.detail), status=error.status_code, code=code, **parts))
    answer.headers.update(headers)
    return answer


def check_query(scope: Scope, allowed: Sequence[str]) -> None:
    """Refuse parameters that would not be read: `/forecast?horizon=2` is not a shorter forecast."""
    names = [name for name, _ in QueryParams(scope["query_string"]).multi_items()]
    if wrong := [name for name in names if name not in allowed or names.count(name) > 1]:
        what = "there is no such parameter, or it is there twice"
        raise RequestError(what, where="query", got=wrong[0], allowed=allowed or "none")
