"""Charts say what they were given: local times, readable numbers, the errors of each window."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.dates import date2num

from tsforecast.data.panel import Panel
from tsforecast.errors import RequestError
from tsforecast.report.charts import (
    BASELINES,
    CHARTS,
    TICKS,
    Fan,
    coverage_charts,
    draw,
    error_charts,
    fan_figure,
    insight_charts,
    numbers,
    png,
    round_times,
)
from tsforecast.types import Forecast

H, W = 6, 12
BY_STEP = {
    "ridge": {"mae": [0.1 * k for k in range(1, H + 1)], "mse": np.arange(1, H + 1) * 0.2, "mae_raw": [1.0] * H},
    "naive": {"mae": [0.7] * H, "mse": [0.9] * H},
    "seasonal_naive": {"mae": [0.8] * H, "mse": [float("nan")] * H},
}
FAN = {"90": (np.full(H, 8.0), np.full(H, 22.0)), "80": (np.full(H, 9.0), np.full(H, 20.0))}
COVERED = {"ridge": {**BY_STEP["ridge"], "coverage-90": [0.9, 0.88] * 3, "coverage-80": [0.8] * H}}


def fan(channel: str = "pm2.5", *, series: str = "", tz: str | None = None, freq: str = "h") -> Fan:
    time = pd.date_range("2024-03-30 20:00", periods=W + H, freq=freq, tz=tz)
    truth = np.arange(W, W + H, dtype=np.float32)
    truth[2] = np.nan
    target = np.concatenate([np.arange(W, dtype=np.float32), truth])
    return Fan(series, channel, time, target, truth + 2, np.full(H, 11, dtype=np.float32))


def forecast(series: int = 1, channels: tuple[str, ...] = ("load",), tz: str | None = None) -> Forecast:
    """Series i holds 100 i, 100 i + 1, ... with two rows more than the forecast reads ahead of."""
    c, ids = len(channels), np.array([f"s{i}" for i in range(series)])
    stamps = pd.date_range("2024-03-30", periods=W + H, freq="h", tz=tz)
    target = np.concatenate([100 * i + np.arange(W + H)[:, None] + np.zeros(c) for i in range(series)])
    target[np.arange(len(target)) % (W + H) >= W] = np.nan
    empty = np.empty((len(target), 0))
    panel = Panel(
        ids, np.arange(series + 1) * (W + H), stamps[:0].append([stamps] * series), target, empty, empty,
        np.empty((series, 0)), channels, (), (), (), "h",
    )  # fmt: skip
    values = np.ones((series, H, c))
    return Forecast(
        ids, stamps[[W - 1] * series], (stamps[W:],) * series, channels, values, panel, (0.05, 0.5, 0.95),
        values[..., None] + [-1, 0, 1],
    )  # fmt: skip


FORMS = ["%Y", "%b %Y", "%d %b %Y", "%H:%M %d %b %Y", "%H:%M:%S %d %b %Y"]


def _parsed(label: str, form: str, zone: str | None) -> pd.Timestamp | None:
    try:
        return pd.Timestamp(datetime.strptime(label, form)).tz_localize(zone, ambiguous=True)
    except ValueError:
        return None


ZONES = [None, "UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "+05:30"]


@given(
    start=st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)),
    freq=st.sampled_from(["s", "min", "15min", "h", "D", "B", "W", "MS", "ME", "QS", "YS"]),
    rows=st.integers(2, 60),
    zone=st.sampled_from(ZONES),
)
@settings(deadline=None, max_examples=60)
def test_ticks_are_round_local_times_and_say_when_the_day_month_or_year_changes(
    start: datetime, freq: str, rows: int, zone: str | None
) -> None:
    time = pd.date_range(pd.Timestamp(start).floor("s"), periods=rows, freq=freq).tz_localize(
        zone, ambiguous=np.ones(rows, bool), nonexistent="shift_forward"
    )
    ticks, labels = round_times(time[0], time[-1])
    assert 0 < len(ticks) <= TICKS
    assert ticks.is_monotonic_increasing
    assert time[0] <= ticks[0] <= ticks[-1] <= time[-1]
    above = ""
    for tick, label in zip(ticks, labels, strict=True):
        fine, changed, over = label.partition("\n")
        assert not changed or over != above  # said once
        above = over if changed else above
        read = [form for form in FORMS if tick == _parsed(f"{fine} {above}".strip(), form, zone)]
        assert read, label


def test_december_is_december_where_the_new_year_is_in_the_chart() -> None:
    _, labels = round_times(pd.Timestamp("2013-12-20"), pd.Timestamp("2014-01-05"))
    assert labels == ["20\nDec 2013", "22", "24", "26", "28", "30", "01\nJan 2014", "03", "05"]


def test_when_the_data_has_a_time_zone_then_the_axis_shows_its_clock_and_names_it() -> None:
    axes = fan_figure([fan(tz="Europe/Berlin")]).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["21:00\n30 Mar 2024", "00:00\n31 Mar 2024", "03:00", "06:00", "09:00", "12:00"]
    assert axes.get_xticks()[0] == date2num(np.datetime64("2024-03-30T20:00"))
    assert axes.get_xlabel() == "Europe/Berlin"
    assert fan_figure([fan()]).axes[0].get_xlabel() == ""


@given(st.floats(-1e12, 1e12), st.sampled_from([0.001, 0.25, 1, 2.5, 200, 5e5]))
def test_numbers_have_separators_and_no_exponent_and_are_the_numbers(begin: float, step: float) -> None:
    ticks = [round(begin / step) * step + i * step for i in range(5)]
    written = numbers(ticks)
    assert not any("e" in label for label in written)
    assert [float(each.replace(",", "").replace("−", "-")) for each in written] == pytest.approx(ticks, abs=step / 10)
    assert all(len(group) == 3 for each in written for group in each.partition(".")[0].split(",")[1:])


def test_large_errors_and_axes_are_written_out() -> None:
    target = np.concatenate([np.arange(W) * 1e6, np.full(H, 2e6)])
    scaled = replace(fan(), target=target, forecast=np.full(H, 3.2345e6))
    axes = fan_figure([replace(scaled, baseline=None)]).axes[0]
    assert axes.get_title("right") == "MAE 1,234,500"
    assert "10,000,000" in [label.get_text() for label in axes.get_yticklabels()]


def test_a_window_is_drawn_as_given_and_its_errors_leave_out_the_missing_truth() -> None:
    axes = fan_figure([replace(fan(), intervals=FAN, label="worst")]).axes[0]
    truth, baseline, forecast = axes.lines
    assert (axes.get_title("left"), axes.get_title("right")) == ("worst · pm2.5", "MAE 2 · seasonal naive 3.6")
    np.testing.assert_array_equal(truth.get_ydata(), [*range(14), np.nan, 15, 16, 17])
    np.testing.assert_array_equal(baseline.get_ydata(), [11] * 7)
    np.testing.assert_array_equal(forecast.get_ydata(), [11, 14, 15, np.nan, 17, 18, 19])
    assert list(forecast.get_xdata()) == list(truth.get_xdata()[W - 1 :])
    assert [band.get_label() for band in axes.collections] == ["90 % interval", "80 % interval"]
    assert axes.collections[0].get_paths()[0].vertices[:, 1].max() == 22


def test_titles_name_the_series_where_there_are_several_and_the_unit_where_it_is_known() -> None:
    figure = fan_figure([fan("y", series="a"), replace(fan("z"), unit="kWh")])
    assert [axes.get_title("left") for axes in figure.axes] == ["a · y", "z (kWh)"]


def test_the_model_is_in_front_and_seasonal_naive_keeps_its_colour() -> None:
    for axes in draw(error_charts(BY_STEP), "run", "", columns=2).axes:
        assert [line.get_label() for line in axes.lines] == ["seasonal naive", "naive", "ridge"]
        assert axes.lines[0].get_color() == fan_figure([fan()]).axes[0].lines[1].get_color() == BASELINES[0]
        assert axes.get_ylim()[0] == 0


def test_coverage_is_drawn_beside_what_it_should_be_on_an_axis_of_its_own_range() -> None:
    axes = draw(coverage_charts(COVERED), "run", "").axes[0]
    assert [line.get_label() for line in axes.lines if line.get_label()[0] != "_"] == ["90 % interval", "80 % interval"]
    assert [set(line.get_ydata()) for line in axes.lines] == [{90}, {90, 88}, {80}, {80}]
    assert axes.get_ylim()[0] > 75
    assert coverage_charts(BY_STEP) == []


def test_what_a_model_leans_on_is_drawn_largest_first() -> None:
    weights = {f"lag {i}": float(i) for i in range(30)}
    bars, line = draw(insight_charts({"importance": weights, "attention": {-1: 0.1, 0: 0.2, 1: 0.7}}), "", "").axes
    assert [label.get_text() for label in bars.get_yticklabels()][:2] == ["lag 29", "lag 28"]
    assert len(bars.patches) == 20
    assert bars.get_xlabel() == "weight, the first 20 of 30"
    assert list(line.lines[0].get_xdata()) == [-1, 0, 1]


@pytest.mark.parametrize("freq", ["ms", "15min", "D", "MS", "QS", "YS"])
@pytest.mark.parametrize("tz", [None, "Europe/Berlin"])
def test_any_frequency_or_zone_is_drawn(freq: str, tz: str | None) -> None:
    assert png(fan_figure([fan(freq=freq, tz=tz)])).startswith(b"\x89PNG")


def test_when_there_is_little_to_draw_then_it_still_draws() -> None:
    time = pd.date_range("2024", periods=2, freq="D")
    assert png(fan_figure([Fan("", "y", time, np.full(2, np.nan), np.ones(1))]))
    assert png(draw(error_charts({"ridge": {"mae": [0.1], "mse": [0.2]}}), "run", "", columns=2))


def test_a_dollar_in_a_name_is_a_dollar() -> None:
    name = r"price $\frac$"
    assert png(draw(insight_charts({name: {name: 1.0}}), name, name))
    assert png(fan_figure([fan(name)], name))


def test_a_forecast_draws_its_history_and_intervals_with_channel_and_unit() -> None:
    figure = forecast(2, ("load", "price"), "Europe/Berlin").plot(units={"load": "kW"})
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["s0 · load (kW)", "s0 · price", "s1 · load (kW)", "s1 · price"]
    history, ahead = figure.axes[2].lines
    assert (history.get_label(), ahead.get_label()) == ("history", "forecast")
    np.testing.assert_array_equal(history.get_ydata(), [*range(100, 100 + W), *[np.nan] * H])
    np.testing.assert_array_equal(ahead.get_ydata(), [100 + W - 1] + [1] * H)
    assert figure.axes[0].collections[0].get_label() == "90 % interval"
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_what_is_asked_of_a_forecast_is_drawn_and_what_is_not_there_is_named() -> None:
    many = forecast(5, ("load", "price", "wind"))
    assert [axes.get_title("left") for axes in many.plot(["s4"], ["wind"]).axes] == ["s4 · wind"]
    assert len(many.plot().axes) == CHARTS
    assert f"The first {CHARTS} of 15 forecasts" in [text.get_text() for text in many.plot().texts]
    for where, arguments in (("series", {"series": ["s9"]}), ("channels", {"channels": ["lod"]})):
        with pytest.raises(RequestError) as raised:
            many.plot(**arguments)
        assert raised.value.where == where
