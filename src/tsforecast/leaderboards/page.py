"""The leaderboard as one HTML file that needs no network: tables that sort, errors, coverage, forecasts to browse."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsforecast.plotting import AXIS, BASELINES, GRID, INK, MODEL, MUTED, SHADE
from tsforecast.training.record import KEYS

if TYPE_CHECKING:
    from tsforecast.leaderboards.blocks import Block, Entry
    from tsforecast.leaderboards.board import Leaderboard

LIMIT = 1_900_000  # bytes of a page
FORECASTS = 1_000_000  # of them for forecasts, at first
SERIES, MODELS, CUTOFFS = 40, 12, 12  # of a chart or a table, at most
COLOURS = {"ink": INK, "muted": MUTED, "axis": AXIS, "grid": GRID, "shade": SHADE, "models": [MODEL, *BASELINES]}


def page(board: Leaderboard) -> str:
    """The page; the forecasts are thinned until it is small enough, and it says what is left out."""
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    budget = FORECASTS
    while True:
        blocks = [_block(block, budget // len(board.blocks)) for block in board.blocks]
        data = {"score": board.score, "remarks": board.remarks, "blocks": blocks, "colours": COLOURS}
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
        text = template.replace("{title}", html.escape("Leaderboard")).replace("{data}", text)
        if len(text.encode()) < LIMIT or not budget:
            return text
        budget = budget // 2 if budget > 1000 else 0


def _block(block: Block, budget: int) -> dict[str, Any]:
    from tsforecast.leaderboards.board import shown

    drawn = block.entries[:MODELS]
    by_step = {each.name: each.run.record.scores[each.model].by_step() for each in drawn}
    scalers = {str(each.run.record.facts["configs"].get(each.model, {}).get("scaler")) for each in drawn if each.fitted}
    error = "mae" if len(scalers) < 2 else "mae_raw"  # scaled errors are not of one unit under several scalers
    table = shown(block.frame, block.score)
    forecasts, left_out = _forecasts(drawn, budget)
    if len(block.entries) > MODELS:
        left_out.insert(0, f"the charts show the first {MODELS} of {len(block.entries)} models")
    series, series_left_out = _by_series(drawn)
    return {
        "title": f"{block.number}. {block.title}",
        "verdict": block.verdict,
        "columns": list(table),
        "rows": json.loads(table.to_json(orient="values", double_precision=6)),
        "steps": {name: [_short(x) for x in steps[error]] for name, steps in by_step.items()},
        "error": "MAE in scaled units" if error == "mae" else "MAE in original units",
        "coverage": {each.name: _coverage(each) for each in drawn if _coverage(each)},
        "series": series,
        "forecasts": forecasts,
        "left_out": [*left_out, *series_left_out],
    }


def _coverage(entry: Entry) -> list[list[float]]:
    """Nominal and observed coverage of each interval, in percent."""
    pairs = ((name.partition("-")[2], value) for name, value in entry.scores.items() if name.startswith("coverage-"))
    return sorted([float(nominal), round(100 * share, 2)] for nominal, share in pairs if not nominal.endswith("_se"))


def _by_series(entries: Sequence[Entry]) -> tuple[dict[str, Any], list[str]]:
    """MASE by series and channel; of many, those in which the best model is worst."""
    record = entries[0].run.record
    ids = list(dict.fromkeys(record.windows["unique_id"].astype(str)))
    scores = {each.name: each.run.record.scores[each.model].by_series() for each in entries}
    first = next(iter(scores.values()))
    names = [_label(i, channel, len(ids)) for i in ids for channel in record.scores[entries[0].model].channels]
    order = np.argsort(-np.nan_to_num(first.reshape(-1), nan=-1.0), kind="stable")[:SERIES]
    values = {name: [_short(x) for x in each.reshape(-1)[order]] for name, each in scores.items()}
    few = [f"the {SERIES} of {len(names):,} series that {entries[0].name} forecasts worst are shown"]
    return {"names": [names[i] for i in order], "values": values}, few * (len(names) > SERIES)


def _forecasts(entries: Sequence[Entry], budget: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Forecasts by series and cutoff, as many as the budget of bytes holds."""
    frames = {each.name: frame for each in entries if (frame := _frame(each)) is not None}
    if not frames:
        return [], ["no forecasts were kept"]
    first = next(iter(frames.values()))
    keys = list(first[["unique_id", "channel"]].drop_duplicates().itertuples(index=False, name=None))
    cutoffs = np.sort(first["cutoff"].unique())
    columns = sum(len(frame.columns) - len(KEYS) for frame in frames.values()) + 4  # time, and truth before and after
    room = budget * len(keys) * len(cutoffs) // (9 * columns * len(first))
    if not room:
        return [], ["no forecasts: the page would be too large"]
    times = cutoffs[_spaced(len(cutoffs), min(CUTOFFS, room))]
    kept = [keys[i] for i in _spaced(len(keys), max(1, room // len(times)))]
    left_out = [
        f"forecasts of {len(some):,} of {len(every):,} {name} are on this page"
        for name, some, every in (("series", kept, keys), ("cutoffs", times, cutoffs))
        if len(some) < len(every)
    ]
    return list(_items(frames, kept, times, first["unique_id"].nunique())), left_out


def _items(
    frames: dict[str, pd.DataFrame], keys: Sequence[tuple[str, str]], cutoffs: np.ndarray, several: int
) -> Iterator[dict[str, Any]]:
    grouped = {name: frame.groupby(["unique_id", "channel"], sort=False) for name, frame in frames.items()}
    for key in keys:
        own = {name: group.get_group(key) for name, group in grouped.items() if key in group.groups}
        truth = next(iter(own.values())).drop_duplicates("ds").set_index("ds")["y"].sort_index()
        for cutoff in cutoffs:
            rows = {name: each for name, frame in own.items() if len(each := frame[frame["cutoff"] == cutoff])}
            if not rows:
                continue
            ds = next(iter(rows.values()))["ds"]
            before = truth[(truth.index <= cutoff) & (truth.index > cutoff - 2 * (ds.iloc[-1] - cutoff))]
            gaps = np.flatnonzero(np.diff([*before.index, ds.iloc[0]]) > 1.5 * (ds.iloc[0] - cutoff))
            before = before[gaps[-1] + 1 if len(gaps) else 0 :]
            yield {
                "series": _label(*key, several),
                "cutoff": str(pd.Timestamp(cutoff))[:16],
                "time": pd.DatetimeIndex([*before.index, *ds]).as_unit("ms").asi8.tolist(),
                "truth": [_short(x) for x in (*before, *next(iter(rows.values()))["y"])],
                "models": {name: _parts(frame) for name, frame in rows.items()},
            }


def _parts(frame: pd.DataFrame) -> dict[str, list[float | None]]:
    return {part: [_short(x) for x in frame[part]] for part in ("point", "low", "high") if part in frame}


def _frame(entry: Entry) -> pd.DataFrame | None:
    """`unique_id, ds, cutoff, channel, y, point, low, high` of one model; of several intervals the widest."""
    path = entry.run.path / "forecasts.parquet"
    if not path.exists() or entry.model not in (frame := pd.read_parquet(path)):
        return None
    stem = f"{entry.model}-lo-"
    levels = [name.removeprefix(stem) for name in map(str, frame) if name.startswith(stem)]
    widest = max(levels, key=float, default="")
    ends = {f"{stem}{widest}": "low", f"{entry.model}-hi-{widest}": "high"} if levels else {}
    names = {entry.model: "point", **ends}
    frame = frame[[*KEYS, *names]].rename(columns=names)
    zoned = [name for name in ("ds", "cutoff") if frame[name].dt.tz is not None]
    return frame.assign(**{name: frame[name].dt.tz_convert(None) for name in zoned})


def _spaced(count: int, most: int) -> list[int]:
    return sorted({round(x) for x in np.linspace(0, count - 1, min(count, most))})[-most:]


def _label(series: str, channel: str, several: int) -> str:
    return f"{series} · {channel}" if several > 1 and channel != "y" else str(series) if several > 1 else channel


def _short(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")
