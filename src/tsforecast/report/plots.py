"""Forecasts beside the truth, errors, coverage, what a model leans on: PNG for a quick look, a page to explore."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsforecast.files import whole

INK, MODEL, MUTED, AXIS, GRID, SHADE = "#1f2d3d", "#e4572e", "#6b7785", "#c5ccd3", "#e6e9ed", "#f4f6f8"
BASELINES = ("#3d7ea6", "#8e9aa6", "#76a35b", "#b08bbb")  # apart from MODEL for colour-blind readers too
DASHES = ("dash", "dot", "dashdot")
MATPLOTLIB_DASH = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
SUBTITLES = {
    "forecast": "Example windows of the scored rows, in original units; forecasts in the shaded part",
    "extremes": "The windows with the largest and the smallest error in scaled units; drawn in original units",
    "error_by_step": "Error by horizon step over all scored windows and channels, in scaled units",
    "coverage_by_step": "Share of the truth inside each interval by horizon step; dashed: what it should be",
    "insights": "What the model leans on",
}
SHOWN = 20  # bars of a chart: the longest

ByStep = Mapping[str, Mapping[str, Sequence[float]]]
Examples = Callable[[int], Mapping[str, Sequence["Example"]]]
Insights = Mapping[str, Mapping[str, float] | Mapping[int, float]]


@dataclass(frozen=True)
class Example:
    """One window of one channel, in original units; W is the length of the history shown.

    `| h h h h h | y y y |`  history up to the cutoff, then truth, forecast and baseline over the horizon.
    """

    series: str
    channel: str
    history_time: pd.DatetimeIndex
    history: Float[np.ndarray, " W"]
    time: pd.DatetimeIndex
    truth: Float[np.ndarray, " H"]
    forecast: Float[np.ndarray, " H"]
    baseline: Float[np.ndarray, " H"] | None = None
    baseline_name: str = "seasonal naive"
    intervals: Mapping[str, tuple[Float[np.ndarray, " H"], Float[np.ndarray, " H"]]] = field(default_factory=dict)
    label: str = ""  # such as `worst`


@dataclass(frozen=True)
class Line:
    label: str
    x: Any
    y: np.ndarray
    colour: str
    dash: str = "solid"
    width: float = 1.5


@dataclass(frozen=True)
class Band:
    label: str
    x: Any
    low: np.ndarray
    high: np.ndarray
    opacity: float


@dataclass(frozen=True)
class Chart:
    """What both renderers draw, bands below lines, back to front, or bars; `shade` is a range of x."""

    title: str
    lines: list[Line] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    bars: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    shade: tuple[Any, Any] | None = None
    x_title: str = ""


class NoReport:
    """Draws nothing and imports nothing: `report=none`."""

    def write(
        self, directory: Path, *, title: str, examples: Examples, by_step: ByStep, insights: Insights | None = None
    ) -> list[Path]:
        """No file."""
        return []


@dataclass(frozen=True)
class Report:
    """Plots of one evaluation.

    Parameters
    ----------
    png
        `forecast.png`, `extremes.png`, `error_by_step.png`; `coverage_by_step.png` where there are intervals, and
        `insights.png` where the model can say what it leans on.
    html
        `report.html`: the same plots to zoom and hover over. It carries its own script and needs no network.
    windows
        Example windows to draw, and best and worst ones; with 0 none.
    """

    png: bool = True
    html: bool = True
    windows: int = 3

    def write(
        self, directory: Path, *, title: str, examples: Examples, by_step: ByStep, insights: Insights | None = None
    ) -> list[Path]:
        """Draw, and return the files written.

        Parameters
        ----------
        directory
            Made when missing.
        title
            Of the run.
        examples
            Gives so many example windows each for `forecast` and `extremes`; called only when something is drawn.
        by_step
            For the model (first) and each baseline: `mae` and `mse` in scaled units by horizon step, [H], and for a
            model with intervals `coverage-90`, ...
        insights
            Weight of each input by name, or by row before and after the cutoff (0 is the last one seen); a chart each.

        Raises
        ------
        OutputError
            A file cannot be written.
        """
        written: list[Path] = []
        if not (self.png or self.html):
            return written
        drawn = {name: forecast_charts(windows) for name, windows in examples(self.windows).items()}
        drawn |= {"error_by_step": error_charts(by_step), "coverage_by_step": coverage_charts(by_step)}
        drawn["insights"] = insight_charts(insights or {})
        figures = {name: (SUBTITLES[name], charts) for name, charts in drawn.items() if charts}
        if self.png:
            for name, (subtitle, charts) in figures.items():
                with whole(directory / f"{name}.png") as file:
                    _figure(title, subtitle, charts).savefig(file, dpi=130, facecolor="white")
                written.append(directory / f"{name}.png")
        if self.html:
            with whole(directory / "report.html") as file:
                file.write_text(_page(title, list(figures.values())), encoding="utf-8")
            written.append(directory / "report.html")
        return written


def forecast_charts(windows: Sequence[Example]) -> list[Chart]:
    """One chart a window: truth, baseline and forecast."""
    several = len({window.series for window in windows}) > 1
    charts = []
    for w in windows:
        lines = [Line("truth", w.history_time.append(w.time), np.concatenate([w.history, w.truth]), INK)]
        note = f"MAE {_mae(w.truth, w.forecast)}"
        # The forecasts start at the last known value, so that no gap opens at the cutoff.
        time, last = w.history_time[-1:].append(w.time), w.history[-1:]
        if w.baseline is not None:
            values = np.concatenate([last, w.baseline])
            lines.append(Line(w.baseline_name, time, values, BASELINES[0], DASHES[0], 1.4))
            note += f" · {w.baseline_name} {_mae(w.truth, w.baseline)}"
        lines.append(Line("forecast", time, np.concatenate([last, w.forecast]), MODEL, width=2))
        widest = sorted(w.intervals, key=float, reverse=True)
        bands = []
        for i, name in enumerate(widest):
            low, high = (np.concatenate([last, edge]) for edge in w.intervals[name])
            bands.append(Band(f"{name} % interval", time, low, high, 0.13 + 0.1 * i))
        title = " · ".join(filter(None, [w.label, w.series if several else "", w.channel]))
        charts.append(Chart(title, lines, bands, note=note, shade=(time[0], time[-1])))
    return charts


def error_charts(by_step: ByStep) -> list[Chart]:
    """Mean absolute and mean squared error by step, the model in front."""
    model, *baselines = by_step
    baselines.sort(key=lambda name: name != "seasonal_naive")  # its colour is the one beside the forecasts
    styles = [(name, BASELINES[i % 4], DASHES[i % 3], 1.6) for i, name in enumerate(baselines)]
    styles.append((model, MODEL, "solid", 2.2))

    def lines(metric: str) -> list[Line]:
        values = {name: np.asarray(errors[metric], dtype=float) for name, errors in by_step.items()}
        return [
            Line(name.replace("_", " "), np.arange(1, len(values[name]) + 1), values[name], colour, dash, width)
            for name, colour, dash, width in styles
        ]

    titles = {"mae": "Mean absolute error", "mse": "Mean squared error"}
    return [Chart(title, lines(metric), x_title="steps ahead") for metric, title in titles.items()]


def coverage_charts(by_step: ByStep) -> list[Chart]:
    """Coverage of the model's intervals by step, each beside its nominal share."""
    model = next(iter(by_step.values()), {})
    names = sorted((key for key in model if key.startswith("coverage-")), key=lambda key: -float(key.split("-")[1]))
    lines = []
    for i, name in enumerate(names):
        share, values = float(name.split("-")[1]), np.asarray(model[name], dtype=float)
        x, colour = np.arange(1, len(values) + 1), (MODEL, *BASELINES)[i % 5]
        lines.append(Line(f"{share:g} % should be", x, np.full(len(x), share / 100), colour, "dash", 1.2))
        lines.append(Line(f"{share:g} % interval", x, values, colour, width=2.2))
    return [Chart("Coverage", lines, x_title="steps ahead")] if lines else []


