"""What a run leaves to read: flat scores, the closing table, example windows for the plots."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from tsforecast.bundle.bundle import Bundle
from tsforecast.data.panel import Panel
from tsforecast.errors import ConfigError, nearest
from tsforecast.files import whole
from tsforecast.metrics import Scores
from tsforecast.report.charts import Fan, edges
from tsforecast.windows import Windows

Pick = tuple[int, int, str]  # a window, a channel, what is said of it

FEW = 10  # windows on which a score still says little


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


def check_objective(name: str, quantiles: tuple[float, ...]) -> None:
    """Raise a ConfigError when no validation score has this name: what is chosen by test scores is not tested."""
    scores = Scores(("",), 1, np.ones((1, 1)), np.ones((1, 1)), quantiles)
    names = [f"val/{each}" for each in scores.summary()]
    if name not in names:
        fix = f"objective={nearest(name, names) or 'val/mae'}"
        allowed = ", ".join(names)
        raise ConfigError("there is no such validation score", where="objective", got=name, allowed=allowed, fix=fix)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    with whole(path) as scratch:
        strict = {key: None if isinstance(each, float) and not math.isfinite(each) else each
                  for key, each in value.items()}  # JSON has no NaN  # fmt: skip
        scratch.write_text(json.dumps(strict, indent=2, default=str) + "\n", encoding="utf-8")


def readable(insights: Mapping[str, Any], lookback: int) -> dict[str, dict[Any, float]]:
    """Insights as the report draws them: weights by name, or by row from the cutoff."""
    titles = {"importance": "Importance, in loss saved", "past": "Past variables", "known": "Known variables",
              "static": "Static variables", "attention": "Attention"}  # fmt: skip
    return {
        titles.get(name, name): values
        if isinstance(values, dict)
        else {i + 1 - lookback: v for i, v in enumerate(values)}
        for name, values in insights.items()
    }


def table(scores: Mapping[str, Scores], model: str, part: str = "test") -> str:
    """The closing table: the model and the baselines, and how they compare."""
    columns = ("mse", "mae", "mse_raw", "mae_raw", "mase", "smape")
    summaries = {name: each.summary() for name, each in scores.items()}
    rows = [[part, *columns], *([name, *(f"{each[c]:.4f}" for c in columns)] for name, each in summaries.items())]
    first, *widths = (max(map(len, column)) + 2 for column in zip(*rows, strict=True))
    lines = [f"{row[0]:<{first}}" + "".join(map(str.rjust, row[1:], [max(12, w) for w in widths])) for row in rows]
    mine, count = summaries[model], scores[model].windows
    few = ": so few say little about others" * (count < FEW)
    lines.append(f"over {count:,} window{'s'[: count != 1]} of {scores[model].horizon} rows{few}")
    for name, theirs in summaries.items():
        if name != model:
            change = 100 * (1 - mine["mae"] / theirs["mae"]) if theirs["mae"] else 0.0
            verdict = "lower" if change >= 0 else "higher"
            lines.append(f"{model} has a {abs(change):.1f} % {verdict} MAE than {name}")
    if (spread := scores[model].quantiles) is not None:
        for name in spread.intervals:
            inside, wide = 100 * mine[f"coverage-{name}"], mine[f"width-{name}_raw"]
            lines.append(f"the {name} % interval covers {inside:.1f} %, {wide:.4g} wide on average in original units")
    return "\n".join(lines)


def example_windows(
    bundle: Bundle, rival: Bundle | None, panel: Panel, windows: Windows, count: int
) -> dict[str, list[Fan]]:
    """Windows to draw, with the forecast and a baseline's beside the truth.

    `forecast`: `count` evenly spaced ones, one channel each. `extremes`: the worst and the best by mean absolute
    error in scaled units, channels apart, of at most 1,000 evenly spaced ones.
    """
    if not count or not len(windows):
        return {"forecast": [], "extremes": []}
    last = len(panel.channels) - 1
    spaced = [(w, last - i % (last + 1), "") for i, w in enumerate(_spaced(len(windows), count))]
    candidates = _spaced(len(windows), 1000)
    errors = []
    for part in np.array_split(candidates, max(1, len(candidates) // 256)):
        chosen = windows.subset(part)
        error = np.abs(bundle.predict(chosen, slice(None)).point - chosen.label(slice(None)))
        missing = np.isnan(error).all(axis=1)
        errors.append(
            np.where(missing, np.nan, np.nansum(error, axis=1) / np.maximum((~np.isnan(error)).sum(axis=1), 1))
        )
    ranked = np.argsort(np.concatenate(errors), axis=None, kind="stable")  # NaN last
    ranked = ranked[: int((~np.isnan(np.concatenate(errors))).sum())]
    rows, columns = np.unravel_index(ranked, (len(candidates), len(panel.channels)))
    half, horizon = (count + 1) // 2, windows.horizon
    extremes = _apart(candidates[rows[::-1]], columns[::-1], half, horizon, "worst")
    extremes += _apart(candidates[rows], columns, half, horizon, "best")
    picks = {"forecast": spaced, "extremes": extremes}
    return {name: _examples(bundle, rival, panel, windows, picked) for name, picked in picks.items()}


def _spaced(size: int, count: int) -> Int[np.ndarray, " K"]:
    return np.unique(np.linspace(0, size - 1, num=min(count, size)).astype(int))


def _apart(windows: np.ndarray, channels: np.ndarray, count: int, horizon: int, label: str) -> list[Pick]:
    """The first `count` that do not overlap one another."""
    found: list[Pick] = []
    for window, channel in zip(windows.tolist(), channels.tolist(), strict=True):
        if len(found) == count:
            break
        if all(abs(window - other) >= horizon for other, *_ in found):
            found.append((window, channel, label))
    return found


def _examples(bundle: Bundle, rival: Bundle | None, panel: Panel, windows: Windows, picks: list[Pick]) -> list[Fan]:
    chosen = windows.subset(np.array([window for window, *_ in picks], dtype=int))
    everything = slice(0, len(chosen))
    fitted = bundle.features.series(panel.ids)[chosen.series]
    ours, spread, _ = bundle.invert(bundle.predict(chosen, everything), fitted)
    theirs = None if rival is None else rival.invert(rival.predict(chosen, everything), fitted).point
    found = []
    for i, (origin, series, (_, channel, label)) in enumerate(zip(chosen.origins, chosen.series, picks, strict=True)):
        more = {"intervals": edges(spread, bundle.quantile_levels, i, channel), "label": label}
        baseline = None if theirs is None else theirs[i, :, channel]
        found.append(Fan.at(panel, series, channel, origin, ours[i, :, channel], baseline=baseline, **more))
    return found
