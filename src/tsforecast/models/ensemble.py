"""An ensemble: a weighted mean of models, its weights learned on windows that none of them was fitted on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float, Int

from tsforecast.errors import ConfigError, count, each_of, one_of
from tsforecast.models.base import Forecaster
from tsforecast.types import Window

LOSSES = ("absolute", "squared")
_SPAN = {"s": 1, "m": 60, "h": 3600}
Weights = Mapping[str, Sequence[float]]  # by model, of each block of the horizon


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Models whose forecasts are combined: weights by greedy selection with replacement (Caruana et al., ICML 2004).

    Windows are selected on in `bags`, parts that follow one another, and weights are the mean of theirs: what is best
    in most of them, not what is by a hair best in all together.

    Parameters
    ----------
    models
        Estimators and networks, by name; None where there is none of that name here.
    members
        Which of them take part, in the order in which they are fitted; of two that are alike the first is kept.
    budget
        Of the run: `90s`, `5m`, `1h`, or seconds. A member that would take more than a sixth of what is left, and more
        than a third once the others are done, or that cannot be fitted, is left out, and told; None: all are fitted,
        and what one refuses is an error.
    loss
        Of the mean that weights make as small as they can: `absolute` or `squared` error, in the units of the model.
    rounds
        Selections on each bag, at most.
    bags
        Parts of the windows, at most: each has twenty and more.
    windows
        Validation windows that weights are learned on, evenly spaced.
    weights
        As they are, where they are not to be learned: what `refitting` gives.
    """

    models: Mapping[str, Any]
    members: Sequence[str] = ()
    budget: str | float | None = None
    loss: str = "absolute"
    rounds: int = 20
    bags: int = 16
    windows: int = 1000
    weights: Weights | None = None
    learns_quantiles: ClassVar[bool] = False

    def __post_init__(self) -> None:
        absent = {name for name, model in self.models.items() if model is None}  # their packages are
        object.__setattr__(self, "members", [name for name in self.members or self.models if name not in absent])
        each_of("model.members", self.members, self.models)
        nested = [name for name in self.members if isinstance(self.models[name], Ensemble)]
        if nested or len({*self.members}) < max(1, len(self.members)):
            what, got = "an ensemble has several models, each once, and none of them is an ensemble", list(self.members)
            raise ConfigError(what, where="model.members", got=got, fix="members=[ridge,xgboost]")
        one_of("model.loss", self.loss, LOSSES)
        for name in ("rounds", "bags", "windows"):
            count(f"model.{name}", getattr(self, name))
        _ = self.seconds

    @property
    def seconds(self) -> float:
        """Of the budget; without end where there is none."""
        if self.budget is None:
            return np.inf
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(self.budget))
        if found is None or not float(found[1]):
            raise ConfigError("a budget is a time", where="model.budget", got=self.budget, allowed="90s, 5m or 1h")
        return float(found[1]) * _SPAN[found[2] or "s"]

    @property
    def uses(self) -> frozenset[str] | None:
        """What any of its members reads besides the target."""
        every = [getattr(self.models[name], "uses", None) for name in self.members]
        read: list[frozenset[str]] = [uses for uses in every if uses is not None]
        return frozenset[str]().union(*read) if read else None

    @property
    def most(self) -> int | None:
        """Windows that are forecast at most, as the dearest of its members has it."""
        return least("most", (self.models[name] for name in self.members))

    @property
    def refits(self) -> int | None:
        """Fits at earlier cutoffs at most, as the dearest of its members has it."""
        return least("refits", (self.models[name] for name in self.members))

    @property
    def trains(self) -> bool:
        """Whether all of its members learn from train windows: those that do not want the longest lookback."""
        return all(self.models[name].trains for name in self.members)

    def refitting(self, chosen: Mapping[str, Any]) -> Ensemble:
        """Its members as chosen, with the weights that they had."""
        models = {name: self.models[name].refitting(own) for name, own in chosen["members"].items()}
        return replace(self, models=models, members=list(models), budget=None, weights=chosen["weights"])


def least(name: str, models: Iterable[Any]) -> int | None:
    """The smallest attribute of that name of models or forecasters; None where none has one."""
    return min((found for each in models if (found := getattr(each, name, None)) is not None), default=None)


