"""What is looked at, one thing after the other, as text or as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import groupby
from logging.handlers import BufferingHandler
from textwrap import TextWrapper, indent, shorten
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from tsforecast.config.compose import explain
from tsforecast.errors import TsforecastError, without_password

Facts = Mapping[str, Any]


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
    facts: Facts = field(default_factory=dict)


class Findings(list[Finding]):
    """All of them in order; those that come next are of `part`."""

    part = ""

    def tell(self, name: str, text: str, level: str = "", fix: str | None = None, facts: Facts | None = None) -> None:
        """Add one, see `Finding`: `ok`, or a `note` where there are words to type, unless `level` says otherwise."""
        self.append(Finding(self.part, name, text, level or ("note" if fix else "ok"), fix, facts or {}))

    def fault(self, name: str, error: TsforecastError) -> None:
        """Add an error as something to fix, once."""
        parts = {key: text for key, text in error.parts.items() if text is not None and key != "fix"}
        details = "; ".join(text if key == "where" else f"{key}: {text}" for key, text in parts.items())
        first, line, more = error.what.partition("\n")
        fix = error.fix or f"{error.where}={error.allowed or '...'}"
        found = Finding(self.part, name, first + f" ({details})" * bool(details) + line + more, "fix", fix)
        if found not in self:
            self.append(found)

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Inside, an error ends the block, and is added."""
        try:
            yield
        except (TsforecastError, OmegaConfBaseException) as error:  # the latter: a key is asked for and not given
            self.fault(name, explain(error, "train", []))

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Inside, what the package logs is not shown, and is added at the end."""
        kept, ours = BufferingHandler(10_000), logging.getLogger("tsforecast")
        for lightning in ("lightning.pytorch", "pytorch_lightning"):  # which devices there are is told already
            logging.getLogger(f"{lightning}.utilities.rank_zero").setLevel(logging.WARNING)
        before = ours.propagate, ours.level
        ours.addHandler(kept)
        ours.propagate, ours.level = False, logging.INFO
        try:
            yield
        finally:
            ours.propagate, ours.level = before
            ours.removeHandler(kept)
        for text in dict.fromkeys(record.getMessage() for record in kept.buffer):
            self.tell("log", text, "note")

    @property
    def faults(self) -> list[Finding]:
        """Those that are to fix."""
        return [each for each in self if each.level == "fix"]

    def text(self) -> str:
        """A line for each, and at the end `ok` or what to fix."""
        width = max(len(each.name) for each in self)
        wrap = TextWrapper(118, subsequent_indent=" " * (width + 10), break_long_words=False, break_on_hyphens=False)
        lines = []
        for part, own in groupby(self, key=lambda each: each.part):
            lines.append(part)
            for each in own:
                mark = "-" if each.level == "absent" else each.level
                first, *later = each.text.splitlines()
                later += [each.fix] if each.level == "note" and each.fix else []
                lines.append(wrap.fill(f"  {mark:<5} {each.name:<{width}}  {first}"))
                lines += [wrap.fill(wrap.subsequent_indent + line) for line in later]
            lines.append("")
        lines.append("To fix" if self.faults else "ok")
        for number, each in enumerate(self.faults, 1):
            what = shorten(each.text.partition("\n")[0].partition(" (")[0], 90, placeholder=" ...")
            lines.append(f"  {number}. {each.name}: {what}\n{indent(str(each.fix), ' ' * 5)}")
        return without_password("\n".join(lines))

    def json(self) -> str:
        """`ok`, and every finding as it is."""
        whole = {"ok": not self.faults, "findings": [asdict(each) for each in self]}
        return without_password(json.dumps(whole, indent=2, default=str))
