"""Who may ask: whoever has a key, told apart by its name; where there are no keys, nobody of another machine."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from tsforecast.errors import ConfigError
from tsforecast.serving.rates import RATE, Rate
from tsforecast.serving.refusals import refused
from tsforecast.serving.routes import Place
from tsforecast.serving.settings import entries, flag

log = logging.getLogger(__name__)
KEYS, FOR_ALL, OPEN = "TSFORECAST_KEYS", "TSFORECAST_KEYS_FOR_ALL", "TSFORECAST_OPEN"
# name:key, with a rate of its own or without; a key is printable, without , and spaces
_ENTRY = re.compile(r"\s*([\w.@-]{1,64})\s*:\s*([!-+\--~]{16,})(?:\s+([\w/]+))?\s*")
_ALLOWED = "a file with a line name:key for each, or name:key,name:key; a key has 16 characters or more"


@dataclass(frozen=True)
class Keys:
    """Keys by their names, as SHA-256: what is compared is of one length, and no key stays in memory.

    Parameters
    ----------
    digests
        TSFORECAST_KEYS: none is needed where there are none.
    for_all
        TSFORECAST_KEYS_FOR_ALL: whether what is served, its counters and the document need one too.
    open
        TSFORECAST_OPEN: whether other machines may ask without keys.
    rates
        How often each may ask; under None TSFORECAST_RATE, for those that are not named and for callers without keys.
    version
        Of the file that they are from.
    """

    digests: Mapping[str, bytes] = field(default_factory=dict)
    for_all: bool = False
    open: bool = False
    rates: Mapping[str | None, Rate | None] = field(default_factory=dict)
    version: tuple[int, ...] = ()

    @classmethod
    def from_environment(cls) -> Keys:
        """What the environment, or the file that it names, says.

        Raises
        ------
        ConfigError
            It cannot be read, or there are no keys in it, or one is short or there twice, or a rate is none. No key is
            told.
        """
        found: dict[str, bytes] = {}
        rates: dict[str | None, Rate | None] = {None: Rate.of(RATE, os.environ.get(RATE, ""))}
        version = _version()  # before it is read: what is written meanwhile is another
        if os.environ.get(KEYS, "").strip():
            for where, entry in entries(KEYS, ":", _ALLOWED):
                if not (parts := _ENTRY.fullmatch(entry)):
                    raise ConfigError("this is no name with a key", where=where, allowed=_ALLOWED)
                name, key, rate = parts.groups("")
                if name in found or sha256(key.encode()).digest() in found.values():
                    raise ConfigError("a name or a key is there twice", where=where, allowed="each once")
                found[name] = sha256(key.encode()).digest()
                rates |= {name: Rate.of(where, rate)} if rate else {}
            if not found:
                raise ConfigError("there is no key", where=KEYS, allowed=_ALLOWED)
        for_all, open_ = (flag(name, os.environ.get(name, "")) for name in (FOR_ALL, OPEN))
        return cls(found, for_all, open_, rates, version)

    def current(self) -> Keys:
        """Those of the file as it is now; one that cannot be read is told of in the log, once, and changes nothing."""
        if (version := _version()) == self.version:
            return self
        try:
            fresh = Keys.from_environment()
        except ConfigError as error:
            log.error("the keys stay as they were: %s", error)
            return replace(self, version=version)
        log.info("the keys were read anew", extra={"keys": [*fresh.digests]})
        return fresh

    def rate(self, name: str | None) -> Rate | None:
        """How often whoever has that key may ask; None: as often as they like."""
        return self.rates.get(name, self.rates.get(None))

    def needed(self, place: Place) -> bool:
        """Whether one of these keys is needed there."""
        return bool(self.digests) and (place.key == "always" or (place.key == "told" and self.for_all))

    def check(self, place: Place, headers: Mapping[bytes, bytes]) -> str | None:
        """The name of the key that a request has; None where it needs none.

        Raises
        ------
        RequestError
            It needs one, and has none or another.
        """
        return self.named(headers) if self.needed(place) else None

    def named(self, headers: Mapping[bytes, bytes]) -> str:
        """The name of the key in the head of a request; a RequestError where there is none, or another."""
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        digest = sha256(given.strip()).digest()
        names = [name for name, own in self.digests.items() if hmac.compare_digest(own, digest)]  # compared with all
        if scheme.lower() != b"bearer" or not names:
            raise refused(401, where="Authorization", got="another key" if given else "no key", allowed="Bearer KEY")
        return names[0]

    def check_address(self, host: str | None) -> None:
        """Whether a server may listen there; None is not known.

        Raises
        ------
        ConfigError
            Other machines could ask without a key.
        """
        if host is None or self.digests or self.open or _is_loopback(host):
            return
        what, allowed = "whoever reaches this address could ask", "127.0.0.1, ::1, localhost"
        fix = f"set {KEYS}, or {OPEN}=1 where the network or a proxy keeps others out"
        raise ConfigError(what, where="host", got=host, allowed=allowed, fix=fix)


def listening() -> str | None:
    """The address of the uvicorn that runs this process, which its handler of SIGTERM knows; None: not known."""
    config = getattr(getattr(signal.getsignal(signal.SIGTERM), "__self__", None), "config", None)
    return None if config is None or config.uds or config.fd is not None else str(config.host)


def _version() -> tuple[int, ...]:
    """Another one whenever the file of keys is: it was written, or another one was put in its place."""
    text = os.environ.get(KEYS, "").strip()
    try:
        found = Path(text).stat() if text and ":" not in text else None
    except OSError:
        return (0,)
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found else ()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
