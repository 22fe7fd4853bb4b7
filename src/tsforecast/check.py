"""`python -m tsforecast.check input=FILE`: what is found in a file, and the words that train on it. Try `--help`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Hashable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.config.command import command
from tsforecast.config.job import log_to, show

if TYPE_CHECKING:
    import pandas as pd

ROLES = ("time", "id", "target", "past", "known", "static")
GAPS = "dataset.gaps=fill"
PARTS = ("year", "month", "day", "hour", "minute", "second")


def main(cfg: DictConfig) -> None:
    """Print the columns of a file and what each can be, then its series; what is wrong is told as `train` tells it."""
    place = cfg.input
    spec: Any = OmegaConf.to_container(cfg.dataset, resolve=True)
    log_to(None)

    from tsforecast.data.sources import Dataset
    from tsforecast.errors import DataError

    given: dict[str, Any] = {str(key): value for key, value in spec.items() if value is not None}
    frame = Dataset(**{"path": place, **given}).read_all()
    for name in frame.columns:  # lists and structs of Parquet
        if not isinstance(next(iter(frame[name].dropna()), None), Hashable):
            frame[name] = frame[name].astype(str)
    found = {"path": place, **roles(frame, given), **given}
    show(f"{place}: {len(frame):,} rows, {frame.shape[1]} columns\n{columns(frame, found)}\n")
    try:
        _tell(frame, found)
    except DataError as error:
        if GAPS in (error.fix or ""):
            with suppress(DataError):
                _tell(frame, {**found, "gaps": "fill"})
        raise


def _tell(frame: pd.DataFrame, found: dict[str, Any]) -> None:
    """Print what the series of the file are, what is not used, and the command that trains on them."""
    from tsforecast.data.schema import COVARIATES
    from tsforecast.data.sizes import held_back
    from tsforecast.data.sources import Dataset

    source = Dataset(**found)
    panel = source.load().panel
    found["freq"] = panel.freq
    held = held_back(panel, None)
    words = [
        f"dataset={'long' if 'id' in found else 'wide'}",
        *(f"dataset.{key}={_word(value)}" for key, value in found.items()),
        *["split.short=naive"] * bool(held),
    ]
    added = len(panel.time) - len(frame.drop_duplicates([*source.stamp_columns, *source.key]))
    filled = f", {added} of them added by gaps=fill" if added else ""
    left = ", ".join(source.unread(frame.columns))
    unread = f"\nNot used: {left}\n  {COVARIATES}\n" if left else ""
    short = f"\nShort series\n  {held}\n" if held else ""
    show(
        f"{panel.summary}, without gaps or duplicates{filled}\n"
        f"{unread}{short}\nTrain\n  python -m tsforecast.train {shlex.join(words)}"
    )


def roles(frame: pd.DataFrame, given: dict[str, Any]) -> dict[str, Any]:
    """The `time`, `id` and `target` that the columns seem to be; those `given` stay."""
    time = given.get("time") or _time(frame, given)
    stamp = [time] if isinstance(time, str) else time
    others = [name for name in frame.columns if name not in stamp and not str(name).startswith("Unnamed: ")]
    key = given.get("id") or (_series(frame, stamp, others) if {*stamp} <= {*frame.columns} else None)
    taken = {key, *(name for role in ("past", "known", "static") for name in given.get(role, ()))}
    numbers = [name for name in others if name not in taken and _is_number(frame[name])]
    numbers = [name for name in numbers if not _counts(frame[name])] or numbers
    target = ["y"] if key and "y" in numbers else numbers[:1] if key else numbers
    return {"time": time, **({"id": key} if key else {}), "target": target}


def columns(frame: pd.DataFrame, found: dict[str, Any]) -> str:
    """A line for each column: its kind, what it is taken for or can be, a cell, how many are missing."""
    named = {role: [names] if isinstance(names, str) else names for role, names in found.items() if role in ROLES}
    roles = {name: role for role, names in named.items() for name in names}
    rows = []
    for name, column in frame.items():
        number = _is_number(column)
        kind = "number" if number else f"text, {column.nunique()} different"
        other = "past or known" + ("" if number else ", and categorical")
        other = "none, it counts the rows" if _counts(column) else other
        sample, gone = next(iter(column.dropna()), "none"), int(column.isna().sum())
        rows.append((str(name), roles.get(name, other), kind, f"{sample}", f"{gone:,} missing" if gone else ""))
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join("  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _time(frame: pd.DataFrame, given: dict[str, Any]) -> str | list[str]:
    """The first column that reads as timestamps, those called so before others; `date` where there is none."""
    import numpy as np
    from pandas.api.types import is_numeric_dtype

    from tsforecast.data.arrays import Arrays
    from tsforecast.data.columns import Problems
    from tsforecast.data.schema import Schema
    from tsforecast.data.stamps import read_stamps

    head, reading = frame.iloc[:1000], {key: given[key] for key in ("date_format", "localize") if key in given}
    for name in sorted(frame.columns, key=lambda name: not re.search("date|time|^ds$", str(name).lower())):
        if not is_numeric_dtype(head[name].dtype) or reading.get("date_format"):
            problems = Problems(str(name))
            stamps = read_stamps(Arrays.of(head), np.zeros(len(head), int), Schema(time=name, **reading), problems)
            if 2 * np.count_nonzero(stamps.notna()) > len(head) or problems.columns:
                return str(name)
    return [part for part in PARTS if part in frame] if {*PARTS[:3]} <= {*frame.columns} else "date"


def _series(frame: pd.DataFrame, stamp: list[str], others: list[str]) -> str | None:
    """The column that tells apart what has the same timestamp."""
    if not len(frame) or frame.duplicated(stamp).mean() < 0.1:
        return None
    some = [name for name in others if frame[name].nunique() * 2 <= len(frame)]
    keys = sorted(some, key=lambda name: (_is_number(frame[name]), frame[name].nunique()))
    return next((name for name in keys if not frame.duplicated([*stamp, name]).any()), None)


def _counts(column: pd.Series) -> bool:
    """Whether it rises by one from each row to the next, as the number of a row does."""
    return column.dtype.kind in "iu" and len(column) > 1 and bool((column.diff()[1:] == 1).all())


def _is_number(column: Any) -> bool:
    """Whether most cells are numbers, written in whatever way."""
    import pandas as pd

    text = column.dropna().astype(str).str.replace(r"(?<=\d)[ .,'](?=\d)", "", regex=True)
    return bool(pd.to_numeric(text, errors="coerce").notna().mean() > 0.5)


def _word(value: Any) -> str:
    """A value as Hydra's overrides have it."""
    from tsforecast.data.schema import mark_name

    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    text = mark_name(value) if isinstance(value, str) else str(value)
    plain = re.fullmatch(r"[\w.%/:+-]*[A-Za-z_/][\w.%/:+-]*", text) and text.lower() not in ("null", "true", "false")
    return text if plain else '"' + text.replace('"', '\\"') + '"'


if __name__ == "__main__":
    command(main, "check")
