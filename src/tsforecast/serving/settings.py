"""What the environment says about a server; read by every process of it, so it imports next to nothing."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from tsforecast.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """How much is taken on; each can be set by a variable of the environment.

    Parameters
    ----------
    max_body
        TSFORECAST_MAX_BODY: largest body of a request, in MiB.
    max_bodies
        TSFORECAST_MAX_BODIES: bodies in memory, of all requests together, in MiB; one body is always possible.
    queue
        TSFORECAST_QUEUE: requests in the house; one more is answered 429.
    batch
        TSFORECAST_BATCH: series forecast in one call, when requests wait.
    patience
        TSFORECAST_PATIENCE: seconds that the head of a request may take to arrive, and then its body.
    hosts
        TSFORECAST_HOSTS: names that a request may be for, with commas; `*` is any. By default any where the server is
        open to others, and this machine's own where it is not.
    """

    max_body: float = 32.0
    max_bodies: float = 256.0
    queue: int = 128
    batch: int = 1024
    patience: float = 30.0
    hosts: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls) -> Settings:
        """The defaults, or what the environment says.

        Raises
        ------
        ConfigError
            A variable is not a positive number.
        """
        hosts = os.environ.get("TSFORECAST_HOSTS", "").lower().split(",")
        found: dict[str, Any] = {"hosts": tuple(host.strip() for host in hosts if host.strip())}
        numbers = {"max_body": float, "max_bodies": float, "queue": int, "batch": int, "patience": float}
        for name, kind in numbers.items():
            variable = f"TSFORECAST_{name.upper()}"
            if not (text := os.environ.get(variable)):
                continue
            try:
                found[name] = kind(text)
                if not 0 < found[name] < math.inf:
                    raise ValueError
            except ValueError:
                raise ConfigError("this setting is a positive number", where=variable, got=repr(text),
                                  allowed="a number above 0") from None  # fmt: skip
        return cls(**found)
