"""Files into panels: what is on disk is what the panel holds, and what is broken is named."""

from __future__ import annotations

import csv
import gzip
import os
import tempfile
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import has, refused

from tsforecast.config.compose import build, compose
from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.data.sources import Dataset, read_frame
from tsforecast.data.tables import read_csv
from tsforecast.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
HEADER = "date,a,b\n"
ROWS = "".join(f"2021-01-{d:02d},{d},{d * d}\n" for d in range(1, 21))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my.csv"
    path.write_text(HEADER + ROWS)
    return path


def complaint(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        Dataset(path=str(path)).load()
    return str(caught.value)


def test_beijing_is_read_as_python_itself_reads_it():
    parts = ["year", "month", "day", "hour"]
    file, named = str(ROOT / "data" / "beijing_pm25.csv"), {"time": parts, "target": ["pm2.5"], "past": ["DEWP", "Iws"]}
    panel = Dataset(path=file, freq="h", **named).load().panel
    with (ROOT / "data" / "beijing_pm25.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert panel.target.shape == (43_824, 1) == (len(rows), 1)
    expected = np.array([float("nan" if row["pm2.5"] == "NA" else row["pm2.5"]) for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(panel.target[:, 0], expected)
    np.testing.assert_array_equal(panel.past[:, 1], np.array([row["Iws"] for row in rows], dtype=np.float32))
    last = rows[-1]
    assert panel.time[-1] == pd.Timestamp(*(int(last[part]) for part in parts))


@pytest.mark.parametrize("name", ["etth1", "etth2"])
def test_ett_has_its_published_span(name, tmp_path):
    assert "TSFORECAST_DATA_DIR" in os.environ, "set TSFORECAST_DATA_DIR to the folder with ETTh1.csv and ETTh2.csv"
    cfg, _ = compose("train", [f"dataset={name}", f"paths.data_dir={tmp_path}"])
    panel = build(cfg.dataset).load().panel
    assert panel.channels == ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
    assert (len(panel.time), panel.freq) == (17_420, "h")
    assert list(map(str, panel.time[[0, -1]])) == ["2016-07-01 00:00:00", "2018-06-26 19:00:00"]


def test_csv_and_parquet_give_the_same_panel(file, tmp_path):
    pd.read_csv(file).to_parquet(tmp_path / "my.parquet")
    one, other = (
        Dataset(path=str(file), past=["b"]).load().panel,
        Dataset(path=str(tmp_path / "my.parquet"), past=["b"]).load().panel,
    )
    np.testing.assert_array_equal(one.target, other.target)
    np.testing.assert_array_equal(one.past, other.past)
    assert list(one.time) == list(other.time)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_when_columns_are_named_then_only_they_are_read(file, suffix):
    path = file.with_suffix(suffix)
    if suffix == ".parquet":
        pd.read_csv(file).to_parquet(path)
    assert sorted(read_frame(path, Schema(target=["b"])).columns) == ["b", "date"]


def test_a_long_file_with_statics_of_their_own_is_one_panel(tmp_path):
    ds = pd.date_range("2021-01-01", periods=10)
    pd.DataFrame(
        {"unique_id": np.repeat(["x", "y"], 10), "ds": [*ds, *ds], "y": np.arange(20.0)}
    ).to_csv(tmp_path / "long.csv", index=False)  # fmt: skip
    pd.DataFrame({"unique_id": ["y", "x"], "size": [2, 1]}).to_csv(tmp_path / "static.csv", index=False)
    dataset = Dataset(
        id="unique_id", path=str(tmp_path / "long.csv"), static=["size"], static_path=str(tmp_path / "static.csv")
    )
    panel = dataset.load().panel
    assert list(panel.ids) == ["x", "y"]
    assert panel.static.tolist() == [[1.0], [2.0]]


SPELLINGS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=6)


@given(st.lists(st.one_of(SPELLINGS, st.sampled_from(["001", "1", "01", "1.0", "NA", "null", "nan", "1e3", "True"])),
                min_size=1, max_size=4, unique=True))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_ids_of_any_spelling_survive_whatever_the_format(ids):
    frame = pd.DataFrame({
        "unique_id": np.repeat(ids, 4), "ds": [*pd.date_range("2021-01-01", periods=4)] * len(ids),
        "y": np.arange(4.0 * len(ids)), "size": np.repeat(np.arange(len(ids)), 4),
    })  # fmt: skip
    static = frame[["unique_id", "size"]].drop_duplicates()
    with tempfile.TemporaryDirectory() as folder:
        read = [to_panel(frame, Schema(id="unique_id", static=["size"]))]
        for suffix, write in ((".csv", pd.DataFrame.to_csv), (".parquet", pd.DataFrame.to_parquet)):
            path, other = Path(folder, f"long{suffix}"), Path(folder, f"static{suffix}")
            write(frame.drop(columns="size"), path, index=False)
            write(static, other, index=False)
            read.append(Dataset(id="unique_id", path=str(path), static=["size"], static_path=str(other)).load().panel)
    for panel in read:
        assert list(panel.ids) == ids
        np.testing.assert_array_equal(panel.target, read[0].target)
        np.testing.assert_array_equal(panel.static[:, 0], np.arange(len(ids)))


def test_two_products_that_are_one_number_stay_two(tmp_path):
    days = pd.date_range("2021-01-01", periods=40)
    lines = [f"{'01' if i < 20 else '1'},{day:%Y-%m-%d},{i}\n" for i, day in enumerate(days)]
    (tmp_path / "long.csv").write_text("unique_id,ds,y\n" + "".join(lines))
    panel = Dataset(id="unique_id", path=str(tmp_path / "long.csv")).load().panel
    assert dict(zip(panel.ids, panel.lengths, strict=True)) == {"01": 20, "1": 20}


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("date;a;b\n{day}.01.2021;1.234,5;7\n", {"sep": "semicolon", "decimal": "comma", "thousands": "point"}),
        ('date,a,b\n{day}/01/2021,"1,234.5",7\n', {"thousands": "comma"}),
        ("date\ta\tb\n01-{day}-2021\t1234.5\t7\n", {"sep": "tab", "date_format": "%m-%d-%Y"}),
        ("date|a|b\n2021{day}01|1234.5|7\n", {"sep": "|", "date_format": "%Y%d%m"}),
        ("date,a,b\n2021{day}01,1234.5,7\n", {"date_format": "%Y%d%m"}),
    ],
)
def test_what_is_said_of_a_text_is_how_it_is_read(tmp_path, text, how):
    header, row = text.splitlines(keepends=True)
    rows = [row.format(day=f"{day:02d}").replace("7\n", f"{day}\n") for day in range(1, 21)]
    path, as_text = tmp_path / "my.csv", tmp_path / "my.parquet"
    path.write_text(header + "".join([*rows[:19], rows[19].replace("234", "235")]))
    schema = Schema(**({"date_format": "%d.%m.%Y" if "." in row.split("2021")[0] else "%d/%m/%Y"} | how))
    pd.read_csv(path, sep=schema.sep, dtype=str).to_parquet(as_text)
    for file in (path, as_text):
        panel = Dataset(**(asdict(schema) | {"path": str(file)})).load().panel
        assert list(panel.time) == list(pd.date_range("2021-01-01", periods=20))
        np.testing.assert_array_equal(panel.target[[0, 19]], [[1234.5, 1], [1235.5, 20]])


@pytest.mark.parametrize(
    "choice",
    [{"sep": "x"}, {"decimal": ";"}, {"thousands": "."}, {"date_format": "%Q"}, {"localize": "naive"},
     {"localize": "Europe/Berlin", "unsorted": "sort"}],
)  # fmt: skip
def test_when_a_text_cannot_be_read_as_is_said_then_the_key_is_named(choice):
    with pytest.raises(ConfigError) as caught:
        Schema(**choice)
    assert str(caught.value.where).removeprefix("dataset.") in choice


def test_missing_cells_may_be_written_as_usual_and_quotes_may_hold_commas(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text('"date",a,"b, squared"\n"2021-01-01",1,NA\n2021-01-02,,4\n2021-01-03,3,9\n')
    panel = Dataset(path=str(path)).load().panel
    assert panel.channels == ("a", "b, squared")
    np.testing.assert_array_equal(panel.target, np.array([[1, np.nan], [np.nan, 4], [3, 9]], np.float32))


def test_blank_lines_and_windows_line_ends_and_a_byte_order_mark_do_no_harm(file):
    file.write_bytes(b"\xef\xbb\xbf" + (HEADER + ROWS + "\n").replace("\n", "\r\n").encode())
    assert len(Dataset(path=str(file)).load().panel.time) == 20


def test_when_a_row_is_cut_short_then_it_is_named_and_not_read_as_missing(file):
    assert "Row #22: Expected 3 columns, got 2: 2021-01-21,2" in complaint(file, HEADER + ROWS + "2021-01-21,2")


def test_when_a_row_has_a_cell_too_many_then_it_is_named(file):
    told = complaint(file, HEADER + ROWS.replace("2021-01-01,1,1", "2021-01-01,1,000,1", 1))
    assert "Row #2: Expected 3 columns, got 4: 2021-01-01,1,000,1" in told


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "empty"),
        (HEADER, "there are no rows"),
        (b"date,a\n2021-01-01,\xff\xfe\n", "the file is not UTF-8: row 2"),
        ("date,Stra\u00dfe\n2021-01-01,1\n".encode("cp1252"), "the file is not UTF-8: row 1"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "the file is binary"),
        (HEADER.replace(",", ";") + ROWS.replace(",", ";"), "separated by ';'"),
        (
            HEADER.replace(",", ";") + ROWS.replace(",", ";"),
            "save it so, or say dataset.sep=semicolon (to predict: sep=semicolon)",
        ),
        (
            HEADER.replace(",", ";") + "2021-01-01;1,5;2",
            "save it so, or say dataset.sep=semicolon dataset.decimal=comma (to predict",
        ),
        (HEADER.replace(",", "\t") + ROWS.replace(",", "\t"), r"separated by '\t'"),
        ((HEADER + ROWS).encode("utf-16"), "the file is UTF-16"),
        (gzip.compress((HEADER + ROWS).encode()), "the file is gzip"),
        ("," * 200_000 + "\n", "there are too many columns"),
    ],
)
def test_when_a_file_is_no_csv_then_the_reason_is_named(file, content, expected):
    assert expected in complaint(file, content)


