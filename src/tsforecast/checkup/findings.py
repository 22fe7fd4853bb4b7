"""One thing looked at, and all of them as text or as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import groupby
from textwrap import TextWrapper, indent, shorten
from typing import Any

from tsforecast.errors import TsforecastError, without_password


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes
    ----------
    part, name
        Where it belongs, and what it is called there.
    text
        What was found.
    level
        `ok`; `absent`, what need not be there; `note`, worth knowing and not broken; `fix`.
    fix
        The words to type.
    facts
        Numbers behind the text, as JSON values.
    """

    part: str
    name: str
    text: str
    level: str = "ok"
    fix: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, part: str, name: str, error: TsforecastError) -> Finding:
        """An error as something to fix."""
        told = {key: text for key, text in error.parts.items() if text is not None and key != "fix"}
        details = "; ".join(text if key == "where" else f"{key}: {text}" for key, text in told.items())
        first, line, more = error.what.partition("\n")
        fix = error.fix or f"{error.where}={error.allowed or '...'}"
        return cls(part, name, first + f" ({details})" * bool(details) + line + more, "fix", fix)


@contextmanager
def heard() -> Iterator[list[str]]:
    """Inside, what the package logs is kept here instead of being shown."""
    told: list[str] = []
    handler, ours = logging.Handler(), logging.getLogger("tsforecast")
    for lightning in ("lightning.pytorch", "pytorch_lightning"):  # which devices there are is told already
        logging.getLogger(f"{lightning}.utilities.rank_zero").setLevel(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    ours.addHandler(handler)
    before = ours.propagate, ours.level
    ours.propagate, ours.level = False, logging.INFO
    try:
        yield told
    finally:
        ours.propagate, ours.level = before
        ours.removeHandler(handler)


def tried(part: str, name: str, action: Callable[..., Any], *args: Any) -> tuple[Any, list[Finding]]:
    """What an action gives, and nothing to fix; or None, and the error that it raises."""
    try:
        return action(*args), []
    except TsforecastError as error:
        return None, [Finding.of(part, name, error)]


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each, and at the end `ok` or what to fix."""
    marks, width = {"absent": "-"}, max(len(each.name) for each in findings)
    lines = []
    for part, own in groupby(findings, key=lambda each: each.part):
        lines.append(part)
        for each in own:
            text = each.text + f"\n{each.fix}" * (each.level == "note" and each.fix is not None)
            first, later = f"  {marks.get(each.level, each.level):<5} {each.name:<{width}}  ", " " * (width + 10)
            wrap = TextWrapper(118, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)
            lines += [wrap.fill((later if i else first) + line) for i, line in enumerate(text.splitlines())]
        lines.append("")
    faults = [each for each in findings if each.level == "fix"]
    for number, each in enumerate(faults, 1):
        lines += [] if number > 1 else ["To fix"]
        what = shorten(each.text.partition("\n")[0].partition(" (")[0], 90, placeholder=" ...")
        lines.append(f"  {number}. {each.name}: {what}\n{indent(str(each.fix), ' ' * 5)}")
    return without_password("\n".join(lines if faults else [*lines, "ok"]))


def as_json(findings: Sequence[Finding]) -> str:
    """`ok`, and every finding as it is."""
    whole = {"ok": all(each.level != "fix" for each in findings), "findings": [asdict(each) for each in findings]}
    return without_password(json.dumps(whole, indent=2, default=str))
