"""Where series come from: files, frames in memory, and whatever else has a `load`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow

from tsforecast.data.catalogue import CATALOGUE, fetch, sha256
from tsforecast.data.columns import as_frame
from tsforecast.data.frames import to_panel
from tsforecast.data.panel import Panel
from tsforecast.data.schema import Schema
from tsforecast.data.tables import read_csv, unreadable
from tsforecast.errors import DataError, nearest


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
        Where it came from.
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
        digest = hashlib.sha256(repr(list(frame.columns)).encode())
        digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
        panel = to_panel(frame, self.schema, static=static, for_training=for_training, keys="dataset.")
        return Loaded(panel, self.schema, self.name, digest.hexdigest(), "memory")


@dataclass(frozen=True, kw_only=True)
class Dataset(Schema):
    """A file, what its columns are and how it is read.

    Parameters
    ----------
    path
        A .csv or .parquet file, or the name of a catalogue entry (`etth1`, `etth2`, `beijing_pm25`).
    static_path
        The file with the static covariates.
    name
        What runs call the data; the file's stem when None.
    data_dir
        Where catalogue files are looked for first and downloaded to.
    """

    path: str
    static_path: str | None = None
    name: str | None = None
    data_dir: str = "data"

    @cached_property
    def file(self) -> Path:
        """The file, fetched when it is one of the catalogue."""
        if self.path in CATALOGUE:
            return fetch(self.path, Path(self.data_dir))
        return Path(self.path)

    @property
    def schema(self) -> Schema:
        """What is not about this file alone."""
        return Schema(**{f.name: getattr(self, f.name) for f in fields(Schema)})

    @cached_property
    def digest(self) -> str:
        """The sha256 of the file when it was first asked for, which `load` does."""
        return sha256(self.file)

    def load(self, min_rows: int = 1, *, for_training: bool = True) -> Loaded:
        """See `Source`; every series must have `min_rows` rows."""
        static = read_frame(self.static_path, self) if self.static_path else None
        frame = read_frame(self.file, self)
        _ = self.digest  # of what was read, not of what the file may become while a model is trained
        panel = to_panel(frame, self, static=static, where=str(self.file), min_rows=min_rows,
                         for_training=for_training, keys="dataset.")  # fmt: skip
        del frame
        pyarrow.default_memory_pool().release_unused()  # what reading took: as much again as the panel
        return Loaded(panel, self.schema, self.name or self.file.stem, self.digest, str(self.file))


def read_frame(path: str | Path, schema: Schema) -> pd.DataFrame:
    """Read a CSV or Parquet file: only the columns wanted when it has them all, so that a missing one can be told.

    Raises
    ------
    DataError
        The file is missing, empty, cut short, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*") if p.is_file()) if path.parent.is_dir() else []
        near = nearest(path.name, there)
        raise DataError(
            "there is no such file",
            where=path,
            got="a folder" if path.is_dir() else "nothing",
            fix=f"did you mean {path.parent / near}?" if near else "a path is relative to the working directory",
        )
    try:
        if path.suffix == ".csv":
            return read_csv(path.read_bytes(), path, schema)
        if path.suffix in (".parquet", ".pq"):
            import pyarrow.parquet

            file = pyarrow.parquet.ParquetFile(path)
            wanted = schema.of_file(file.schema_arrow.names)
            table: pd.DataFrame = file.read(columns=wanted).to_pandas(split_blocks=True, self_destruct=True)
            return table
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parse errors are ValueErrors or OSErrors
        raise unreadable(path, error) from error
    raise DataError("the kind of a file is told by its suffix", where=path, got=path.suffix or "none",
                    allowed=".csv, .parquet", fix="rename or convert it")  # fmt: skip
