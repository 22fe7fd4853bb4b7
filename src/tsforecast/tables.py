"""CSV text as a frame, whole or not at all."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from tsforecast.errors import DataError

MISSING = ("NA", "N/A", "NaN", "nan", "null", "None", "")


def read_csv(raw: bytes, where: object, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The frame a CSV file holds: only `columns` when it has them all, so that a missing one can be told its nearest.

    Raises
    ------
    DataError
        It is empty, cut short, not UTF-8, or names a column twice.
    """
    try:
        _check_cells(raw, where)
        header = pd.read_csv(io.BytesIO(raw), nrows=0).columns
        wanted = list(columns) if columns is not None and set(columns) <= set(header) else None
        return pd.read_csv(io.BytesIO(raw), usecols=wanted, na_values=list(MISSING), keep_default_na=False,
                           low_memory=False)  # fmt: skip
    except (ValueError, csv.Error) as error:  # pandas' parse errors are ValueErrors
        raise DataError(
            "the file cannot be read: it is empty, cut short or of another kind",
            where=where,
            got=str(error).strip(),
            fix="look at the line the message names, or copy the file again",
        ) from error


def _check_cells(raw: bytes, where: object) -> None:
    """Every row must have as many cells as the header: pandas would fill a row cut short with missing values."""
    first = raw.partition(b"\n")[0]
    for kind, start in (("gzip", b"\x1f\x8b"), ("UTF-16", b"\xff\xfe"), ("UTF-16", b"\xfe\xff"), ("zip", b"PK")):
        if raw.startswith(start):
            raise DataError(f"the file is {kind}, and plain text in UTF-8 is wanted", where=where,
                            fix="unpack it" if "zip" in kind else "save it as UTF-8")  # fmt: skip
    for mark, options in ((";", "sep=';', decimal=','"), ("\t", "sep='\\t'")):
        if first.count(mark.encode()) > first.count(b","):
            raise DataError(f"the cells are separated by {mark!r}, and ',' is wanted", where=where,
                            fix=f"pandas.read_csv(path, {options}).to_csv(path, index=False)")  # fmt: skip
    names = next(csv.reader([first.decode("utf-8-sig").rstrip("\r")]), [])
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError("columns are there more than once", where=where, got=", ".join(twice[:5]), fix="name each once")
    commas = first.count(b",")
    if raw.count(b",") == commas * (raw.rstrip(b"\r\n").count(b"\n") + 1) and b'"' not in raw:
        return
    rows = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""))
    width = len(next(rows, []))
    if ragged := [(rows.line_num, len(row)) for row in rows if row and len(row) != width]:
        listing = ", ".join(f"row {line} has {cells}" for line, cells in ragged[:5])
        raise DataError(
            f"{len(ragged)} rows have not as many cells as the header: the file was cut short, or a cell holds a comma",
            where=where,
            got=listing + (", ..." if len(ragged) > 5 else ""),
            allowed=f"{width} cells",
            fix="copy the file again, or mend those rows",
        )
