"""Where series come from: files, databases, frames in memory, and whatever else has a `load`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow

from tsforecast.data.arrays import as_frame
from tsforecast.data.columns import Problems
from tsforecast.data.frames import to_panel
from tsforecast.data.panel import Panel
from tsforecast.data.places import Table, download, frame_digest, read_query, read_table
from tsforecast.data.roles import named
from tsforecast.data.schema import READING, Schema
from tsforecast.errors import ConfigError, DataError


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
    licence, citation
        Of the data, where they are stated.
    rest
        The series that were there, and are not in `panel`.
    """

    panel: Panel
    schema: Schema
    name: str
    fingerprint: str
    address: str
    licence: str | None = None
    citation: str | None = None
    rest: tuple[Panel, ...] = ()

    def keeping(self, panel: Panel) -> Loaded:
        """With this panel of some of the series."""
        gone = self.panel.select(~np.isin(self.panel.ids, panel.ids))
        return replace(self, panel=panel, rest=(*self.rest, gone) if len(gone) else self.rest)

    @property
    def left_out(self) -> list[str]:
        """Names of the series that were there, and are not in `panel`."""
        return [name for part in self.rest for name in part.ids]

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

    def reading(self, schema: Schema) -> Source:
        """The same rows with the columns of another schema."""


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
        schema = named(self.schema, [*frame.columns, *(name for name in frame.index.names if name)])
        panel = to_panel(frame, schema, Problems("the frame"), static=static, for_training=for_training)
        return Loaded(panel, schema, self.name, frame_digest(frame), "memory")

    def reading(self, schema: Schema) -> FrameSource:
        """See `Source`."""
        return replace(self, schema=replace(self.schema, **schema.roles))


@dataclass(frozen=True, kw_only=True)
class Stored(Schema, ABC):
    """A table that lies somewhere, what its columns are and how it is read.

    Parameters
    ----------
    static_path
        The file with the static covariates.
    name
        What runs call the data; None: as the place is called.
    licence, citation
        Of the data: what a download and the card of a bundle say.
    """

    static_path: str | None = None
    name: str | None = None
    licence: str | None = None
    citation: str | None = None

    @abstractmethod
    def read(self) -> Table:
        """The table, before it is known to be series."""

    @property
    def schema(self) -> Schema:
        """What is not about this table alone."""
        return Schema(**{f.name: getattr(self, f.name) for f in fields(Schema)})

    def reading(self, schema: Schema) -> Stored:
        """See `Source`."""
        return replace(self, **schema.roles)

    def read_all(self) -> pd.DataFrame:
        """Every column of the table, read as this one is, whatever role it has."""
        reading = Schema(**{name: getattr(self, name) for name in READING})
        return replace(self, **vars(reading)).read().frame

    def load(self, *, for_training: bool = True) -> Loaded:
        """See `Source`."""
        table = self.read()
        if (own := named(self, table.frame.columns)) is not self:
            return own.load(for_training=for_training)  # read again, ids as text
        static = read_frame(self.static_path, self) if self.static_path else None
        panel = to_panel(table.frame, self, Problems(table.place), static=static, for_training=for_training)
        name, digest, place = self.name or PurePath(table.place).stem, table.fingerprint, table.place
        del table
        pyarrow.default_memory_pool().release_unused()  # what reading took: as much again as the panel
        return Loaded(panel, self.schema, name, digest, place, self.licence, self.citation)


@dataclass(frozen=True, kw_only=True)
class Dataset(Stored):
    """A file, a folder or an address; with `url` and `sha256`, a public file that is downloaded once.

    Parameters
    ----------
    path
        A .csv or .parquet file, a folder of the latter, or an address of either (`s3://bucket/x.csv`).
    url
        Where the file is downloaded from when it is neither at `path` nor, by its name, in TSFORECAST_DATA_DIR.
    sha256
        What the digest of the file has to be; of a folder, what runs record. None: any.
    """

    path: str
    url: str | None = None
    sha256: str | None = None

    @property
    def here(self) -> Path | None:
        """Where the file lies: at `path`, or, when its digest is stated, in TSFORECAST_DATA_DIR. None: in neither."""
        path = Path(self.path)
        spare = Path(os.environ.get("TSFORECAST_DATA_DIR") or path.parent, path.name)
        return next((each for each in (path, spare if self.sha256 else path) if each.exists()), None)

    @cached_property
    def file(self) -> str | Path:
        """Where it is, downloaded where it was not.

        Raises
        ------
        ConfigError
            It has an address, and no digest that a download could be checked with.
        DataError
            It is nowhere.
        """
        if self.url and not self.sha256:
            what, fix = "what is downloaded is checked with its digest", "dataset.sha256=..., as sha256sum FILE says"
            raise ConfigError(what, where="dataset.sha256", got="nothing", fix=fix)
        if self.sha256 is None or "://" in self.path:
            return self.path
        return self.here or download(self.url, Path(self.path), str(self.sha256), f"{self.licence}; {self.citation}")

    def read(self) -> Table:
        """See `Stored`.

        Raises
        ------
        DataError
            It cannot be read, or has another digest than is stated.
        """
        table = read_table(self.file, self)
        if self.sha256 not in (None, table.fingerprint):
            what = f"this is not the {self.name or 'file'} whose digest is stated: it was altered or cut short"
            fix = (
                "fetch it again, or dataset.sha256=null to read it as it is; a file of your own: dataset=wide (or long)"
            )
            got = f"sha256 {table.fingerprint}"
            raise DataError(what, where=table.place, got=got, allowed=f"sha256 {self.sha256}", fix=fix)
        return table


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
