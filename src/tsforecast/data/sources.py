"""CSV and Parquet files as panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow

from tsforecast.data.catalogue import CATALOGUE, fetch, sha256
from tsforecast.errors import DataError, nearest
from tsforecast.frames import to_panel
from tsforecast.panel import Panel
from tsforecast.schema import Policy, Schema
from tsforecast.tables import read_csv


@dataclass(frozen=True)
class Dataset:
    """A file and what its columns are.

    Parameters
    ----------
    path
        A .csv or .parquet file, or the name of a catalogue entry (`etth1`, `etth2`, `beijing_pm25`).
    layout, time, id, target, past, known, static, categorical, freq
        As in `tsforecast.schema.Schema`.
    static_path
        The file with the static covariates.
    unsorted, gaps, duplicates
        As in `tsforecast.schema.Policy`.
    name
        What runs call the data; the file's stem when None.
    data_dir
        Where catalogue files are looked for first and downloaded to.
    """

    path: str
    layout: Literal["wide", "long"] = "wide"
    time: str | Sequence[str] | None = None
    id: str | None = None
    target: Sequence[str] = ()
    past: Sequence[str] = ()
    known: Sequence[str] = ()
    static: Sequence[str] = ()
    categorical: Sequence[str] = ()
    freq: str | None = None
    timezone: str | None = None
    static_path: str | None = None
    unsorted: Literal["error", "sort"] = "error"
    gaps: Literal["error", "fill"] = "error"
    duplicates: Literal["error", "last"] = "error"
    name: str | None = None
    data_dir: str = "data"

    @cached_property
    def file(self) -> Path:
        """The file, fetched when it is one of the catalogue."""
        if self.path in CATALOGUE:
            return fetch(self.path, Path(self.data_dir))
        return Path(self.path)

    @cached_property
    def schema(self) -> Schema:
        """Which column is what."""
        roles = (self.target, self.past, self.known, self.static, self.categorical)
        return Schema(self.layout, self.time, self.id, *roles, self.freq, self.timezone)

    def describe(self, rows: int) -> dict[str, str | int]:
        """Name, sha256, place and rows, for the record."""
        return {"name": self.name or self.file.stem, "digest": sha256(self.file), "source": str(self.file),
                "rows": rows}  # fmt: skip

    def load(self, min_rows: int = 1) -> Panel:
        """Read and check the file; every series must have `min_rows` rows.

        Raises
        ------
        DataError
            It cannot be read, or its content cannot be used; all problems are listed.
        """
        static = read_frame(self.static_path) if self.static_path else None
        policy = Policy(self.unsorted, self.gaps, self.duplicates)
        columns = self.schema.columns if self.schema.target else None
        panel = to_panel(read_frame(self.file, columns), self.schema, policy, static=static, where=str(self.file),
                         min_rows=min_rows)  # fmt: skip
        pyarrow.default_memory_pool().release_unused()  # what reading took: as much again as the panel
        return panel


def read_frame(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet file: only `columns` when it has them all, so that a missing one can be told its nearest.

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
            return read_csv(path.read_bytes(), path, columns)
        if path.suffix in (".parquet", ".pq"):
            import pyarrow.parquet

            file = pyarrow.parquet.ParquetFile(path)
            wanted = list(columns) if columns is not None and set(columns) <= set(file.schema_arrow.names) else None
            table: pd.DataFrame = file.read(columns=wanted).to_pandas(split_blocks=True, self_destruct=True)
            return table
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parse errors are ValueErrors or OSErrors
        raise DataError(
            "the file cannot be read: it is empty, cut short or of another kind",
            where=path,
            got=str(error).strip(),
            fix="look at the line the message names, or copy the file again",
        ) from error
    raise DataError("the kind of a file is told by its suffix", where=path, got=path.suffix or "none",
                    allowed=".csv, .parquet", fix="rename or convert it")  # fmt: skip
