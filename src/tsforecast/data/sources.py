"""Where series come from: files, databases, frames in memory, and whatever else has a `load`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Protocol

import pandas as pd
import pyarrow

from tsforecast.data.catalogue import CATALOGUE, fetch
from tsforecast.data.columns import Problems, as_frame
from tsforecast.data.frames import to_panel
from tsforecast.data.panel import Panel
from tsforecast.data.places import Table, frame_digest, read_query, read_table
from tsforecast.data.schema import Schema


@dataclass(frozen=True)
class Loaded:
    """What a source gave.

    Attributes
    ----------
    schema
        How it was read.
    name
        What runs call it.
    fingerprint
        The sha256 of what was read.
    address
        Where it came from, without what is secret in it.
    """

    panel: Panel
    schema: Schema
    name: str
    fingerprint: str
    address: str

    @property
    def record(self) -> dict[str, str | int]:
        """Name, digest, place and rows, for the record."""
        rows = len(self.panel.time)
        return {"name": self.name, "digest": self.fingerprint, "source": self.address, "rows": rows}


class Source(Protocol):
    """A place that series are read from."""

    def load(self, *, for_training: bool = True) -> Loaded:
        """Read and check it; `for_training`, a constant or empty channel is refused.

        Raises
        ------
        DataError
            It cannot be read, or its content cannot be used; all problems are listed.
        """
        ...


@dataclass(frozen=True)
class FrameSource:
    """A frame in memory.

    Parameters
    ----------
    frame
        pandas, or what has the Arrow C stream interface (Polars, DuckDB, pyarrow).
    static
        Static covariates, one row a series.
    """

    frame: Any
    schema: Schema = field(default_factory=Schema)
    static: Any = None
    name: str = "frame"

    def load(self, *, for_training: bool = True) -> Loaded:
        """See `Source`."""
        frame, static = as_frame(self.frame), None if self.static is None else as_frame(self.static)
        panel = to_panel(frame, self.schema, Problems("the frame"), static=static, for_training=for_training)
        return Loaded(panel, self.schema, self.name, frame_digest(frame), "memory")


@dataclass(frozen=True, kw_only=True)
class Stored(Schema, ABC):
    """A table that lies somewhere, what its columns are and how it is read.

    Parameters
    ----------
    static_path
        The file with the static covariates.
    name
        What runs call the data; None: as the place is called.
    """

    static_path: str | None = None
    name: str | None = None

    @abstractmethod
    def read(self) -> Table:
        """The table, before it is known to be series."""

    @property
    def schema(self) -> Schema:
        """What is not about this table alone."""
        return Schema(**{f.name: getattr(self, f.name) for f in fields(Schema)})

    def load(self, min_rows: int = 1, *, for_training: bool = True) -> Loaded:
        """See `Source`; every series must have `min_rows` rows."""
        static = read_frame(self.static_path, self) if self.static_path else None
        table = self.read()
        how: Any = {"static": static, "min_rows": min_rows, "for_training": for_training}
        panel = to_panel(table.frame, self, Problems(table.place), **how)
        name, digest, place = self.name or PurePath(table.place).stem, table.fingerprint, table.place
        del table
        pyarrow.default_memory_pool().release_unused()  # what reading took: as much again as the panel
        return Loaded(panel, self.schema, name, digest, place)


@dataclass(frozen=True, kw_only=True)
class Dataset(Stored):
    """A file, a folder or an address.

    Parameters
    ----------
    path
        A .csv or .parquet file, a folder of the latter, an address of either (`s3://bucket/x.csv`), or the name of a
        catalogue entry (`etth1`, `etth2`, `beijing_pm25`, `panel`).
    data_dir
        Where catalogue files are looked for first and downloaded to.
    """

    path: str
    data_dir: str = "data"

    @cached_property
    def file(self) -> str | Path:
        """Where it is, fetched when it is one of the catalogue."""
        return fetch(self.path, Path(self.data_dir)) if self.path in CATALOGUE else self.path

    def read(self) -> Table:
        """See `Stored`."""
        return read_table(self.file, self)


@dataclass(frozen=True, kw_only=True)
class Query(Stored):
    """What a database answers, long when `id` is given.

    Parameters
    ----------
    address
        One of SQLAlchemy: `sqlite:///x.db`, `postgresql://me:$PASSWORD@host/sales`.
    query
        What selects the rows, all of which are read.
    """

    address: str
    query: str

    def read(self) -> Table:
        """See `Stored`."""
        return read_query(self.address, self.query)


def read_frame(path: str | Path, schema: Schema) -> pd.DataFrame:
    """The frame of a file, a folder or an address; see `read_table`."""
    return read_table(path, schema).frame
