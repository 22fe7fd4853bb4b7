"""Charts of forecasts, of errors and coverage by step, of what a model leans on: drawn once, by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsforecast.errors import RequestError
from tsforecast.quantiles import intervals

if TYPE_CHECKING:
    from tsforecast.data.panel import Panel
    from tsforecast.types import Forecast

INK, MODEL, MUTED, AXIS, GRID, SHADE = "#1f2d3d", "#e4572e", "#6b7785", "#c5ccd3", "#e6e9ed", "#f4f6f8"
BASELINES = ("#3d7ea6", "#8e9aa6", "#76a35b", "#b08bbb")  # apart from MODEL for colour-blind readers too
BASELINE, DASHES = "seasonal naive", ("--", ":", "-.")
DPI = 110
CHARTS = 12  # of a figure of forecasts, at most
BARS = 20  # of a chart: the longest
TICKS = 9  # on an axis of time, at most
ROUND_TIMES = {  # steps from coarse to fine; how a tick is written, and what is added where it changes
    "10YS 5YS 2YS YS": ("%Y", ""),
    "QS MS": ("%b", "%Y"),
    "W-MON 2D D": ("%d", "%b %Y"),
    "12h 6h 3h h 15min 5min min": ("%H:%M", "%d %b %Y"),
    "10s s": ("%H:%M:%S", "%d %b %Y"),
}

ByStep = Mapping[str, Mapping[str, Sequence[float]]]
Draw = Callable[[Any], None]  # on a matplotlib Axes
Insights = Mapping[str, Mapping[str, float] | Mapping[int, float]]


@dataclass(frozen=True)
class Fan:
    """One forecast of one channel of one series, in original units; T = W + H rows of history and horizon.

    `| h h h h h | y y y |`  history up to the cutoff, then forecast, baseline and truth, NaN where it is not known.
    """

    series: str  # empty where there is one
    channel: str
    time: pd.DatetimeIndex
    target: Float[np.ndarray, " T"]
    forecast: Float[np.ndarray, " H"]
    baseline: Float[np.ndarray, " H"] | None = None
    intervals: Mapping[str, tuple[Float[np.ndarray, " H"], Float[np.ndarray, " H"]]] = field(default_factory=dict)
    label: str = ""  # such as `worst`
    unit: str = ""

    @classmethod
    def at(cls, panel: Panel, i: int, c: int, origin: int, forecast: np.ndarray, **more: Any) -> Fan:
        """The forecast of channel `c` of series `i` from row `origin` of the panel on, with some history."""
        begin = max(origin - max(3 * len(forecast), 30), int(panel.offsets[i]))
        rows, name = slice(begin, origin + len(forecast)), str(panel.ids[i]) if len(panel) > 1 else ""
        return cls(name, panel.channels[c], panel.time[rows], panel.target[rows, c], forecast, **more)


def forecast_figure(
    forecast: Forecast, series: Sequence[str] = (), channels: Sequence[str] = (), units: Mapping[str, str] | None = None
) -> Any:
    """What `Forecast.plot` gives."""
    named, targets = series or list(forecast.ids), channels or forecast.channels
    for what, asked, there in (("series", named, forecast.ids), ("channels", targets, forecast.channels)):
        if unknown := set(asked).difference(there):
            raise RequestError(f"the forecast has no such {what}", where=what, got=", ".join(map(str, unknown)),
                               allowed=", ".join(there[:CHARTS]))  # fmt: skip
    fans, rows = [], forecast.history
    for name, channel in islice(product(named, targets), CHARTS):
        i, c = list(forecast.ids).index(name), forecast.channels.index(channel)
        past = rows.time[rows.offsets[i] : rows.offsets[i + 1]] <= forecast.cutoff[i]
        spread = edges(forecast.quantiles, forecast.quantile_levels, i, c)
        more = {"intervals": spread, "unit": (units or {}).get(channel, "")}
        fans.append(Fan.at(rows, i, c, rows.offsets[i] + past.sum(), forecast.values[i, :, c], **more))
    count = len(named) * len(targets)
    figure = fan_figure(fans, f"The first {CHARTS} of {count:,} forecasts" if count > CHARTS else "")
    figure._repr_png_ = partial(png, figure)  # how a notebook shows it without pyplot
    return figure


def edges(quantiles: Any, quantile_levels: Sequence[float], i: int, c: int) -> dict[str, tuple[Any, Any]]:
    """The lower and the upper edge of each interval of forecast `i` of channel `c`; quantiles are [N H C Q]."""
    return {name: tuple(quantiles[i, :, c, q] for q in pair) for name, pair in intervals(quantile_levels).items()}


def fan_figure(fans: Sequence[Fan], title: str = "", subtitle: str = "") -> Any:
    """A matplotlib figure with a chart for each: history, truth and baseline if any, forecast and intervals."""
    figure = draw([partial(_fan, fan) for fan in fans], title, subtitle)
    figure.axes[-1].set_xlabel(str(fans[-1].time.tz or ""), loc="right")
    return figure


def png(figure: Any) -> bytes:
    """The picture of a figure."""
    from PIL import Image

    figure.savefig(pixels := io.BytesIO(), format="rgba")
    picture = Image.frombytes("RGBA", figure.canvas.get_width_height(), pixels.getvalue()).convert("RGB")
    picture.quantize(256).save(file := io.BytesIO(), "png")  # a quarter of the size, and nobody sees it
    return file.getvalue()


def error_charts(by_step: ByStep) -> list[Draw]:
    """Mean absolute and mean squared error by step, the model in front."""
    model, *baselines = by_step
    baselines.sort(key=lambda name: name != "seasonal_naive")  # its colour is the one beside the forecasts
    styles = [(name, BASELINES[i % 4], DASHES[i % 3], 1.6) for i, name in enumerate(baselines)]
    styles.append((model, MODEL, "-", 2.2))

    def draw(metric: str, title: str, axes: Any) -> None:
        for name, colour, dash, width in styles:
            _line(axes, name.replace("_", " "), None, by_step[name][metric], colour, dash, width)
        axes.set_ylim(bottom=0)
        _label(axes, title, x="steps ahead")

    return [partial(draw, "mae", "Mean absolute error"), partial(draw, "mse", "Mean squared error")]


def coverage_charts(by_step: ByStep) -> list[Draw]:
    """Coverage of the model's intervals by step, each beside its nominal share."""
    model = next(iter(by_step.values()), {})
    shares = sorted((float(key.split("-")[1]) for key in model if key.startswith("coverage-")), reverse=True)

    def draw(axes: Any) -> None:
        for share, colour in zip(shares, (MODEL, *BASELINES) * len(shares), strict=False):
            axes.axhline(share, color=colour, ls="--", lw=1.2)
            _line(axes, f"{share:g} % interval", None, 100 * np.asarray(model[f"coverage-{share:g}"]), colour, "-", 2.2)
        _label(axes, "Coverage, %", x="steps ahead")

    return [draw] if shares else []


