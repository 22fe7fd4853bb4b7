"""CSV and Parquet files as panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd

from tsforecast.data.catalogue import CATALOGUE, fetch, sha256
from tsforecast.errors import DataError, nearest
from tsforecast.frames import Policy, Schema, to_panel
from tsforecast.panel import Panel

MISSING = ("NA", "N/A", "NaN", "nan", "null", "None", "")


@dataclass(frozen=True)
class Dataset:
    """A file and what its columns are.

    Parameters
    ----------
    path
        A .csv or .parquet file, or the name of a catalogue entry (`etth1`, `etth2`, `beijing_pm25`).
    layout, time, id, target, past, known, static, freq
        As in `tsforecast.frames.Schema`.
    static_path
        The file with the static covariates.
    unsorted, gaps, duplicates
        As in `tsforecast.frames.Policy`.
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
    freq: str | None = None
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
        return Schema(self.layout, self.time or ("ds" if self.layout == "long" else "date"), self.id, self.target, self.past, self.known, self.static, self.freq)

    def describe(self, rows: int) -> dict[str, str | int]:
        """Name, sha256, place and rows, for the record."""
        return {"name": self.name or self.file.stem, "digest": sha256(self.file), "source": str(self.file),
                "rows": rows}  # fmt: skip

    def load(self) -> Panel:
        """Read and check the file.

        Raises
        ------
        DataError
            It cannot be read, or its content cannot be used; all problems are listed.
        """
        static = read_frame(self.static_path) if self.static_path else None
        policy = Policy(self.unsorted, self.gaps, self.duplicates)
        frame = read_frame(self.file, self.schema.columns if self.target else None)
        return to_panel(frame, self.schema, policy, static=static, where=str(self.file))


def read_frame(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet file, of `columns` those that it has.

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
            fix=f"did you mean {path.parent / near}?" if near else "check the path; it is relative to the working directory",
        )
    try:
        if path.suffix == ".csv":
            wanted = None if columns is None else set(columns)
            return pd.read_csv(path, usecols=None if wanted is None else lambda c: c in wanted,
                               na_values=list(MISSING), keep_default_na=False)  # fmt: skip
        if path.suffix in (".parquet", ".pq"):
            import pyarrow.parquet

            file = pyarrow.parquet.ParquetFile(path)
            had = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
            return file.read(columns=had).to_pandas()
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parse errors are ValueErrors or OSErrors
        raise DataError("the file cannot be read: it is empty, cut short or of another kind", where=path,
                        got=str(error).strip(), fix="look at the line the message names, or copy the file again") from error  # fmt: skip
    raise DataError("the kind of a file is told by its suffix", where=path, got=path.suffix or "none",
                    allowed=".csv, .parquet", fix="rename or convert it")  # fmt: skip
