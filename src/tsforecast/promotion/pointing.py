"""Which version an alias stands for is decided by one process at a time, and whatever ends it leaves one that does."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.directory import parse_json
from tsforecast.errors import BundleError, ConfigError, OutputError
from tsforecast.files import lock
from tsforecast.promotion.comparison import Comparison, IncomparableError
from tsforecast.promotion.decision import CUT, DECIDED, DONE, FILE, REFUSED, Decision
from tsforecast.promotion.gate import Gate, Verdict
from tsforecast.registry import Registry

log = logging.getLogger(__name__)

FORCED, DECISION = "tsforecast.forced", "tsforecast.decision"  # tags of a version; the latter with the id behind it
Compare = Callable[[Bundle, Bundle | None], Comparison]


def previous(alias: str) -> str:
    """The alias of the version before: of `champion`, plainly `previous`."""
    return "previous" if alias == "champion" else f"{alias}-previous"


@dataclass(frozen=True)
class Pointing:
    """An alias of a registered model, to be let stand for another version.

    A decision is recorded in `place` and as a tag of the version: first, so that there is one whenever an alias was
    moved; then the aliases are moved, then the record says so. One of a process that died before it did is brought to
    what is true by the next.

    Parameters
    ----------
    registry, model, alias
        Which alias of which model.
    place
        Where decisions are kept, in a folder each.
    asked, reason
        The command, and why, for the record.
    """

    registry: Registry
    model: str
    alias: str
    place: Path
    asked: str
    reason: str | None = None

    def promote(self, source: str, gate: Gate, compare: Compare, *, force: bool = False) -> Decision:
        """Let it stand for the version that is called `source` (an alias or a number), if the gate lets it through.

        Parameters
        ----------
        compare
            Scores the candidate beside the champion, which may be none.
        force
            It becomes so whatever the gate says.

        Raises
        ------
        BundleError
            There is no such model or version, or it cannot be loaded.
        ConfigError
            The version is the champion already.
        TsforecastError
            What `compare` raises, but for `IncomparableError`, which is a rule that failed.
        """
        with self._alone() as record:
            alias, aliases = record["alias"], record["aliases"]
            candidate, own = self._loaded(("/" if source.isdecimal() or source == "latest" else "@") + source)
            if own["version"] == aliases.get(alias):
                what, fix = f"version {own['version']} is {alias} already", "publish another one as candidate"
                raise ConfigError(what, where=f"models:/{self.model}@{alias}", got=own["reference"], fix=fix)
            standing, champion = aliases.get(alias), None
            record |= {"action": "promote", "candidate": own, "champion": self._named(standing), "gate": asdict(gate)}
            try:
                if standing is not None:
                    champion, record["champion"] = self._standing(standing)
                found = compare(candidate, champion)
                verdicts = gate(found)
                record |= {"data": found.record.facts["data"], "windows": found.windows, "scores": found.scores}
            except IncomparableError as error:
                verdicts = [Verdict("comparable", False, f"{error.what}; {error.fix}", error.parts)]
            passed = all(each.passed for each in verdicts)
            record |= {"rules": [asdict(each) for each in verdicts], "passed": passed, "forced": force and not passed}
            return self._carried_out(Decision.of(self.place, **record, state=DECIDED if passed or force else REFUSED))

    def rollback(self) -> Decision:
        """Let it stand again for the version before, and that one be the version before.

        Raises
        ------
        BundleError
            There is no such model, or no version before.
        """
        with self._alone() as record:
            alias, aliases = record["alias"], record["aliases"]
            standing, back = aliases.get(alias), aliases.get(previous(alias))
            if standing is None or back in (None, standing):
                what = f"model {self.model!r} has no version before its {alias} to go back to"
                fix = "promote one by its number: from=1"
                got = [f"{name}: {version}" for name, version in aliases.items()] or "no alias"
                raise BundleError(what, where=f"models:/{self.model}@{previous(alias)}", got=got, fix=fix)
            record |= {"action": "rollback", "candidate": self._named(back), "champion": self._named(standing)}
            return self._carried_out(Decision.of(self.place, **record))

    def _loaded(self, which: str) -> tuple[Bundle, dict[str, Any]]:
        """A version, and what a record says of it."""
        found = self.registry.resolve(f"models:/{self.model}{which}")
        bundle = Bundle.load(found.path)
        known = {"digest": bundle.digest, "chosen_until": bundle.metadata.get("chosen_until")}
        return bundle, {"reference": found.exact, "version": int(found.exact.rpartition("/")[2]), **known}

    def _standing(self, version: int) -> tuple[Bundle, dict[str, Any]]:
        """The champion, and what a record says of it; IncomparableError where its files are lost."""
        try:
            return self._loaded(f"/{version}")
        except BundleError as error:
            what, fix = f"the champion cannot be loaded: {error.what}", "publish it again, or --force reason='...'"
            raise IncomparableError(what, **{**error.parts, "fix": fix}) from error

    def _named(self, version: int | None) -> dict[str, Any] | None:
        """What a record says of a version that is not loaded."""
        return None if version is None else {"reference": f"models:/{self.model}/{version}", "version": version}

    def _carried_out(self, decision: Decision) -> Decision:
        """The decision, recorded and then done; unless it is refused, or the alias was moved by somebody meanwhile."""
        alias, (candidate, champion) = decision.record["alias"], decision.versions
        if (now := self.registry.aliases(self.model).get(alias)) != champion:  # another machine's lock is not seen
            moved = f"{alias} was version {champion} when they were compared, and is version {now} now"
            rules = [*decision.record["rules"], asdict(Verdict("unmoved", False, moved))]
            decision = decision.having(rules=rules, passed=False, forced=False, state=REFUSED)
        decision.save()
        self._tag(decision)
        if decision.record["state"] == REFUSED:
            return decision
        if decision.record["forced"]:
            self.registry.tag(self.model, candidate, FORCED, self.reason)
        steps = [(previous(alias), champion), (alias, candidate)]
        for name, version in steps if decision.record["action"] == "promote" else reversed(steps):
            if version is not None:  # of a rollback what matters comes first: the alias
                self.registry.point(self.model, name, version)
        return self._settled(decision)

    def _settled(self, decision: Decision) -> Decision:
        """The decision, its tag and its files as the aliases say; the files last, so that they stand for all."""
        alias, (candidate, champion) = decision.record["alias"], decision.versions
        aliases, before = self.registry.aliases(self.model), previous(alias)
        moved = aliases.get(alias) == candidate
        back = champion if moved else decision.record["aliases"].get(before)
        if back is not None and aliases.get(before) == aliases.get(alias):  # a process died between the two
            self.registry.point(self.model, before, back)
        decision = decision.having(state=DONE if moved else CUT)
        self._tag(decision)
        decision.save()
        return decision

    def _tag(self, decision: Decision) -> None:
        self.registry.tag(self.model, decision.versions[0], f"{DECISION}.{decision.id}", decision.json)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[dict[str, Any]]:
        """Inside, no other process of this machine decides about the model; gives the beginning of a record."""
        store, name = self.registry.store, self.model
        self.registry.aliases(name)  # or an error, before there is a file
        file = store.file and store.file.resolve()
        folder, mark = (file.parent, file.name) if file else (Path(tempfile.gettempdir()), store.uri)
        path = folder / f".tsforecast-{hashlib.sha256(f'{mark} {name}'.encode()).hexdigest()[:16]}.lock"
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
        with path.open("rb") as stream:  # one that another user has made can be locked, not written
            if lock(stream) is False:
                log.info("another promotion of %s is at work: waiting for its end", name)
            while lock(stream) is False:
                time.sleep(0.02)
            begun = {"store": str(store), "model": name}
            for kept in self.place.glob(f"[!.]*/{FILE}"):
                left = Decision(parse_json(kept.read_bytes(), kept), kept.parent)
                if left.record.items() >= {**begun, "state": DECIDED}.items():
                    try:
                        log.warning("a promotion had been cut off: %s", self._settled(left).headline)
                    except OutputError as error:  # its version was deleted, say: no reason to hold up another
                        log.warning("the record %s stays as it is: %s", left.folder, error)
            aliases = self.registry.aliases(name)
            yield {**begun, "alias": self.alias, "aliases": aliases, "asked": self.asked, "reason": self.reason}