@pytest.mark.parametrize("content", [b"," * 300_000, b"12\n" * 100_000 + b"\xff"], ids=["columns", "rows"])
def test_a_file_that_is_refused_takes_little_more_than_its_own_length(content):
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read_csv(content, "file", Schema())
        assert tracemalloc.get_traced_memory()[1] < 4 * len(content)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d"])
def test_dates_in_another_form_are_read_when_only_one_reading_fits(file, form):
    expected = Dataset(path=str(file)).load().panel
    days = [pd.Timestamp(2021, 1, day).strftime(form) for day in range(1, 21)]
    file.write_text(HEADER + "".join(f"{day},{i},{i * i}\n" for i, day in enumerate(days, 1)))
    assert list(Dataset(path=str(file)).load().panel.time) == list(expected.time)


def test_when_float32_cannot_tell_the_values_apart_then_that_is_said(file):
    rows = "".join(f"2021-01-{d:02d},{1e9 + d},{d * d}\n" for d in range(1, 21))
    assert "column 'a' is too large for its variation" in complaint(file, HEADER + rows)
    file.write_text(HEADER + rows.replace("1000000", "1"))
    assert Dataset(path=str(file)).load().panel.target[0, 0] == 1001


def test_when_dates_can_begin_with_the_day_or_the_month_then_that_is_said(file):
    days = [f"{month:02d}/01/2021,{month},{month * month}\n" for month in range(1, 13)]
    assert "may begin with the day (%d) or the month (%m)" in complaint(file, HEADER + "".join(days))