def insight_charts(insights: Insights) -> list[Draw]:
    """Bars by name, longest first, or a line over the rows."""

    def draw(title: str, values: Mapping[Any, float], axes: Any) -> None:
        if not all(isinstance(key, str) for key in values):
            _line(axes, "weight", list(values), list(values.values()), MODEL, "-", 1.5)
            axes.set_ylim(bottom=0)
            return _label(axes, title, x="rows from the cutoff")
        largest = sorted(values.items(), key=lambda item: -abs(item[1]))[:BARS]
        axes.barh(range(len(largest)), [weight for _, weight in largest], color=BASELINES[0], height=0.7)
        axes.set_yticks(range(len(largest)), [name for name, _ in largest])
        axes.invert_yaxis()
        return _label(axes, title, x="weight" + f", the first {BARS} of {len(values)}" * (len(values) > BARS))

    return [partial(draw, title, values) for title, values in insights.items()]


def _fan(fan: Fan, axes: Any) -> None:
    # The forecasts start at the last known value, so that no gap opens at the cutoff.
    cutoff = len(fan.time) - len(fan.forecast) - 1
    time, last, truth = fan.time[cutoff:], fan.target[cutoff : cutoff + 1], fan.target[cutoff + 1 :]
    known, note = not np.isnan(truth).all(), ""
    axes.axvspan(time[0], time[-1], color=SHADE, lw=0, zorder=0)
    for i, name in enumerate(sorted(fan.intervals, key=float, reverse=True)):
        low, high = (np.concatenate([last, edge]) for edge in fan.intervals[name])
        label = f"{name} % interval"
        axes.fill_between(_utc(time), low, high, color=MODEL, alpha=0.13 + 0.1 * i, lw=0, label=label)
    _line(axes, "truth" if known else "history", fan.time, fan.target, INK, "-", 1.5)
    if fan.baseline is not None:
        _line(axes, BASELINE, time, np.concatenate([last, fan.baseline]), BASELINES[0], DASHES[0], 1.4)
    _line(axes, "forecast", time, np.concatenate([last, fan.forecast]), MODEL, "-", 2)
    if known:
        errors = {"MAE": fan.forecast, BASELINE: fan.baseline}
        note = " · ".join(f"{name} {_mae(truth, values)}" for name, values in errors.items() if values is not None)
    channel = f"{fan.channel} ({fan.unit})" if fan.unit else fan.channel
    _label(axes, " · ".join(filter(None, [fan.label, fan.series, channel])), note)
    stamps, labels = round_times(fan.time[0], fan.time[-1])
    axes.set_xticks(_utc(stamps), labels)


