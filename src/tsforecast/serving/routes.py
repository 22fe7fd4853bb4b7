"""The one table of paths: what each takes, who may ask, and whether it is about one bundle."""

from __future__ import annotations

import math
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
        It is there for each of several bundles, too: `/models/NAME/forecast`.
    loads
        Whether that bundle has to be in memory; a page need not wait for it.
    query
        Parameters that it has, each at most once; None: none is read, and any passes, as probes and links bring them.
    most
        Largest body, in MiB, where TSFORECAST_MAX_BODY is not smaller.
    """

    takes: tuple[str, ...] = ()
    key: str = "always"
    bundle: bool = True
    loads: bool = True
    query: tuple[str, ...] | None = ()
    most: float = math.inf


_PAGE = Route(key="never", loads=False, query=None)
ROUTES = {
    "/forecast": Route(takes=("application/json",)),
    "/forecast_csv": Route(takes=("text/csv", "multipart/form-data"), query=("horizon", "levels")),
    "/actuals": Route(takes=("application/json",)),
    "/drift": Route(),  # it tells what callers have sent
    "/model": Route(key="told"),
    "/models": Route(key="told", bundle=False),
    "/livez": Route(key="never", bundle=False, query=None),
    "/readyz": Route(key="never", query=None),
    "/metrics": Route(key="told", bundle=False),
    "/openapi.json": Route(key="told"),
    "/ui": _PAGE,
    "/ui/": _PAGE,
    "/ui/{file}": _PAGE,
    "/v1/timeseries/forecast": Route(takes=("application/json",), bundle=False, most=8),  # which one, its body says
    "/v2/health/live": Route(key="never", bundle=False, query=None),
    "/v2/health/ready": Route(key="never", bundle=False, query=None),
    "/v2/models/{name}": Route(key="told"),
    "/v2/models/{name}/ready": Route(query=None),
    "/admin/reload": Route(key="own", bundle=False, query=None),  # it looks at the key first
    "/admin/mlflow": Route(takes=("application/json",), key="own", bundle=False, query=None, most=1),
}
NOWHERE = Route(bundle=False, query=None)  # needs a key, too: it is not told which paths there are
_SHAPES = {path: re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)) for path in ROUTES if "{" in path}


_BELOW = re.compile(r"(/models/([^/]+))(/.+)")


@dataclass(frozen=True)
class Place:
    """Where a request goes.

    Attributes
    ----------
    path
        As it stands in the table; None: nowhere.
    name
        Of the bundle that it is about; None: the default one, or none.
    prefix
        What stands before the path of the table: `/models/NAME`.
    """

    path: str | None
    name: str | None = None
    prefix: str = ""

    @classmethod
    def of(cls, path: str) -> Place:
        """That of a path without what a proxy has put before it."""
        if below := _BELOW.fullmatch(path):
            prefix, name, rest = below.groups()
            return cls(cls.of(rest).path, name, prefix) if cls.below(rest) else cls(None)
        if path in ROUTES and path not in _SHAPES:
            return cls(path)
        matches = ((each, shape.fullmatch(path)) for each, shape in _SHAPES.items())
        return next((cls(each, match.groupdict().get("name")) for each, match in matches if match), cls(None))

    @classmethod
    def below(cls, path: str) -> bool:
        """Whether a path is there for each of several bundles, behind its name."""
        found = cls.of(path)
        return found.route.bundle and found.name is None

    @property
    def route(self) -> Route:
        """What the table says of it."""
        return ROUTES.get(self.path or "", NOWHERE)

    @property
    def key(self) -> str:
        """Who may ask: to have a bundle loaded, by its name, is for those who have a key."""
        return "always" if self.name is not None and self.route.loads else self.route.key
