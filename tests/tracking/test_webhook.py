"""MLflow's own server says that an alias has moved, and those that serve it follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import Client, bundles, serve
from tests.serving.test_slot import pair
from tests.serving.test_watch import listening, survived
from tests.serving.test_webhook import SECRET, until
from tests.tracking.conftest import Server
from tsforecast.bundle.bundle import Bundle
from tsforecast.registry import Registry
from tsforecast.serving.watch import Watch

__all__ = ["bundles", "pair", "serve", "survived"]


def test_when_the_alias_moves_on_mlflows_server_then_every_worker_follows(
    server: Server,
    client: Any,
    pair: dict[str, Bundle],
    serve: Callable[..., Client],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    registry = Registry()
    for bundle in pair.values():
        registry.publish(Path(str(bundle.path)), to="mlflow", name="hooked", alias=None)
    registry.point("hooked", "champion", 1)
    first, second = pair
    reference = replace(pair[first], path=Path("models:/hooked@champion"))
    workers = [serve(reference, webhook_secret=SECRET) for _ in range(2)]

    async def run() -> None:
        async with listening(workers[0]) as port:
            Watch(workers[1].app.state.server)
            given = {"url": f"http://127.0.0.1:{port}/admin/mlflow", "secret": SECRET}
            hook = await asyncio.to_thread(
                client.create_webhook, "served", events=["model_version_alias.created"], **given
            )
            tried = await asyncio.to_thread(client.test_webhook, hook.webhook_id)
            assert (tried.success, tried.response_status) == (True, 200), tried
            await asyncio.to_thread(registry.point, "hooked", "champion", 2)
            for worker in workers:
                await until(worker, second)
            await asyncio.to_thread(client.update_webhook, hook.webhook_id, secret=SECRET[1:])
            tried = await asyncio.to_thread(client.test_webhook, hook.webhook_id)
            assert (tried.success, tried.response_status) == (False, 403), tried
            await asyncio.to_thread(client.delete_webhook, hook.webhook_id)

    asyncio.run(run())
