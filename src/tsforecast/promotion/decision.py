"""The record of a decision: what was asked, compared and judged, and whether it was carried out."""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import OutputError, TsforecastError
from tsforecast.files import strict, write
from tsforecast.markdown import table
from tsforecast.promotion.comparison import Comparison
from tsforecast.promotion.gate import Verdict

SHOWN = ("mase", "mae_raw", "rmse_raw", "smape", "wql")
# Before an alias is moved; after. A record that stays `decided` is of a process that died: the aliases tell the rest.
DECIDED, DONE, REFUSED = "decided", "carried out", "refused"


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
        return cls({**strict(record), **about, "state": DECIDED}, folder)

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
        for name, text in changed.files.items():
            write(self.folder / name, text)
        return changed

    def save(self) -> None:
        """Write the folder, whole or not at all.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=".decision-"))
            for name, text in self.files.items():
                write(scratch / name, text)
            scratch.chmod(0o755)
            scratch.rename(self.folder)
        except OSError as error:
            what, got = "the record of the decision cannot be written", error.strerror or error
            raise OutputError(what, where=self.folder, got=got, fix="check permissions, or give out=FOLDER") from error

    @property
    def json(self) -> str:
        """All of it."""
        return json.dumps(self.record, indent=2)

    @property
    def files(self) -> dict[str, str]:
        """By name."""
        return {"decision.json": self.json + "\n", "decision.md": self.markdown}

    @property
    def markdown(self) -> str:
        """For people: the rules, the scores side by side, the windows, who and why."""
        r = self.record
        lines = [f"# {self.headline}", "", *(f"- {_mark(each)} {each['rule']}: {each['said']}" for each in r["rules"])]
        lines += ["", _table(r["scores"])] if r["scores"] else []
        facts = {"windows": _windows(r["windows"]), "data": _data(r["data"]), "champion": _version(r["champion"])}
        facts |= {"candidate": _version(r["candidate"]), "aliases before": _pairs(r["aliases"])}
        facts |= {"asked": f"`{r['asked']}`", "gate": _pairs(r["gate"] or {}), "forced, since": r["reason"]}
        facts |= {"by": f"{r['by']} on {r['host']}, {r['at']}", "state": r["state"]}
        return "\n".join([*lines, "", *(f"- **{name}**: {text}" for name, text in facts.items() if text), ""])

    @property
    def headline(self) -> str:
        """What became of it, in a line."""
        r = self.record
        verb = {DONE: "becomes", DECIDED: "is to become", REFUSED: "does not become"}[r["state"]]
        how = ", forced" * r["forced"] + ", rolled back" * (r["action"] == "rollback")
        return f"{r['candidate']['reference']} {verb} {r['alias']}{how}"

    def __str__(self) -> str:
        rules = [f"  {_mark(each)}  {each['rule']}: {each['said']}" for each in self.record["rules"]]
        scored = [f"  over {_windows(self.record['windows'])}"] if self.record["windows"] else []
        return "\n".join([self.headline, *rules, *scored, f"\nRecord  {os.path.relpath(self.folder / 'decision.md')}"])


def about(reference: str, bundle: Bundle | None = None) -> dict[str, Any]:
    """A version as a record has it."""
    known = {} if bundle is None else {"digest": bundle.digest, "chosen_until": bundle.metadata.get("chosen_until")}
    return {"reference": reference, "version": int(reference.rpartition("/")[2]), **known}


def judged(found: Comparison | None, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The part of a record that a comparison and a gate's verdicts give."""
    rules = [{"rule": v.rule, "passed": bool(v.passed), "said": v.said, "figures": dict(v.figures)} for v in verdicts]
    compared: dict[str, Any] = {"data": {}, "windows": {}, "scores": {}}
    if found is not None:
        compared = {"data": dict(found.record.facts["data"]), "windows": dict(found.windows), "scores": found.scores}
    return {**compared, "rules": rules, "passed": all(v.passed for v in verdicts)}


def _mark(rule: Mapping[str, Any]) -> str:
    return "pass" if rule["passed"] else "FAIL"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if not str(name).startswith("_"))


def _version(version: Mapping[str, Any] | None) -> str:
    return f"{version['reference']}, digest {str(version.get('digest'))[:12]}" if version else ""


def _windows(windows: Mapping[str, Any]) -> str:
    if not windows:
        return ""
    span = (
        f"{windows['count']:,} {windows['part']} windows, cutoffs {windows['first_cutoff']} to {windows['last_cutoff']}"
    )
    return span + f", without {windows['left_out']:,} whose rows one of them has seen" * bool(windows["left_out"])


def _data(data: Mapping[str, Any]) -> str:
    return f"{data['name']}, {data['rows']:,} rows, sha256 {str(data['digest'])[:12]}" if data else ""


def _table(scores: Mapping[str, Mapping[str, float | None]]) -> str:
    first = next(iter(scores.values()))
    columns = [*SHOWN, *(name for name in first if name.startswith("coverage-"))]
    shown = [name for name in columns if any(each.get(name) is not None for each in scores.values())]
    rows = [[name, *("" if own.get(c) is None else f"{own[c]:.4f}" for c in shown)] for name, own in scores.items()]
    return table(["", *shown], rows)