def insight_charts(insights: Insights) -> list[Chart]:
    """Bars by name, longest first, or a line over the rows."""
    charts = []
    for title, values in insights.items():
        if all(isinstance(key, str) for key in values):
            largest = sorted(values.items(), key=lambda item: -abs(item[1]))
            note = f"the first {SHOWN} of {len(values)}" if len(values) > SHOWN else ""
            bars = {str(name): weight for name, weight in largest[:SHOWN]}
            charts.append(Chart(title, bars=bars, note=note, x_title="weight"))
        else:
            line = Line("weight", np.array(list(values)), np.array(list(values.values())), MODEL)
            charts.append(Chart(title, [line], x_title="rows from the cutoff"))
    return charts


def _mae(truth: np.ndarray, forecast: np.ndarray) -> str:
    known = ~np.isnan(truth)
    return f"{np.abs(forecast - truth)[known].mean():.3g}" if known.any() else "unknown"


def _figure(title: str, subtitle: str, charts: Sequence[Chart]) -> Any:
    """Charts over time one below the other, others side by side; no pyplot, whose import costs more than drawing."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    stacked = not any(chart.x_title for chart in charts)
    height = 0.9 + 2.35 * len(charts) if stacked else 4.3 if not any(chart.bars for chart in charts) else 5.5
    figure = Figure(figsize=(10, height))
    figure.text(0.016, 1 - 0.16 / height, title, size=14, weight="bold", color=INK, va="top")
    figure.text(0.016, 1 - 0.46 / height, subtitle, size=9.5, color=MUTED, va="top")
    grid = figure.subplots(*((len(charts), 1) if stacked else (1, len(charts))), squeeze=False).ravel()
    for axes, chart in zip(grid, charts, strict=True):
        for band in chart.bands:
            axes.fill_between(band.x, band.low, band.high, color=MODEL, alpha=band.opacity, lw=0, label=band.label)
        if chart.bars:
            axes.barh(list(chart.bars)[::-1], list(chart.bars.values())[::-1], color=BASELINES[0], height=0.7)
        for line in chart.lines:
            axes.plot(
                line.x, line.y, MATPLOTLIB_DASH[line.dash], color=line.colour, lw=line.width, label=line.label,
                marker="o" if len(line.x) == 1 else None, solid_capstyle="round",
            )  # fmt: skip
        axes.margins(x=0.01, y=0.08)
        if chart.shade:
            axes.axvspan(*chart.shade, color=SHADE, lw=0, zorder=0)
            locator = AutoDateLocator(minticks=4, maxticks=9)
            axes.xaxis.set(major_locator=locator, major_formatter=ConciseDateFormatter(locator))
            axes.xaxis.get_offset_text().set(color=MUTED, size=9)
        elif not chart.bars:
            axes.xaxis.set_major_locator(MaxNLocator("auto" if len(charts) < 3 else 4, integer=True))
            axes.set_ylim(bottom=0)
        axes.set_title(chart.title, loc="left", size=11, color=INK, weight="bold")
        axes.set_title(chart.note, loc="right", size=9.5, color=MUTED)
        axes.set_xlabel(chart.x_title, color=MUTED, size=9.5)
        axes.grid(axis="x" if chart.bars else "y", color=GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=MUTED, labelsize=9, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(AXIS)
    legend = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    crowded = len(legend) > 4  # then it does not fit beside the title
    figure.legend(
        legend.values(), legend.keys(), loc="upper left" if crowded else "upper right", ncols=len(legend) or 1,
        frameon=False, fontsize=9.5, labelcolor=INK, borderaxespad=0,
        bbox_to_anchor=(0.012, 1 - 0.7 / height) if crowded else (0.99, 1 - 0.14 / height),
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0, 1, 1 - (0.95 if crowded else 0.68) / height), h_pad=1.2, w_pad=2.5)
    return figure


def _page(title: str, figures: Sequence[tuple[str, Sequence[Chart]]]) -> str:
    from plotly.io import to_html

    config = {"displaylogo": False, "responsive": True, "showSendToCloud": False}
    parts = [
        f"<p>{subtitle}.</p>\n"
        + to_html(_plotly(charts), include_plotlyjs=i == 0, validate=False, full_html=False, config=config)
        for i, (subtitle, charts) in enumerate(figures)
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>
body {{ margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: {INK}; font: 15px/1.5 system-ui, sans-serif }}
h1 {{ font-size: 1.5rem; margin: 0 }}
p {{ color: {MUTED}; margin: 1rem 0 .5rem }}
</style></head><body>
<h1>{html.escape(title)}</h1>
{"".join(parts)}
</body></html>
"""


