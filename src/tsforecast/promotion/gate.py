"""What a candidate has to reach, rule by rule, each told with its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tsforecast.errors import ConfigError, one_of
from tsforecast.promotion.comparison import CANDIDATE, CHAMPION, NAIVE, Comparison

METRICS = ("mase", "mae_raw")  # of every window, and in units that bundles with other scalers share


@dataclass(frozen=True)
class Verdict:
    """Of one rule: whether it is passed, in words, and in figures that are JSON values."""

    rule: str
    passed: bool
    said: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}  {self.rule}: {self.said}"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Rules of a promotion; one that is None, or False, is not asked.

    Parameters
    ----------
    metric
        By which models are compared: `mase`, or `mae_raw` in original units.
    tolerance
        How much worse than the champion a candidate may be, as a share: 0.01 is one percent.
    difference
        Of the paired losses, where the Diebold-Mariano test and the block-bootstrap interval agree at 5 %:
        `not_worse`, the candidate must not be told apart as worse; `better`, it must be told apart as better.
    negligible
        A share up to which a difference is none, however sure it is.
    baseline
        Whether it has to be better than the seasonal naive.
    coverage
        How far the coverage of an interval may be from its level: 0.1 is ten percentage points.
    latency
        Milliseconds that a forecast may take.

    Raises
    ------
    ConfigError
        There is no such metric or difference, or a bound is negative.
    """

    metric: str = "mase"
    tolerance: float | None = 0.01
    difference: str | None = "not_worse"
    negligible: float | None = 0.001
    baseline: bool = True
    coverage: float | None = 0.1
    latency: float | None = 250.0

    def __post_init__(self) -> None:
        one_of("gate.metric", self.metric, METRICS)
        one_of("gate.difference", self.difference, (None, "not_worse", "better"))
        one_of("gate.baseline", self.baseline, (True, False))  # `no` is a word to Hydra, and a word is not false
        for name in ("tolerance", "negligible", "coverage", "latency"):
            bound = getattr(self, name)
            if isinstance(bound, bool | str) or (bound is not None and not 0 <= bound < math.inf):
                raise ConfigError("a bound is a number from 0 on", where=f"gate.{name}", got=bound, fix="or null")

    def __call__(self, found: Comparison) -> list[Verdict]:
        """Judge a comparison; where there is no champion, the rules against one are not asked."""
        rivals = {name: each[self.metric] for name, each in found.scores.items()}
        own, naive, verdicts = rivals[CANDIDATE], rivals[NAIVE], []
        if CHAMPION in rivals:
            change = _change(own, rivals[CHAMPION])
            verdicts += [] if self.tolerance is None else [self._metric(rivals, change, self.tolerance)]
            verdicts += [] if self.difference is None else [self._difference(found, change)]
        if self.baseline:
            said = f"{self.metric} {own:.4f} against {naive:.4f} of the seasonal naive, needs less"
            verdicts.append(Verdict("baseline", own < naive, said, rivals))
        if (margin := self.coverage) is not None:
            shares = {name: share for name, share in found.scores[CANDIDATE].items() if name.startswith("coverage-")}
            verdicts += [_coverage(name, share, margin) for name, share in shares.items()]
        if self.latency is not None:
            said = f"a forecast takes {found.latency:.1f} ms, at most {self.latency:g}"
            said = "it has no golden request to time" if math.isnan(found.latency) else said
            verdicts.append(Verdict("latency", found.latency <= self.latency, said, {"milliseconds": found.latency}))
        return verdicts

    def _metric(self, rivals: Mapping[str, float], change: float, bound: float) -> Verdict:
        said = f"{self.metric} {rivals[CANDIDATE]:.4f} against {rivals[CHAMPION]:.4f} of the champion: "
        said += f"{100 * change:+.2f} %, at most {100 * bound:+.2f} %"
        return Verdict("metric", change <= bound, said, {**rivals, "change": change})

    def _difference(self, found: Comparison, change: float) -> Verdict:
        each = found.difference(self.metric)
        sure = each.told_apart and abs(change) > (self.negligible or 0)
        apart = "not told apart" if not each.told_apart else "told apart" if sure else "told apart, but negligible"
        worse = "better" if each.mean < 0 else "worse" if each.mean > 0 else "different"
        passed = sure and each.mean < 0 if self.difference == "better" else not (sure and each.mean > 0)
        low, high = each.interval
        said = f"{apart}{f' as {worse}' * sure}: by {each.mean:+.4g}, 95 % interval {low:.4g} to {high:.4g}"
        said += f", Diebold-Mariano p = {each.p:.3g}, {each.count:,} cutoffs; needs {self.difference}"
        figures = {"mean": each.mean, "low": low, "high": high, "p": each.p, "cutoffs": each.count}
        return Verdict("difference", passed, said, figures)


def _change(own: float, theirs: float) -> float:
    """How much worse, as a share: of nothing, infinitely, unless both are nothing."""
    return own / theirs - 1 if theirs else math.inf if own else 0.0


def _coverage(rule: str, share: float, margin: float) -> Verdict:
    percent = float(rule.partition("-")[2])
    level = percent / 100
    said = f"the {percent:g} % interval covers {100 * share:.1f} %, needs {percent:g} % within {100 * margin:g} points"
    passed = abs(share - level) <= margin + 1e-12  # 0.1 of 0.9 is 0.8, which floats miss by a bit
    return Verdict(rule, passed, said, {"coverage": share, "level": level})
