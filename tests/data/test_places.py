"""Where tables lie: what is in a folder, at an address or in a database is what the panel holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import polars
import pyarrow
import pyarrow.dataset
import pytest
import sqlalchemy
from tests.errors import has, refused

from tsforecast.data.schema import Schema
from tsforecast.data.sources import Dataset, FrameSource, Query, Stored
from tsforecast.errors import ConfigError, DataError

DAYS = pd.date_range("2021-01-01", periods=20)
WIDE = pd.DataFrame({"date": DAYS, "a": np.arange(20.0), "b": np.arange(20.0) ** 2})
LONG = pd.DataFrame({"shop": np.repeat(["01", "1"], 20), "date": [*DAYS, *DAYS], "y": np.arange(40.0)})
DATABASES = ("sqlite:///x.db", "duckdb:///x.duckdb")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def database(address: str, **tables: pd.DataFrame) -> str:
    engine = sqlalchemy.create_engine(address)
    with engine.begin() as connection:
        for name, frame in tables.items():
            frame.to_sql(name, connection, index=False)
    engine.dispose()
    return address


def assert_same(source: Any, expected: pd.DataFrame, **schema: Any) -> None:
    """The panel of a source is that of a frame in memory."""
    found, wanted = source.load().panel, FrameSource(expected, Schema(**schema)).load().panel
    assert list(found.ids) == list(wanted.ids)
    assert found.channels == wanted.channels
    assert list(found.time) == list(wanted.time)
    np.testing.assert_array_equal(found.target, wanted.target)


def test_a_folder_of_parquet_files_is_one_table(here):
    (here / "days").mkdir()
    for i, part in enumerate((WIDE[:12], WIDE[12:])):
        part.to_parquet(here / "days" / f"part-{i}.parquet")
    source = Dataset(path="days")
    assert_same(source, WIDE)
    assert source.load().name == "days"


def test_what_stands_in_the_names_of_folders_is_a_column_and_ids_are_text(here):
    table, keys = pyarrow.Table.from_pandas(LONG), pyarrow.schema([("shop", pyarrow.string())])
    layout = pyarrow.dataset.partitioning(keys, flavor="hive")
    pyarrow.dataset.write_dataset(table, "shops", format="parquet", partitioning=layout)
    assert_same(Dataset(id="shop", time="date", path="shops"), LONG, id="shop", time="date")


def test_the_fingerprint_of_a_folder_is_that_of_all_its_files(here):
    (here / "days").mkdir()
    for i, part in enumerate((WIDE[:12], WIDE[12:])):
        part.to_parquet(here / "days" / f"part-{i}.parquet")
    first = Dataset(path="days").load().fingerprint
    (here / "days").rename(here / "moved")
    assert Dataset(path="moved").load().fingerprint == first
    WIDE[12:].assign(b=1.0).to_parquet(here / "moved" / "part-1.parquet")
    assert Dataset(path="moved").load().fingerprint != first


def test_when_a_folder_holds_no_parquet_then_that_is_said(here):
    (here / "empty").mkdir()
    with refused(DataError, what=has("no Parquet files"), where="empty"):
        Dataset(path="empty").load()


@pytest.mark.parametrize("file", ["x.csv", "x.parquet"])
def test_an_address_is_read_as_the_file_is(here, file):
    write = WIDE.to_csv if file.endswith(".csv") else WIDE.to_parquet
    write(file, index=False)
    fsspec.filesystem("memory").pipe_file(f"/bucket/{file}", Path(file).read_bytes())
    there, local = Dataset(path=f"memory://bucket/{file}").load(), Dataset(path=file).load()
    assert_same(Dataset(path=f"memory://bucket/{file}"), WIDE)
    assert there.fingerprint == local.fingerprint
    assert (there.name, there.address) == ("x", f"memory://bucket/{file}")


def test_a_folder_at_an_address_is_read_too(here):
    store = fsspec.filesystem("memory")
    WIDE.to_parquet("x.parquet", index=False)
    store.pipe_file("/bucket/days/part-0.parquet", Path("x.parquet").read_bytes())
    assert_same(Dataset(path="memory://bucket/days"), WIDE)


def test_a_file_of_a_web_server_is_read_and_its_signature_is_not_kept(here, monkeypatch):
    WIDE.to_csv("x.csv", index=False)
    words = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().split("port ")[1].split()[0]
            monkeypatch.setenv("SIGNATURE", "sig=s3cret")
            loaded = Dataset(path=f"http://127.0.0.1:{port}/x.csv?$SIGNATURE").load()
        finally:
            server.terminate()
    assert loaded.address == f"http://127.0.0.1:{port}/x.csv"
    np.testing.assert_array_equal(loaded.panel.target, WIDE[["a", "b"]].to_numpy(np.float32))


def test_when_what_opens_an_address_is_not_installed_then_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with refused(ConfigError, where="s3://bucket/x.csv", got=has("s3fs"), fix=has("pip install")):
        Dataset(path="s3://bucket/x.csv").load()


def test_when_nothing_is_at_an_address_then_that_is_said():
    with refused(DataError, what="there is no such file", where="memory://bucket/none.csv"):
        Dataset(path="memory://bucket/none.csv").load()


@pytest.mark.parametrize("address", DATABASES)
def test_what_a_database_answers_is_read_wide_and_long(address):
    database(address, wide=WIDE, long=LONG)
    assert_same(Query(address=address, query="select date, a, b from wide order by date"), WIDE)
    long = Query(address=address, query="select * from long order by date", id="shop", time="date")
    assert_same(long, LONG, id="shop", time="date")


@pytest.mark.parametrize("address", DATABASES)
def test_the_fingerprint_of_an_answer_is_that_of_its_rows(address):
    database(address, wide=WIDE)
    first, again, fewer = (
        Query(address=address, query=f"select date, a, b from wide order by date {limit}").load()
        for limit in ("", "", "limit 19")
    )
    assert first.fingerprint == again.fingerprint != fewer.fingerprint
    assert first.record["source"] == address


@pytest.mark.parametrize("address", DATABASES)
def test_when_a_database_does_not_answer_then_its_words_are_told(address):
    database(address, wide=WIDE)
    with refused(DataError, what=has("does not answer"), where=address, got=has("from nowhere")):
        Query(address=address, query="select * from nowhere").load()


def test_a_query_changes_nothing(here):
    database("sqlite:///x.db", wide=WIDE)
    with refused(DataError, what=has("does not answer")):
        Query(address="sqlite:///x.db", query="delete from wide").load()
    assert_same(Query(address="sqlite:///x.db", query="select date, a, b from wide"), WIDE)


@pytest.mark.parametrize("address", DATABASES)
def test_when_there_is_no_database_then_none_is_made(here, address):
    with refused(DataError, what="there is no such file", where=address.rpartition("/")[2]):
        Query(address=address, query="select 1").load()
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("address", ["nonsense", "nodatabase://host/x"])
def test_when_an_address_is_of_no_database_then_the_key_is_named(address):
    with refused(ConfigError, where="dataset.address", got=has(address)):
        Query(address=address, query="select 1").load()


@pytest.mark.parametrize(
    "source",
    [
        Query(address="postgresql://me:s3cret@host/sales", query="select 1"),
        Dataset(path="sftp://me:s3cret@host/x.csv"),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_told(source: Stored):
    with refused(ConfigError, got=has("me:***@host"), fix=has("$PASSWORD")) as caught:
        source.load()
    assert "s3cret" not in str(caught.value)


def test_a_password_is_taken_from_the_environment(monkeypatch):
    address = "nodatabase://me:$PASSWORD@host/sales"
    with refused(ConfigError, what=has("no such variable"), got=has("PASSWORD")):
        Query(address=address, query="select 1").load()
    monkeypatch.setenv("PASSWORD", "s3cret$x")
    with refused(ConfigError, what=has("cannot be opened")) as caught:
        Query(address=address, query="select 1").load()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["polars", "duckdb", "pyarrow"])
def test_a_frame_of_another_library_is_read_as_that_of_pandas(kind):
    import duckdb

    for frame, schema in ((WIDE, {}), (LONG, {"id": "shop", "time": "date"})):
        relation = duckdb.from_arrow(pyarrow.Table.from_pandas(frame))
        tables = {"polars": polars.from_pandas(frame), "duckdb": relation, "pyarrow": pyarrow.Table.from_pandas(frame)}
        assert_same(FrameSource(tables[kind], Schema(**schema)), frame, **schema)
