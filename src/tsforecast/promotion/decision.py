"""The record of a decision: what was asked, compared and judged, and whether it was carried out."""

from __future__ import annotations

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

import pandas as pd

from tsforecast.bundle.provenance import user
from tsforecast.errors import TsforecastError
from tsforecast.files import strict, write
from tsforecast.markdown import table
from tsforecast.promotion.gate import Verdict

FILE = "decision.json"
SHOWN = r"^(mase|mae_raw|rmse_raw|smape|bias|wql|coverage-[\d.]+)$"  # scores, side by side
# Before an alias is moved; after; not to be; of a process that died before.
DECIDED, DONE, REFUSED, CUT = "decided", "carried out", "refused", "cut off"
VERBS = {DECIDED: "is to become", DONE: "becomes", REFUSED: "does not become", CUT: "was cut off before it became"}
BLANK: dict[str, Any] = {"gate": {}, "data": {}, "windows": {}, "scores": {}, "rules": []}  # where nothing is compared
BLANK |= {"passed": True, "forced": False, "state": DECIDED}


@dataclass(frozen=True)
class Decision:
    """To let an alias stand for another version, or not.

    Attributes
    ----------
    record
        JSON values: `action, store, model, alias, candidate, champion, aliases, asked, gate, data, windows, scores,
        rules, passed, forced, reason, by, host, at, state`. Candidate and champion are as they were at the time.
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
        about = {"by": user(), "host": socket.gethostname(), "at": now.isoformat(timespec="milliseconds")}
        return cls(strict({**BLANK, **record, **about}), folder)

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
        version, alias, got = self.record["candidate"]["reference"], self.record["alias"], "\n           ".join(failed)
        what, fix = f"{version} does not become {alias}", "a better candidate; or --force reason='...'"
        return TsforecastError(what, where=self.folder / "decision.md", got=got or None, fix=fix)

    @property
    def versions(self) -> tuple[int, int | None]:
        """Of the candidate, and of the champion, which may be none."""
        candidate, champion = self.record["candidate"], self.record["champion"]
        return candidate["version"], champion and champion["version"]

    def having(self, **changed: Any) -> Decision:
        """The same with something else in its record, and not yet in its folder."""
        return replace(self, record={**self.record, **changed})

    def save(self) -> None:
        """Write the folder, whole or not at all, or the files in it, that for people first.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        folder = self.folder if self.folder.exists() else self.folder.with_name(f".{self.id}")
        write(folder / "decision.md", self.markdown + "\n")
        write(folder / FILE, self.json + "\n")
        folder.rename(self.folder)

    @property
    def json(self) -> str:
        """All of it."""
        return json.dumps(self.record, indent=2)

    @property
    def markdown(self) -> str:
        """For people: the rules, the scores side by side, the windows, who and why."""
        r = self.record
        lines = [f"# {self.headline}", "", *(f"- {Verdict(**each)}" for each in r["rules"])]
        lines += ["", _table(_shown(r["scores"]))] if r["scores"] else []
        nouns = ("windows", "data", "candidate", "champion", "aliases", "gate")
        facts = {name: ", ".join(f"{key} {each}" for key, each in (r[name] or {}).items()) for name in nouns}
        facts |= {"asked": f"`{r['asked']}`", "by": f"{r['by']} on {r['host']}, {r['at']}"}
        facts |= {name: r[name] for name in ("store", "reason", "state")}
        return "\n".join([*lines, "", *(f"- **{name}**: {text}" for name, text in facts.items() if text)])

    @property
    def headline(self) -> str:
        """What became of it, in a line."""
        r = self.record
        how = ", forced" * r["forced"] + " again" * (r["action"] == "rollback")
        return f"{r['candidate']['reference']} {VERBS[r['state']]} {r['alias']}{how}"

    def __str__(self) -> str:
        lines = [self.headline, *(f"  {Verdict(**each)}" for each in self.record["rules"])]
        if (scores := self.record["scores"]) and not self.record["rules"]:  # which would tell these
            shown = _shown(scores).to_string(float_format="{:.4f}".format, na_rep="")
            lines += [f"  {line}" for line in shown.splitlines()]
        if scores and not self.record["champion"]:
            lines.append(f"  there was no {self.record['alias']} to compare with")
        if over := self.record["windows"]:
            span = f"cutoffs {over['first_cutoff']} to {over['last_cutoff']}"
            seen = f", without {over['left_out']:,} whose rows one of them has seen" * bool(over["left_out"])
            lines.append(f"  over {over['count']:,} {over['part']} windows, {span}{seen}")
        return "\n".join([*lines, f"\nRecord  {os.path.relpath(self.folder / 'decision.md')}"])


def _shown(scores: Mapping[str, Mapping[str, float | None]]) -> pd.DataFrame:
    return pd.DataFrame(scores, dtype=float).T.dropna(axis=1, how="all").filter(regex=SHOWN)


def _table(frame: pd.DataFrame) -> str:
    rows = ([name, *("" if cell != cell else f"{cell:.4f}" for cell in row)] for name, *row in frame.itertuples())
    return table(["", *frame], rows)
