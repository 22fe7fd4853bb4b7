"""What a run leaves to look at: a picture for each question, and a page that holds them all."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsforecast.files import write
from tsforecast.plotting import Draw, draw, png
from tsforecast.report.charts import Insights, coverage_charts, error_charts, fold_chart, insight_charts
from tsforecast.report.examples import examples
from tsforecast.training.evaluate import Evaluation

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
