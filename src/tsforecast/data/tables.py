"""CSV text as a frame, whole or not at all."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter

import pandas as pd

from tsforecast.data.schema import Schema, mark_name
from tsforecast.errors import DataError

MISSING = ("NA", "N/A", "NaN", "nan", "null", "None", "")


def read_csv(raw: bytes, where: object, schema: Schema) -> pd.DataFrame:
    """The frame a CSV file holds: only the columns of the schema when it has them all.

    Ids are text as it stands: `01` is not `1`, and `NA` is a name.

    Raises
    ------
    DataError
        It is empty, cut short, not UTF-8, or names a column twice.
    """
    try:
        header = _check_cells(raw, where, schema.sep)
        as_text = {schema.id, schema.stamp if schema.date_format or schema.thousands else None} & set(header)
        wanted = schema.of_file(header)
        missing = {name: [""] if name == schema.id else list(MISSING) for name in wanted or header}
        return pd.read_csv(
            io.BytesIO(raw), sep=schema.sep, decimal=schema.decimal, thousands=schema.thousands, na_values=missing,
            dtype=dict.fromkeys(as_text, str), usecols=wanted, keep_default_na=False, low_memory=False,
        )  # fmt: skip
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start)
        raise DataError(
            f"the file is not UTF-8: row {row + 1}",
            where=where,
            got=raw.splitlines()[row].decode("latin-1")[:80],
            fix="save it as UTF-8: pandas.read_csv(path, encoding='cp1252').to_csv(path, index=False)",
        ) from error
    except (ValueError, csv.Error) as error:  # pandas' parse errors are ValueErrors
        raise unreadable(where, error) from error


def unreadable(where: object, error: Exception) -> DataError:
    """What is said of a file that its reader refuses."""
    what, fix = "the file cannot be read: it is empty, cut short or of another kind", "look at it, or copy it again"
    return DataError(what, where=where, got=str(error).strip(), fix=fix)


def _check_cells(raw: bytes, where: object, sep: str) -> list[str]:
    """The header; every row must have as many cells: pandas would fill a row cut short with missing values."""
    for kind, start in (("gzip", b"\x1f\x8b"), ("UTF-16", b"\xff\xfe"), ("UTF-16", b"\xfe\xff"), ("zip", b"PK")):
        if raw.startswith(start):
            raise DataError(f"the file is {kind}, and plain text in UTF-8 is wanted", where=where,
                            fix="unpack it" if "zip" in kind else "save it as UTF-8")  # fmt: skip
    if b"\0" in raw[:4096]:
        raise DataError("the file is binary, and plain text in UTF-8 is wanted", where=where, got=raw[:8],
                        fix="export it as CSV, or name it .parquet where it is that")  # fmt: skip
    if not raw.isascii():
        raw.decode()
    first, _, below = raw.partition(b"\n")
    own = first.count(sep.encode())
    if other := next((mark for mark in (",", ";", "\t") if first.count(mark.encode()) > own), None):
        keys = f"sep={mark_name(other)}"
        if other != "," and re.search(rb"\d,\d", below[:4096]):
            keys += " decimal=comma"
        raise DataError(f"the cells are separated by {other!r}, and {sep!r} is wanted", where=where,
                        fix=f"say so: {keys} (to train: dataset.{keys.replace(' ', ' dataset.')})")  # fmt: skip
    names = next(csv.reader([first.decode("utf-8-sig").rstrip("\r")], delimiter=sep), [])
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError("columns are there more than once", where=where, got=", ".join(twice[:5]), fix="name each once")
    if raw.count(sep.encode()) == own * (raw.rstrip(b"\r\n").count(b"\n") + 1) and b'"' not in raw:
        return names
    rows = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), delimiter=sep)
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
    return names
