"""Frames into panels: every problem is reported, with its rows, and nothing is mended unasked."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.errors import has, refused

from tsforecast.data.arrays import Arrays
from tsforecast.data.columns import Problems
from tsforecast.data.frames import read_known_future, to_panel
from tsforecast.data.frequency import parse
from tsforecast.data.schema import Schema
from tsforecast.data.stamps import read_stamps
from tsforecast.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def wide(stamps, **columns) -> pd.DataFrame:
    return pd.DataFrame({"date": stamps, "a": RNG.random(len(stamps)), **columns})


def hours(n: int = 50) -> pd.DatetimeIndex:
    return pd.date_range("2021-06-01", periods=n, freq="h")


def long(ids, n: int = 25, **columns) -> pd.DataFrame:
    ds = np.tile(hours(n).to_numpy(), len(ids))
    frame = pd.DataFrame({"unique_id": np.repeat(ids, n), "ds": ds, "y": RNG.random(n * len(ids))})
    return frame.assign(**columns)


def complaint(frame, schema=None, **arguments) -> str:
    with pytest.raises(DataError) as caught:
        to_panel(frame, schema or Schema(freq="h"), **arguments)
    return str(caught.value)


# ---- what a good frame becomes


def test_when_a_wide_frame_is_clean_then_the_panel_holds_its_values_and_stamps():
    frame = wide(hours(), b=np.arange(50))
    panel = to_panel(frame, Schema())
    np.testing.assert_array_equal(panel.target, frame[["a", "b"]].to_numpy(np.float32))
    assert panel.channels == ("a", "b")
    assert panel.freq == "h"
    assert list(panel.time) == list(frame["date"])


def test_when_columns_are_shuffled_then_the_named_channels_keep_their_order():
    frame = wide(hours(), b=np.arange(50.0), c=np.arange(50.0) ** 2)
    schema = Schema(target=("c", "a"), past=("b",))
    straight, shuffled = to_panel(frame, schema), to_panel(frame[["c", "b", "date", "a"]], schema)
    np.testing.assert_array_equal(straight.target, shuffled.target)
    np.testing.assert_array_equal(straight.past, shuffled.past)


def test_when_series_are_interleaved_then_each_is_gathered_in_order_of_appearance():
    frame = long(["b", "a"])
    mixed = frame.sort_values(["ds", "unique_id"], ascending=[True, False])
    panel = to_panel(mixed, Schema(id="unique_id"))
    assert list(panel.ids) == ["b", "a"]
    np.testing.assert_array_equal(panel.target[:, 0], frame["y"].to_numpy(np.float32))


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        ([7, 8], ["7", "8"]),
        ([7.0, 8.0], ["7", "8"]),
        (["x", "y"], ["x", "y"]),
        (pd.Categorical(["q", "p"]), ["q", "p"]),
    ],
)
def test_ids_are_text_whatever_they_were(ids, names):
    frame = long(list(ids))
    if isinstance(ids, pd.Categorical):
        frame["unique_id"] = frame["unique_id"].astype("category")
    assert list(to_panel(frame, Schema(id="unique_id")).ids) == names


def test_when_the_time_is_in_parts_then_it_is_assembled():
    stamps = hours()
    parts = pd.DataFrame({name: getattr(stamps, name) for name in ("year", "month", "day", "hour")})
    panel = to_panel(parts.assign(a=RNG.random(50)), Schema(time=["year", "month", "day", "hour"]))
    assert list(panel.time) == list(stamps)
    assert panel.channels == ("a",)


def test_when_columns_are_the_index_or_have_numbers_as_names_then_they_are_found():
    assert to_panel(wide(hours()).rename(columns={"a": 3}).set_index("date"), Schema()).channels == ("3",)


def test_the_schema_survives_json():
    schema = Schema(time=["year", "month"], target=["a"], known="k", freq="MS")
    assert Schema(**json.loads(json.dumps(asdict(schema)))) == schema


# ---- frequency


@pytest.mark.parametrize(
    "freq", ["min", "15min", "h", "6h", "D", "B", "W-SUN", "MS", "ME", "QS-JAN", "QE-DEC", "YS-JAN"]
)
def test_when_rows_are_missing_then_freq_is_inferred_and_filling_restores_the_grid(freq, caplog):
    stamps = pd.date_range("2000-01-02", periods=60, freq=freq)
    holey = wide(stamps).drop(index=[20, 21, 40])
    with caplog.at_level(logging.INFO):
        panel = to_panel(holey, Schema(gaps="fill"))
    assert list(panel.time) == list(stamps)
    assert list(np.flatnonzero(np.isnan(panel.target[:, 0]))) == [20, 21, 40]
    assert panel.freq == freq
    assert f"freq inferred as {freq!r}" in caplog.text


@given(
    day=st.integers(1, 28), months=st.sampled_from([1, 3, 12]), hour=st.integers(0, 23), start=st.integers(0, 400),
    zone=st.sampled_from([None, "Europe/Berlin"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None, derandomize=True)
def test_when_rows_stand_on_a_day_of_the_month_then_the_frequency_is_in_months_and_forecasts_stand_there_too(
    day, months, hour, start, zone
):
    first = pd.Timestamp("1990-01-01") + pd.DateOffset(months=start)
    every = [first + pd.DateOffset(months=months * i, days=day - 1, hour=hour) for i in range(24)]
    stamps = pd.DatetimeIndex(every).tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    assume(not stamps.hasnans)  # an hour that the zone skips or has twice is no timestamp by itself
    data = wide(stamps).drop(index=[12, 14, 15]).iloc[:17]
    panel = to_panel(data, Schema(gaps="fill"))
    assert parse(panel.freq).rule_code[:2] in ("MS", "QS", "YS")
    assert panel.time.equals(stamps[:20].as_unit("ns"))
    assert panel.future_time(4).equals(stamps[20:].as_unit("ns"))


def test_when_freq_is_stated_wrongly_then_the_prevailing_one_is_named():
    assert "off the grid of freq 'D'; the prevailing step is 'h'" in complaint(wide(hours()), Schema(freq="D"))


def test_when_freq_is_no_alias_then_the_nearest_is_named():
    with refused(ConfigError, where="dataset.freq", got="H1", fix=has("did you mean 'h'")):
        Schema(freq="H1")


def test_when_series_have_other_phases_then_each_has_its_own_grid():
    frame = long(["a", "b"])
    frame.loc[25:, "ds"] += pd.Timedelta("30min")
    assert len(to_panel(frame, Schema(id="unique_id", freq="h"))) == 2


# ---- daylight saving and zones


def berlin(start: str, periods: int, freq: str) -> pd.DatetimeIndex:
    return pd.date_range(start, periods=periods, freq=freq, tz="Europe/Berlin")


@pytest.mark.parametrize("freq", ["h", "15min", "D"])
def test_when_stamps_have_a_zone_then_it_is_kept_across_the_change(freq):
    stamps = berlin("2021-03-20", 60 if freq == "D" else 1200, freq)
    panel = to_panel(wide(stamps), Schema())
    assert str(panel.time.tz) == "Europe/Berlin"
    assert panel.freq == freq


@pytest.mark.parametrize("freq", ["h", "15min"])
def test_when_local_time_skips_an_hour_then_the_gap_is_called_by_its_name(freq):
    stamps = berlin("2021-03-27", 150, freq).tz_localize(None)
    said = complaint(wide(stamps), Schema(freq=freq))
    assert "gaps" in said
    assert "of which a daylight-saving change explains 1: 2021-03-28" in said
    assert "gaps=fill" not in said
    assert "dataset.localize=Europe/Berlin" in said


@pytest.mark.parametrize(("freq", "rows"), [("h", 1), ("15min", 4)])
def test_when_local_time_tells_an_hour_twice_then_it_is_called_by_its_name(freq, rows):
    stamps = berlin("2021-10-30", 150, freq).tz_localize(None)
    said = complaint(wide(stamps), Schema(freq=freq))
    assert "duplicate timestamps" in said
    assert f"of which a daylight-saving change explains {rows}: 2021-10-31" in said
    assert "duplicates=last" not in said
    assert "dataset.localize=Europe/Berlin" in said


@pytest.mark.parametrize("freq", ["h", "15min"])
def test_local_time_is_read_across_both_changes_with_hours_told_twice_in_order(freq):
    stamps = berlin("2021-03-20", 240 * 24 * (4 if freq == "15min" else 1), freq)
    one = wide(stamps.tz_localize(None))
    mixed = pd.concat([one.assign(id="a"), one.assign(id="b")]).sort_index(kind="stable")
    for text in (False, True):
        data = mixed.assign(date=mixed["date"].astype(str)) if text else mixed
        panel = to_panel(data, Schema("date", "id", "a", localize="Europe/Berlin"))
        assert panel.time.equals(stamps.append(stamps).as_unit("ns"))
        assert panel.freq == freq


def test_when_an_hour_never_was_then_it_is_not_read_and_when_it_was_told_once_then_that_is_a_gap():
    stamps = pd.date_range("2021-03-27", periods=48, freq="h")
    said = complaint(wide(stamps), Schema(localize="Europe/Berlin"))
    assert "or never were in Europe/Berlin, such as '2021-03-28 02:00:00' (1 row: 28)" in said
    once = berlin("2021-10-30", 72, "h").tz_localize(None).unique()
    assert "1 timestamps missing" in complaint(wide(once), Schema(localize="Europe/Berlin"))


def test_when_a_gap_is_no_daylight_saving_then_it_is_not_called_one():
    assert "daylight" not in complaint(wide(hours().delete([20])))


def test_when_offsets_change_within_the_column_then_they_are_read_as_utc():
    stamps = berlin("2021-03-27", 72, "h")
    panel = to_panel(wide([t.isoformat() for t in stamps]), Schema())
    assert list(panel.time) == list(stamps.tz_convert("UTC"))


def test_when_a_zone_is_named_then_offsets_are_converted_to_it_and_other_timestamps_are_refused():
    local = pd.date_range("2023-10-28", periods=72, freq="h", tz="Europe/Berlin")
    data = wide(local.tz_convert("UTC"))
    berlin, naive = Schema(timezone="Europe/Berlin"), Schema(timezone="naive")
    assert to_panel(data, berlin).time.equals(local)
    assert to_panel(wide([stamp.isoformat() for stamp in local]), berlin).time.equals(local)
    with refused(DataError, where="the frame", what=has("no time zone", "Europe/Berlin")):
        to_panel(wide(hours()), berlin)
    with refused(DataError, where="the frame", what=has("UTC", "have none")):
        to_panel(data, naive)
    assert to_panel(wide(hours()), naive).time.tz is None
    with refused(ConfigError, where="dataset.timezone", got="Europe/Atlantis", allowed=has("Europe/Berlin")):
        Schema(timezone="Europe/Atlantis")


@pytest.mark.parametrize(
    "zone", ["dateutil//dev/stdin", "dateutil/Europe/Berlin", "/dev/stdin", "../zone", "tzlocal()", ""]
)
def test_a_zone_is_one_of_the_zones_and_no_file_elsewhere(zone):
    with refused(ConfigError, where="dataset.timezone", allowed=has("Europe/Berlin")):
        Schema(timezone=zone)


def test_when_days_in_a_zone_are_filled_then_a_day_of_23_hours_is_one_day():
    stamps = berlin("2021-03-20", 40, "D")
    panel = to_panel(wide(stamps).drop(index=[7, 8, 9]), Schema(gaps="fill"))
    assert list(panel.time) == list(stamps)


# ---- problems


def test_when_much_is_wrong_then_all_of_it_is_reported_with_rows_as_a_spreadsheet_counts():
    stamps = [str(t) for t in hours(40)]
    frame = wide(stamps, const=1.0, gone=np.nan, text=["x", *map(str, range(39))], wild=[np.inf, *range(39)])
    frame.loc[4, "date"] = "yesterday"
    frame = frame.drop(index=[20, 21]).iloc[[*range(36), 35, 37, 36]].reset_index(drop=True)
    said = complaint(frame)
    assert said.startswith("8 problems in the data")
    for expected in (
        "timestamps that cannot be read, such as 'yesterday' (1 row: 6)",
        "column 'text' has cells that are not numbers, such as 'x' (1 row: 2)",
        "column 'wild' has values beyond 1e+18, such as inf (1 row: 2)",
        "timestamps are not sorted (1 row: 40)",
        "duplicate timestamps (1 row: 38)",
        "gaps against freq 'h', 3 timestamps missing, before (2 rows: 7, 22)",
        "channel 'const' is constant (1)",
        "channel 'gone' is all missing",
        "dataset.unsorted=sort dataset.duplicates=last dataset.gaps=fill",
    ):
        assert expected in said


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (wide(range(50)), "column 'date' holds numbers such as 0, not timestamps"),
        (wide(["3000-01-01 00:00", *map(str, hours(49))]), "cannot be read, such as '3000-01-01 00:00' (1 row: 2)"),
        (wide(hours()).iloc[:0], "there are no rows"),
        (wide(hours())[["date"]], "no channel column"),
        (wide(hours(), t=hours()), "column 't' has cells that are not numbers"),
        (wide(hours(), b=[1e300, *range(49)]), "column 'b' has values beyond 1e+18, such as 1e+300 (1 row: 2)"),
        (wide(hours(), b=[-1e30, *range(49)]), "column 'b' has values beyond 1e+18, such as -1e+30 (1 row: 2)"),
        (pd.concat([wide(hours()), wide(hours())[["a"]]], axis=1), "more than once: a"),
        (wide(hours()).rename(columns={"date": "dates"}), "column 'date' is missing; did you mean 'dates'?"),
    ],
)
def test_when_a_wide_frame_cannot_be_used_then_the_reason_is_named(frame, expected):
    assert expected in complaint(frame)


def test_when_a_long_frame_is_taken_for_a_wide_one_then_the_rows_of_one_series_are_not_what_is_offered():
    frame = long(["s", "t", "u"]).rename(columns={"ds": "date"})
    for schema in (Schema(freq="h"), Schema(freq="h", target=["y"])):
        said = complaint(frame, schema)
        assert "dataset=long dataset.id=unique_id" in said
        assert "duplicates=last" not in said


@pytest.mark.parametrize("count", [10, 50])
def test_when_no_timestamp_can_be_read_then_that_is_said_of_the_last_rows_too(count):
    assert "cannot be read, such as 'soon'" in complaint(wide(["soon"] * 50), Schema(freq="MS"), tail=count)
    one = long(["s", "t"]).astype({"ds": str})
    one.loc[25:, "ds"] = "soon"
    assert "cannot be read, such as 'soon' (25 rows" in complaint(one, Schema(id="unique_id", freq="h"), tail=count)


def test_when_freq_cannot_be_inferred_then_it_is_asked_for():
    assert "dataset.freq=h" in complaint(wide(hours(2)), Schema())


def test_when_series_have_no_name_or_no_values_then_they_are_listed():
    frame = long(["a", "b", "c"])
    frame.loc[3, "unique_id"] = None
    frame.loc[frame["unique_id"] == "b", "y"] = np.nan
    said = complaint(frame[:70], Schema(id="unique_id", freq="h"))
    assert "column 'unique_id' names no series (1 row: 5)" in said
    assert "1 series are all missing: b" in said


def test_when_a_known_covariate_has_holes_then_it_is_an_error_also_where_gaps_are_filled():
    frame = wide(hours(), k=[np.nan, *range(49)])
    assert "covariate 'k' has missing values, and is to be known in every row (1 row: 2)" in complaint(
        frame, Schema(known=("k",), freq="h")
    )
    whole = frame.assign(k=1.0).drop(index=[9])
    assert "gaps=fill inserts" in complaint(whole, Schema(known=("k",), freq="h", gaps="fill"))


def test_when_one_stamp_is_years_away_then_the_gap_is_not_filled():
    frame = wide([*hours(49), pd.Timestamp("2200-01-01")])
    assert "too many to fill" in complaint(frame, Schema(freq="h", gaps="fill"))


def test_when_policies_ask_for_it_then_rows_are_sorted_and_the_last_duplicate_kept():
    frame = wide(hours(), b=np.arange(50.0))
    messy = pd.concat([frame, frame.iloc[[10]].assign(b=-1.0)]).iloc[::-1].reset_index(drop=True)
    panel = to_panel(messy, Schema(freq="h", unsorted="sort", duplicates="last"))
    np.testing.assert_array_equal(panel.target[:, 1], np.arange(50.0, dtype=np.float32))  # -1 stands first now
    assert panel.time.is_monotonic_increasing


def test_when_a_policy_is_unknown_then_the_allowed_ones_are_named():
    with refused(ConfigError, where="dataset.gaps", got="drop", allowed=["error", "fill"]):
        Schema(gaps="drop")  # type: ignore[arg-type]
    with refused(
        ConfigError, where="dataset.decimal", got="comm", allowed=["point", "comma"], fix=has("decimal=comma")
    ):
        Schema(decimal="comm")
    assert Schema(decimal="comma").decimal == Schema(decimal=",").decimal == ","


@pytest.mark.parametrize("arguments", [{"target": "a", "past": "a"}, {"time": "a", "target": "a"}, {"freq": "-1h"}])
def test_when_a_schema_contradicts_itself_then_it_is_a_config_error(arguments):
    with pytest.raises(ConfigError):
        Schema(**arguments)


def test_a_column_that_is_text_in_part_is_not_called_missing_or_constant_too():
    said = complaint(wide(hours(), b=[f"${i}.10" for i in range(50)], c=["1,000"] * 49 + ["1,001"], d="x"))
    assert said.startswith("3 problems")
    assert "dataset.thousands=comma" in said
    assert "dataset.target=[a]" in said


@pytest.mark.parametrize("far", [1e9, -4e8, 1000.0])
def test_what_float32_cannot_tell_apart_is_not_called_constant(far):
    said = complaint(wide(hours(), b=far + np.arange(50) * far * 3e-10))
    assert said.startswith("1 problem in")
    assert "column 'b' is too large for its variation" in said
    assert "channel 'b' is constant" in complaint(wide(hours(), b=far + 0.1))


# ---- forecast requests


def test_when_it_is_a_request_then_a_constant_channel_is_fine_and_an_extra_column_is_not():
    frame = wide(hours(), b=1.0)
    schema = Schema().resolved(to_panel(wide(hours(), b=np.arange(50)), Schema()))
    assert to_panel(frame, schema, for_training=False).channels == ("a", "b")
    assert "column 'z' is not to be here" in complaint(frame.assign(z=0), schema, for_training=False)
    assert "column 'b' is missing" in complaint(frame.drop(columns="b"), schema, for_training=False)


# ---- static covariates


def test_static_covariates_come_from_the_rows_or_from_a_frame_of_their_own():
    schema = Schema(id="unique_id", static=("size",), freq="h")
    frame = long(["a", "b"])
    inside = to_panel(frame.assign(size=np.repeat([3, 5], 25)), schema)
    own = to_panel(frame, schema, static=pd.DataFrame({"unique_id": ["b", "a"], "size": [5, 3]}))
    assert inside.static.tolist() == own.static.tolist() == [[3.0], [5.0]]


def test_when_static_covariates_change_or_are_missing_then_the_rows_or_series_are_named():
    schema = Schema(id="unique_id", static=("size",), freq="h")
    frame = long(["a", "b"])
    assert "'size' changes within a series (1 row: 51)" in complaint(frame.assign(size=[1] * 49 + [2]), schema)
    one = pd.DataFrame({"unique_id": ["a"], "size": [5]})
    assert "'size' is missing for 1 series: b" in complaint(frame, schema, static=one)


# ---- known covariates of the future


def future(n: int = 4) -> pd.DataFrame:
    return pd.DataFrame({"date": pd.date_range(hours()[-1], periods=n + 1, freq="h")[1:], "k": np.arange(float(n))})


def test_known_futures_are_found_by_series_and_time():
    schema = Schema(id="unique_id", known=("k",), freq="h")
    panel = to_panel(long([2, 1], k=0.5), schema)
    stamps = pd.date_range(hours(25)[-1], periods=4, freq="h")
    given = pd.DataFrame({"unique_id": np.repeat([1, 2], 4), "ds": list(stamps) * 2, "k": np.arange(8.0)})
    values, _ = read_known_future(given.iloc[::-1], panel, schema, 3)
    assert values[:, 0].tolist() == [5, 6, 7, 1, 2, 3]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (future().iloc[:3], "1 of 4 forecast rows are missing: 2021-06-03 05:00:00"),
        (future().drop(columns="k"), "column 'k' is missing"),
        (future().assign(date="soon"), "cannot be read, such as 'soon'"),
        (future().assign(k=[0, 1, np.nan, 3]), "'k' has missing values, and is to be known in every row (1 row: 4)"),
        (future().assign(date=future()["date"].dt.tz_localize("UTC")), "time zone UTC, the history's None"),
    ],
)
def test_when_a_known_future_is_incomplete_then_what_is_missing_is_named(given, expected):
    schema = Schema(known=("k",), freq="h")
    panel = to_panel(wide(hours(), k=np.arange(50.0)), schema)
    with pytest.raises(DataError) as caught:
        read_known_future(given, panel, schema, 4)
    assert expected in str(caught.value)


def test_a_known_future_with_a_column_twice_is_refused() -> None:
    time = pd.date_range("2024-01-01", periods=6, freq="D")
    frame, schema = pd.DataFrame({"date": time, "y": np.arange(6.0), "x": 1.0}), Schema(target="y", known="x", freq="D")
    future = frame[4:].drop(columns="y")
    doubled = pd.concat([future, future[["x"]] + 1], axis=1)
    with refused(DataError, where="known_future", what=has("more than once", "x")):
        read_known_future(doubled, to_panel(frame[:4], schema, for_training=False), schema, 2)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    forms=st.lists(st.sampled_from(["%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y%m%dT%H%M",
                                    "%Y-%m-%dT%H:%M:%S.%f", " %Y-%m-%d", "%Y-%m", "%H:%M"]), min_size=1, max_size=3),
    zone=st.sampled_from(["", "Z", "+02:00", "-0330", "+01", " +02:00", "z"]),
    odd=st.sampled_from([None, "", "2024-02-30", "1600-01-01T00:00", "9999-01-01T00:00", "2024-01-01T24:00"]),
    series=st.integers(1, 3),
)  # fmt: skip
def test_text_is_read_as_the_timestamps_that_pandas_finds_in_it(
    forms: list[str], zone: str, odd: str | None, series: int
) -> None:
    time = pd.date_range("2024-10-26 23:30", periods=6, freq="h")
    text = [*(stamp.strftime(forms[i % len(forms)]) + zone for i, stamp in enumerate(time)), odd] * series
    read, wanted, problems = read_twice(text, np.arange(len(text)) // 7, zone)
    assume(wanted.notna().any() and not any("without a UTC offset" in what for what in problems.found))
    assert read.equals(wanted)


def read_twice(
    text: list[str | None], codes: np.ndarray, zone: str
) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex, Problems]:
    frame, problems = pd.DataFrame({"date": pd.Series(text, dtype=object)}), Problems("the frame")
    schema = Schema(timezone="naive" if not zone else "Europe/Berlin")
    read = read_stamps(Arrays.of(frame), codes, schema, problems)
    wanted = pd.to_datetime(frame["date"], errors="coerce", format="ISO8601", utc=bool(zone))
    wanted = pd.DatetimeIndex(wanted.where(wanted.dt.year.between(1700, 2200))).as_unit("ns").rename(None)
    return read, wanted.tz_convert("Europe/Berlin") if zone else wanted, problems


@pytest.mark.parametrize(
    "odd",
    [
        ["2024-01-01T05:30:00"],
        ["2024-01-01 05:30:00"],
        ["2024-02-30T05:30:00"],
        ["2024-01-01T24:00:00"],
        ["2024-01-01T05:30:60"],
        ["2024-01-01T05:30:0 "],
        ["2024-01-01T05:30:-1"],
        ["0000-01-01T05:30:00"],
        ["1600-01-01T05:30:00"],
        ["9999-01-01T05:30:00"],
        ["2024-01-01T05:30:0\u0663"],
        ["2024-01-01T05:30", ":002024-01-01T05:30:00"],  # 38 characters together, and as such they would be read
        ["2024-01-01", "T05:30:002024-01-01T05:30:00"],
    ],
)
def test_text_of_one_length_is_read_as_the_timestamps_that_pandas_finds_in_it(odd: list[str]) -> None:
    text = ["2024-01-01T04:30:00", *odd, "2024-01-01T06:30:00"]
    read, wanted, _ = read_twice([*text], np.zeros(len(text), dtype=int), "")
    assert read.equals(wanted)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(part=st.sampled_from(["hour", "minute", "second"]), value=st.integers(-100, 100))
def test_the_parts_of_a_timestamp_are_those_of_a_clock(part: str, value: int) -> None:
    time = pd.date_range("2024-01-01", periods=8, freq="s")
    names = ["year", "month", "day", "hour", "minute", "second"]
    frame = pd.DataFrame({name: getattr(time, name) for name in names}).assign(y=np.arange(8.0))
    frame.loc[7, part] = value
    problems = Problems("the frame")
    read = read_stamps(Arrays.of(frame), np.zeros(8), Schema(time=names), problems)
    assert read[:7].equals(time[:7].as_unit("ns"))
    assert read[7] is pd.NaT if not 0 <= value < (24 if part == "hour" else 60) else getattr(read[7], part) == value


@pytest.mark.parametrize("cells", [[True, False] * 4, [True, None, False, True] * 2])
@pytest.mark.parametrize("for_training", [True, False])
def test_booleans_are_no_targets(cells: list[bool | None], for_training: bool) -> None:
    dtype = "boolean" if None in cells else bool
    time = pd.date_range("2024-01-01", periods=8, freq="h")
    frame = pd.DataFrame({"date": time, "y": pd.Series(cells, dtype=dtype), "x": np.arange(8) % 3 == 0})
    with refused(DataError, where="the frame", what=has("'y' holds true and false")):
        to_panel(frame, Schema(target="y", past="x"), for_training=for_training)
    panel = to_panel(frame.assign(y=np.arange(8.0)), Schema(target="y", past="x"), for_training=for_training)
    assert panel.past[:4, 0].tolist() == [1, 0, 0, 1], "a covariate may be"


@pytest.mark.parametrize("offsets", ["z", "Zz", "zZ"])
def test_a_small_z_is_no_offset(offsets: str) -> None:
    time = pd.date_range("2024-01-01", periods=8, freq="h")
    stamps = [f"{stamp.isoformat()}{offsets[i % len(offsets)]}" for i, stamp in enumerate(time)]
    with refused(DataError, where="the frame", what=has("cannot be read")):
        to_panel(pd.DataFrame({"date": stamps, "y": np.arange(8.0)}), Schema(freq="h"))
