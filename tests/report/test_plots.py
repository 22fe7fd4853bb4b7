"""The report holds what it is given, works without a network, and costs nothing when it is off."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.report.test_charts import BY_STEP, COVERED, W, fan

from tsforecast.errors import OutputError
from tsforecast.report.charts import Fan
from tsforecast.report.plots import NoReport, Report


def some(*given: Fan) -> Callable[[int], dict[str, Sequence[Fan]]]:
    return lambda count: {"forecast": given[:count], "extremes": []}


def pointed(page: Path) -> list[list[dict[str, Any]]]:
    """What the page shows under the pointer, chart by chart of each picture."""
    return [json.loads(html.unescape(each)) for each in re.findall(r'data-charts="(.*?)"', page.read_text())]


def test_the_files_are_small_and_in_their_place_and_nothing_else_is(tmp_path: Path) -> None:
    given = {"by_step": COVERED, "insights": {"importance": {"a": 1.0}}}
    written = Report().write(tmp_path / "plots", title="run", examples=some(fan(), fan("temp")), **given)
    names = ["forecast.png", "error_by_step.png", "coverage_by_step.png", "insights.png", "report.html"]
    assert [file.name for file in written] == names
    assert sorted(file.name for file in (tmp_path / "plots").iterdir()) == sorted(names)
    for picture in written[:-1]:
        raw = picture.read_bytes()
        assert raw.startswith(b"\x89PNG")
        assert int.from_bytes(raw[16:20], "big") == 1100
    assert sum(file.stat().st_size for file in written) < 500_000


def test_when_the_page_is_opened_then_nothing_is_fetched(tmp_path: Path) -> None:
    page = Report().write(tmp_path, title="a <b> & c", examples=some(fan()), by_step=BY_STEP)[-1]
    text = page.read_text()
    assert not re.search(r"<(script|link|iframe)[^>]*\b(src|href)=", text)
    assert len(re.findall(r'<img src="data:image/png;base64,', text)) == len(re.findall("<img", text)) == 2
    assert "<title>a &lt;b&gt; &amp; c</title>" in text


def test_the_page_shows_the_given_numbers_under_the_pointer_at_the_clock_of_the_data(tmp_path: Path) -> None:
    given = {"examples": some(fan(tz="Europe/Berlin")), "by_step": COVERED, "insights": {"importance": {"a": 1.0}}}
    forecast, errors, coverage, bars = pointed(Report().write(tmp_path, title="run", **given)[-1])
    [chart] = forecast
    assert chart["zone"] == "Europe/Berlin"
    assert chart["point"][0] == 1711825200000  # 2024-03-30 19:00 UTC: 20:00 there
    assert chart["lines"]["truth"] == [*range(14), None, 15, 16, 17]
    assert chart["lines"]["forecast"] == [None] * (W - 1) + [11, 14, 15, None, 17, 18, 19]
    x0, y0, x1, y1 = chart["box"]
    assert 0 < x0 < x1 < 1
    assert 0 < y0 < y1 < 1
    assert 0 < chart["place"][0] < chart["place"][-1] < 1
    assert errors[0]["lines"]["ridge"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert coverage[0]["lines"]["90 % interval"] == [90, 88] * 3
    assert coverage[0]["zone"] is None
    assert bars == []


def test_when_no_windows_are_asked_for_then_only_the_steps_are_drawn(tmp_path: Path) -> None:
    errors, page = Report(windows=0).write(tmp_path, title="run", examples=some(fan()), by_step=BY_STEP)
    assert (errors.name, page.name) == ("error_by_step.png", "report.html")


def test_when_a_file_cannot_be_written_then_the_error_says_which(tmp_path: Path) -> None:
    (tmp_path / "forecast.png").mkdir()
    with pytest.raises(OutputError, match=r"forecast\.png"):
        Report().write(tmp_path, title="run", examples=some(fan()), by_step=BY_STEP)


def test_when_reports_are_off_then_nothing_is_asked_for_or_written(tmp_path: Path) -> None:
    def refuse(count: int) -> dict[str, Sequence[Fan]]:
        raise AssertionError(count)

    assert NoReport().write(tmp_path, title="run", examples=refuse, by_step=BY_STEP) == []
    assert not list(tmp_path.iterdir())


def test_when_the_module_is_imported_then_no_plotting_library_is() -> None:
    code = "import sys, tsforecast.report.plots; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
