"""Which version an alias stands for is decided by one process at a time, and whatever ends it leaves one that does."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import BundleError, ConfigError
from tsforecast.files import lock
from tsforecast.promotion.comparison import Comparison, IncomparableError
from tsforecast.promotion.decision import DONE, REFUSED, Decision
from tsforecast.promotion.gate import Gate, Verdict
from tsforecast.registry import Registry
from tsforecast.tracking.registered import STAGES

log = logging.getLogger(__name__)

FORCED, DECISION = "tsforecast.forced", "tsforecast.decision"  # tags of a version; the latter with the id behind it
Compare = Callable[[Bundle, Bundle | None], Comparison]


def previous(alias: str) -> str:
    """The alias of the version before: of `champion`, plainly `previous`."""
    return "previous" if alias == "champion" else f"{alias}-previous"


def promote(
    registry: Registry,
    model: str,
    source: str,
    alias: str,
    gate: Gate,
    compare: Compare,
    *,
    place: Path,
    asked: str,
    reason: str | None = None,
) -> Decision:
    """Let `alias` stand for the version that is called `source` (an alias or a number), if the gate lets it through.

    The decision is recorded in `place` and as a tag of the version: first, so that there is one whenever an alias was
    moved; then the version before is noted, then the alias moved, then the record marked as carried out.

    Parameters
    ----------
    compare
        Scores the candidate beside the champion, which may be none.
    asked
        The command, for the record.
    reason
        Not None: it becomes so whatever the gate says, and this is why.

    Raises
    ------
    BundleError
        There is no such model or version, or it cannot be loaded.
    ConfigError
        The version is the champion already.
    TsforecastError
        What `compare` raises, but for `IncomparableError`, which is a rule that failed.
    """
    with alone(registry.models.uri, model):
        aliases = registry.aliases(model)
        alias = alias if alias in aliases else STAGES.get(alias.lower(), alias)
        mark = "/" if source.isdecimal() or source == "latest" else "@"
        (candidate, own), before = _loaded(registry, f"models:/{model}{mark}{source}"), None
        if own["version"] == aliases.get(alias):
            what, fix = f"version {own['version']} is {alias} already", "publish another one as candidate"
            raise ConfigError(what, where=f"models:/{model}@{alias}", got=own["reference"], fix=fix)
        champion = None
        if alias in aliases:
            champion, before = _loaded(registry, f"models:/{model}/{aliases[alias]}")
        record: dict[str, Any] = {
            "action": "promote",
            "model": model,
            "alias": alias,
            "aliases": aliases,
            "asked": asked,
        }
        record |= {"candidate": own, "champion": before, "gate": asdict(gate), "reason": reason}
        try:
            found = compare(candidate, champion)
            verdicts = gate(found)
            record |= {"data": found.record.facts["data"], "windows": found.windows, "scores": found.scores}
        except IncomparableError as error:
            verdicts = [Verdict("comparable", False, "; ".join(filter(None, (error.what, error.parts["fix"]))))]
        passed = all(each.passed for each in verdicts)
        forced = reason is not None and not passed
        record |= {"rules": [asdict(each) for each in verdicts], "passed": passed, "forced": forced}
        return _carried_out(registry, Decision.of(place, **record), refused=not (passed or forced))


def rollback(registry: Registry, model: str, alias: str, *, place: Path, asked: str, reason: str | None) -> Decision:
    """Let `alias` stand again for the version before, and that one be the version before.

    Raises
    ------
    BundleError
        There is no such model, or no version before.
    """
    with alone(registry.models.uri, model):
        aliases = registry.aliases(model)
        alias = alias if alias in aliases else STAGES.get(alias.lower(), alias)
        standing, back = aliases.get(alias), aliases.get(previous(alias))
        if standing is None or back in (None, standing):
            what = f"model {model!r} has no version before its {alias} to go back to"
            got, fix = [f"{name}: {version}" for name, version in aliases.items()], "promote one by its number: from=1"
            raise BundleError(what, where=f"models:/{model}@{previous(alias)}", got=got or "no alias", fix=fix)
        names = {"candidate": back, "champion": standing}
        record: dict[str, Any] = {
            "action": "rollback",
            "model": model,
            "alias": alias,
            "aliases": aliases,
            "asked": asked,
        }
        record |= {key: {"reference": f"models:/{model}/{n}", "version": n} for key, n in names.items()}
        record["reason"] = reason
        return _carried_out(registry, Decision.of(place, **record))


def _loaded(registry: Registry, reference: str) -> tuple[Bundle, dict[str, Any]]:
    """A version, and what a record says of it."""
    found = registry.resolve(reference)
    bundle = Bundle.load(found.path)
    known = {"digest": bundle.digest, "chosen_until": bundle.metadata.get("chosen_until")}
    return bundle, {"reference": found.exact, "version": int(found.exact.rpartition("/")[2]), **known}


def _carried_out(registry: Registry, decision: Decision, *, refused: bool = False) -> Decision:
    """The decision, recorded and then done; unless it is refused, or the alias was moved by somebody meanwhile."""
    record = decision.record
    model, alias, version = record["model"], record["alias"], record["candidate"]["version"]
    champion = None if record["champion"] is None else record["champion"]["version"]
    decision = replace(decision, record={**record, "state": REFUSED}) if refused else decision
    decision.save()
    key = f"{DECISION}.{decision.id}"
    registry.tag(model, version, key, decision.json)
    if not refused and (now := registry.aliases(model).get(alias)) != champion:  # another machine's lock is not seen
        moved = f"{alias} was version {champion} when they were compared, and is version {now} now"
        rules = [*record["rules"], {"rule": "unmoved", "passed": False, "said": moved, "figures": {}}]
        decision = replace(decision, record={**record, "rules": rules, "passed": False}).marked(REFUSED)
        registry.tag(model, version, key, decision.json)
    if decision.record["state"] == REFUSED:
        return decision
    if record["forced"]:
        registry.tag(model, version, FORCED, record["reason"])
    steps = [(previous(alias), champion), (alias, version)]
    for name, number in steps if record["action"] == "promote" else reversed(steps):
        if number is not None:  # of a rollback what matters comes first: the alias
            registry.point(model, name, number)
    decision = decision.marked(DONE)
    registry.tag(model, version, key, decision.json)
    return decision


@contextmanager
def alone(store: str, model: str) -> Iterator[None]:
    """Inside, no other process of this machine decides about the model; the lock ends with the process."""
    mark = hashlib.sha256(f"{store} {model}".encode()).hexdigest()[:16]
    path, waiting = Path(tempfile.gettempdir()) / f"tsforecast-{mark}.lock", False
    while True:
        try:  # one that another user has made can be locked, not written
            file = os.open(path, os.O_RDONLY)
            break
        except FileNotFoundError:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    try:
        while lock(file) is False:
            if not waiting:
                log.info("another promotion of %s is at work: waiting for its end", model)
            waiting = True
            time.sleep(0.02)
        yield
    finally:
        os.close(file)
