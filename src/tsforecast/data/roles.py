"""Which column is the time, the series and the target, where nobody has said so and names leave no doubt."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from tsforecast.data.schema import Schema

log = logging.getLogger(__name__)
_Schema = TypeVar("_Schema", bound=Schema)
_CALLED = {  # in letters alone
    "time": "date ds time timestamp datetime day week month quarter year period",
    "id": "uniqueid id itemid seriesid storeid shopid productid item series store shop product part sku site sensor",
    "target": "y value values target sales demand quantity load volume",
}


def named(schema: _Schema, names: Iterable[object]) -> _Schema:
    """The schema for a table with these columns.

    A column that it takes by default (`date`; of a long table `ds`, `unique_id`, `y`) and that is not there is the one
    that is called as such a column is, if one alone is; the target of a long table is also the one that is left.
    """
    if found := by_name(schema, names):
        log.info("columns by their names: %s", " ".join(f"dataset.{role}={name}" for role, name in found.items()))
    return replace(schema, **found) if found else schema


def by_name(schema: Schema, names: Iterable[object]) -> dict[str, Any]:
    """The roles that `named` finds, with the column of each."""
    there, usual = [*map(str, names)], Schema(id="unique_id") if schema.id else Schema()
    found: dict[str, Any] = {}
    for role, called in _CALLED.items():
        own = getattr(schema, role)
        if not own or own != getattr(usual, role) or {own} & {*there} or {*own} <= {*there}:
            continue
        free = [name for name in there if name not in (*schema.columns, *found.values())]
        like = [name for name in free if re.sub("[^a-z]", "", name.lower()) in called.split()]
        like = like or (free if role == "target" else [])
        if len(like) == 1:
            found[role] = like[0]
    return found
