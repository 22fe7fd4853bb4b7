"""A candidate, the present champion and the seasonal naive, scored on the same windows of the same data."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from tsforecast.bundle.bundle import Bundle
from tsforecast.data.panel import Panel
from tsforecast.data.sources import Loaded, Source
from tsforecast.data.splits import Split
from tsforecast.errors import DataError
from tsforecast.leaderboards.difference import Difference
from tsforecast.models.naive import SeasonalNaive
from tsforecast.training.evaluate import baselines, evaluate
from tsforecast.training.prepare import Prepared
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
    source: Source,
    split: Split,
    *,
    part: str = "test",
    stride: int = 1,
) -> Comparison:
    """Score both, and the seasonal naive, on the windows of a part that both can forecast and neither has seen.

    Lookback, features, covariates, scaler and the order of channels may differ: the rows are the same.

    Parameters
    ----------
    source
        The data, with the columns of the candidate; the champion's are read where it has others.
    part
        The rows to forecast.
    stride
        Rows from one cutoff to the next.

    Raises
    ------
    IncomparableError
        They have other channels, another horizon or frequency, the champion cannot read the data, or no window is left.
    DataError
        The data cannot be used by the candidate.
    """
    loaded, dims, theirs = source.load(for_training=False), candidate.dims, None
    own = loaded.panel
    if champion:
        _check(candidate, champion)
        same = champion.schema.roles == candidate.schema.roles
        theirs = _read(champion, loaded if same else source.reading(champion.schema))
        own = own.select(np.isin(own.ids, theirs.ids))
    data = Prepared.of(candidate, replace(loaded, panel=own), split)
    rivals = {CANDIDATE: (candidate, data)}
    if champion and theirs:  # of one source, read alike: its rows are the same, and so are the borders
        panel, features = theirs.select(np.isin(theirs.ids, data.panel.ids)), champion.features
        sizes = replace(champion.dims, season=dims.season)  # of MASE there is one scale
        encoded = features.encode(panel, pad=sizes.lookback - sizes.least)
        alike = Prepared(replace(loaded, panel=panel), data.borders, features, encoded, sizes)
        rivals[CHAMPION] = champion, alike
    a_season = replace(candidate, dims=replace(dims, lookback=max(dims.lookback, dims.season)))
    naive = baselines(a_season, {NAIVE: SeasonalNaive()}, data.windows(part))[NAIVE]
    rivals[NAIVE] = naive, replace(data, dims=naive.dims)
    windows = {name: each.windows(part) for name, (_, each) in rivals.items()}
    there = reduce(np.intersect1d, [each.origins for each in windows.values()])
    fresh = there[~reduce(np.logical_or, [data.seen(bundle, there) for bundle, _ in rivals.values()])]
    series = np.searchsorted(data.panel.offsets, fresh, side="right") - 1
    kept = (fresh - data.borders.rows(part)[0][series]) % stride == 0
    if not kept.any():
        until = [f"{each.metadata.get('chosen_until')} ({name})" for name, (each, _) in rivals.items() if name != NAIVE]
        what = f"no {part} window is left to compare on: their targets begin in rows on which a model was chosen"
        got, fix = f"rows up to {data.panel.time.max()}", "give newer rows: +dataset.path=NEWER.csv"
        fix += ", or part=test" * (part != "test")
        raise IncomparableError(what, where="dataset", got=got, allowed=f"targets after {', '.join(until)}", fix=fix)
    scores = {}
    for name, (bundle, each) in rivals.items():
        chosen = windows[name].subset(np.isin(windows[name].origins, fresh[kept]))
        scores[name] = evaluate(bundle, each.panel, chosen, each.scale, keep=True)
    cutoffs = data.panel.time[fresh[kept] - 1]
    frame = pd.DataFrame({"fold": 0, "unique_id": data.panel.ids[series[kept]], "cutoff": cutoffs})
    about = {"part": part, "count": len(frame), "left_out": len(there) - len(fresh), "stride": stride}
    about |= {"series": len(data.panel), "unknown_series": len(loaded.panel) - len(own), "horizon": dims.horizon}
    about |= {"first_cutoff": str(cutoffs.min()), "last_cutoff": str(cutoffs.max())}
    facts = {"data": loaded.record, "horizon": dims.horizon, "gap": 0, "step": stride, "season": dims.season}
    return Comparison(Record(facts, frame, scores, {}, {}), about, latency(candidate))


def latency(bundle: Bundle) -> float:
    """Milliseconds of a forecast, the median over the bundle's golden request; NaN where it has none."""
    if bundle.golden is None:
        return math.nan
    names, took = ("history", "known_future", "static"), []
    request: Any = {name: pd.DataFrame(bundle.golden[name]) for name in names if name in bundle.golden}
    for _ in range(FORECASTS):
        began = time.perf_counter()
        bundle.forecast(**request, stale="ignore")
        took.append(time.perf_counter() - began)
    return 1000 * float(np.median(took))


def _read(champion: Bundle, rows: Loaded | Source) -> Panel:
    """The series that the champion can forecast; IncomparableError where it cannot read these rows."""
    try:
        loaded = rows if isinstance(rows, Loaded) else rows.load(for_training=False)
        return champion.panel(loaded.panel, short="drop")
    except DataError as error:
        what = f"the champion cannot forecast these rows: {' '.join(error.what.split())}"
        what += f" ({error.parts['got']})" * bool(error.got)
        fix = "rows that it can read: +dataset.path=FILE, or --force reason='...'"
        raise IncomparableError(what, where=error.where, got=error.got, allowed=error.allowed, fix=fix) from error


def _check(candidate: Bundle, champion: Bundle) -> None:
    """Raise IncomparableError when the bundles forecast other things."""
    own, theirs = (
        {"channels": ", ".join(sorted(each.channels)), "horizon": each.dims.horizon, "frequency": each.freq}
        for each in (candidate, champion)
    )
    if apart := [name for name in own if own[name] != theirs[name]]:
        got, allowed = ("; ".join(f"{name} {each[name]}" for name in apart) for each in (own, theirs))
        what = f"candidate and champion cannot be compared: they have other {' and '.join(apart)}"
        fix = "train one that forecasts the same, or --force reason='...'"
        raise IncomparableError(what, where=CANDIDATE, got=got, allowed=f"as the champion: {allowed}", fix=fix)
