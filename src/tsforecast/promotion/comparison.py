"""A candidate, the present champion and the seasonal naive, scored on the same windows of the same data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from tsforecast.bundle.bundle import Bundle
from tsforecast.data.panel import Panel
from tsforecast.data.sources import Loaded
from tsforecast.errors import DataError
from tsforecast.leaderboards.difference import Difference
from tsforecast.models.naive import SeasonalNaiveForecaster
from tsforecast.training.evaluate import evaluate
from tsforecast.training.prepare import Prepared, Split
from tsforecast.training.record import Record

CANDIDATE, CHAMPION, NAIVE = "candidate", "champion", "seasonal_naive"
FORECASTS = 15  # of the golden request, timed


class IncomparableError(DataError):
    """No windows tell two bundles apart: they forecast other things, or have seen all rows that there are."""


@dataclass(frozen=True)
class Comparison:
    """Scores on the same windows.

    Attributes
    ----------
    record
        By `candidate`, `champion` (where there is one) and `seasonal_naive`, with the losses of each window: in
        original units, and MASE by one scale for all.
    windows
        What was scored, and how many were `left_out` since a bundle had seen their rows. JSON values.
    latency
        Milliseconds of a forecast of the candidate, the median over its golden request; NaN where it has none.
    """

    record: Record
    windows: Mapping[str, Any]
    latency: float

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """All scores by name, of each."""
        return {name: each.summary() for name, each in self.record.scores.items()}

    def difference(self, loss: str) -> Difference:
        """The losses of the candidate at each cutoff less those of the champion."""
        own, theirs = (self.record.losses(name, loss).to_numpy() for name in (CANDIDATE, CHAMPION))
        return Difference.of(own, theirs, math.ceil(self.record.facts["horizon"] / self.record.facts["step"]))


def compared(
    candidate: Bundle,
    champion: Bundle | None,
    load: Callable[[Bundle], Loaded],
    split: Split,
    *,
    part: str = "test",
    stride: int = 1,
) -> Comparison:
    """Score both, and the seasonal naive, on the windows of a part that both can forecast and neither has seen.

    Lookback, features, covariates, scaler and the order of channels may differ: the rows are the same.

    Parameters
    ----------
    load
        The data with the columns of a bundle.
    part
        The rows to forecast.
    stride
        Rows from one cutoff to the next.

    Raises
    ------
    IncomparableError
        They have other channels, another horizon or frequency, other rows, or no window is left.
    DataError
        The data cannot be used by one of them.
    """
    bundles = {CANDIDATE: candidate} | ({CHAMPION: champion} if champion else {})
    _check(bundles)
    loaded, dims = load(candidate), candidate.dims
    theirs = champion and champion.panel(load(champion).panel, short="drop")
    panel = candidate.panel(loaded.panel, short=getattr(split, "short", "error"))
    panel = panel.select(np.isin(panel.ids, theirs.ids)) if theirs else panel
    unknown = len(loaded.panel) - len(panel)
    panel, borders = split(panel, dims.lookback, dims.horizon).kept(panel)
    panels = {CANDIDATE: panel, NAIVE: panel} | ({CHAMPION: _same(panel, theirs)} if theirs else {})
    points: dict[str, Any] = {"quantile_levels": (), "offsets": None}
    points["dims"] = replace(dims, lookback=dims.season, quantiles=())
    bundles[NAIVE] = replace(candidate, forecaster=SeasonalNaiveForecaster(dims.season, dims.horizon), **points)
    prepared = {}
    for name, each in bundles.items():
        sizes, encoded = replace(each.dims, season=dims.season), each.features.encode(panels[name])  # one scale of MASE
        prepared[name] = Prepared(replace(loaded, panel=panels[name]), borders, each.features, encoded, sizes)
    windows = {name: data.windows(part) for name, data in prepared.items()}
    there = reduce(np.intersect1d, [each.origins for each in windows.values()])
    until = {name: each.metadata.get("chosen_until") for name, each in bundles.items()}
    seen = [panels[name].time[there] <= pd.Timestamp(stamp) for name, stamp in until.items() if stamp]
    fresh = there[~np.any(seen, axis=0)] if seen else there
    series = np.searchsorted(panel.offsets, fresh, side="right") - 1
    kept = (fresh - borders.rows(part)[0][series]) % stride == 0
    if not kept.any():
        what = f"no {part} window is left to compare on: their targets begin in rows on which a model was chosen"
        got, fix = f"rows up to {panel.time.max()}", "give newer rows: +dataset.path=NEWER.csv, or part=test"
        allowed = "targets after " + ", ".join(f"{until[name]} ({name})" for name in bundles if name != NAIVE)
        raise IncomparableError(what, where="dataset", got=got, allowed=allowed, fix=fix)
    origins, scores = fresh[kept], {}
    for name, data in prepared.items():
        chosen = windows[name].subset(np.isin(windows[name].origins, origins))
        scores[name] = evaluate(bundles[name], data.panel, chosen, data.scale, keep=True)
    frame = pd.DataFrame({"fold": 0, "unique_id": panel.ids[series[kept]], "cutoff": panel.time[origins - 1]})
    about = {"part": part, "count": len(origins), "left_out": len(there) - len(fresh), "stride": stride}
    about |= {"series": len(panel), "unknown_series": unknown, "horizon": dims.horizon}
    about |= {"first_cutoff": str(frame["cutoff"].min()), "last_cutoff": str(frame["cutoff"].max())}
    facts = {"data": loaded.record, "horizon": dims.horizon, "gap": 0, "step": stride, "season": dims.season}
    return Comparison(Record(facts, frame, scores, {}, {}), about, latency(candidate))


def _same(panel: Panel, theirs: Panel) -> Panel:
    """Those series of the champion's panel that the candidate's has; IncomparableError when their rows are others."""
    own = theirs.select(np.isin(theirs.ids, panel.ids))
    same = np.array_equal(own.ids, panel.ids) and np.array_equal(own.offsets, panel.offsets)
    if not (same and np.array_equal(own.time.asi8, panel.time.asi8)):
        what, fix = (
            "candidate and champion read other rows of this data",
            "dataset=... for both, or --force reason='...'",
        )
        raise IncomparableError(what, where="dataset", got=own.time[0], allowed=panel.time[0], fix=fix)
    return own


def latency(bundle: Bundle) -> float:
    """Milliseconds of a forecast, the median over the bundle's golden request; NaN where it has none."""
    if bundle.golden is None:
        return math.nan
    frames = (bundle.golden.get(name) for name in ("history", "known_future", "static"))
    history, future, static = (None if each is None else pd.DataFrame(each) for each in frames)
    took = []
    for _ in range(FORECASTS):
        began = time.perf_counter()
        bundle.forecast(history, future, static=static, stale="ignore")  # type: ignore[arg-type]
        took.append(time.perf_counter() - began)
    return 1000 * float(np.median(took))


def _check(bundles: Mapping[str, Bundle]) -> None:
    """Raise IncomparableError when the bundles forecast other things."""
    terms = [
        {"channels": ", ".join(sorted(each.channels)), "horizon": each.dims.horizon, "frequency": each.freq}
        for each in bundles.values()
    ]
    apart = [name for name in terms[0] if terms[0][name] != terms[-1][name]]
    if apart:
        got, allowed = ("; ".join(f"{name} {each[name]}" for name in apart) for each in (terms[0], terms[-1]))
        what = f"candidate and champion cannot be compared: they have other {' and '.join(apart)}"
        fix = "train one that forecasts the same, or --force reason='...'"
        raise IncomparableError(what, where=CANDIDATE, got=got, allowed=f"as the champion: {allowed}", fix=fix)