def round_times(first: pd.Timestamp, last: pd.Timestamp) -> tuple[pd.DatetimeIndex, list[str]]:
    """Round local times between two, and how to write them: month, year or day where it changes."""
    begin, end = first.tz_localize(None), last.tz_localize(None)
    for i, (step, forms) in enumerate((step, forms) for steps, forms in ROUND_TIMES.items() for step in steps.split()):
        finer = pd.date_range(begin.normalize(), end, freq=step)
        finer = pd.DatetimeIndex(finer[finer >= begin])
        if i and len(finer) > TICKS:
            break
        stamps, (fine, coarse) = pd.DatetimeIndex(finer[:: -(-len(finer) // TICKS) or 1]), forms
    local = stamps.tz_localize(first.tz, ambiguous=np.ones(len(stamps), bool), nonexistent="NaT")
    local = pd.DatetimeIndex(local[(local >= first) & (local <= last)])  # not what a clock skips
    over = local.strftime(coarse)
    names = zip(local.strftime(fine), over, ["", *over], strict=False)
    return local, [name if above == before else f"{name}\n{above}" for name, above, before in names]


def _utc(time: Any) -> np.ndarray:
    return np.asarray(time.tz_convert(None) if time.tz else time)


def _line(axes: Any, label: str, x: Any, y: Any, colour: str, dash: str, width: float) -> None:
    x = np.arange(1, len(y) + 1) if x is None else _utc(x) if isinstance(x, pd.DatetimeIndex) else x
    marker = "o" if len(x) == 1 else None
    axes.plot(x, y, dash, color=colour, lw=width, label=label, marker=marker, solid_capstyle="round")


def _label(axes: Any, title: str, note: str = "", x: str = "") -> None:
    axes.set_title(title, loc="left", size=11, color=INK, weight="bold")
    axes.set_title(note, loc="right", size=9.5, color=MUTED)
    axes.set_xlabel(x)


def _mae(truth: np.ndarray, forecast: np.ndarray) -> str:
    error = np.nanmean(np.abs(forecast - truth))
    return f"{error:,.0f}" if error >= 100 else f"{error:.3g}"


def draw(charts: Sequence[Draw], title: str, subtitle: str, *, columns: int = 1, height: float = 1.7) -> Any:
    """Charts of such a height in inches under one legend; no pyplot, whose import costs more than drawing.

    The margins are counted from what stands in them: matplotlib's own layout draws everything twice.
    """
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    rows, bottom, gap = -(-len(charts) // columns), 0.65, 0.8
    top = 1.05 if title else 0.45
    total = top + rows * height + (rows - 1) * gap + bottom
    figure = Figure(figsize=(10, total), dpi=DPI, facecolor="white")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, chart in zip(grid, charts, strict=True):
        axes.margins(x=0.01, y=0.08)
        axes.tick_params(colors=MUTED, labelsize=9, length=0)  # before there are ticks: each is made once
        axes.set_axisbelow(True)
        chart(axes)
        value = axes.yaxis if axes.lines else axes.xaxis  # else they are bars
        value.grid(color=GRID, lw=0.8)
        low, high = sorted(value.get_view_interval())
        ticks = [tick for tick in value.get_major_locator().tick_values(low, high) if low <= tick <= high]
        value.set_ticks(ticks, numbers(ticks))
        axes.xaxis.label.set(color=MUTED, size=9.5)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(AXIS)
    legend = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if crowded := len(legend) > 4 and bool(title):  # then it does not fit beside the title
        top, total = top + 0.28, total + 0.28
        figure.set_size_inches(10, total)
    widest = max((len(tick.get_text()) for axes in grid for tick in axes.get_yticklabels()), default=0)
    left = 0.2 + 0.075 * min(widest, 40)
    width = (10 - left - 0.15 - (columns - 1) * (left + 0.2)) / columns
    figure.subplots_adjust(left / 10, bottom / total, 0.985, 1 - top / total, (left + 0.2) / width, gap / height)
    figure.text(0.016, 1 - 0.16 / total, title, size=14, weight="bold", color=INK, va="top")
    figure.text(0.016, 1 - 0.46 / total, subtitle, size=9.5, color=MUTED, va="top")
    if len(legend) > 1:
        place, x, y = ("upper left", 0.012, 0.72) if crowded else ("upper right", 0.99, 0.14)
        figure.legend(
            legend.values(), legend.keys(), loc=place, ncols=len(legend), frameon=False, fontsize=9.5,
            labelcolor=INK, borderaxespad=0, bbox_to_anchor=(x, 1 - y / total),
        )  # fmt: skip
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar in the name of a column is a dollar
    return figure


def numbers(ticks: Sequence[float]) -> list[str]:
    """Ticks with thousands separators and as many decimals as their steps need."""
    decimals = max((len(f"{tick:.6f}".rstrip("0").partition(".")[2]) for tick in ticks), default=0)
    small = max(map(abs, ticks), default=0) < 1e-3
    return [(f"{tick:g}" if small else f"{tick:,.{decimals}f}").replace("-", "−") for tick in ticks]
