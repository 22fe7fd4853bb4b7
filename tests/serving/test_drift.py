"""Drift: what a server has seen beside its training, in one process and in words."""

from __future__ import annotations

from collections.abc import Callable

from tests.serving.conftest import Client
from tsforecast.bundle.bundle import Bundle

Serve = Callable[..., Client]


def test_a_fresh_server_has_seen_nothing(bundles: Callable[[str], Bundle], serve: Serve) -> None:
    told = serve(bundles("wide"))("GET", "/drift").json
    assert (told["verdict"], told["reasons"], told["requests"], told["rows"]) == ("ok", [], 0, 0)
