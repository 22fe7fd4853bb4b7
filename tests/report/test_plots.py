"""The report draws what it is given, works without a network, and costs nothing when it is off."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsforecast.errors import OutputError
from tsforecast.report.plots import (
    BASELINES,
    Example,
    NoReport,
    Report,
    coverage_charts,
    error_charts,
    forecast_charts,
    insight_charts,
)

H, W = 6, 12
BY_STEP = {
    "ridge": {"mae": [0.1 * k for k in range(1, H + 1)], "mse": np.arange(1, H + 1) * 0.2, "mae_raw": [1.0] * H},
    "naive": {"mae": [0.7] * H, "mse": [0.9] * H},
    "seasonal_naive": {"mae": [0.8] * H, "mse": [float("nan")] * H},
}


def example(channel: str = "pm2.5", *, series: str = "1", tz: str | None = None, freq: str = "h") -> Example:
    time = pd.date_range("2024-03-30 20:00", periods=W + H, freq=freq, tz=tz)
    truth = np.arange(W, W + H, dtype=np.float32)
    truth[2] = np.nan
    history = np.arange(W, dtype=np.float32)
    return Example(series, channel, time[:W], history, time[W:], truth, truth + 2, np.full(H, 11, dtype=np.float32))


def some(*given: Example) -> Callable[[int], dict[str, Sequence[Example]]]:
    return lambda count: {"forecast": given[:count]}


def drawn(page: Path) -> list[dict]:
    """The traces of every figure of the page, as plotly will read them."""
    calls = re.findall(r"Plotly\.newPlot\(\s*\"[^\"]+\",\s*(\[.*?\]),\s*\{\"height", page.read_text(), re.DOTALL)
    return [trace for call in calls for trace in json.loads(call)]


def test_when_everything_is_on_then_two_pngs_and_one_page_appear(tmp_path: Path) -> None:
    written = Report().write(
        tmp_path / "plots", title="run", examples=some(example(), example("temp")), by_step=BY_STEP
    )
    assert [file.name for file in written] == ["forecast.png", "error_by_step.png", "report.html"]
    assert sorted(file.name for file in (tmp_path / "plots").iterdir()) == sorted(file.name for file in written)
    for png in written[:2]:
        raw = png.read_bytes()
        start = raw.index(b"IDAT")
        width, height = (int.from_bytes(raw[i : i + 4], "big") for i in (16, 20))
        assert raw.startswith(b"\x89PNG")
        assert width == 1300
        assert height > 500
        assert len(set(zlib.decompressobj().decompress(raw[start + 4 :], 200_000))) > 10  # something is drawn


def test_when_the_page_is_opened_then_nothing_is_fetched_and_nothing_is_offered_for_upload(tmp_path: Path) -> None:
    [page] = Report(png=False).write(tmp_path, title="a <b> & c", examples=some(example()), by_step=BY_STEP)
    text = page.read_text()
    assert "plotly.js v" in text
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", text)
    assert '"showSendToCloud": false' in text
    assert "<title>a &lt;b&gt; &amp; c</title>" in text


def test_when_the_page_is_read_back_then_its_lines_are_the_given_numbers(tmp_path: Path) -> None:
    [page] = Report(png=False).write(tmp_path, title="run", examples=some(example()), by_step=BY_STEP)
    traces = drawn(page)
    truth, baseline, forecast = traces[:3]
    assert truth["y"] == [*range(14), None, 15, 16, 17]
    assert truth["x"][-1] == "2024-03-31 13:00:00"
    assert baseline["y"] == [11.0] * 7
    assert forecast["y"] == [11, 14, 15, None, 17, 18, 19]
    assert forecast["x"] == truth["x"][W - 1 :]
    assert {trace["name"]: trace["y"] for trace in traces[3:6]}["ridge"] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    )
    assert {trace["name"]: trace["y"] for trace in traces[6:]}["seasonal naive"] == [None] * H


def test_when_plotly_checks_the_figures_then_it_finds_nothing_wrong(tmp_path: Path) -> None:
    from plotly.graph_objects import Figure

    from tsforecast.report.plots import _plotly

    for charts in (forecast_charts([example(), example()]), error_charts(BY_STEP), []):
        Figure(_plotly(charts))  # raises on an unknown property or value


def test_when_a_window_is_noted_then_its_errors_leave_out_the_missing_truth() -> None:
    [chart] = forecast_charts([example()])
    assert chart.note == "MAE 2 · seasonal naive 3.6"  # |11 - (12, 13, 15, 16, 17)| on average


def test_when_windows_come_from_several_series_then_their_titles_name_the_series() -> None:
    assert [chart.title for chart in forecast_charts([example("y", series="a"), example("y", series="b")])] == [
        "a · y",
        "b · y",
    ]
    assert [chart.title for chart in forecast_charts([example("y"), example("z")])] == ["y", "z"]


def test_when_errors_are_drawn_then_the_model_is_in_front_and_seasonal_naive_keeps_its_colour() -> None:
    for chart in error_charts(BY_STEP):
        assert [line.label for line in chart.lines] == ["seasonal naive", "naive", "ridge"]
        assert chart.lines[0].colour == forecast_charts([example()])[0].lines[1].colour == BASELINES[0]


@pytest.mark.parametrize("freq", ["15min", "D", "MS", "QS", "YS"])
@pytest.mark.parametrize("tz", [None, "Europe/Berlin"])
def test_when_the_frequency_or_zone_is_another_then_it_still_draws(tmp_path: Path, freq: str, tz: str | None) -> None:
    Report().write(tmp_path, title="run", examples=some(example(freq=freq, tz=tz)), by_step=BY_STEP)


def test_when_there_is_little_to_draw_then_it_still_draws(tmp_path: Path) -> None:
    time = pd.date_range("2024", periods=2, freq="D")
    nothing = np.full(1, np.nan)
    bare = Example("1", "y", time[:1], nothing, time[1:], nothing, np.ones(1))
    one = {"ridge": {"mae": [0.1], "mse": [0.2]}}
    assert len(Report().write(tmp_path, title="run", examples=some(bare), by_step=one)) == 3
    [errors, _] = Report(windows=0).write(tmp_path, title="run", examples=some(bare), by_step=one)
    assert errors.name == "error_by_step.png"


def test_when_a_file_cannot_be_written_then_the_error_says_which(tmp_path: Path) -> None:
    (tmp_path / "forecast.png").mkdir()
    with pytest.raises(OutputError, match=r"forecast\.png"):
        Report().write(tmp_path, title="run", examples=some(example()), by_step=BY_STEP)


def test_when_reports_are_off_then_nothing_is_asked_for_or_written(tmp_path: Path) -> None:
    def refuse(count: int) -> dict[str, Sequence[Example]]:
        raise AssertionError(count)

    for report in (NoReport(), Report(png=False, html=False)):
        assert report.write(tmp_path, title="run", examples=refuse, by_step=BY_STEP) == []
    assert not list(tmp_path.iterdir())


def test_when_the_module_is_imported_then_no_plotting_library_is() -> None:
    code = "import sys, tsforecast.report.plots; assert not {'matplotlib', 'plotly'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


FAN = {"90": (np.full(H, 8.0), np.full(H, 22.0)), "80": (np.full(H, 9.0), np.full(H, 20.0))}
COVERED = {"ridge": {**BY_STEP["ridge"], "coverage-90": [0.9, 0.88] * 3, "coverage-80": [0.8] * H}}


def test_when_there_are_intervals_then_the_fan_lies_below_the_lines_widest_first(tmp_path: Path) -> None:
    [chart] = forecast_charts([replace(example(), intervals=FAN)])
    assert [band.label for band in chart.bands] == ["90 % interval", "80 % interval"]
    assert [len(band.x) for band in chart.bands] == [H + 1, H + 1]
    [page] = Report(png=False).write(
        tmp_path, title="run", examples=some(replace(example(), intervals=FAN)), by_step=BY_STEP
    )
    widest = drawn(page)[0]
    assert widest["y"] == [11.0, *[8.0] * H, *[22.0] * H, 11.0]
    assert widest["fill"] == "toself"


def test_when_coverage_is_known_then_it_is_drawn_beside_what_it_should_be(tmp_path: Path) -> None:
    [chart] = coverage_charts(COVERED)
    assert [line.label for line in chart.lines] == [
        "90 % should be", "90 % interval", "80 % should be", "80 % interval",
    ]  # fmt: skip
    assert set(chart.lines[0].y) == {0.9}
    written = Report().write(tmp_path, title="run", examples=some(example()), by_step=COVERED)
    assert "coverage_by_step.png" in [file.name for file in written]
    assert coverage_charts(BY_STEP) == []


def test_when_a_model_says_what_it_leans_on_then_the_largest_come_first(tmp_path: Path) -> None:
    weights = {f"lag {i}": float(i) for i in range(30)}
    bars, line = insight_charts({"importance": weights, "attention": {-1: 0.1, 0: 0.2, 1: 0.7}})
    assert list(bars.bars)[:2] == ["lag 29", "lag 28"]
    assert len(bars.bars) == 20
    assert bars.note == "the first 20 of 30"
    assert list(line.lines[0].x) == [-1, 0, 1]
    insights = {"importance": weights, "attention": {-1: 0.1, 0: 0.2, 1: 0.7}}
    written = Report().write(tmp_path, title="run", examples=some(example()), by_step=BY_STEP, insights=insights)
    assert "insights.png" in [file.name for file in written]
    traces = drawn(written[-1])
    assert [trace["y"][-1] for trace in traces if trace["type"] == "bar"] == ["lag 29"]


def test_when_plotly_checks_the_new_figures_then_it_finds_nothing_wrong() -> None:
    from plotly.graph_objects import Figure

    from tsforecast.report.plots import _plotly

    charts = (
        forecast_charts([replace(example(), intervals=FAN, label="worst")]),
        coverage_charts(COVERED),
        insight_charts({"importance": {"a": 1.0}, "attention": {0: 0.5, 1: 0.5}}),
    )
    for each in charts:
        Figure(_plotly(each))
