"""Forecasts drawn, beside what was before and what came: the one module that imports matplotlib, once it draws."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsforecast.errors import RequestError, listed
from tsforecast.quantiles import intervals

if TYPE_CHECKING:
    from tsforecast.data.panel import Panel
    from tsforecast.types import Forecast

INK, MODEL, MUTED, AXIS, GRID, SHADE = "#1f2d3d", "#e4572e", "#6b7785", "#c5ccd3", "#e6e9ed", "#f4f6f8"
BASELINES = ("#3d7ea6", "#8e9aa6", "#76a35b", "#b08bbb")  # apart from MODEL for colour-blind readers too
BASELINE = "seasonal naive"
INSTEAD = f"{BASELINE} (too few rows for the model, or unknown to it)"
STYLE = Path(__file__).with_suffix(".mplstyle")
CHARTS = 12  # of a figure of forecasts, at most
TICKS = 9  # on an axis of time, at most
# Of years, months, days, ...: the tick where the coarser changes.
CHANGED = ["", "%Y", "%d %b", "%d %b", "%H:%M", "%H:%M"]
RIGHT = ["", "%Y", "%b %Y", "%d %b %Y", "%d %b %Y", "%d %b %Y %H:%M"]  # and at the right end, what the last is in

Draw = Callable[[Any], None]  # on a matplotlib Axes


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
    label: str = ""  # such as `worst`, or what forecast it instead of the model
    unit: str = ""

    @classmethod
    def at(cls, panel: Panel, i: int, c: int, origin: int, forecast: Float[np.ndarray, " H"]) -> Fan:
        """The forecast of channel `c` of series `i` from row `origin` of the panel on, with some history."""
        begin = max(origin - max(3 * len(forecast), 30), int(panel.offsets[i]))
        rows, name = slice(begin, origin + len(forecast)), str(panel.ids[i]) if len(panel) > 1 else ""
        return cls(name, panel.channels[c], panel.time[rows], panel.target[rows, c], forecast)

    def __call__(self, axes: Any) -> None:
        """Draw it; the forecasts start at the last known value, so that no gap opens at the cutoff."""
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        cutoff, zone = len(self.time) - len(self.forecast) - 1, self.time.tz
        time = np.asarray(self.time.tz_convert(None) if zone else self.time)  # in UTC
        target, truth = self.target, self.target[cutoff + 1 :]

        def ahead(values: np.ndarray) -> np.ndarray:
            return np.concatenate([np.full(cutoff, np.nan), target[cutoff : cutoff + 1], values])

        known = not np.isnan(truth).all()
        axes.axvspan(time[cutoff], time[-1], color=SHADE, lw=0, zorder=0)
        for i, name in enumerate(sorted(self.intervals, key=float, reverse=True)):
            low, high = map(ahead, self.intervals[name])
            axes.fill_between(time, low, high, color=MODEL, alpha=0.13 + 0.1 * i, lw=0, label=f"{name} % interval")
        line(axes, "truth" if known else "history", time, target, INK, width=1.5)
        if self.baseline is not None:
            line(axes, BASELINE, time, ahead(self.baseline), BASELINES[0], "--", 1.4)
        line(axes, "forecast", time, ahead(self.forecast), MODEL)
        channel = f"{self.channel} ({self.unit})" if self.unit else self.channel
        axes.set_title(" · ".join(filter(None, [self.label, self.series, channel])))
        if known:
            errors = {"MAE": self.forecast, BASELINE: self.baseline}
            means = {name: np.nanmean(np.abs(each - truth)) for name, each in errors.items() if each is not None}
            note = " · ".join(f"{name} {mean:{',.0f' if mean >= 100 else '.3g'}}" for name, mean in means.items())
            axes.set_title(note, loc="right", size=9.5, weight="normal", color=MUTED)
        locator = AutoDateLocator(tz=zone, minticks=4, maxticks=TICKS)
        formatter = ConciseDateFormatter(locator, tz=zone, zero_formats=CHANGED, offset_formats=RIGHT)
        axes.xaxis.set(major_locator=locator, major_formatter=formatter)
        axes.set_xlabel(str(zone or ""), loc="left")


def forecast_figure(forecast: Forecast, series: Sequence[str] = (), channels: Sequence[str] = ()) -> Any:
    """What `Forecast.plot` gives."""
    named, targets = series or list(forecast.ids), channels or forecast.channels
    for where, asked, there in (("series", named, forecast.ids), ("channels", targets, forecast.channels)):
        if unknown := set(asked).difference(there):
            what = f"the forecast has no such {where}"
            raise RequestError(what, where=where, got=listed(unknown), allowed=listed(there, CHARTS))
    fans, rows, count = [], forecast.history, len(named) * len(targets)
    for name, channel in islice(product(named, targets), CHARTS):
        i, c = list(forecast.ids).index(name), forecast.channels.index(channel)
        past = rows.time[rows.offsets[i] : rows.offsets[i + 1]] <= forecast.cutoff[i]
        fan = Fan.at(rows, i, c, rows.offsets[i] + past.sum(), forecast.values[i, :, c])
        within = edges(forecast.quantiles, forecast.quantile_levels, i, c)
        label = INSTEAD * (forecast.fallback is not None and bool(forecast.fallback[i]))
        fans.append(replace(fan, intervals=within, label=label, unit=forecast.units.get(channel, "")))
    return shown(draw(fans, f"The first {CHARTS} of {count:,} forecasts" if count > CHARTS else ""))


def shown(figure: Any) -> Any:
    """The figure, which a notebook shows without pyplot."""
    figure._repr_png_ = partial(png, figure)
    return figure


def edges(quantiles: Any, quantile_levels: Sequence[float], i: int, c: int) -> dict[str, tuple[Any, Any]]:
    """The lower and the upper edge of each interval of row `i` and channel `c` of quantiles [B H C Q]."""
    return {name: tuple(quantiles[i, :, c, q] for q in pair) for name, pair in intervals(quantile_levels).items()}


def line(axes: Any, label: str, x: Any, y: Any, colour: str, dash: str = "-", width: float = 2.0) -> None:
    """A line; a point where there is one."""
    axes.plot(x, y, dash, color=colour, lw=width, label=label, marker="o" if len(x) == 1 else None)


def draw(charts: Sequence[Draw], title: str = "", subtitle: str = "", *, columns: int = 1, height: float = 1.7) -> Any:
    """Charts of such a height in inches under one legend; no pyplot, whose import costs more than drawing.

    The margins are counted from what stands in them: matplotlib's own layout draws everything twice.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(fname=STYLE):
        rows, bottom, gap = -(-len(charts) // columns), 0.5, 0.8
        figure = Figure()
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        legend: dict[str, Any] = {}
        for axes, chart in zip(grid, charts, strict=True):
            axes.tick_params(colors=MUTED, labelsize=9, length=0)  # before there are ticks: each is made once
            chart(axes)
            value = axes.yaxis if axes.lines else axes.xaxis  # else they are bars
            value.grid(color=GRID, lw=0.8)
            value.set_major_formatter("{x:,.15g}")
            handles, labels = axes.get_legend_handles_labels()
            legend |= dict(zip(labels, handles, strict=True))
        head = 0.16 + 0.3 * bool(title) + 0.27 * bool(subtitle)
        top = head + 0.27 * (len(legend) > 1) + 0.3
        total = top + rows * height + (rows - 1) * gap + bottom
        figure.set_size_inches(10, total)
        widest = max(len(tick.get_text()) for axes in grid for tick in axes.get_yticklabels())
        left = 0.2 + 0.075 * min(widest, 40)
        width = (10 - left - 0.15 - (columns - 1) * (left + 0.2)) / columns
        figure.subplots_adjust(left / 10, bottom / total, 0.985, 1 - top / total, (left + 0.2) / width, gap / height)
        figure.text(0.016, 1 - 0.16 / total, title, size=14, weight="bold", color=INK, va="top")
        figure.text(0.016, 1 - 0.46 / total, subtitle, size=9.5, color=MUTED, va="top")
        if len(legend) > 1:
            place = (0.012, 1 - head / total)
            figure.legend(legend.values(), legend, loc="upper left", bbox_to_anchor=place, ncols=len(legend))
    return figure


def png(figure: Any) -> bytes:
    """The picture of a figure."""
    figure.savefig(file := io.BytesIO(), format="png")
    return file.getvalue()