@pytest.mark.parametrize("form", ["%b %Y", "%B %Y", "%b-%y", "%m/%Y", "%Y/%m"])
def test_months_are_read_as_spreadsheets_write_them(file, form):
    months = pd.date_range("2021-05-01", periods=14, freq="MS")
    file.write_text(HEADER + "".join(f"{month.strftime(form)},{i},{i * i}\n" for i, month in enumerate(months)))
    panel = Dataset(path=str(file)).load().panel
    assert list(panel.time) == list(months)
    assert panel.freq == "MS"


def test_an_index_that_pandas_wrote_without_a_name_is_no_channel_and_may_be_the_time(file):
    frame = pd.read_csv(file)
    frame.to_csv(file)
    assert Dataset(path=str(file)).load().panel.channels == ("a", "b")
    assert Dataset(path=str(file), target=["b", "Unnamed: 0"]).load().panel.target[3].tolist() == [16, 3]
    frame.set_index("date").rename_axis(None).to_csv(file)
    assert len(Dataset(path=str(file), time="Unnamed: 0", target=["a"]).load().panel.time) == 20


def test_when_a_file_has_no_header_then_its_first_row_is_not_taken_for_names(file):
    assert "the first row names no columns" in complaint(file, ROWS)


def test_when_a_parquet_file_is_damaged_then_it_is_a_data_error(tmp_path):
    path = tmp_path / "my.parquet"
    path.write_bytes(b"PAR1 and no more")
    with refused(DataError, what=has("cannot be read")):
        read_frame(path, Schema())


def test_when_a_path_is_misspelt_then_the_nearest_file_is_named(file):
    with refused(DataError, got="nothing", fix=has("my.csv")):
        read_frame(file.with_name("mi.csv"), Schema())


def test_when_the_suffix_is_unknown_then_the_known_ones_are_named(tmp_path):
    (tmp_path / "my.xlsx").write_bytes(b"x")
    with refused(DataError, got=".xlsx", allowed=".csv, .parquet"):
        read_frame(tmp_path / "my.xlsx", Schema())


def test_when_a_target_is_misspelt_then_the_nearest_column_of_the_file_is_named(file):
    file.write_text("date,load,b\n" + ROWS)
    with refused(DataError, what=has("'laod' is missing", "'load'")):
        Dataset(path=str(file), target=["laod"]).load()


def test_policies_reach_the_frame(file):
    lines = ROWS.splitlines(keepends=True)
    file.write_text(HEADER + "".join([*lines[:5], *lines[8:], lines[3]]))
    panel = Dataset(path=str(file), unsorted="sort", gaps="fill", duplicates="last").load().panel
    assert len(panel.time) == 20
    assert np.isnan(panel.target[:, 0]).sum() == 3


def test_the_record_of_a_dataset_names_its_bytes(file):
    record = Dataset(path=str(file)).load().record
    assert record["name"] == "my"
    assert record["rows"] == 20
    assert len(str(record["digest"])) == 64
