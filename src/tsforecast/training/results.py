"""What a run leaves to read: flat scores, the closing table, example windows for the plots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tsforecast.bundle import Bundle
from tsforecast.files import whole
from tsforecast.metrics import Scores
from tsforecast.panel import Panel
from tsforecast.report.plots import Example
from tsforecast.windows import Windows


def flatten(scores: Scores, prefix: str, *, detail: bool = False) -> dict[str, float]:
    """`test/mse`, ...; with `detail` also `test/mse/channel/OT` and `test/mse/step/1`."""
    flat = {f"{prefix}/{name}": value for name, value in scores.summary().items()}
    if detail:
        flat |= {
            f"{prefix}/{metric}/channel/{channel}": value
            for metric, values in scores.by_channel().items()
            for channel, value in values.items()
        }
        flat |= {
            f"{prefix}/{metric}/step/{step}": float(value)
            for metric, values in scores.by_step().items()
            for step, value in enumerate(values, start=1)
        }
    return flat


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    with whole(path) as scratch:
        scratch.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")


def table(scores: Mapping[str, Scores], model: str, part: str = "test") -> str:
    """The closing table: the model and the baselines, and how they compare."""
    columns = ("mse", "mae", "mse_raw", "mae_raw", "mase", "smape")
    summaries = {name: each.summary() for name, each in scores.items()}
    width = max(map(len, summaries)) + 2
    lines = [f"{part:<{width}}" + "".join(f"{column:>12}" for column in columns)]
    lines += [
        f"{name:<{width}}" + "".join(f"{summary[column]:>12.4f}" for column in columns)
        for name, summary in summaries.items()
    ]
    mine = summaries[model]
    for name, theirs in summaries.items():
        if name != model:
            change = 100 * (1 - mine["mae"] / theirs["mae"]) if theirs["mae"] else 0.0
            verdict = "lower" if change >= 0 else "higher"
            lines.append(f"{model} has a {abs(change):.1f} % {verdict} MAE than {name}")
    return "\n".join(lines)


def example_windows(bundle: Bundle, rival: Bundle | None, panel: Panel, windows: Windows, count: int) -> list[Example]:
    """`count` evenly spaced test windows, one channel each, with the forecast and a baseline's beside the truth."""
    picks = np.unique(np.linspace(0, len(windows) - 1, num=min(count, len(windows))).astype(int))
    chosen = windows.subset(picks)
    index = slice(0, len(chosen))
    fitted = bundle.features.series(panel.ids)[chosen.series]
    ours = bundle.invert(bundle.predict(chosen, index).point, fitted)
    theirs = None if rival is None else rival.invert(rival.predict(chosen, index).point, fitted)
    found = []
    for i, (origin, series) in enumerate(zip(chosen.origins, chosen.series, strict=True)):
        channel = len(panel.channels) - 1 - i % len(panel.channels)
        before = slice(max(origin - min(windows.lookback, 3 * windows.horizon), 0), origin)
        after = slice(origin, origin + windows.horizon)
        found.append(
            Example(
                series=str(panel.ids[series]),
                channel=panel.channels[channel],
                history_time=panel.time[before],
                history=panel.target[before, channel],
                time=panel.time[after],
                truth=panel.target[after, channel],
                forecast=ours[i, :, channel],
                baseline=None if theirs is None else theirs[i, :, channel],
            )
        )
    return found
