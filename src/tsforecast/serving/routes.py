"""The one table of paths: what each takes, who may ask, and whether it is about one bundle."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """A path, beside the function that answers it.

    Parameters
    ----------
    takes
        Media types of its body, which is then read before the function is called, within the limits: none that a
        foreign web page may post without being asked. Without any, no body is read.
    key
        Where there are keys: needed "always", "told" (only with TSFORECAST_KEYS_FOR_ALL), "never" (probes, a page
        without data), or "own" (the function looks for another one).
    bundle
        Whether it is about one bundle: what it is told stands in `request.scope["live"]`, which stays the same
        whatever is served next.
    loads
        Whether that bundle has to be in memory; a page need not wait for it.
    """

    takes: tuple[str, ...] = ()
    key: str = "always"
    bundle: bool = True
    loads: bool = True


_PAGE = Route(key="never", loads=False)
ROUTES = {
    "/forecast": Route(takes=("application/json",)),
    "/forecast_csv": Route(takes=("text/csv", "multipart/form-data")),
    "/model": Route(key="told"),
    "/livez": Route(key="never", bundle=False),
    "/readyz": Route(key="never"),
    "/metrics": Route(key="told", bundle=False),
    "/openapi.json": Route(key="told"),
    "/ui": _PAGE,
    "/ui/": _PAGE,
    "/ui/{file}": _PAGE,
    "/admin/reload": Route(key="own", bundle=False),
}
NOWHERE = Route(bundle=False)  # needs a key, too: it is not told which paths there are
_SHAPES = {path: re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)) for path in ROUTES if "{" in path}


@dataclass(frozen=True)
class Place:
    """Where a request goes: the path as it stands in the table, or None."""

    path: str | None

    @classmethod
    def of(cls, path: str) -> Place:
        """That of a path without what a proxy has put before it."""
        found = path if path in ROUTES else next((name for name, each in _SHAPES.items() if each.fullmatch(path)), None)
        return cls(found)

    @property
    def route(self) -> Route:
        """What the table says of it."""
        return ROUTES.get(self.path or "", NOWHERE)
