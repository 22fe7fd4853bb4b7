"""What a run leaves to look at: a picture for each question, and a page that holds them all."""

from __future__ import annotations

import base64
import gc
import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tsforecast.files import whole
from tsforecast.report import charts
from tsforecast.report.charts import ByStep, Fan, Insights

SUBTITLES = {
    "forecast": "Example windows of the scored rows, in original units; forecasts in the shaded part",
    "extremes": "The windows with the largest and the smallest error in scaled units; drawn in original units",
    "error_by_step": "Error by horizon step over all scored windows and channels, in scaled units",
    "coverage_by_step": "Share of the truth inside each interval by horizon step; dashed: what it should be",
    "insights": "What the model leans on",
}

Examples = Callable[[int], Mapping[str, Sequence[Fan]]]


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

    `forecast.png`, `extremes.png`, `error_by_step.png`; `coverage_by_step.png` where there are intervals, and
    `insights.png` where the model can say what it leans on. `report.html` holds the same pictures and shows the
    numbers under the pointer; it is one file and needs no network.

    Parameters
    ----------
    windows
        Example windows to draw, and best and worst ones; with 0 none.
    """

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
        gc.freeze()  # drawing makes small objects by the thousand: the collector would walk all of the run at each turn
        given = examples(self.windows).items()
        figures = {name: charts.fan_figure(fans, title, SUBTITLES[name]) for name, fans in given if fans}
        for name, height, draws in (
            ("error_by_step", 3.1, charts.error_charts(by_step)),
            ("coverage_by_step", 3.1, charts.coverage_charts(by_step)),
            ("insights", 4.4, charts.insight_charts(insights or {})),
        ):
            if draws:
                figures[name] = charts.draw(draws, title, SUBTITLES[name], columns=len(draws), height=height)
        files = {f"{name}.png": charts.png(figure) for name, figure in figures.items()}
        files["report.html"] = _page(title, figures, files).encode()
        gc.unfreeze()
        for name, content in files.items():
            with whole(directory / name) as file:
                file.write_bytes(content)
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
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    points = np.unique(np.concatenate([line.get_xdata(orig=False) for line in lines]))
    (left, right), box = axes.get_xlim(), axes.get_position()
    values = {}
    for line in lines:
        y = np.full(len(points), np.nan)
        y[np.searchsorted(points, line.get_xdata(orig=False))] = line.get_ydata()
        values[line.get_label()] = [None if np.isnan(each) else float(f"{each:.6g}") for each in y]
    dates = isinstance(lines[0].get_xdata()[0], np.datetime64)
    return {
        "box": [round(each, 5) for each in (box.x0, 1 - box.y1, box.x1, 1 - box.y0)],
        "place": ((points - left) / (right - left)).round(5).tolist(),
        "point": (points * 86_400_000).round().tolist() if dates else points.tolist(),
        "zone": axes.figure.axes[-1].get_xlabel() or "UTC" if dates else None,
        "lines": values,
    }
