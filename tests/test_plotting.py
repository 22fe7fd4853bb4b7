"""Drawn forecasts say what they were given: local times, readable numbers, units, the errors of each window."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.dates import num2date

from tsforecast.data.panel import Panel
from tsforecast.errors import RequestError
from tsforecast.plotting import CHARTS, TICKS, Fan, draw, line, png
from tsforecast.types import Forecast

H, W = 6, 12
FAN = {"90": (np.full(H, 8.0), np.full(H, 22.0)), "80": (np.full(H, 9.0), np.full(H, 20.0))}


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


ZONES = [None, "UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "+05:30"]


FORMS = ["%Y", "%b", "%d %b", "%d", "%H:%M", "%S", "%b %Y", "%d %b %Y", "%d %b %Y %H:%M", ""]


@given(
    start=st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)),
    freq=st.sampled_from(["s", "min", "15min", "h", "D", "B", "W", "MS", "ME", "QS", "YS"]),
    rows=st.integers(3, 60),
    zone=st.sampled_from(ZONES),
)
@settings(deadline=None, max_examples=40)
def test_ticks_are_round_local_times_and_the_last_says_its_day_month_and_year(
    start: datetime, freq: str, rows: int, zone: str | None
) -> None:
    time = pd.date_range(pd.Timestamp(start).floor("s"), periods=rows, freq=freq).tz_localize(
        zone, ambiguous=np.ones(rows, bool), nonexistent="shift_forward"
    )
    axis = draw([Fan("", "y", time, np.arange(rows), np.ones(2))]).axes[0].xaxis
    ticks, labels = axis.get_majorticklocs(), [label.get_text() for label in axis.get_majorticklabels()]
    left, right = axis.get_view_interval()
    assert 0 < sum(left <= tick <= right for tick in ticks) <= TICKS
    local = [num2date(tick, tz=time.tz or "UTC") for tick in ticks]
    for label, tick in zip(labels, local, strict=True):
        assert label in {tick.strftime(form) for form in FORMS} or tick.strftime("%S.%f").startswith(label)
    assert (axis.get_major_formatter().get_offset() or labels[-1]) in {local[-1].strftime(form) for form in FORMS}
    assert all(tick.second == tick.minute == 0 for tick in local) or max(time) - min(time) < pd.Timedelta(days=1)
    assert str(time.tz or "") == axis.axes.get_xlabel()


def test_when_the_data_has_a_time_zone_then_the_axis_shows_its_clock_and_names_it() -> None:
    axes = draw([fan(tz="Europe/Berlin")]).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["21:00", "31 Mar", "03:00", "06:00", "09:00", "12:00"]  # none of 02:00, which the clock skips
    assert axes.xaxis.get_major_formatter().get_offset() == "31 Mar 2024"
    assert axes.get_xlabel() == "Europe/Berlin"
    assert draw([fan()]).axes[0].get_xlabel() == ""


@given(st.floats(-1e9, 1e9), st.sampled_from([0.001, 0.25, 1, 2.5, 200, 5e5]))
@settings(deadline=None, max_examples=30)
def test_numbers_have_separators_and_no_exponent_and_are_the_numbers(begin: float, step: float) -> None:
    axis = draw([lambda axes: line(axes, "y", [0, 1], [begin, begin + 4 * step], "k")], "").axes[0].yaxis
    written = [label.get_text() for label in axis.get_majorticklabels()]
    assert not any("e" in label for label in written)
    read = [float(each.replace(",", "").replace("−", "-")) for each in written]
    assert read == pytest.approx(axis.get_majorticklocs(), abs=step / 10)
    assert all(len(group) == 3 for each in written for group in each.partition(".")[0].split(",")[1:])


def test_large_errors_and_axes_are_written_out() -> None:
    target = np.concatenate([np.arange(W) * 1e6, np.full(H, 2e6)])
    scaled = replace(fan(), target=target, forecast=np.full(H, 3.2345e6))
    axes = draw([replace(scaled, baseline=None)]).axes[0]
    assert axes.get_title("right") == "MAE 1,234,500"
    assert "10,000,000" in [label.get_text() for label in axes.get_yticklabels()]


def test_a_window_is_drawn_as_given_and_its_errors_leave_out_the_missing_truth() -> None:
    axes = draw([replace(fan(), intervals=FAN, label="worst")]).axes[0]
    truth, baseline, forecast = axes.lines
    assert (axes.get_title("left"), axes.get_title("right")) == ("worst · pm2.5", "MAE 2 · seasonal naive 3.6")
    np.testing.assert_array_equal(truth.get_ydata(), [*range(14), np.nan, 15, 16, 17])
    np.testing.assert_array_equal(baseline.get_ydata(), [np.nan] * 11 + [11] * 7)
    np.testing.assert_array_equal(forecast.get_ydata(), [np.nan] * 11 + [11, 14, 15, np.nan, 17, 18, 19])
    assert [band.get_label() for band in axes.collections] == ["90 % interval", "80 % interval"]
    assert axes.collections[0].get_paths()[0].vertices[:, 1].max() == 22


def test_titles_name_the_series_where_there_are_several_and_the_unit_where_it_is_known() -> None:
    figure = draw([fan("y", series="a"), replace(fan("z"), unit="kWh")])
    assert [axes.get_title("left") for axes in figure.axes] == ["a · y", "z (kWh)"]


@pytest.mark.parametrize("freq", ["ms", "15min", "D", "MS", "QS", "YS"])
@pytest.mark.parametrize("tz", [None, "Europe/Berlin"])
def test_any_frequency_or_zone_is_drawn(freq: str, tz: str | None) -> None:
    assert png(draw([fan(freq=freq, tz=tz)])).startswith(b"\x89PNG")


def test_when_there_is_little_to_draw_then_it_still_draws() -> None:
    time = pd.date_range("2024", periods=2, freq="D")
    assert png(draw([Fan("", "y", time, np.full(2, np.nan), np.ones(1))]))


def test_a_dollar_in_a_name_is_a_dollar() -> None:
    name = r"price $\frac$"
    assert png(draw([fan(name)], name, name))


def test_a_forecast_draws_its_history_and_intervals_with_channel_and_unit() -> None:
    figure = replace(forecast(2, ("load", "price"), "Europe/Berlin"), units={"load": "kW"}).plot()
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["s0 · load (kW)", "s0 · price", "s1 · load (kW)", "s1 · price"]
    history, ahead = figure.axes[2].lines
    assert (history.get_label(), ahead.get_label()) == ("history", "forecast")
    np.testing.assert_array_equal(history.get_ydata(), [*range(100, 100 + W), *[np.nan] * H])
    np.testing.assert_array_equal(ahead.get_ydata()[W - 1 :], [100 + W - 1] + [1] * H)
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
