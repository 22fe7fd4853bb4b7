"""How often each caller may ask: what is beyond that is refused before its body is read."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field

from tsforecast.errors import ConfigError, RequestError

RATE = "TSFORECAST_RATE"
_SECONDS = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True)
class Rate:
    """A bucket that holds `count` requests and is filled evenly, once in so many seconds.

    | - - - - .    .    .    .    -   count at once (-), then one every seconds / count (.); what is not used gathers
    """

    count: int
    seconds: int

    @classmethod
    def of(cls, where: str, text: str) -> Rate | None:
        """`100/s`, `6000/min`, `10000/h`; None where nothing is said, a ConfigError where it is something else."""
        found = re.fullmatch(r"([1-9]\d{0,8})/(s|min|h)", text)
        if text and not found:
            allowed = ["100/s", "6000/min", "10000/h"]
            raise ConfigError("this is no number of requests in some time", where=where, got=text, allowed=allowed)
        return cls(int(found[1]), _SECONDS[found[2]]) if found else None

    def __str__(self) -> str:
        unit = next(name for name, seconds in _SECONDS.items() if seconds == self.seconds)
        return f"{self.count}/{unit}"


@dataclass(frozen=True)
class Rates:
    """The buckets of all callers, by the names of their keys; whoever asks without one shares that of None.

    Attributes
    ----------
    full
        When each bucket is full again if nothing is taken from it, in seconds of the monotonic clock.
    """

    full: dict[str | None, float] = field(default_factory=dict)

    def take(self, name: str | None, rate: Rate) -> None:
        """One request of a caller; a RequestError, with the seconds to wait, where its bucket is empty."""
        now, each = time.monotonic(), rate.seconds / rate.count
        full = max(self.full.get(name, now), now) + each
        if (late := full - now - rate.seconds) > 1e-6:  # of rounding
            where, wait = "Authorization" if name else "requests", max(1, math.ceil(late - 5e-7))
            fix = "come back after the seconds that Retry-After says, or ask for more series at once"
            what = f"{f'the key {name!r} is' if name else 'all callers together are'} used too often"
            raise RequestError(what, status=429, code="rate", wait=wait, where=where, allowed=rate, fix=fix)
        self.full[name] = full