def _plotly(charts: Sequence[Chart]) -> dict[str, Any]:
    """A plotly figure as plain dicts: its figure classes take a second to import."""
    stacked = not any(chart.x_title for chart in charts)
    tall = 480 if any(chart.bars for chart in charts) else 300
    plot, gap, count = (170, 65, len(charts)) if stacked else (tall, 65, 1)  # pixels
    inner = max(count * (plot + gap) - gap, plot)
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "height": inner + 100, "margin": {"l": 45, "r": 10, "t": 60, "b": 40}, "hovermode": "x unified",
        "font": {"family": "system-ui, sans-serif", "color": INK}, "annotations": [], "shapes": [],
        "legend": {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"},
    }  # fmt: skip
    for i, chart in enumerate(charts):
        n = str(i + 1) if i else ""
        left, right, top, bottom = 0.0, 1.0, 1.0, 0.0
        if stacked:
            top = 1 - i * (plot + gap) / inner
            bottom = max(top - plot / inner, 0.0)
        else:
            left = i * 1.06 / len(charts)
            right = min(left + 0.94 / len(charts), 1.0)
        layout[f"xaxis{n}"] = {"anchor": f"y{n}", "domain": [left, right], "title": {"text": chart.x_title},
                               "showgrid": False, "showline": True, "linecolor": AXIS}  # fmt: skip
        layout[f"yaxis{n}"] = {"anchor": f"x{n}", "domain": [bottom, top], "gridcolor": GRID, "zeroline": False,
                               "rangemode": "normal" if chart.shade else "tozero", "automargin": True}  # fmt: skip
        if chart.bars:
            data.append({
                "type": "bar", "orientation": "h", "name": chart.title, "showlegend": False, "xaxis": f"x{n}",
                "yaxis": f"y{n}", "x": [float(f"{v:.6g}") for v in chart.bars.values()][::-1],
                "y": list(chart.bars)[::-1], "marker": {"color": BASELINES[0]},
            })  # fmt: skip
        for band in chart.bands:
            red, green, blue = (int(MODEL[k : k + 2], 16) for k in (1, 3, 5))
            there = _points(band.x)
            data.append({
                "type": "scatter", "mode": "lines", "name": band.label, "legendgroup": band.label,
                "showlegend": i == 0, "xaxis": f"x{n}", "yaxis": f"y{n}", "x": there + there[::-1],
                "y": _heights(np.concatenate([band.low, band.high[::-1]])), "fill": "toself", "line": {"width": 0},
                "fillcolor": f"rgba({red},{green},{blue},{band.opacity:.2f})", "hoverinfo": "skip",
            })  # fmt: skip
        for line in chart.lines:
            data.append({
                "type": "scatter", "mode": "lines" if len(line.x) > 1 else "markers", "name": line.label,
                "legendgroup": line.label, "showlegend": i == 0, "xaxis": f"x{n}", "yaxis": f"y{n}",
                "x": _points(line.x), "y": _heights(line.y),
                "line": {"color": line.colour, "dash": line.dash, "width": line.width},
            })  # fmt: skip
        if chart.shade:
            begin, end = (f"{stamp:%Y-%m-%d %H:%M:%S}" for stamp in chart.shade)
            layout["shapes"].append({
                "type": "rect", "xref": f"x{n}", "yref": f"y{n} domain", "x0": begin, "x1": end, "y0": 0, "y1": 1,
                "fillcolor": SHADE, "line": {"width": 0}, "layer": "below",
            })  # fmt: skip
        for text, x, side in ((f"<b>{html.escape(chart.title)}</b>", left, "left"), (chart.note, right, "right")):
            layout["annotations"].append({"text": text, "x": x, "xanchor": side, "y": top, "yanchor": "bottom",
                                          "xref": "paper", "yref": "paper", "showarrow": False})  # fmt: skip
    return {"data": data, "layout": layout}


def _points(x: Any) -> list[Any]:
    return list(x.strftime("%Y-%m-%d %H:%M:%S") if isinstance(x, pd.DatetimeIndex) else x.tolist())


def _heights(y: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(f"{value:.6g}") for value in y]  # JSON has no NaN
