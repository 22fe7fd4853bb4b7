"""One exception tree. A message says what is wrong, where, what was got, what is allowed and how to mend it."""

from __future__ import annotations

import difflib
import re
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
        The offending value and what would have been accepted; of a list the first few are shown.
    fix
        What to type or change.
    """

    code = "error"

    def __init__(
        self, what: str, *, where: object = None, got: object = None, allowed: object = None, fix: str | None = None
    ) -> None:
        self.what = what
        self.where = where
        self.got = got
        self.allowed = allowed
        self.fix = fix
        super().__init__(what)  # `str` tells the rest, when it is asked

    @property
    def parts(self) -> dict[str, str | None]:
        """`where, got, allowed, fix` as text; of a list the first names."""
        raw = {"where": self.where, "got": self.got, "allowed": self.allowed, "fix": self.fix}
        shown = {name: listed(each, 40) if isinstance(each, list | tuple) else each for name, each in raw.items()}
        return {name: None if each is None else without_password(str(each)) for name, each in shown.items()}

    def __str__(self) -> str:
        parts = self.parts.items()
        return "\n".join([self.what, *(f"  {name + ':':<9}{text}" for name, text in parts if text is not None)])


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
    """A request that cannot be answered whatever its rows say.

    Parameters
    ----------
    status
        Of the answer over HTTP.
    wait
        Seconds after which it may be, where it is a matter of time.
    """

    code = "request"

    def __init__(self, what: str, *, status: int = 400, code: str = "request", wait: int = 1, **parts: Any) -> None:
        super().__init__(what, **parts)
        self.status, self.code, self.wait = status, code, wait


class OutputError(TsforecastError):
    """A result that cannot be written: no permission, no space."""

    code = "output"


def one_of(where: str, got: object, allowed: Iterable[object]) -> None:
    """Raise a ConfigError, with the nearest option, when `got` is none of those there are."""
    if got not in (options := list(allowed)):
        near = nearest(str(got), map(str, options))
        what, fix = f"there is no such {where.rpartition('.')[2]}", near and f"did you mean {where}={near}?"
        raise ConfigError(what, where=where, got=got, allowed=options, fix=fix)


def each_of(where: str, got: Iterable[object], allowed: Iterable[object]) -> None:
    """Raise a ConfigError, with the nearest option, when one of a list is none of those there are."""
    for name in got:
        if name not in (options := list(allowed)):
            near = nearest(str(name), map(str, options))
            what = f"there is no such {where.rpartition('.')[2].removesuffix('s')}"
            fix = near and f"did you mean {near}?"
            raise ConfigError(what, where=where, got=name, allowed=options, fix=fix)


def count(where: str, got: object, least: int = 1) -> None:
    """Raise a ConfigError when `got`, a number of things, is no whole number from `least` on."""
    if isinstance(got, bool) or not isinstance(got, int) or got < least:
        allowed = f"{least}, {least + 1}, ..."
        raise ConfigError(f"{where.rpartition('.')[2]} is a whole number", where=where, got=got, allowed=allowed)


def listed(names: Iterable[object], most: int = 5) -> str:
    """The first few names, separated by commas."""
    shown = [str(name) for name in names]
    return ", ".join(shown[:most]) + ", ..." * (len(shown) > most)


def without_password(text: str) -> str:
    """Text whose addresses (`scheme://user:password@host`) show none."""
    return re.sub(r"(://[^/:@\s]*):[^/\s]*@", r"\1:***@", text)


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option most like `name`, or None when none comes near."""
    found = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return found[0] if found else None
