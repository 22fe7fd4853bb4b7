"""The engine: a bundle, loaded, warmed up and held to its golden answer, that forecasts many requests in one call."""

from __future__ import annotations

import gc
import logging
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import orjson

import tsforecast
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.golden import means
from tsforecast.errors import BundleError, TsforecastError
from tsforecast.serving.contract import Contract
from tsforecast.serving.store import locate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """Answers requests to one bundle; it keeps no state between them.

    Attributes
    ----------
    ready
        Whether the golden request gave the golden answer.
    seconds
        What a forecast of one series took when warm.
    """

    bundle: Bundle
    ready: bool = False
    seconds: float = 0.0

    @cached_property
    def contract(self) -> Contract:
        """Reads what is asked of the bundle, and writes its answers."""
        return Contract(self.bundle)

    @classmethod
    def open(cls, where: str | None = None) -> Engine:
        """Load the bundle at `where` (None: as `locate` finds it), warm up, and check the golden answer.

        Raises
        ------
        BundleError
            There is nothing to serve, or it cannot be loaded, or holds no golden request.
        """
        engine = cls(Bundle.load(locate(where)))
        if engine.bundle.golden is None:
            raise BundleError(
                "the bundle holds no golden request, so nothing could tell whether it is served right",
                where=engine.bundle.path,
                fix="train again, or golden.with_golden(bundle, panel).save(path)",
            )
        engine = engine.checked()
        gc.collect()
        gc.freeze()  # what is loaded stays: no collection walks it again
        gc.set_threshold(50_000, 50, 50)
        return engine

    def checked(self) -> Engine:
        """The engine with `ready` as the golden request finds it."""
        golden, body, took = self.bundle.golden or {}, orjson.dumps(self.example), []
        try:
            for _ in range(3):
                request = self.contract.read(body)
                began = time.perf_counter()
                (answer,) = self.bundle.predictions([request])
                took.append(time.perf_counter() - began)
                if isinstance(answer, TsforecastError):
                    raise answer
                self.contract.write(request, answer)
                for name, got in (("values", answer.point), ("quantiles", answer.quantiles)):
                    if not close(got, golden.get(name)):
                        raise BundleError(f"it gave other {name} than are stored in the bundle", where=self.bundle.path)
            if "probe" in golden and not close(means(self.bundle), golden["probe"]):
                raise BundleError("drawn histories have other forecasts than are stored", where=self.bundle.path)
        except TsforecastError as error:
            log.error("not ready: the golden request failed: %s", error)
            return self
        return replace(self, ready=True, seconds=min(took))

    @cached_property
    def example(self) -> dict[str, Any]:
        """The golden request: one that runs as it stands."""
        golden = self.bundle.golden or {}
        return {name: golden[name] for name in ("history", "known_future", "static") if name in golden}

    def describe(self) -> dict[str, Any]:
        """What a caller has to know of the model."""
        bundle, schema = self.bundle, self.bundle.schema
        per_series = schema.id is not None and bundle.features.scaler.scope == "series"
        columns = ("layout", "time", "id", "freq", "timezone", "past", "known", "static")
        return {
            "model": bundle.metadata.get("name"),
            "version": self.contract.version,
            "digest": bundle.digest,
            "tsforecast": tsforecast.__version__,
            "context": bundle.context,
            "horizon": bundle.dims.horizon,
            "channels": bundle.channels,
            **{name: getattr(schema, name) for name in columns},
            "categories": bundle.features.categories,
            "missing": {name: bundle.missing.get(name, 0) for name in (*bundle.channels, *schema.past)},
            "levels": [float(level) for level in bundle.intervals],
            "series": len(bundle.features.ids) if per_series else None,
            "scores": bundle.metadata.get("scores", {}),
        }


def close(got: np.ndarray | None, golden: Any) -> bool:
    """Equal but for the last bits, in which processors differ."""
    if got is None or golden is None:
        return got is golden
    wanted = np.asarray(golden, dtype=np.float32)
    return got.shape == wanted.shape and bool(np.all(np.abs(got - wanted) <= 1e-5 * np.abs(wanted).max(initial=1e-6)))
