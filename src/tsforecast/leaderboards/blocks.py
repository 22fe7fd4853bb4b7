"""What can be compared: entries of runs in blocks, and what the runs of a block have in common."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from tsforecast.files import flat
from tsforecast.leaderboards.difference import Difference
from tsforecast.leaderboards.runs import Run

ASIDE = ("path", "static_path", "data_dir", "threads")  # the data of a block is the same wherever it lies


@dataclass(frozen=True)
class Entry:
    """One model of one run; `name` tells it from the others of its block."""

    name: str
    model: str
    run: Run

    @cached_property
    def scores(self) -> dict[str, float]:
        """All test scores, and `<score>_se`, the standard error of their mean over folds where there are several."""
        record, pooled = self.run.record, self.run.record.scores[self.model]
        spread = pd.DataFrame(record.folds[self.model]).sem().drop("windows").add_suffix("_se").dropna()
        seconds = {"fit_seconds": record.seconds.get(self.model, math.nan), "predict_seconds": pooled.seconds}
        return {**pooled.summary(), **{str(name): se for name, se in spread.items()}, **seconds}

    @property
    def fitted(self) -> bool:
        """Whether a run was made for it; else it is a baseline beside one."""
        return self.model in self.run.record.facts["configs"]

    @property
    def config(self) -> dict[str, Any]:
        """What it was fitted with, by dotted names, but for places."""
        config = flat(self.run.record.facts["configs"][self.model])
        return {key: value for key, value in config if key.rpartition(".")[2] not in ASIDE}

    @property
    def seen(self) -> Mapping[str, bool | None]:
        """Of a pretrained network, `trained_on_this_dataset`."""
        return dict(self.run.record.facts.get("seen", {}).get(self.model, {}))


@dataclass(frozen=True)
class Block:
    """Entries scored on the same rows, the best first.

    Attributes
    ----------
    terms
        What all have in common, without which they could not be compared.
    """

    number: int
    terms: Mapping[str, str]
    entries: Sequence[Entry]
    score: str

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the run of the first says of itself; of data and sizes all say the same."""
        return self.entries[0].run.record.facts

    @property
    def title(self) -> str:
        """Data, horizon and test rows."""
        rows = self.terms["test rows"].rpartition(" [")[0]
        return f"{self.facts['data']['name']}, horizon {self.facts['horizon']}, {rows}"

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row for each entry, a column for each score."""
        about = {"block": self.number, "dataset": self.facts["data"]["name"], "horizon": self.facts["horizon"]}
        rows = [
            {**about, "rank": i, "model": each.name, "run": str(each.run.path) if each.fitted else "", **each.scores}
            for i, each in enumerate(self.entries, start=1)
        ]
        return pd.DataFrame(rows)

    @cached_property
    def difference(self) -> Difference | None:
        """Of the two that lead."""
        if len(self.entries) < 2:
            return None
        first, second = (each.run.record.losses(each.model, self.score) for each in self.entries[:2])
        overlap = math.ceil(self.facts["horizon"] / self.facts["step"])
        return Difference.of(first.to_numpy(), second.to_numpy(), overlap)

    @property
    def verdict(self) -> str:
        """Whether the first is better than the second: only where test and interval say so."""
        if (found := self.difference) is None:
            return "There is one model, so nothing to tell apart."
        first, second = (each.name for each in self.entries[:2])
        low, high = found.interval
        p = "no Diebold-Mariano test" if math.isnan(found.p) else f"Diebold-Mariano p = {found.p:.3g}"
        said = f"{first} is better than {second}" if found.told_apart else f"{first} and {second} are not told apart"
        if not found.differ:
            return f"{said}: their losses are the same at every cutoff"
        spread = f"95 % interval {low:.4g} to {high:.4g}" if math.isfinite(low) else "no interval"
        cutoffs = f"{found.count:,} cutoff{'s'[: found.count != 1]}"
        return f"{said}: {self.score} differs by {found.mean:.4g} ({spread}; {p}; {cutoffs})"


def block_of(runs: Sequence[Run], score: str) -> Block:
    """The models of all runs, and each baseline once."""
    found = [Entry(model, model, run) for run in runs for model in run.record.scores]
    entries = _named([each for each in found if each.fitted])
    for each in found:
        if each.model not in {other.model for other in entries}:
            entries.append(each)
    entries.sort(key=lambda each: (math.isnan(each.scores[score]), each.scores[score]))
    return Block(0, terms_of(runs[0], score), entries, score)


def _named(entries: Sequence[Entry]) -> list[Entry]:
    """Entries of one model by what of their configurations differs, where that is little, else by their run."""
    found = []
    for each in entries:
        same = [other for other in entries if other.model == each.model]
        configs = [other.config for other in same]
        own, known = configs[same.index(each)], set.union(*map(set, configs))
        differ = [key for key in own if len({str(config.get(key)) for config in configs}) > 1]
        words = [f"{key.rpartition('.')[2]}={own[key]}" for key in differ]
        unique = sum([config.get(key) for key in differ] == [own[key] for key in differ] for config in configs) == 1
        if not unique or len(words) > 3 or any(known - set(config) for config in configs):
            alike = sum(other.run.path.name == each.run.path.name for other in same)
            words = [f"(run {each.run.path.name if alike == 1 else each.run.path})"]
        found.append(replace(each, name=" ".join([each.model, *words * (len(same) > 1)])))
    return found


def terms_of(run: Run, score: str) -> dict[str, str]:
    """What two runs must have in common for this score to compare."""
    facts, windows, scores = run.record.facts, run.record.windows, next(iter(run.record.scores.values()))
    cutoffs, days = windows["cutoff"], "%Y-%m-%d %H:%M"
    rows = pd.util.hash_pandas_object(windows.astype({"unique_id": str}), index=False).to_numpy()
    mark = hashlib.sha256(rows.tobytes()).hexdigest()[:6]
    span = f"cutoffs {cutoffs.min():{days}} to {cutoffs.max():{days}}"
    terms = {
        "data": f"{facts['data']['name']} [{facts['data']['digest'][:8]}]",
        "channels": ", ".join(scores.channels),
        "horizon": str(facts["horizon"]),
        "gap": str(facts["gap"]),
        "test rows": f"{len(windows):,} windows, {span} [{mark}]",
    }
    if score == "mase":
        terms["scale of MASE (season, and rows before the test)"] = f"{np.mean(scores.mase_scale):.6g}"
    if score in ("mse", "mae"):
        terms["scaler"] = str(next(iter(facts["configs"].values())).get("scaler"))
        terms["train rows"] = str(facts["rows"])
    return terms


def apart(terms: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """What differs, without the digests unless nothing else of a term does."""
    said = []
    for name in (each for each in terms if terms[each] != other[each]):
        both = [each.rpartition(" [")[0] for each in (terms[name], other[name])]
        here, there = both if all(both) and both[0] != both[1] else (terms[name], other[name])
        said.append(f"{name}: {here}, there {there}")
    return said
