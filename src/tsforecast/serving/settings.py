"""What the environment says about a server; read by every process of it, so it imports next to nothing."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tsforecast.errors import ConfigError, nearest, one_of

ADMIN_KEY, RELOAD = "TSFORECAST_ADMIN_KEY", "TSFORECAST_RELOAD"  # who may have another bundle served; when it is
WEBHOOK_SECRET = "TSFORECAST_WEBHOOK_SECRET"  # with which MLflow signs what it tells
OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"  # where traces and metrics are sent
CORS = "TSFORECAST_CORS"  # origins whose pages may ask from a browser; `*` is any, and none where it is not set
EXPOSE, REQUEST_LOG = "TSFORECAST_EXPOSE", "TSFORECAST_REQUEST_LOG"
PREFIX = "TSFORECAST_"
_OTHERS = "BUNDLE BUNDLES KEYS KEYS_FOR_ALL OPEN RATE CORS ADMIN_KEY WEBHOOK_SECRET EXPOSE METRICS SWEEP DATA_DIR"
_ORIGIN = re.compile(r"\*|[a-z][a-z\d+.-]*://[^/\s?#@]+")


@dataclass(frozen=True)
class Settings:
    """How much is taken on; each can be set by a variable of the environment.

    Parameters
    ----------
    max_body
        TSFORECAST_MAX_BODY: largest body of a request, in MiB.
    max_memory
        TSFORECAST_MAX_MEMORY: what requests take in memory, all together, in MiB: bodies, what they unfold to when they
        are parsed, and answers that are not yet taken.
    queue
        TSFORECAST_QUEUE: requests that wait; one more is answered 429.
    max_wait
        TSFORECAST_MAX_WAIT: seconds that a request may have to wait beyond those of one batch, as fast as it went
        lately; where it would be more, it is answered 429.
    batch
        TSFORECAST_BATCH: series forecast in one call, when requests wait.
    patience
        TSFORECAST_PATIENCE: seconds that the head of a request may take to arrive, and then its body.
    hosts
        TSFORECAST_HOSTS: names that a request may be for, with commas; `*` is any. By default any where the server is
        open to others, and this machine's own where it is not.
    reload
        TSFORECAST_RELOAD: seconds after which it is looked again what an alias stands for; not set: never.
    bundles_memory
        TSFORECAST_BUNDLES_MEMORY: bundles in memory, of several together, in MiB, each counted as `Live.size` says; the
        default one is always possible.
    minimal
        TSFORECAST_EXPOSE=minimal: what is served tells what a caller needs, and neither rows nor scores of training.
    request_log, request_log_max
        TSFORECAST_REQUEST_LOG: a folder in which the rows of requests are kept as Parquet; not set: nowhere.
        TSFORECAST_REQUEST_LOG_MAX: MiB of its files; beyond it the oldest go.
    allow_schema_change
        TSFORECAST_ALLOW_SCHEMA_CHANGE: whether what is served may be followed by a bundle of other columns.
    """

    max_body: float = 32.0
    max_memory: float = 320.0
    queue: int = 128
    max_wait: float = 0.5
    batch: int = 1024
    patience: float = 30.0
    hosts: tuple[str, ...] = ()
    reload: float = 0.0
    bundles_memory: float = 1024.0
    minimal: bool = False
    request_log: str = ""
    request_log_max: float = 1024.0
    allow_schema_change: bool = False

    @classmethod
    def from_environment(cls) -> Settings:
        """The defaults, or what the environment says.

        Raises
        ------
        ConfigError
            A variable is not a positive number, a flag neither true nor false, an origin none, or the admin key short.
        """
        one_of(EXPOSE, said := os.environ.get(EXPOSE) or "all", ("all", "minimal"))
        found = {each.name: _read(PREFIX + each.name.upper(), each.default) for each in fields(cls)}
        if wrong := [origin for origin in names(CORS) if not _ORIGIN.fullmatch(origin)]:
            what, allowed = "this is no origin of a web page", "https://shop.example, http://localhost:8080, or *"
            raise ConfigError(what, where=CORS, got=wrong[0], allowed=allowed)
        if short := [name for name in (ADMIN_KEY, WEBHOOK_SECRET) if 0 < len(os.environ.get(name, "")) < 16]:
            fix = "openssl rand -hex 24"
            raise ConfigError("this key is too short", where=short[0], allowed="16 characters or more", fix=fix)
        return cls(**{**found, "minimal": said == "minimal"})


def _read(variable: str, default: Any) -> Any:
    """What a variable says, of the kind that its default is: a flag, names, text or a positive number."""
    text = os.environ.get(variable, "")
    if isinstance(default, bool):
        return flag(variable, text)
    if isinstance(default, tuple):
        return names(variable)
    if isinstance(default, str) or not text:
        return text or default
    try:
        number = type(default)(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        what, allowed = "this setting is a positive number", "a number above 0"
        raise ConfigError(what, where=variable, got=repr(text), allowed=allowed)
    return number


def misspelt() -> list[tuple[str, str]]:
    """Variables that nothing reads, such as TSFORECAST_EXPOS, each with the nearest one that is read."""
    known = [*_OTHERS.split(), *(each.name.upper() for each in fields(Settings))]
    given = [name.removeprefix(PREFIX) for name in sorted(os.environ) if name.startswith(PREFIX)]
    wrong = [(name, nearest(name, known)) for name in given if name not in known]
    return [(PREFIX + name, PREFIX + near) for name, near in wrong if near]


def names(variable: str) -> tuple[str, ...]:
    """What a variable lists with commas, in small letters."""
    return tuple(name for each in os.environ.get(variable, "").lower().split(",") if (name := each.strip()))


def flag(where: str, text: str) -> bool:
    """Whether a flag is set; a ConfigError where it says something else than that or nothing."""
    if text.lower() not in ("", "0", "false", "1", "true"):
        raise ConfigError("this is either set or not", where=where, got=repr(text), allowed=["true", "false"])
    return text.lower() in ("1", "true")


def entries(variable: str, mark: str, allowed: str) -> list[tuple[str, str]]:
    """Where each entry of a variable stands, and the entry: on it, where a mark is, or on a line of the file it names.

    Raises
    ------
    ConfigError
        There is no such file. Its name is not told: it may be a secret, given for a file.
    """
    if mark in (text := os.environ.get(variable, "").strip()):
        found = [(f"{variable}, entry {i}", entry) for i, entry in enumerate(text.split(","), 1)]
    else:
        try:
            lines = Path(text).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            what, got = "the file cannot be read", error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(what, where=variable, got=got, allowed=allowed) from None
        found = [(f"the file of {variable}, line {i}", line) for i, line in enumerate(lines, 1)]
    return [(where, entry) for where, entry in found if entry.strip() and not entry.lstrip().startswith("#")]
