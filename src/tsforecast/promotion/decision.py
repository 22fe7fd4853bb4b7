"""The record of a decision: what was asked, compared and judged, and whether it was carried out."""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tsforecast.errors import TsforecastError
from tsforecast.files import strict, write
from tsforecast.markdown import table

SHOWN = ("mase", "mae_raw", "rmse_raw", "smape", "wql")
# Before an alias is moved; after. A record that stays `decided` is of a process that died: the aliases tell the rest.
DECIDED, DONE, REFUSED = "decided", "carried out", "refused"
BLANK: dict[str, Any] = {"gate": {}, "data": {}, "windows": {}, "scores": {}, "rules": []}  # where nothing is compared
BLANK |= {"passed": True, "forced": False}


@dataclass(frozen=True)
class Decision:
    """To let an alias stand for another version, or not.

    Attributes
    ----------
    record
        JSON values: `action, model, alias, candidate, champion, aliases, asked, data, windows, scores, rules, passed,
        forced, reason, by, host, at, state`. Versions are as the candidate and the champion were at the time.
    folder
        Where `decision.json` and `decision.md` are.
    """

    record: Mapping[str, Any]
    folder: Path

    @classmethod
    def of(cls, place: Path, **record: Any) -> Decision:
        """One that is made now, by this user, to be kept in a new folder of its own in `place`."""
        now = datetime.now(UTC)
        name = re.sub(r"[^\w.-]+", "-", record["model"])
        folder = place / f"{name}-{now:%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(3)}"
        about = {"by": getpass.getuser(), "host": socket.gethostname(), "at": now.isoformat(timespec="milliseconds")}
        return cls(strict({**BLANK, **record, **about, "state": DECIDED}), folder)

    @property
    def id(self) -> str:
        """Its name among others."""
        return self.folder.name

    @property
    def done(self) -> bool:
        """Whether it was carried out."""
        return bool(self.record["state"] == DONE)

    @property
    def refusal(self) -> TsforecastError:
        """What a refused one ends with."""
        failed = [f"{each['rule']}: {each['said']}" for each in self.record["rules"] if not each["passed"]]
        version, alias = self.record["candidate"]["reference"], self.record["alias"]
        what, fix = f"{version} does not become {alias}", "a better candidate; or --force reason='...'"
        return TsforecastError(what, where=self.folder / "decision.md", got="\n           ".join(failed), fix=fix)

    def marked(self, state: str) -> Decision:
        """The same in another state, as its files say then too."""
        changed = replace(self, record={**self.record, "state": state})
        changed._write(self.folder)
        return changed

    def save(self) -> None:
        """Write the folder, whole or not at all.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        scratch = self.folder.with_name(f".{self.id}")
        self._write(scratch)
        scratch.rename(self.folder)

    def _write(self, folder: Path) -> None:
        for name, text in (("decision.json", self.json), ("decision.md", self.markdown)):
            write(folder / name, text + "\n")

    @property
    def json(self) -> str:
        """All of it."""
        return json.dumps(self.record, indent=2)

    @property
    def markdown(self) -> str:
        """For people: the rules, the scores side by side, the windows, who and why."""
        r = self.record
        lines = [f"# {self.headline}", "", *(f"- {_mark(each)} {each['rule']}: {each['said']}" for each in r["rules"])]
        lines += ["", _table(r["scores"])] if r["scores"] else []
        nouns = ("windows", "data", "candidate", "champion", "aliases", "gate")
        facts = {name: _pairs(r[name] or {}) for name in nouns}
        facts |= {"asked": f"`{r['asked']}`", "reason": r["reason"], "state": r["state"]}
        facts["by"] = f"{r['by']} on {r['host']}, {r['at']}"
        return "\n".join([*lines, "", *(f"- **{name}**: {text}" for name, text in facts.items() if text)])

    @property
    def headline(self) -> str:
        """What became of it, in a line."""
        r = self.record
        verb = {DONE: "becomes", DECIDED: "is to become", REFUSED: "does not become"}[r["state"]]
        how = ", forced" * r["forced"] + ", rolled back" * (r["action"] == "rollback")
        return f"{r['candidate']['reference']} {verb} {r['alias']}{how}"

    def __str__(self) -> str:
        lines = [self.headline, *(f"  {_mark(each)}  {each['rule']}: {each['said']}" for each in self.record["rules"])]
        if over := self.record["windows"]:
            span = f"cutoffs {over['first_cutoff']} to {over['last_cutoff']}"
            seen = f", without {over['left_out']:,} whose rows one of them has seen" * bool(over["left_out"])
            lines.append(f"  over {over['count']:,} {over['part']} windows, {span}{seen}")
        return "\n".join([*lines, f"\nRecord  {os.path.relpath(self.folder / 'decision.md')}"])


def _mark(rule: Mapping[str, Any]) -> str:
    return "pass" if rule["passed"] else "FAIL"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _table(scores: Mapping[str, Mapping[str, float | None]]) -> str:
    first = next(iter(scores.values()))
    columns = [*SHOWN, *(name for name in first if name.startswith("coverage-"))]
    shown = [name for name in columns if any(each.get(name) is not None for each in scores.values())]
    rows = [[name, *("" if own.get(c) is None else f"{own[c]:.4f}" for c in shown)] for name, own in scores.items()]
    return table(["", *shown], rows)
