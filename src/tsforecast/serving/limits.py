"""What a server takes on: how a request may look, and how many bytes of bodies are in memory at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.types import Scope

from tsforecast.errors import RequestError
from tsforecast.serving.refusals import refused
from tsforecast.serving.settings import Settings

if TYPE_CHECKING:
    from tsforecast.serving.front import Exchange

TAKES = {
    "/forecast": ("application/json",),
    "/forecast_csv": ("text/csv", "multipart/form-data"),
}  # media types of the bodies that are forecast from: none that a foreign web page may post without being asked
_ITSELF = re.compile(r"localhost|[\d.]+|[\da-f.]*:[\da-f.:]*")  # an address cannot be pointed elsewhere


class Bodies:
    """The bytes of bodies in memory, of all requests together.

    Where they become too many, the request that holds the most and is not yet whole is let go: not the one that comes
    in time, but the one that holds back its last byte.
    """

    def __init__(self, settings: Settings) -> None:
        self.most = int(max(settings.max_bodies, settings.max_body) * 2**20)
        self.held = self.peak = 0
        self.arriving: set[Exchange] = set()

    def add(self, request: Exchange, count: int) -> None:
        """More of a body has arrived.

        Raises
        ------
        RequestError
            Too much is in memory, and no request that is still arriving holds more than this one.
        """
        request.held += count
        self.held += count
        self.peak = max(self.peak, self.held)
        while self.held > self.most:
            error = refused(429, where="bodies in memory", allowed=f"{self.most / 2**20:g} MiB at a time")
            largest = max({request, *self.arriving}, key=lambda each: each.held)
            self.release(largest)
            if largest is request:
                raise error
            largest.hurry(0, error)

    def release(self, request: Exchange) -> None:
        """A body is no longer in memory."""
        self.held -= request.held
        request.held = 0


def check_head(scope: Scope, headers: dict[bytes, bytes], settings: Settings) -> None:
    """Refuse what need not be read.

    Raises
    ------
    RequestError
        The length is told twice or too large, the host is another's, or the body is of another kind.
    """
    length = headers.get(b"content-length", b"")
    if length and b"transfer-encoding" in headers:  # a proxy and a server may differ on where such a request ends
        where = "Transfer-Encoding and Content-Length"
        raise RequestError("the length of the body is told in two ways", where=where, allowed="one of them")
    host = headers.get(b"host", b"localhost").decode("latin-1").lower()
    if not _is_ours(host, scope, settings):
        raise refused(421, where="Host", got=host[:100])
    if (takes := TAKES.get(scope["path"])) and scope["method"] == "POST":
        coding = headers.get(b"content-encoding", b"identity").decode("latin-1").lower()
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if coding != "identity":
            raise refused(415, where="Content-Encoding", got=coding[:100], allowed="identity: send it as it is")
        if kind and kind not in takes:
            raise refused(415, where="Content-Type", got=kind[:100], allowed=" or ".join(takes))
    if length.isdigit() and (len(length) > 15 or int(length) > settings.max_body * 2**20):
        raise refused(413, where="body", allowed=f"{settings.max_body:g} MiB")


def _is_ours(host: str, scope: Scope, settings: Settings) -> bool:
    """Whether the caller means this server: the name of a foreign page may have been pointed here (rebinding)."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if settings.hosts:
        return "*" in settings.hosts or name in settings.hosts
    here = (scope.get("server") or ("",))[0]
    return not here.startswith(("127.", "::1", "::ffff:127.")) or bool(_ITSELF.fullmatch(name))
