"""The report holds what a scored gave, works without a network, and costs nothing when it is off."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.errors import has, refused

from tsforecast.bundle.bundle import Bundle
from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.errors import ConfigError, OutputError
from tsforecast.features.base import FeatureSet
from tsforecast.models.naive import SeasonalNaiveForecaster
from tsforecast.report.plots import NoReport, Report, examples
from tsforecast.training.evaluate import Evaluation, evaluate
from tsforecast.windows import Windows

ROWS, L, H = 400, 24, 6
GAP = slice(330, 338)  # among the test rows: two windows have nothing to be scored on
INSIGHTS = {"importance": {"lag 1": 0.7, "lag <24>": 0.3}, "attention": [0.1] * 23 + [0.6] + [0.0] * H}


@pytest.fixture(scope="module")
def scored() -> Evaluation:
    rng = np.random.default_rng(0)
    time = pd.date_range("2024-01-01", periods=ROWS, freq="h", tz="Europe/Berlin")
    wave = np.sin(np.arange(ROWS) / 24 * 2 * np.pi)[:, None] + 0.3 * rng.standard_normal((ROWS, 2))
    frame = pd.DataFrame({"date": time, "load": 50 + 10 * wave[:, 0], "wind": wave[:, 1]})
    frame.loc[GAP, ["load", "wind"]] = np.nan
    schema = Schema(target=["load", "wind"], units={"load": "MW"})
    panel = to_panel(frame, schema)
    features = FeatureSet().fit(panel)
    encoded = features.encode(panel)
    dims = encoded.dims(L, H, season=24)
    windows = Windows.over(encoded, lookback=L, horizon=H, begin=np.array([300]), end=np.array([ROWS]))
    model, rival = (
        Bundle(
            schema=schema.resolved(panel), dims=dims, features=features, forecaster=SeasonalNaiveForecaster(season, H),
            quantile_levels=(0.1, 0.5, 0.9), offsets=np.zeros((H, 2, 3), np.float32) + np.float32([-1, 0, 1]),
            metadata={"name": "a <b> & c"},
        )
        for season in (1, 24)
    )  # fmt: skip
    scores = {"naive": evaluate(model, panel, windows, (np.ones((1, 2)), np.ones((1, 2))), keep=True)}
    return Evaluation("test", model, {"seasonal_naive": rival}, panel, windows, scores)


def pointed(page: Path) -> list[list[dict[str, Any]]]:
    """What the page shows under the pointer, chart by chart of each picture."""
    return [json.loads(html.unescape(each)) for each in re.findall(r'data-charts="(.*?)"', page.read_text())]


def test_the_files_are_small_and_in_their_place_and_nothing_else_is(scored: Evaluation, tmp_path: Path) -> None:
    written = Report().write(tmp_path / "plots", scored, INSIGHTS)
    names = ["forecast", "extremes", "error_by_step", "coverage_by_step", "insights"]
    assert [file.name for file in written] == [*(f"{name}.png" for name in names), "report.html"]
    assert set((tmp_path / "plots").iterdir()) == set(written)
    for picture in written[:-1]:
        raw = picture.read_bytes()
        assert raw.startswith(b"\x89PNG")
        assert int.from_bytes(raw[16:20], "big") == 1100
    assert sum(file.stat().st_size for file in written) < 1_500_000


def test_when_the_page_is_opened_then_nothing_is_fetched(scored: Evaluation, tmp_path: Path) -> None:
    text = Report().write(tmp_path, scored, INSIGHTS)[-1].read_text()
    assert not re.search(r"<(script|link|iframe)[^>]*\b(src|href)=", text)
    assert len(re.findall(r'<img src="data:image/png;base64,', text)) == len(re.findall("<img", text)) == 5
    assert "<title>a &lt;b&gt; &amp; c, test rows, horizon 6</title>" in text


def test_the_page_shows_the_numbers_under_the_pointer_at_the_clock_of_the_data(
    scored: Evaluation, tmp_path: Path
) -> None:
    forecast, extremes, errors, coverage, insights = pointed(Report().write(tmp_path, scored, INSIGHTS)[-1])
    assert (len(forecast), len(extremes)) == (3, 3)
    chart, origin, panel = forecast[0], scored.windows.origins[0], scored.panel
    assert chart["zone"] == "Europe/Berlin"
    first = origin - 30
    assert chart["point"][0] == panel.time[first].timestamp() * 1000
    truth = panel.target[first : origin + H, 1]  # the last channel first
    assert chart["lines"]["truth"] == [None if np.isnan(y) else float(f"{y:.6g}") for y in truth]
    scaled = scored.bundle.predict(scored.windows, slice(0, 1))
    point = scored.bundle.invert(scaled, scored.windows.series[:1]).point[0, :, 1]
    assert chart["lines"]["forecast"][-H:] == pytest.approx(point.tolist(), rel=1e-5)
    assert chart["lines"]["forecast"][:29] == [None] * 29
    x0, y0, x1, y1 = chart["box"]
    assert 0 < x0 < x1 < 1
    assert 0 < y0 < y1 < 1
    assert 0 < chart["place"][0] < chart["place"][-1] < 1
    assert errors[0]["lines"]["naive"] == pytest.approx(scored.scores["naive"].by_step()["mae"], rel=1e-5)
    share = 100 * np.array(scored.scores["naive"].by_step()["coverage-80"])
    assert coverage[0]["lines"]["80 % interval"] == pytest.approx(share, rel=1e-5)
    assert coverage[0]["zone"] is None
    assert insights[0]["point"] == list(range(-23, 1 + H))  # attention; the bars have none


def test_the_worst_and_the_best_windows_are_those_of_a_slow_loop_and_do_not_overlap(scored: Evaluation) -> None:
    extremes = examples(scored, 3)["extremes"]
    assert [fan.label for fan in extremes] == ["worst", "worst", "best"]
    errors = []
    for i, origin in enumerate(scored.windows.origins):
        error = np.abs(
            scored.bundle.predict(scored.windows, slice(i, i + 1)).point[0] - scored.windows.label(slice(i, i + 1))[0]
        )
        errors += [(float(np.nanmean(error)), origin, np.nanmean(error, axis=0))] if not np.isnan(error).all() else []
    assert len(errors) < len(scored.windows)
    for fan, (_, origin, by_channel) in zip(extremes[::2], (max(errors)[:3], min(errors)[:3]), strict=True):
        assert fan.time[-H] == scored.panel.time[origin]
        assert fan.channel == scored.panel.channels[(np.argmin if fan.label == "best" else np.argmax)(by_channel)]
    assert abs(extremes[0].time[-1] - extremes[1].time[-1]) >= pd.Timedelta(hours=H)


def test_a_window_without_truth_is_no_extreme(scored: Evaluation) -> None:
    for fan in examples(scored, 2 * len(scored.windows))["extremes"]:
        assert not np.isnan(fan.target[-H:]).all()


def test_only_windows_that_are_drawn_are_forecast_again(scored: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, predict = [], Bundle.predict

    def counted(self: Bundle, windows: Any, index: slice) -> Any:
        asked.append(len(windows))
        return predict(self, windows, index)

    monkeypatch.setattr(Bundle, "predict", counted)
    examples(scored, 3)
    assert asked == [6, 6]  # the model, the baseline


def test_charts_have_the_channel_its_unit_the_intervals_and_the_baseline(scored: Evaluation) -> None:
    fans = examples(scored, 3)["forecast"]
    assert [(fan.channel, fan.unit, fan.series) for fan in fans] == [
        ("wind", "", ""),
        ("load", "MW", ""),
        ("wind", "", ""),
    ]
    assert all(fan.baseline is not None and set(fan.intervals) == {"80"} for fan in fans)


def test_a_forecast_is_drawn_with_the_units_that_the_bundle_keeps(scored: Evaluation, tmp_path: Path) -> None:
    saved = scored.bundle.save(tmp_path / "bundle")
    for bundle in (scored.bundle, saved):
        axes = bundle.forecast(scored.panel).plot().axes
        assert [each.get_title("left") for each in axes] == ["load (MW)", "wind"]
    assert saved.forecast(scored.panel).plot().axes[0].get_xlabel() == "Europe/Berlin"


def test_when_a_unit_is_of_no_column_then_the_columns_are_named(scored: Evaluation) -> None:
    schema = replace(scored.bundle.schema, units={"laod": "MW"})
    with pytest.raises(ConfigError) as raised:
        schema.resolved(scored.panel)
    assert (raised.value.where, raised.value.got) == ("dataset.units", ["laod"])
    assert "load" in str(raised.value.allowed)


def test_when_there_is_no_baseline_or_one_window_then_it_is_drawn(scored: Evaluation, tmp_path: Path) -> None:
    assert Report().write(tmp_path, replace(scored, rivals={}))
    scores = {"naive": replace(scored.scores["naive"])}
    scores["naive"]._losses.append(np.array([[0.1, 0.2]]))
    assert len(examples(replace(scored, scores=scores, windows=scored.windows.subset(slice(0, 1))), 5)["extremes"]) == 2


def test_when_no_windows_are_asked_for_then_only_the_steps_are_drawn(scored: Evaluation, tmp_path: Path) -> None:
    files = Report(windows=0).write(tmp_path, scored)
    assert [file.name for file in files] == ["error_by_step.png", "coverage_by_step.png", "report.html"]


def test_when_a_file_cannot_be_written_then_the_error_says_which(scored: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "forecast.png").mkdir()
    with refused(OutputError, where=has("forecast.png"), got="Is a directory"):
        Report().write(tmp_path, scored, INSIGHTS)


def test_when_reports_are_off_then_nothing_is_forecast_or_written(
    scored: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Bundle, "predict")
    assert NoReport().write(tmp_path, scored, INSIGHTS) == []
    assert not list(tmp_path.iterdir())
