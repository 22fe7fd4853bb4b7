"""Requests as frames: how a panel is laid out for `Bundle.forecast`, the shortest request there is, the golden one."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsforecast.bundle import reference
from tsforecast.bundle.remarks import remarks
from tsforecast.data.panel import GROUPS, Panel
from tsforecast.data.schema import NAIVE
from tsforecast.errors import BundleError, ConfigError, DataError, listed

if TYPE_CHECKING:
    from tsforecast.bundle.bundle import Bundle

_CELLS = 2**28  # more values than one forecast reads
ENDED = "a table that ends with an observation"
_DRAWN = 2**20  # values of the histories that are drawn


def frame_of(bundle: Bundle, panel: Panel) -> pd.DataFrame:
    """A panel as a frame that `forecast` takes: laid out as `schema` says."""
    if bundle.schema.layout == "long":
        frame = panel.to_frame(id=str(bundle.schema.id), time=bundle.schema.stamp)
        frame = frame.rename(columns={"y": bundle.channels[0]}) if len(bundle.channels) == 1 else frame
    else:
        frame = panel.to_wide(time=bundle.schema.stamp)
    if not isinstance(bundle.schema.time, str | None):  # assembled from columns such as year, month, day
        parts = pd.DataFrame({name: getattr(panel.time, name) for name in bundle.schema.time})
        frame = pd.concat([parts, frame.drop(columns=bundle.schema.stamp)], axis=1)
    return frame


def example(bundle: Bundle, panel: Panel) -> pd.DataFrame:
    """A frame that can be forecast from: the last `context` rows, or all there are, with a value of every channel.

    Of the first series that has such rows. With known covariates the horizon's rows follow, their targets and past
    covariates empty.

    Raises
    ------
    DataError
        No series has such rows.
    """
    ahead = bundle.dims.horizon if bundle.schema.known else 0
    for begin, end in itertools.pairwise(panel.offsets):
        observed = pd.DataFrame(~np.isnan(panel.target[begin : max(begin, end - ahead)]))
        held = observed.rolling(bundle.context, min_periods=bundle.least).sum()  # up to each row, the last of a history
        usable = held.gt(0).all(axis=1) & observed.any(axis=1)
        if usable.any():
            complete = usable & observed.all(axis=1)  # better: its last row has all
            cutoff = 1 + np.flatnonzero(complete if complete.any() else usable)[-1]
            break
    else:
        what = f"no {bundle.least} rows of a series hold a value of every channel, so no forecast can be made"
        fix = "a longer lookback, or leave out the rarest channel"
        raise DataError(what, where=", ".join(bundle.channels), fix=fix)
    first = panel.select(panel.offsets[:-1] == begin)
    first = first.rows(np.array([max(0, cutoff - bundle.context)]), np.array([cutoff + ahead]))
    target, past, rows = first.target.copy(), first.past.copy(), len(first.time) - ahead
    target[rows:], past[rows:] = np.nan, np.nan
    return frame_of(bundle, replace(first, target=target, past=past))


def split(bundle: Bundle, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame | None, pd.DataFrame | None]:
    """History, known future and static covariates out of one frame, as `example` has it.

    Raises
    ------
    DataError
        The last `horizon` rows of every series, which are the ones to forecast, hold targets; or the row before
        them holds none, so that it may be one to forecast too.
    """
    frame, future, static = frame.reset_index(drop=True), None, None
    key = [bundle.schema.id] if bundle.schema.id else []
    if bundle.schema.static:
        static = frame.filter([*key, *bundle.schema.static]).drop_duplicates()
        frame = frame.drop(columns=list(bundle.schema.static), errors="ignore")
    if bundle.schema.known:
        future = (frame.groupby(key, sort=False) if set(key) & set(frame) else frame).tail(bundle.dims.horizon)
        if future.filter(bundle.channels).notna().any(axis=None):
            what = f"the last {bundle.dims.horizon} rows of every series are the ones to forecast"
            allowed, fix = "empty targets there, and values of the known covariates", "append these rows to the history"
            raise DataError(what, where=", ".join(bundle.channels), allowed=allowed, fix=fix)
        frame = frame.drop(index=future.index)
        future = future.drop(columns=[*bundle.channels, *bundle.schema.past], errors="ignore")
    ahead = f"the {bundle.dims.horizon} rows to forecast without targets" if bundle.schema.known else ENDED
    check_ended(bundle, frame, ahead, "leave the other rows without targets out")
    return frame, future, static


def check_ended(bundle: Bundle, frame: pd.DataFrame, allowed: str, fix: str) -> None:
    """Raise a DataError where the last row of a series has no target: in a file null is no word for "not observed".

    Of a series without any value something else is to be said.
    """
    key = [bundle.schema.id] if bundle.schema.id else []
    last = (frame.groupby(key, sort=False) if set(key) & set(frame) else frame).tail(1)
    blank = last.filter(bundle.channels).isna().all(axis=1) & bool(set(bundle.channels) & set(last))
    seen = frame[frame.filter(bundle.channels).notna().any(axis=1)]
    blank &= last[key[0]].isin(seen[key[0]]) if set(key) & set(frame) else bool(len(seen))
    if blank.any():
        what = f"the last rows of {blank.sum()} series have no targets: are they history, or to be forecast?"
        got = listed(last[blank].filter(key).to_numpy().ravel()) or None
        raise DataError(what, where=", ".join(bundle.channels), got=got, allowed=allowed, fix=fix)


def joined(tables: Mapping[str, pd.DataFrame], id: str | None) -> pd.DataFrame:
    """The one frame that `split` takes apart, of its three tables."""
    frame = pd.concat([tables[name] for name in ("history", "known_future") if name in tables])
    if (static := tables.get("static")) is None:
        return frame
    return frame.merge(static, on=id) if id else frame.assign(**static.iloc[0])


def with_golden(bundle: Bundle, train: Panel, probes: int = 512, seen: Panel | None = None) -> Bundle:
    """The bundle with what a server holds requests and itself against: `missing`, `golden` and `reference`.

    Parameters
    ----------
    train
        The rows that it was fitted on.
    probes
        How many drawn histories the golden means are of, at most.
    seen
        Those that `reference` is of: with the train rows those that have chosen and judged it, or a server would
        take the end of its own data for drift. None: the train rows.
    """
    bundle = replace(bundle, missing=train.missing_rows(bundle.context, bundle.least))
    history, future, static = split(bundle, example(bundle, train))
    panel = bundle.with_future(bundle.panel(history, static=static), future)
    answer = bundle.infer(panel, bundle.features.series(panel.ids))
    golden: dict[str, Any] = {
        name: {column: _cells(frame[column]) for column in frame}
        for name, frame in (("history", history), ("known_future", future), ("static", static))
        if frame is not None
    }
    for name, array in (("values", answer.point), ("quantiles", answer.quantiles)):
        golden[name] = None if array is None else array.astype(str).astype(float).tolist()
    golden["probe"] = means(bundle, probes).tolist()
    known = reference.of_columns(bundle, train if seen is None else seen)
    return replace(bundle, golden=golden, reference={**bundle.reference, **known})


def check(bundle: Bundle) -> None:
    """Find what does not fit together in a loaded bundle, in whichever file, before it is used."""
    dims, names = bundle.dims, bundle.schema.columns
    if min(dims.lookback, dims.horizon, dims.channels) < 1 or len(bundle.channels) != dims.channels:
        raise ValueError(f"{len(bundle.channels)} channels are named, and the sizes are {dims}")
    if not all(isinstance(name, str) for name in names):
        raise TypeError("a column is named by text")
    if (dims.lookback + dims.horizon) * len(names) > _CELLS:
        raise ValueError(f"sizes beyond any use: {dims}")
    with np.errstate(all="ignore"):
        panel, series = histories(bundle, 1), np.zeros(1, dtype=np.int64)
        remarks(bundle, panel, series)
        found = bundle.infer(panel, series)
        if bundle.fallback is not None:
            bundle.infer(panel, series - 1)
    pd.Timestamp(bundle.metadata.get("chosen_until") or 0)
    for name, array in (("values", found.point), ("quantiles", found.quantiles)):
        golden = None if bundle.golden is None else bundle.golden[name]
        if golden is not None and (array is None or np.asarray(golden, np.float32).shape != array.shape):
            raise ValueError(f"the golden {name} have another shape than a forecast has")
    reference.check(bundle)


def means(bundle: Bundle, most: int = 512) -> Float[np.ndarray, "G H C"]:
    """Of the forecasts of drawn histories, by group: what tells a weight that is another one."""
    with np.errstate(all="ignore"):
        panel = histories(bundle, min(most, bundle.forecaster.probes))
        point = bundle.infer(panel, np.zeros(len(panel), dtype=np.int64)).point
    return np.array([group.mean(axis=0) for group in np.array_split(point, 16) if len(group)], np.float32)


def histories(bundle: Bundle, most: int) -> Panel:
    """Up to `most` drawn histories as far apart as training's rows: hardly a weight is in the forecast of none."""
    rows = bundle.context + bundle.dims.horizon
    names = [getattr(bundle.schema, group) for group in GROUPS]
    n = max(1, min(most, _DRAWN // (rows * len(sum(names, ())))))
    zone = None if bundle.schema.timezone == NAIVE else bundle.schema.timezone
    time = pd.date_range(end="2020-01-01", periods=rows, freq=bundle.freq, tz=zone).as_unit("ns")
    time = pd.DatetimeIndex(np.tile(time, n)) if n > 1 else time
    ids = np.arange(n).astype(str).astype(object)
    return bundle.laid_out(ids, time, *bundle.features.drawn(names, (n * rows, n * rows, n * rows, n)))


def rehearse(bundle: Bundle, train: Panel) -> None:
    """Do before a fit what comes after it: forecast from train rows, save, load and encode.

    Parameters
    ----------
    bundle
        With a stand-in, which forecasts a point, for the forecaster that is to be fitted.

    Raises
    ------
    ConfigError
        A feature cannot be saved, or is another one when it is loaded.
    DataError
        There is nothing to forecast from.
    """
    bundle, rows = replace(bundle, dims=replace(bundle.dims, quantiles=())), train.tail(bundle.context)
    try:
        with tempfile.TemporaryDirectory() as folder:
            loaded = with_golden(bundle, train, probes=1).save(Path(folder) / "bundle")
        for before, after in zip(_encoded(bundle, rows), _encoded(loaded, rows), strict=True):
            if not np.array_equal(before, after, equal_nan=True):
                raise ValueError("one of them gives other values once it is loaded again")
    except (BundleError, TypeError, ValueError) as error:
        got = error.got if isinstance(error, BundleError) else error
        allowed = "dataclasses of plain values, of a module that can be imported; see docs/own-feature.md"
        raise ConfigError("the features cannot be saved", where="feature", got=got, allowed=allowed) from error


def _encoded(bundle: Bundle, rows: Panel) -> list[np.ndarray]:
    size = (1, bundle.context, len(bundle.channels))
    window = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    return [bundle.features.encode(rows).known, *(feature.transform(window) for feature in bundle.features.windows)]


def _cells(column: pd.Series) -> list[Any]:
    """A column as JSON values: timestamps as text, missing as None, float32 with the digits that tell it apart."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return [stamp.isoformat() for stamp in column]
    cells = map(float, column.astype(str)) if column.dtype == np.float32 else column.tolist()
    return [None if cell != cell else cell for cell in cells]