@dataclass
class EnsembleForecaster(Forecaster):
    """The weighted mean of forecasters of the same windows, a weight for each and every step.

    Parameters
    ----------
    members
        By name.
    weights
        In the order of `members`.
    """

    members: Mapping[str, Forecaster]
    weights: Float[np.ndarray, "M H"] = field(default_factory=lambda: np.zeros((0, 0), np.float32), repr=False)

    @classmethod
    def of(cls, members: Mapping[str, Forecaster], weights: Weights, horizon: int) -> Self:
        """In the order of names, which JSON keeps."""
        ordered = {name: members[name] for name in sorted(members)}
        return cls(ordered, by_step([weights[name] for name in ordered], horizon))

    @property
    def requires(self) -> tuple[str, ...]:  # type: ignore[override]
        """What any of them requires."""
        return tuple(sorted({each for member in self.members.values() for each in member.requires}))

    @property
    def probes(self) -> int:  # type: ignore[override]
        """As many as the dearest stands."""
        return min(member.probes for member in self.members.values())

    @property
    def most(self) -> int | None:
        """As `Ensemble.most`."""
        return least("most", self.members.values())

    def predict(self, window: Window) -> Float[np.ndarray, "B H C"]:
        """The weighted mean of what its members forecast."""
        total: Any = 0.0
        for member, weight in zip(self.members.values(), self.weights, strict=True):
            total = total + member.predict(window) * weight[:, None]
        return np.asarray(total, np.float32)

    def repeats(self, lookback: int) -> Int[np.ndarray, " H"] | None:
        """As the one member, where there is one."""
        return next(iter(self.members.values())).repeats(lookback) if len(self.members) == 1 else None

    def importance(self) -> dict[str, float]:
        """Shares of each member that can say, times its weight."""
        total: dict[str, float] = {}
        for member, weight in zip(self.members.values(), self.weights, strict=True):
            own = member.importance()
            for name, value in own.items():
                total[name] = total.get(name, 0.0) + float(weight.mean()) * value / sum(own.values())
        return dict(sorted(total.items(), key=lambda item: -item[1]))

    def state(self) -> dict[str, np.ndarray]:
        """Weights, and the state of each member behind its place."""
        own = enumerate(self.members.values())
        return {"weights": self.weights} | {f"{i}.{name}": each for i, m in own for name, each in m.state().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> Self:
        """Set what `state()` gave."""
        self.weights = np.ascontiguousarray(state["weights"], np.float32)
        for i, member in enumerate(self.members.values()):
            own = {name.partition(".")[2]: each for name, each in state.items() if name.partition(".")[0] == str(i)}
            member.restore(own)
        if self.weights.shape[:1] != (len(self.members),):
            raise ValueError(f"{self.weights.shape[:1]} weights of {len(self.members)} members")
        return self


def blocks(horizon: int, number: int) -> list[slice]:
    """The horizon in so many parts of about the same length."""
    ends = [horizon * i // number for i in range(number + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def by_step(weights: Any, horizon: int) -> Float[np.ndarray, "M H"]:
    """The weights of blocks as those of steps."""
    sizes = [block.stop - block.start for block in blocks(horizon, len(weights[0]))]
    return np.repeat(np.asarray(weights, np.float32), sizes, axis=1)


def greedy(
    forecasts: Float[np.ndarray, "M B H C"], label: Float[np.ndarray, "B H C"], loss: str, rounds: int
) -> tuple[Float[np.ndarray, " M"], float]:
    """Weights of at most `rounds` selections, each of the model that lowers the loss of the mean most, and that loss.

    Missing labels do not count.
    """
    observed = ~np.isnan(label)
    rows, truth = forecasts[:, observed].astype(np.float64), label[observed].astype(np.float64)
    total, chosen, kept, best = np.zeros_like(truth), np.zeros(len(rows)), np.ones(len(rows)), np.inf
    for done in range(rounds):
        errors = [(total + each) / (done + 1) - truth for each in rows]
        losses = [float(np.mean(np.abs(e) if loss == "absolute" else e * e)) for e in errors]
        i = int(np.argmin(losses))
        total += rows[i]
        chosen[i] += 1
        if losses[i] < best:
            best, kept = losses[i], chosen.copy()
    return kept / kept.sum(), best
