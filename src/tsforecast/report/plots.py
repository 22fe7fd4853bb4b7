"""What a run leaves to look at: a picture for each question, a page that holds them all, windows worth a look."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from tsforecast.files import write
from tsforecast.plotting import BASELINE, BASELINES, MODEL, Draw, Fan, draw, edges, line, png
from tsforecast.quantiles import ratio
from tsforecast.training.evaluate import Evaluation
from tsforecast.windows import Windows

if TYPE_CHECKING:
    from tsforecast.backtesting.backtest import Backtest
    from tsforecast.metrics import Scores

# In the order of the page: what each is of, its columns (0: one for each chart) and their height in inches.
FIGURES: dict[str, tuple[str, int, float]] = {
    "forecast": ("Example windows of the scored rows, in original units; forecasts in the shaded part", 1, 1.7),
    "extremes": ("Windows with the largest and the smallest error in scaled units; drawn in original units", 1, 1.7),
    "error_by_fold": ("Mean absolute error of each fold, in scaled units", 1, 3.1),
    "forecasts_by_cutoff": ("The last folds of a channel, in original units; forecasts in the shaded part", 1, 1.7),
    "error_by_step": ("Error by horizon step over all scored windows and channels, in scaled units", 0, 3.1),
    "coverage_by_step": ("Share of the truth inside each interval by step; dashed: what it should be", 0, 3.1),
    "insights": ("What the model leans on: the loss that each input saved, or the weight it has", 0, 4.4),
}


class NoReport:
    """Draws nothing and imports nothing: `report=none`."""

    def write(self, directory: Path, found: Evaluation, insights: Insights | None = None) -> list[Path]:
        """No file."""
        return []

    def write_folds(self, directory: Path, backtest: Backtest) -> list[Path]:
        """No file."""
        return []


@dataclass(frozen=True)
class Report:
    """Plots of one evaluation.

    `forecast.png`, `extremes.png`, `error_by_step.png`; `coverage_by_step.png` where there are intervals, and
    `insights.png` where the model can say what it leans on. `report.html` holds the same pictures and shows the
    numbers under the pointer; it is one file and needs no network.

    Parameters
    ----------
    windows
        Example windows to draw, and best and worst ones; with 0 none.
    """

    windows: int = 3

    def write(self, directory: Path, found: Evaluation, insights: Insights | None = None) -> list[Path]:
        """Draw, and return the files written; the directory is made when missing.

        Parameters
        ----------
        insights
            What the model leans on: the weight of each input by name, or of each row of the window; a chart each.

        Raises
        ------
        OutputError
            A file cannot be written.
        """
        title = f"{found.bundle.metadata.get('name', 'bundle')}, {found.part} rows, horizon {found.bundle.dims.horizon}"
        leaning = insight_charts(insights or {}, found.bundle.dims.lookback)
        return _write(directory, title, found.scores, insights=leaning, **examples(found, self.windows))

    def write_folds(self, directory: Path, backtest: Backtest) -> list[Path]:
        """Draw a backtest as `write` does a run: `error_by_fold.png`, `forecasts_by_cutoff.png` and `report.html`."""
        by_fold, fans = fold_chart(backtest.by_fold["mae"].to_dict()), backtest.fans(self.windows)
        return _write(directory, backtest.title, backtest.pooled, error_by_fold=[by_fold], forecasts_by_cutoff=fans)


def _write(directory: Path, title: str, scores: Mapping[str, Scores], **charts: Sequence[Draw]) -> list[Path]:
    """The charts of `FIGURES` that are given, and those of the scores by step."""
    by_step = {name: each.by_step() for name, each in scores.items()}
    charts |= {"error_by_step": error_charts(by_step), "coverage_by_step": coverage_charts(by_step)}
    figures = {}
    for name, (subtitle, columns, height) in FIGURES.items():
        if drawn := charts.get(name):
            figures[name] = draw(drawn, title, subtitle, columns=columns or len(drawn), height=height)
    files = {f"{name}.png": png(figure) for name, figure in figures.items()}
    files["report.html"] = _page(title, figures, files).encode()
    for name, content in files.items():
        write(directory / name, content)
    return [directory / name for name in files]


def _page(title: str, figures: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    parts = []
    for name, figure in figures.items():
        picture = base64.b64encode(pictures[f"{name}.png"]).decode()
        shown = json.dumps([_under_pointer(axes) for axes in figure.axes if axes.lines], separators=(",", ":"))
        image = f'<img src="data:image/png;base64,{picture}" alt="{name}">'
        parts.append(f'<figure data-charts="{html.escape(shown)}">{image}<hr><output></output></figure>')
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return page.replace("{title}", html.escape(title)).replace("{figures}", "\n".join(parts))


def _under_pointer(axes: Any) -> dict[str, Any]:
    """A chart for the page: its box in shares of the picture, where its points lie, what they are, and the values."""
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    first = next(iter(lines.values()))  # all have the same points
    points, dates = first.get_xdata(orig=False), isinstance(first.get_xdata()[0], np.datetime64)
    (left, right), box = axes.get_xlim(), axes.get_position()
    return {
        "box": [round(each, 5) for each in (box.x0, 1 - box.y1, box.x1, 1 - box.y0)],
        "place": ((points - left) / (right - left)).round(5).tolist(),
        "point": (points * 86_400_000).round().tolist() if dates else points.tolist(),
        "zone": axes.get_xlabel() or "UTC" if dates else None,
        "lines": {
            name: [None if np.isnan(y) else float(f"{y:.6g}") for y in line.get_ydata()] for name, line in lines.items()
        },
    }


BARS = 20  # of a chart: the longest
DASHES = ("--", ":", "-.")
TITLES = {name: f"{name.capitalize()} variables" for name in ("past", "known", "static")}
ByStep = Mapping[str, Mapping[str, Sequence[float]]]
Insights = Mapping[str, Mapping[str, float] | Sequence[float]]


def error_charts(by_step: ByStep) -> list[Draw]:
    """Mean absolute and mean squared error by step, the model (the first) in front."""
    model, *baselines = by_step
    baselines.sort(key=lambda name: name.replace("_", " ") != BASELINE)  # its colour is the one beside the forecasts

    def draw(metric: str, title: str, axes: Any) -> None:
        errors = {name: list(by_step[name][metric]) for name in (model, *baselines)}
        lines = {name: (range(1, len(values) + 1), values) for name, values in errors.items()}
        _compare(axes, lines, title=title, xlabel="steps ahead")
        axes.xaxis.get_major_locator().set_params(integer=True)

    return [partial(draw, "mae", "Mean absolute error"), partial(draw, "mse", "Mean squared error")]


def fold_chart(errors: Mapping[Any, float]) -> Draw:
    """The error of each fold by (model, fold), the model (the first) in front."""
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for (name, fold), error in errors.items():
        folds, values = lines.setdefault(name, ([], []))
        folds.append(fold)
        values.append(error)
    ticks = next(iter(lines.values()))[0]
    return partial(_compare, lines=lines, title="Mean absolute error", xlabel="fold", xticks=ticks)


def _compare(axes: Any, lines: Mapping[str, tuple[Sequence[int], Sequence[float]]], **labels: Any) -> None:
    """Errors by name, the first in front of the others."""
    model, *others = lines
    for name, colour, dash in zip(others, cycle(BASELINES), cycle(DASHES), strict=False):
        line(axes, name.replace("_", " "), *lines[name], colour, dash, 1.6)
    line(axes, model.replace("_", " "), *lines[model], MODEL)
    axes.set_ylim(bottom=0)
    axes.set(**labels)


def coverage_charts(by_step: ByStep) -> list[Draw]:
    """Coverage of the model's intervals by step, each beside its nominal share."""
    model = next(iter(by_step.values()))
    shares = sorted((float(key.split("-")[1]) for key in model if key.startswith("coverage-")), reverse=True)

    def draw(axes: Any) -> None:
        for share, colour in zip(shares, cycle((MODEL, *BASELINES)), strict=False):
            covered = 100 * np.asarray(model[f"coverage-{share:g}"])
            axes.axhline(share, color=colour, ls="--", lw=1.2)
            line(axes, f"{share:g} % interval", range(1, len(covered) + 1), covered, colour)
        axes.set(title="Coverage, %", xlabel="steps ahead")
        axes.xaxis.get_major_locator().set_params(integer=True)

    return [draw] if shares else []


