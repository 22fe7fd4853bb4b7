"""`serve run tsforecast.serving.ray:app`: the app of `asgi.py` as the ingress of Ray Serve, and models in replicas.

proxy of Ray | -> Ingress: keys, limits, reading | -> Model: batches of one bundle each | -> Ingress: writing
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson
import ray
from pydantic import BaseModel, NonNegativeFloat, PositiveFloat, PositiveInt
from ray import serve
from ray.exceptions import RayActorError, TaskCancelledError
from ray.serve.context import _get_global_client

from tsforecast.bundle.request import Prediction, Request
from tsforecast.errors import BundleError, ConfigError, TsforecastError, each_of
from tsforecast.serving.asgi import create_app
from tsforecast.serving.batching import Read, Write
from tsforecast.serving.engine import Engine
from tsforecast.serving.metrics import Metrics
from tsforecast.serving.refusals import refused
from tsforecast.serving.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Message, Receive, Scope, Send

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a Ray that `serve run` starts tells its makers nothing
_OURS = ("TSFORECAST_", "BENTOML_", "MLFLOW_", "OTEL_")  # variables of whoever deploys, which a cluster does not have
_STARTING = 60.0  # seconds after which a replica of a model that could run should have been there
_TOGETHER = 32  # requests, or series in units of TSFORECAST_BATCH / 32, that are forecast in one call
_KEPT = 32  # bundles that a replica keeps
_DEPLOYED: dict[str, Any] = {
    "max_constructor_retry_count": 1,  # what is wrong is told at once
    "max_surge_percent": 100,  # the old replica answers until the new one does
    "health_check_period_s": 1,  # one that was killed is soon missed
    "graceful_shutdown_wait_loop_s": 0.5,  # seconds between two looks whether all requests are answered
    "logging_config": {"enable_access_log": False},  # the ingress writes a line of its own
}
Asked: TypeAlias = tuple[list[ray.ObjectRef], Request]  # the files of the bundle, where a replica has none yet
Told: TypeAlias = tuple[Prediction | TsforecastError, tuple[int, int] | None]  # series and requests of a call, once


class Arguments(BaseModel):
    """What `serve run tsforecast.serving.ray:app NAME=VALUE`, or `args` of a Serve configuration, may say.

    Parameters
    ----------
    bundle, bundles
        In place of TSFORECAST_BUNDLE and TSFORECAST_BUNDLES.
    max_replicas, num_cpus
        Of `Model`: how many replicas there may be under load, and the processors that each is given.
    wait
        Seconds that a cluster may take to grow, where it is still too small; by default that is an error at once.
    """

    bundle: str = ""
    bundles: str = ""
    max_replicas: PositiveInt = max(1, 2 * (os.cpu_count() or 1) - 1)
    num_cpus: PositiveFloat = 0.5
    wait: NonNegativeFloat = 0.0


def app(given: dict[str, Any]) -> serve.Application:
    """The application, from `Arguments` and the TSFORECAST_ variables of whoever deploys it.

    Raises
    ------
    ConfigError
        There is no such argument.
    """
    each_of("arguments", given, Arguments.model_fields)
    asked = Arguments.model_validate(given)
    variables = {name: text for name, text in os.environ.items() if name.startswith(_OURS)}
    if asked.bundle or asked.bundles:
        variables |= {"TSFORECAST_BUNDLE": asked.bundle, "TSFORECAST_BUNDLES": asked.bundles}
    here = (str(Path.cwd()), variables, asked.wait)
    scaling = {"min_replicas": 1, "max_replicas": asked.max_replicas, "target_ongoing_requests": _TOGETHER // 2}
    models: dict[str, Any] = {"max_ongoing_requests": _TOGETHER, "autoscaling_config": scaling}
    model = serve.deployment(**_DEPLOYED, **models, ray_actor_options={"num_cpus": asked.num_cpus})(Model)
    ingress = serve.deployment(**_DEPLOYED, max_ongoing_requests=100_000, ray_actor_options={"num_cpus": 0.2})
    return ingress(serve.ingress()(Ingress)).bind(model.bind(*here), *here)


def _settle(folder: str, variables: Mapping[str, str], wait: float) -> str | None:
    """Make a replica's process what that of whoever deploys is, and see that there is room for all replicas.

    Returns
    -------
    str, optional
        The address at which Ray listens.
    """
    os.environ.update(variables)
    if Path(folder).is_dir():
        os.chdir(folder)  # where the paths in the variables begin
    client, until = _get_global_client(), time.monotonic() + wait
    while True:
        details = client.get_serve_details()
        application = details["applications"][serve.get_replica_context().app_name]
        try:
            if application["status"] == "DEPLOYING":  # later, when a machine is lost, the others go on
                check_room(application["deployments"], [node["Resources"] for node in ray.nodes() if node["Alive"]])
            return (details.get("http_options") or {}).get("host")
        except ConfigError:
            if time.monotonic() > until:
                raise
        time.sleep(1)


def check_room(deployments: Mapping[str, Any], nodes: Sequence[Mapping[str, float]]) -> None:
    """Whether machines with these resources have what deployments ask for, which Ray waits for without an end.

    Raises
    ------
    ConfigError
        No machine has what a replica asks for, or all together have not what the fewest replicas ask for.
    """
    there, together, asked = Counter[str](), Counter[str](), []
    for node in nodes:
        there.update(node)
    for name, each in deployments.items():
        config = each["deployment_config"]
        fewest = (config.get("autoscaling_config") or {}).get("min_replicas") or config["num_replicas"]
        for resource, amount in each["required_resources"].items():
            together[resource] += amount * fewest
            asked.append((f"a replica of {name}", resource, amount, max(node.get(resource, 0) for node in nodes)))
    asked += [("the deployments together", name, amount, there[name]) for name, amount in together.items()]
    for where, resource, amount, most in asked:
        if amount > most:
            what, got, allowed = "this asks for more than there is", f"{amount:g} {resource}", f"{most:g} {resource}"
            fix = "num_cpus=0.5, fewer replicas; where the cluster grows: wait=600"
            raise ConfigError(what, where=where, got=got, allowed=allowed, fix=fix)


def _weight(asked: list[Asked]) -> int:
    """Of a batch: as many series as one call takes weigh what as many requests do, and so does one request of more."""
    share = Settings.batch / _TOGETHER
    return min(_TOGETHER, ceil(sum(max(1.0, len(request.panel) / share) for _, request in asked)))


class Model:
    """Forecasts by any bundle that an ingress hands to it: it looks for none, so machines without a store have it."""

    def __init__(self, *here: Any) -> None:
        _settle(*here)
        self.files: dict[str, ray.ObjectRef] = {}

    @serve.batch(max_batch_size=_TOGETHER, batch_wait_timeout_s=0, batch_size_fn=_weight)  # type: ignore[untyped-decorator]
    async def __call__(self, asked: list[Asked]) -> list[Told]:
        """The forecasts of requests that have come meanwhile, all for one bundle."""
        digest, requests = serve.get_multiplexed_model_id(), [request for _, request in asked]
        self.files[digest] = asked[0][0][0]
        try:
            engine = await self.engine(digest)
        except TsforecastError as error:
            return [(error, None)] * len(asked)
        finally:
            self.files.pop(digest)  # the object itself stays with the ingress
        told = sum(len(request.panel) for request in requests), len(requests)
        found = await asyncio.to_thread(engine.bundle.predictions, requests)
        return [(each, None if i else told) for i, each in enumerate(found)]

    @serve.multiplexed(max_num_models_per_replica=_KEPT)  # type: ignore[untyped-decorator]
    async def engine(self, digest: str) -> Engine:
        """The bundle of a digest, held to its golden answer on this machine."""
        return await asyncio.to_thread(_opened, await self.files[digest], digest)


def _opened(files: Mapping[str, bytes], digest: str) -> Engine:
    with tempfile.TemporaryDirectory(prefix="tsforecast-bundle-") as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        engine = Engine.open(Path(folder))
    if not engine.ready or engine.bundle.digest != digest:
        what, fix = "a replica cannot serve the bundle", "see the log of the replica"
        raise BundleError(what, where="Model", got=engine.version, allowed=digest[:12], fix=fix)
    return engine


class Remote:
    """Has a replica of `Model` answer for one bundle: see `Answers`.

    Raises
    ------
    TsforecastError
        No replica has come up in time, or it cannot serve the bundle.
    """

    def __init__(self, model: Any, wait: float, engine: Engine, _: Settings, metrics: Metrics) -> None:
        self.metrics, self.waiting, self._took = metrics, 0, 0.0
        files = {file.name: file.read_bytes() for file in Path(str(engine.bundle.path)).iterdir() if file.is_file()}
        self.files = [ray.put(files)]  # in a list it is handed on as it is, and fetched by whoever has no such bundle
        self.model = model.options(multiplexed_model_id=engine.bundle.digest)
        golden = engine.read(orjson.dumps(engine.example))
        for seconds in (_STARTING + wait, _STARTING):  # loaded before anybody asks, and then the time that it takes
            began = time.perf_counter()
            try:
                found, _ = self.model.remote((self.files, golden)).result(timeout_s=seconds)
            except TimeoutError:
                what, fix = "no replica of the model has come up in time", "serve status; ray status"
                raise ConfigError(what, where="Model", got="none", allowed=f"{seconds:g} seconds", fix=fix) from None
            if isinstance(found, TsforecastError):
                raise found
            self._alone = time.perf_counter() - began

    @property
    def wait(self) -> float:
        """Seconds that requests have lately waited for others; one of few is in the next batch."""
        return max(0.0, self._took - self._alone) if self.waiting >= _TOGETHER else 0.0

    async def forecast(self, read: Read, write: Write, *, large: bool = False) -> bytes:
        """The answer to one request; see `Answers`."""
        self.waiting, began = self.waiting + 1, time.perf_counter()
        try:
            request = await asyncio.to_thread(read) if large else read()
            found, told = await self._predicted(request)
            self._took += (time.perf_counter() - began - self._took) / 8
        finally:
            self.waiting -= 1
        if told:
            self.metrics.forecasts(*told)
        if isinstance(found, TsforecastError):
            raise found
        return await asyncio.to_thread(write, request, found) if large else write(request, found)

    async def _predicted(self, request: Request) -> Any:
        """What a replica gives; where one is lost another is asked, since a forecast changes nothing."""
        for again in (True, False):
            try:
                return await self.model.remote((self.files, request))
            except RayActorError as error:
                if not again:
                    raise refused(503, where="Model", got=type(error).__name__) from error
        return None


class Ingress:
    """Answers as `asgi.py` does, but for the forecasts themselves."""

    def __init__(self, model: Any, *here: Any) -> None:
        self.model, self.here = model, here

    async def __serve_build_asgi_app__(self) -> Behind:
        """Called by Ray, once; an error in it is told to whoever deploys."""
        host = await asyncio.to_thread(_settle, *self.here)
        app = create_app(partial(Remote, self.model, self.here[-1]))
        await asyncio.to_thread(app.state.server.start)
        app.state.server.keys.check_address(host)
        return Behind(app)


class Behind:
    """An app behind the proxy of Ray."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [pair for pair in scope.get("headers", ()) if pair[0] == b"x-request-id"]

        async def once(message: Message) -> None:
            if message["type"] == "http.response.start":  # the proxy adds this id, too
                message["headers"] = [pair for pair in message["headers"] if pair not in given]
            await send(message)

        async def left() -> Message:
            try:
                return await receive()
            except TaskCancelledError:  # the caller was gone before the proxy was asked for the body
                return {"type": "http.disconnect"}

        await self.app(scope, left, once)
