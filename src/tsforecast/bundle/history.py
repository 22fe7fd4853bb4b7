"""From what a caller gives as history to a checked panel: one set of rules for Python, the commands and the servers."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from tsforecast.data.frames import to_panel
from tsforecast.data.frequency import Axis, parse
from tsforecast.data.panel import Panel
from tsforecast.errors import DataError, listed, one_of

if TYPE_CHECKING:
    from tsforecast.bundle.bundle import Bundle

log = logging.getLogger(__name__)
LACKING = "more missing values than training saw in as many rows"


def read(
    bundle: Bundle,
    history: pd.DataFrame | Panel,
    static: pd.DataFrame | None = None,
    short: str = "error",
    keys: str | None = None,
) -> Panel:
    """A frame or panel as a panel with the columns in the order of training; see `Bundle.panel`."""
    one_of("short", short, ("error", "drop"))
    if not isinstance(history, Panel | pd.DataFrame):
        raise DataError("a history is a frame or a panel", where="history", got=type(history).__name__,
                        fix="pandas.read_csv(path)")  # fmt: skip
    check_covariates(bundle, static=static)
    if isinstance(history, Panel):
        if static is not None:
            raise DataError("a panel holds its static covariates", where="static", fix="leave static out")
        panel = _in_order(bundle, history)
    else:
        panel = to_panel(history, bundle.schema, static=static, where="history", for_training=False, keys=keys,
                         tail=bundle.context)  # fmt: skip
    if panel.freq != bundle.freq:
        raise DataError("the data has another frequency than the bundle was trained on", where="history",
                        got=panel.freq, allowed=bundle.freq, fix="resample the data first")  # fmt: skip
    few = panel.lengths < bundle.context
    if short == "drop":
        left = few | (bundle.features.places(panel.ids) < 0)
        sizes = zip(panel.ids[left], panel.lengths[left], strict=True)
        why = [f"{i} ({f'{n} rows' if n < bundle.context else 'not trained on'})" for i, n in sizes]
        if left.all():
            allowed = f"{bundle.context} rows or more of a series that was trained on"
            raise DataError("no series can be forecast", where="history", got=listed(why), allowed=allowed)
        if why:
            log.warning("%d of %d series are left out: %s", len(why), len(panel), ", ".join(why))
        return panel.select(~left)
    if few.any():
        names = listed(f"{i} ({n} rows)" for i, n in zip(panel.ids[few], panel.lengths[few], strict=True))
        allowed = f"{bundle.context} rows or more, up to the cutoff"
        fix = "give more history" + ", or leave these out: short=drop of predict and forecast" * (len(panel) > 1)
        what = f"{int(few.sum())} series have fewer rows than a forecast needs"
        raise DataError(what, where="history", got=names, allowed=allowed, fix=fix)
    return panel


def _in_order(bundle: Bundle, panel: Panel) -> Panel:
    """The panel with its columns, matched by name, and its timestamps as the bundle has them."""
    changed: dict[str, Any] = {}
    for what, key, values, wanted in (
        ("channels", "channels", "target", bundle.channels),
        ("past covariates", "past_names", "past", bundle.past_names),
        ("known covariates", "known_names", "known", bundle.known_names),
        ("static covariates", "static_names", "static", bundle.static_names),
    ):
        got = getattr(panel, key)
        if sorted(got) != sorted(wanted):
            raise _other(what, got, wanted)
        if got != wanted:
            changed |= {key: wanted, values: getattr(panel, values)[:, [got.index(name) for name in wanted]]}
    if sorted(panel.categories) != sorted(bundle.features.categories):
        raise _other("categories", sorted(panel.categories), sorted(bundle.features.categories))
    time = bundle.schema.local(panel.time)
    if time is None:
        raise DataError("the panel has other timestamps than the bundle", where="history",
                        got=f"time zone {panel.time.tz}", allowed=f"they {bundle.schema.wanted_zone}")  # fmt: skip
    if bundle.schema.off_grid(Axis.of(time, parse(panel.freq))).any():
        raise _other("steps", time[0], f"timestamps on the grid of training, every {bundle.freq}")
    return replace(panel, time=time, **changed)


def _other(what: str, got: object, wanted: object) -> DataError:
    return DataError(f"the panel has other {what} than the bundle", where="history", got=got, allowed=wanted)


def check_covariates(
    bundle: Bundle, known_future: pd.DataFrame | None = None, static: pd.DataFrame | None = None
) -> None:
    """Raise a DataError when covariates are given of a kind that the model has none of, and would not be read."""
    given = {"known_future": (known_future, bundle.known_names), "static": (static, bundle.static_names)}
    for name, (frame, wanted) in given.items():
        if frame is not None and not isinstance(frame, pd.DataFrame):
            raise DataError(f"{name} is a frame", where=name, got=type(frame).__name__, fix="pandas.read_csv(path)")
        if frame is not None and not wanted:
            raise DataError(f"the model has no {name.replace('_', ' ')} covariates", where=name, allowed="nothing",
                            got=listed(frame.columns), fix=f"leave {name} out")  # fmt: skip


def check_observed(bundle: Bundle, whole: Panel) -> None:
    """Raise a DataError when a channel of `whole`, as `Bundle.whole` gives it, has nothing to forecast from."""
    recent = whole.target.reshape(len(whole), -1, len(bundle.channels))[:, : bundle.context]
    if not np.isnan(recent.sum(dtype=np.float64)):
        return
    empty = np.argwhere(np.isnan(recent).all(axis=1))
    if len(empty):
        raise DataError(
            f"{len(empty)} channels have no observed value in the {bundle.context} rows a forecast reads",
            where="history", got=listed(_name(bundle, whole, i, bundle.channels[c]) for i, c in empty),
            allowed="one observed value or more", fix="leave these series out, or give rows with values",
        )  # fmt: skip


def lacking(bundle: Bundle, whole: Panel) -> list[str]:
    """Where columns have more missing values than `context` rows of training had: a server refuses, others warn."""
    found = []
    for names, values in ((bundle.channels, whole.target), (bundle.past_names, whole.past)):
        recent = values.reshape(len(whole), -1 if names else 1, len(names))[:, : bundle.context]
        if np.isnan(recent.sum(dtype=np.float64)):
            count, most = np.isnan(recent).sum(axis=1), [bundle.missing.get(name, 0) for name in names]
            cells = np.argwhere(count > most)
            found += [f"{_name(bundle, whole, i, names[j])} ({count[i, j]}, {most[j]} at most)" for i, j in cells]
    return found


def remarks(bundle: Bundle, whole: Panel, series: Int[np.ndarray, " N"], stale: str = "warn") -> tuple[str, ...]:
    """What a caller should know before using a forecast: whose rows are old, and which are unlike those of training.

    Parameters
    ----------
    whole, series
        As `Bundle.infer` takes them.
    stale
        `warn` of series that end before others and of channels whose last rows are empty, or `error`, or `ignore`.

    Raises
    ------
    DataError
        There are such, and `stale` is `error`.
    """
    one_of("stale", stale, ("warn", "error", "ignore"))
    old = [] if stale == "ignore" else _stale(bundle, whole)
    if old and stale == "error":
        raise DataError("; ".join(old), where="history", fix="give the latest rows, leave these out, or stale=ignore")
    told = (LACKING, lacking(bundle, whole)), ("unlike the rows of training", _unlike(bundle, whole, series))
    return (*old, *(f"{what}: {listed(found)}" for what, found in told if found))


def _stale(bundle: Bundle, whole: Panel) -> list[str]:
    """Series that end before others, and channels whose last rows are empty."""
    found, last = [], whole.offsets[:-1] + bundle.context - 1
    ends = whole.time.asi8[last]
    if (late := ends < ends.max()).any():
        names = listed(f"{i} ({stamp})" for i, stamp in zip(whole.ids[late], whole.time[last[late]], strict=True))
        found.append(f"{late.sum()} of {len(whole)} series end before {whole.time[last].max()}: {names}")
    recent = whole.target.reshape(len(whole), -1, len(bundle.channels))[:, bundle.context - 1 :: -1]
    empty = np.argwhere(np.isnan(recent[:, 0]))
    if len(empty):
        rows = np.isnan(recent).argmin(axis=1)
        names = listed(f"{_name(bundle, whole, i, bundle.channels[c])} ({rows[i, c]})" for i, c in empty)
        found.append(f"the last rows are empty, and count as history: {names}")
    return found


def _unlike(bundle: Bundle, whole: Panel, series: Int[np.ndarray, " N"]) -> list[str]:
    """Columns far outside the range of training (by half of it), or constant for longer than ever there."""
    found, n = [], len(whole)
    columns = {"target": bundle.channels, "past": bundle.past_names, "known": bundle.known_names}
    for group, names in (columns | {"static": bundle.static_names}).items():
        if not names or group not in bundle.features.ranges:
            continue
        rows = bundle.context if group in ("target", "past") else None
        values = getattr(whole, group).reshape(n, -1, len(names))[:, :rows]
        low, high = np.fmin.reduce(values, axis=1), np.fmax.reduce(values, axis=1)
        ranges = bundle.features.ranges[group]
        least, most, run = ranges[:, series] if ranges.shape[1] > 1 else ranges
        reach = (most - least) / 2
        floor = np.where(least < 0, least - reach, np.maximum(least - reach, -reach / 5))  # what never was below 0
        odd = (low < floor) | (high > most + reach) | ((low == high) & (run < (rows or 0)))
        odd[:, [name in bundle.features.categories for name in names]] = False
        if odd.any():
            least, most = (np.broadcast_to(bound, odd.shape) for bound in (least, most))
            for i, j in np.argwhere(odd):
                held = f"{low[i, j]:g} " + ("throughout" if low[i, j] == high[i, j] else f"to {high[i, j]:g}")
                trained = f"{least[i, j]:g} to {most[i, j]:g}"
                found.append(f"{_name(bundle, whole, i, names[j])} is {held} (training: {trained})")
    return found


def _name(bundle: Bundle, whole: Panel, i: int, column: str) -> str:
    return f"{column} of {whole.ids[i]}" if bundle.schema.id else column
