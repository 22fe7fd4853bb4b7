"""Where tables lie: files and folders, here or at an address that fsspec opens, and databases."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from tsforecast.data.schema import Schema
from tsforecast.data.tables import read_csv, unreadable
from tsforecast.errors import ConfigError, DataError, nearest, without_password

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """A frame, the sha256 of what it was read from, and the place, without what is secret in it."""

    frame: pd.DataFrame
    fingerprint: str
    place: str


def read_table(place: str | Path, schema: Schema) -> Table:
    """Read a CSV or Parquet file, or a folder of Parquet files whose `key=value` folders are columns.

    Only the columns wanted are read when it has them all, so that a missing one can be told.

    Parameters
    ----------
    place
        A path, or an address of fsspec such as `s3://bucket/x.csv`, with `$NAME` for variables of the environment.

    Raises
    ------
    DataError
        It is missing, empty, cut short, or of another kind.
    ConfigError
        The address holds a password, or what opens it is not installed.
    """
    where, address = public(place), expanded(place)
    suffix = Path(where).suffix
    try:
        if suffix == ".csv" and Path(address).is_file():  # fsspec is imported for other places
            return _csv(Path(address).read_bytes(), schema, where)
        from fsspec.core import url_to_fs

        store, path = url_to_fs(address)
        folder = store.info(path)["type"] == "directory"
        if folder or suffix in (".parquet", ".pq"):
            return _parquet(store, path, schema, where, folder)
        if suffix == ".csv":
            return _csv(store.cat_file(path), schema, where)
    except ImportError as error:
        what, fix = "what opens this address is not installed", "pip install it: s3fs, gcsfs, adlfs, aiohttp"
        raise ConfigError(what, where=where, got=error, fix=fix) from error
    except FileNotFoundError as error:
        raise _missing(where) from error
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parse errors are ValueErrors or OSErrors
        raise unreadable(where, str(error).replace(address, where)) from error
    what, fix = "the kind of a file is told by its suffix", "rename or convert it"
    raise DataError(what, where=where, got=suffix or "none", allowed=".csv, .parquet", fix=fix)


def read_query(address: str, query: str) -> Table:
    """What a database answers.

    Parameters
    ----------
    address
        One of SQLAlchemy, such as `sqlite:///x.db`, with `$NAME` for variables of the environment.
    query
        A statement that selects rows, in the words of that database.

    Raises
    ------
    DataError
        There is no such file, or the database does not answer.
    ConfigError
        The address is none, holds a password, or its driver is not installed.
    """
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    where = public(address)
    try:
        url = sqlalchemy.make_url(expanded(address))
        file = url.database if url.get_backend_name() in ("sqlite", "duckdb") else None
        if file and file != ":memory:" and not Path(file).is_file():  # which would be made, and be empty
            raise _missing(file)
        with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect() as connection:
            answer = connection.exec_driver_sql(query)
            frame = pd.DataFrame.from_records(answer.fetchall(), columns=list(answer.keys()), coerce_float=True)
    except (ArgumentError, ImportError) as error:
        what, fix = "the database cannot be opened", "see SQLAlchemy's addresses; pip install the driver that it names"
        raise ConfigError(what, where="dataset.address", got=f"{where}: {error}", fix=fix) from error
    except SQLAlchemyError as error:
        got = f"{getattr(error, 'orig', None) or error}, asked {query!r}"
        what, fix = (
            "the database does not answer the query",
            "one statement that selects rows, as that database knows it",
        )
        raise DataError(what, where=where, got=got, fix=fix) from error
    return Table(frame, frame_digest(frame), where)


def download(url: str | None, path: Path, sha256: str, about: str) -> Path:
    """Fetch a file to `path`, where it appears once it is there entire and has the digest.

    Raises
    ------
    DataError
        There is no address or no network, or what came has another digest.
    """
    import pooch

    log.info("Downloading %s (%s)", url, about)
    try:
        if url is None:
            raise FileNotFoundError("it has no url: it is part of the repository, or yours")
        bar = pooch.HTTPDownloader(progressbar=True)
        return Path(pooch.retrieve(url, f"sha256:{sha256}", path.name, path.parent, downloader=bar))
    except (OSError, ValueError) as error:  # no network (requests' errors are OSErrors), no permission, wrong digest
        what, got = "the file is not here and could not be downloaded", f"{type(error).__name__}: {error}"
        fix = (
            f"put {path.name} from {url or 'where it is kept'} there, or into the folder that TSFORECAST_DATA_DIR names"
        )
        raise DataError(what, where=path, got=got, allowed=f"sha256 {sha256}", fix=fix) from error


def frame_digest(frame: pd.DataFrame) -> str:
    """The sha256 of the names and the values of a frame."""
    digest = hashlib.sha256(repr(list(frame.columns)).encode())
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def public(place: object) -> str:
    """A path as it is, an address without its password and what follows a question mark, such as a signature."""
    text = without_password(str(place))
    return text.partition("?")[0] if "://" in text else text


def expanded(place: object) -> str:
    """An address with the variables of the environment; one that holds a password itself would be kept in files.

    Raises
    ------
    ConfigError
        It holds one, or names a variable that there is not.
    """
    text, where = str(place), "the address of a dataset"
    if "://" not in text:
        return text
    if gone := [name for name in re.findall(r"\$\{?(\w+)", text) if name not in os.environ]:
        raise ConfigError("the environment has no such variable", where=where, got=gone, fix=f"export {gone[0]}=...")
    if (secret := urlsplit(text).password) and "$" not in secret:
        what = "a password would be kept with the run"
        fix = "export PASSWORD=..., and write '$PASSWORD' there, quoted"
        raise ConfigError(what, where=where, got=public(text), fix=fix)
    return os.path.expandvars(text)


def _csv(raw: bytes, schema: Schema, where: str) -> Table:
    return Table(read_csv(raw, where, schema), hashlib.sha256(raw).hexdigest(), where)


def _parquet(store: Any, path: str, schema: Schema, where: str, folder: bool) -> Table:
    """One file, or all of a folder."""
    import pyarrow.dataset  # ten milliseconds that only Parquet is worth

    read = partial(pyarrow.dataset.dataset, path, filesystem=store, format="parquet", partitioning="hive")
    found = read()
    at = found.schema.get_field_index(schema.id) if folder and schema.id else -1
    if at >= 0 and found.schema.field(at).type == pyarrow.int32():  # what stands in a path is text: 01 is not 1
        found = read(schema=found.schema.set(at, pyarrow.field(schema.id, pyarrow.string())))
    digests = []
    for file in found.files:
        with store.open(file) as handle:
            digests.append(hashlib.file_digest(handle, "sha256").hexdigest())
    if not digests:
        raise DataError("there are no Parquet files in this folder", where=where, fix="name a file, or another folder")
    named = "\n".join([*(file.rpartition(path)[2] for file in found.files), *digests])
    table = found.to_table(schema.of_file(found.schema.names))
    frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)
    return Table(frame, hashlib.sha256(named.encode()).hexdigest() if folder else digests[0], where)


def _missing(where: str) -> DataError:
    folder = Path(where).parent
    there = sorted(p.name for p in folder.glob("*")) if "://" not in where and folder.is_dir() else []
    near = nearest(Path(where).name, there)
    fix = f"did you mean {folder / near}?" if near else "a path is relative to the working directory"
    return DataError("there is no such file", where=where, got="nothing", fix=fix)
