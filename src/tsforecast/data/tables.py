"""CSV text as a frame, whole or not at all."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.csv

from tsforecast.data.schema import Schema, mark_name
from tsforecast.errors import DataError, listed

MISSING = ("NA", "N/A", "NaN", "nan", "null", "None", "")
_COLUMNS = 100_000  # a file of commas alone has millions, whose names would take a hundred times its length
_MAGIC = {b"\x1f\x8b": "gzip", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK": "zip or Excel"}


def read_csv(raw: bytes, where: object, schema: Schema) -> pd.DataFrame:
    """The frame a CSV file holds: only the columns of the schema when it has them all.

    Ids are text as it stands: `01` is not `1`, and `NA` is a name.

    Raises
    ------
    DataError
        It is empty, cut short, not UTF-8, or names a column twice.
    """
    binary = "binary" if b"\0" in raw[:4096] else None
    if kind := next((name for magic, name in _MAGIC.items() if raw.startswith(magic)), binary):
        fix = "unpack it, save it as CSV in UTF-8, or name it .parquet where it is that"
        raise DataError(f"the file is {kind}, and plain text in UTF-8 is wanted", where=where, got=raw[:8], fix=fix)
    try:
        if not raw.isascii():
            raw.decode()
        header = _header(raw, where, schema.sep)
        _check_cells(raw, schema.sep)
        as_text = {schema.id, schema.stamp if schema.date_format or schema.thousands else None} & set(header)
        wanted = schema.of_file(header)
        missing = {name: [""] if name == schema.id else list(MISSING) for name in wanted or header}
        marks: Any = {"sep": schema.sep, "decimal": schema.decimal, "thousands": schema.thousands}
        text: Any = {"dtype": dict.fromkeys(as_text, str), "na_values": missing, "keep_default_na": False}
        frame: pd.DataFrame = pd.read_csv(io.BytesIO(raw), usecols=wanted, low_memory=False, **marks, **text)
        return frame
    except UnicodeDecodeError as error:
        row, begin = raw.count(b"\n", 0, error.start), raw.rfind(b"\n", 0, error.start) + 1
        what, got = f"the file is not UTF-8: row {row + 1}", raw[begin : begin + 80].splitlines()[0].decode("latin-1")
        fix = "save it as UTF-8: pandas.read_csv(path, encoding='cp1252').to_csv(path, index=False)"
        raise DataError(what, where=where, got=got, fix=fix) from error
    except (ValueError, csv.Error) as error:  # the parse errors of pandas and pyarrow are ValueErrors
        raise unreadable(where, error) from error


def unreadable(where: object, error: object) -> DataError:
    """What is said of a file that its reader refuses."""
    what, fix = "the file cannot be read: it is empty, cut short or of another kind", "look at it, or copy it again"
    return DataError(what, where=where, got=str(error).strip(), fix=fix)


def _header(raw: bytes, where: object, sep: str) -> list[str]:
    """The names of the columns, each there once, separated by the mark that is wanted."""
    first, _, below = raw.partition(b"\n")
    if (own := first.count(sep.encode())) > _COLUMNS:
        raise DataError("there are too many columns", where=where, got=own + 1, allowed=f"{_COLUMNS} or fewer")
    if other := next((mark for mark in ",;\t" if first.count(mark.encode()) > own), None):
        comma = ["decimal=comma"] if other != "," and re.search(rb"\d,\d", below[:4096]) else []
        keys = [f"sep={mark_name(other)}", *comma]
        said = f"{' '.join(f'dataset.{key}' for key in keys)} (to predict: {' '.join(keys)})"
        what = f"the cells are separated by {other!r}, and {sep!r} is wanted"
        raise DataError(what, where=where, fix=f"save it so, or say {said}")
    names = next(csv.reader([first.decode("utf-8-sig").rstrip("\r")], delimiter=sep), [])
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]  # as pandas calls them
    if any(re.match(r"\d+[-/]\d", name) for name in names) and all(re.match(r"[-+.\d]", name) for name in names):
        what, fix = "the first row names no columns", "write their names above it: date,sales"
        raise DataError(what, where=where, got=listed(names), fix=fix)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError("columns are there more than once", where=where, got=listed(twice), fix="name each once")
    return names


def _check_cells(raw: bytes, sep: str) -> None:
    """Have pyarrow refuse a row with other cells than the header, which pandas would fill with missing values."""
    size = min(len(raw) + 1, 1 << 30)  # a block holds the longest row
    read = pyarrow.csv.ReadOptions(use_threads=False, block_size=size, autogenerate_column_names=True)
    parse = pyarrow.csv.ParseOptions(delimiter=sep, newlines_in_values=True)
    convert = pyarrow.csv.ConvertOptions(include_columns=["f0"], column_types={"f0": pyarrow.binary()})
    pyarrow.csv.read_csv(pyarrow.BufferReader(raw), read, parse, convert)
