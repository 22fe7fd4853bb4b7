"""Small bundles in many shapes, and a client that talks to an app without a socket."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from tests.serving.browser import Seen
from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.fallback import Fallback
from tsforecast.features.base import FeatureSet
from tsforecast.features.calendar import Calendar
from tsforecast.features.scaling import StandardScaler
from tsforecast.models.base import Estimator
from tsforecast.models.linear import Ridge
from tsforecast.serving.asgi import create_app
from tsforecast.serving.engine import Engine
from tsforecast.training.calibrate import Conformal, Errors
from tsforecast.windows import Windows

L, H, ROWS = 24, 6, 150
FEW = {"shop0": 24, "shop1": 15, "shop2": 5}
LEVELS = (0.05, 0.1, 0.5, 0.9, 0.95)


@dataclass(frozen=True)
class Response:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return orjson.loads(self.body)


class Client:
    """Calls an ASGI app whose server has been started."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def send(self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> Response:
        """One request."""
        body = body if isinstance(body, bytes) else orjson.dumps(body)
        path, _, query = path.partition("?")
        given = {"host": "test", "content-length": str(len(body)), **(headers or {})}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query.encode(),
            "headers": [(key.lower().encode(), value.encode("latin-1")) for key, value in given.items()],
        }  # fmt: skip
        incoming, sent = [{"type": "http.request", "body": body, "more_body": False}], []

        async def receive() -> Any:
            return incoming.pop() if incoming else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        found = {key.decode(): value.decode("latin-1") for key, value in sent[0]["headers"]}
        return Response(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))

    def __call__(self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> Response:
        return asyncio.run(self.send(method, path, body, headers))


def frame(series: int = 1, freq: str = "h", rows: int = ROWS, **columns: Any) -> pd.DataFrame:
    """Wide when there is one series, else long."""
    rng = np.random.default_rng(7)
    time = pd.date_range("2024-01-01", periods=rows, freq=freq)
    wave = np.sin(np.arange(rows) / 24 * 2 * np.pi)
    parts = []
    for i in range(series):
        data = {
            "date": time,
            "load": wave * (i + 1) + rng.normal(size=rows) / 5,
            "visits": rng.normal(size=rows) * 9 + 50,
        }
        part = pd.DataFrame({**data, **columns})
        parts.append(part if series == 1 else part.assign(shop=f"shop{i}"))
    return pd.concat(parts, ignore_index=True)


def trained(
    data: pd.DataFrame, schema: Schema, place: Path, model: Estimator | None = None, *, least: int = L
) -> Bundle:
    """A ridge with intervals, or another model, saved with its golden request.

    Where `least` rows of a series are enough for it, it has a fallback for fewer.
    """
    panel = to_panel(data, schema, for_training=True)
    features = FeatureSet((Calendar(),), StandardScaler()).fit(panel)
    encoded = features.encode(panel, pad=L - least)
    windows = Windows.over(encoded, lookback=L, horizon=H, begin=panel.offsets[:-1], end=panel.offsets[1:])
    dims = encoded.dims(L, H, 24)
    bundle = Bundle(
        schema=schema.resolved(panel),
        dims=dims,
        features=features,
        forecaster=(model or Ridge()).fit(windows, windows, dims),
        metadata={"name": "test", "scores": {"test/mae": 1.0}},
        fallback=Fallback.of(windows, 24, LEVELS) if least < L else None,
    )
    bundle = Conformal()(bundle, Errors.of(bundle, windows), LEVELS)
    return golden.with_golden(bundle, panel).save(place)


SHAPES: dict[str, tuple[pd.DataFrame, Schema]] = {
    "wide": (frame(), Schema(target=("load", "visits"), freq="h")),
    "daily": (frame(freq="D"), Schema(target=("load", "visits"), freq="D")),
    "monthly": (frame(freq="MS"), Schema(target=("load",), past=("visits",), freq="MS")),
    "zoned": (
        frame().assign(date=lambda f: f["date"].dt.tz_localize("Europe/Berlin")),
        Schema(target=("load",), freq="h"),
    ),
    "long": (frame(3), Schema("date", "shop", ("load",), past=("visits",), freq="h")),
    "covariates": (
        frame(2).assign(
            price=lambda f: np.arange(len(f)) % 5 + 1.0,
            size=lambda f: f["shop"].str[-1].astype(int),
            weather=lambda f: np.where(np.arange(len(f)) % 3, "dry", "wet"),
        ),
        Schema(
            "date",
            "shop",
            ("load", "visits"),
            known=("price", "weather"),
            static=("size",),
            categorical=("weather",),
            freq="h",
        ),
    ),
    "holes": (
        frame().assign(load=lambda f: f["load"].where(~f.index.isin([3, 4, 60]))),
        Schema(target=("load", "visits"), freq="h"),
    ),
}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """`bundles(shape)`, trained once."""
    made: dict[str, Bundle] = {}

    def get(shape: str) -> Bundle:
        if shape not in made:
            made[shape] = trained(*SHAPES[shape], tmp_path_factory.mktemp("bundles") / shape)
        return made[shape]

    return get


@pytest.fixture(scope="session")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of shops, and to be asked for those of few rows too."""
    schema = Schema("date", "shop", ("load",), freq="h")
    return trained(frame(3).drop(columns="visits"), schema, tmp_path_factory.mktemp("lenient") / "bundle", least=12)


def few(rows: Mapping[str, int] = FEW) -> pd.DataFrame:
    """The last so many rows of shops: as many as are read, padded ones, and too few."""
    shops = dict(list(frame(3)[["date", "shop", "load"]].groupby("shop")))
    return pd.concat([shops[name].tail(n) for name, n in rows.items()], ignore_index=True)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Client]:
    """`serve(bundle)`: a client of an app that serves it."""

    def start(bundle: Bundle, **settings: Any) -> Client:
        for name, value in settings.items():
            monkeypatch.setenv(f"TSFORECAST_{name.upper()}", str(value))
        app = create_app()
        app.state.server.start(str(bundle.path))
        return Client(app)

    return start


@pytest.fixture(scope="session")
def client(bundles: Callable[[str], Bundle]) -> Client:
    """Of the wide bundle."""
    app = create_app()
    app.state.server.start(str(bundles("wide").path))
    return Client(app)


def request(bundle: Bundle) -> dict[str, Any]:
    """A fresh copy of the golden request."""
    copied: dict[str, Any] = orjson.loads(orjson.dumps(Engine(bundle).example))
    return copied


@pytest.fixture(scope="session")
def look(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """A browser without a window, and what it looks at."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium, which is not installed")
    found = Seen(chromium, tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def shop(look: Seen, bundles: Callable[[str], Bundle], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Bundle]:
    """A bundle of three series with an evaluation beside a baseline, as a run leaves it, and where it is served."""
    mine = {"mae": 0.5, "mse": 0.4, "mae_raw": 1.25, "rmse_raw": 2.5, "mase": 0.5, "smape": 0.1, "windows": 40.0}
    steps = {"coverage-90": [0.9, 0.91, 0.92, 0.93, 0.94, 0.95], "coverage-80": [0.8] * H}
    judged = {"model": "ridge", "part": "test", "stride": 1, "by_step": steps}
    judged["scores"] = {"naive": {**mine, "mae_raw": 2.75}, "ridge": mine}
    about = {"name": "shop load", "chosen_until": "2024-01-05 00:00:00", "evaluation": judged}
    bundle = bundles("long")
    bundle = replace(bundle, metadata={**bundle.metadata, **about}).save(tmp_path_factory.mktemp("scored") / "bundle")
    return look.serve(bundle), bundle
