"""Tables as Markdown has them."""

from __future__ import annotations

import re
from collections.abc import Iterable


def table(titles: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A line for each row, whatever stands in its cells."""
    heads = [*titles]
    cells = [[re.sub(r"\s+", " ", str(cell)).replace("|", "\\|") for cell in row] for row in (heads, *rows)]
    cells.insert(1, ["---"] * len(heads))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
