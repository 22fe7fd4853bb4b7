"""Static covariates: one row per series."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsforecast.data.columns import Categories, Problems, read_numbers, read_series, text_columns
from tsforecast.data.schema import Schema
from tsforecast.errors import listed

Statics = Float[np.ndarray, "N S"]


def read_static(
    frame: pd.DataFrame, codes: np.ndarray, schema: Schema, ids: np.ndarray, problems: Problems, categories: Categories
) -> Statics:
    """From the columns that repeat them in every row of a series; `codes` are the series of the rows, -1 for none."""
    table = np.full((len(ids), len(schema.static)), np.nan, dtype=np.float32)
    if not schema.static:
        return table
    values = read_numbers(frame, schema.static, schema, problems, categories)
    kept = np.flatnonzero(codes >= 0)
    series, first = np.unique(codes[kept], return_index=True)
    table[series] = values[kept[first]]
    for j, name in enumerate(schema.static):
        if (varies := values[kept, j] != table[codes[kept], j]).any() and not np.isnan(table[:, j]).any():
            problems.add(f"static covariate {name!r} changes within a series", kept[varies])
        if (gone := np.isnan(table[:, j])).any():
            problems.add(f"static covariate {name!r} is missing for {int(gone.sum())} series: {listed(ids[gone])}")
    return table


def read_own_static(
    given: pd.DataFrame, schema: Schema, ids: np.ndarray, problems: Problems, categories: Categories
) -> Statics:
    """From a frame of their own; what is wrong with the rows of the series is told first."""
    own, frame = Problems("static", problems.first, problems.keys), text_columns(given, schema)
    own.missing((*schema.key, *schema.static), frame.columns)
    own.stop()
    theirs, codes = read_series(frame, schema)
    own.nameless(codes, schema)
    own.stop()
    codes = np.where(codes < 0, -1, pd.Index(ids).get_indexer(pd.Index(theirs))[codes])
    table = read_static(frame, codes, schema, ids, own, categories)
    if own.found:
        problems.stop()
    own.stop()
    return table