def insight_charts(insights: Insights, lookback: int) -> list[Draw]:
    """Bars by name, longest first, or a line over the rows, 0 the last one seen."""

    def draw(title: str, weights: Mapping[str, float] | Sequence[float], axes: Any) -> None:
        if not isinstance(weights, Mapping):
            line(axes, "weight", range(1 - lookback, 1 - lookback + len(weights)), weights, MODEL, width=1.5)
            axes.set_ylim(bottom=0)
            axes.set(title=title, xlabel="rows from the cutoff")
            return
        largest = dict(sorted(weights.items(), key=lambda item: -abs(item[1]))[:BARS])
        axes.barh(range(len(largest)), largest.values(), color=BASELINES[0], height=0.7)
        axes.set_yticks(range(len(largest)), largest)
        axes.invert_yaxis()
        few = f", the first {BARS} of {len(weights)}" * (len(weights) > BARS)
        axes.set(title=title, xlabel=f"weight{few}")

    return [partial(draw, TITLES.get(name, name.capitalize()), weights) for name, weights in insights.items()]


def examples(found: Evaluation, count: int) -> dict[str, list[Fan]]:
    """`count` windows each to draw, with the forecast and a baseline's beside the truth.

    `forecast`: evenly spaced ones, the channels in turn. `extremes`: those with the largest and the smallest mean
    absolute error, in scaled units, that do not overlap; of each the channel with the largest or the smallest one.
    """
    if not count:
        return {}
    bundle, rival, panel, windows = found.bundle, found.rivals.get("seasonal_naive"), found.panel, found.windows
    loss = next(iter(found.scores.values())).losses[:, 0]
    spaced = np.unique(np.linspace(0, len(windows) - 1, min(count, len(windows))).astype(int))
    ranked = np.argsort(loss)[: (~np.isnan(loss)).sum()]  # NaN is last
    worst, best = _apart(ranked[::-1], windows, (count + 1) // 2), _apart(ranked, windows, count // 2)
    chosen = windows.subset(np.array([*spaced, *worst, *best], dtype=int))
    every, series = slice(0, len(chosen)), bundle.features.series(panel.ids)[chosen.series]
    scaled = bundle.predict(chosen, every)
    ours = bundle.invert(scaled, series)
    theirs = None if rival is None else rival.invert(rival.predict(chosen, every), series).point
    error = np.abs(scaled.point - chosen.label(every))
    error = ratio(np.nansum(error, axis=1), (~np.isnan(error)).sum(axis=1))  # B C
    last = len(panel.channels) - 1
    picks = [(last - i % (last + 1), "") for i in range(len(spaced))]
    for labelled, label, choose in ((worst, "worst", np.nanargmax), (best, "best", np.nanargmin)):
        picks += [(int(choose(error[len(picks) + i])), label) for i in range(len(labelled))]
    fans = []
    for i, (c, label) in enumerate(picks):
        fan = Fan.at(panel, chosen.series[i], c, chosen.origins[i], ours.point[i, :, c])
        intervals = edges(ours.quantiles, bundle.quantile_levels, i, c)
        baseline, unit = None if theirs is None else theirs[i, :, c], bundle.schema.units.get(fan.channel, "")
        fans.append(replace(fan, baseline=baseline, intervals=intervals, label=label, unit=unit))
    return {"forecast": fans[: len(spaced)], "extremes": fans[len(spaced) :]}


def _apart(ranked: Int[np.ndarray, " B"], windows: Windows, count: int) -> list[int]:
    """The first `count` whose rows to forecast do not overlap."""
    found: list[int] = []
    for window in ranked.tolist():
        if len(found) == count:
            break
        if all(abs(windows.origins[window] - windows.origins[other]) >= windows.horizon for other in found):
            found.append(window)
    return found
