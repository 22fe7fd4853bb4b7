"""From what a caller gives as history to a checked panel: one set of rules for Python, the commands and the servers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsforecast.columns import listed
from tsforecast.errors import DataError
from tsforecast.frames import to_panel
from tsforecast.panel import Panel

if TYPE_CHECKING:
    from tsforecast.bundle import Bundle


def read(
    bundle: Bundle, history: pd.DataFrame | Panel, static: pd.DataFrame | None = None, keys: str | None = None
) -> Panel:
    """A frame or panel as a panel with the columns in the order of training; see `Bundle.panel`."""
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
    short = panel.lengths < bundle.context
    if short.any():
        names = (f"{i} ({n} rows)" for i, n in zip(panel.ids[short], panel.lengths[short], strict=True))
        raise DataError(f"{int(short.sum())} series have fewer rows than a forecast needs", where="history",
                        got=listed(names), allowed=f"{bundle.context} rows or more, up to the cutoff",
                        fix="give more history")  # fmt: skip
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
            where="history", got=listed(f"{bundle.channels[c]} of {whole.ids[i]}" for i, c in empty),
            allowed="one observed value or more", fix="leave these series out, or give rows with values",
        )  # fmt: skip
