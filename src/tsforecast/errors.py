"""One exception tree. A message says what is wrong, where, what was got, what is allowed and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class TsforecastError(Exception):
    """Base of every error a user can cause.

    Parameters
    ----------
    what
        One sentence: what is wrong.
    where
        The file, key, column or command concerned.
    got, allowed
        The offending value and what would have been accepted.
    fix
        What to type or change.
    """

    code = "error"

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        allowed: object = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.got = got
        self.allowed = allowed
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = (("where", self.where), ("got", self.got), ("allowed", self.allowed), ("fix", self.fix))
        return "\n".join([self.what, *(f"  {name + ':':<9}{value}" for name, value in parts if value is not None)])


class ConfigError(TsforecastError):
    """A configuration that cannot run: a misspelt key, an impossible number, parts that do not fit together."""

    code = "config"


class DataError(TsforecastError):
    """Data that cannot be used as it is."""

    code = "data"


class BundleError(TsforecastError):
    """A bundle that is missing, incomplete, altered, or of another kind than asked for."""

    code = "bundle"


class RequestError(TsforecastError):
    """A request that cannot be answered whatever its rows say; `status` is that of the answer over HTTP."""

    code = "request"

    def __init__(self, what: str, *, status: int = 400, code: str = "request", **parts: Any) -> None:
        super().__init__(what, **parts)
        self.status, self.code = status, code


class OutputError(TsforecastError):
    """A result that cannot be written: no permission, no space."""

    code = "output"


def check_policy(name: str, got: str, *allowed: str) -> None:
    """Raise a ConfigError when a policy is none of those there are."""
    if got not in allowed:
        raise ConfigError("there is no such policy", where=name, got=got, allowed=", ".join(allowed))


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option most like `name`, or None when none comes near."""
    found = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return found[0] if found else None
