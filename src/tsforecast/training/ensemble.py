"""Fitting an ensemble: every member on the train windows, its weights on windows that none was fitted on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tsforecast.errors import ConfigError, DataError, TsforecastError
from tsforecast.models.ensemble import Ensemble, EnsembleForecaster, Weights, blocks, by_step, greedy
from tsforecast.training.fit import Fitted, Fitting, fit
from tsforecast.windows import Windows

log = logging.getLogger(__name__)
_BLOCKS = 4  # of the horizon
_FEW = 20  # windows of a part
_LEAST = 0.05  # of a weight
_CUTOFFS = 4  # horizons that windows to learn weights on are of, at least
_SHARES = (6, 3)  # of the time that is left, what a candidate may take at first, and once the others are done
_CELLS = 2_000_000  # values of a member's forecasts


@dataclass(frozen=True)
class Candidate:
    """A member that was fitted, and what it forecasts for the windows that weights are learned on."""

    fitted: Fitted
    forecasts: Float[np.ndarray, "B H C"]
    seconds: float


def fit_ensemble(model: Ensemble, train: Windows, val: Windows, fitting: Fitting) -> Fitted:
    """Fit the members, then learn their weights; a member without weight is not kept.

    Raises
    ------
    ConfigError
        It is to be resumed, or no candidate fits into the budget.
    TsforecastError
        A member cannot be fitted, and there is no budget.
    """
    if fitting.ckpt_path is not None:
        what, got = "an ensemble is fitted anew: it leaves no checkpoint", fitting.ckpt_path
        raise ConfigError(what, where="ckpt_path", got=got, allowed="null")
    if model.weights is not None:
        fits = {name: fit(model.models[name], train, val, fitting.apart()) for name in model.members}
        return _joined(fits, model.weights, fitting.dims.horizon)
    fitting = replace(fitting, until=min(fitting.until, time.monotonic() + model.seconds))
    held_out = [(train, thinned(val, model)), *earlier(train, val, model, fitting.dims.season)]
    found, left_out = dict[str, Candidate](), dict[str, str]()
    label = np.concatenate([_labels(windows) for _, windows in held_out])
    behind = np.concatenate([_behind(windows) for _, windows in held_out])
    order = np.argsort(behind, kind="stable")
    for name, candidate in _candidates(model, val, held_out, fitting):
        if isinstance(candidate, str):
            log.warning("%s is left out: %s", name, candidate)
            left_out[name] = candidate
        else:
            log.info("%s: fitted and judged in %.1f s", name, candidate.seconds)
            found[name] = replace(candidate, forecasts=candidate.forecasts[order])
    if not found:
        what, fix = "no candidate could be fitted within the budget", "a longer budget, or other members"
        raise ConfigError(what, where="model.budget", got=left_out, fix=fix)
    return _combined(model, found, label[order], len(np.unique(behind)), left_out)


def _combined(
    model: Ensemble, found: Mapping[str, Candidate], label: np.ndarray, cutoffs: int, left_out: Mapping[str, str]
) -> Fitted:
    """The weighted mean of the candidates, and a board of all of them."""
    horizon = label.shape[1]
    forecasts = np.stack([each.forecasts for each in found.values()])
    weights = dict(zip(found, learned(model, forecasts, label, cutoffs), strict=True))
    kept = {name: each.fitted for name, each in found.items() if any(weights[name])}
    losses = [greedy(each[None], label, model.loss, 1)[1] for each in forecasts]
    mean = np.einsum("mh,mbhc->bhc", by_step([*weights.values()], horizon), forecasts)
    by = " by quarter of the horizon" * (len(next(iter(weights.values()))) > 1)
    log.info("weights of %d members learned on %d windows%s: %s", len(found), len(label), by, told(weights))
    rows = [("ensemble", greedy(mean[None], label, model.loss, 1)[1], "", sum(each.seconds for each in found.values()))]
    rows += [(n, loss, _shares(weights[n]), found[n].seconds) for n, loss in zip(found, losses, strict=True)]
    rows.sort(key=lambda row: row[1])
    wide = max(map(len, [*found, "validation"])) + 2
    lines = [f"{'validation':<{wide}}{model.loss + ' error':>16}{'weight' + by:>32}{'seconds':>10}"]
    lines += [f"{name:<{wide}}{loss:>16.4f}{share:>32}{took:>10.1f}" for name, loss, share, took in rows]
    best = min(zip(losses, found, strict=True))[1]
    lines += [f"left out: {name}, {reason}" for name, reason in left_out.items()]
    lines += [f"the best of its members alone: the same command without members= and budget=, with model={best}"]
    return replace(_joined(kept, {name: weights[name] for name in kept}, horizon), note="\n".join(lines))


def told(weights: Weights) -> str:
    """The weights, by block where they differ."""
    return ", ".join(f"{name} {_shares(each)}" for name, each in weights.items() if any(each))


def _shares(weight: Any) -> str:
    return " ".join(f"{each:.2f}" for each in weight)


def _joined(fits: Mapping[str, Fitted], weights: Weights, horizon: int) -> Fitted:
    """One fit of several."""
    members = {name: each.forecaster for name, each in fits.items()}
    forecaster = EnsembleForecaster.of(members, weights, horizon)
    chosen = {"weights": dict(weights), "members": {name: dict(each.chosen) for name, each in fits.items()}}
    forecaster.chosen = chosen

    def explain() -> dict[str, Any]:
        return {"importance": each} if (each := forecaster.importance()) else {}

    return Fitted(forecaster, explain=explain, chosen=chosen)


def thinned(val: Windows, model: Ensemble) -> Windows:
    """The windows that weights are learned on: evenly spaced where they are many, or dear to forecast."""
    cells = val.horizon * val.encoded.target.shape[1]
    most = min(model.windows, model.most or model.windows, max(1, _CELLS // cells))
    found = val.subset(np.unique(np.linspace(0, len(val) - 1, min(most, len(val))).astype(np.int64)))
    if not len(found):
        what, fix = "there is no validation window to learn weights on", "a longer split.val, or a shorter horizon"
        raise DataError(what, where="validation rows", got="no windows", fix=fix)
    if len(found) < len(val):
        log.info("weights are learned on %d of %d validation windows, evenly spaced", len(found), len(val))
    return found


def earlier(train: Windows, val: Windows, model: Ensemble, season: int) -> list[tuple[Windows, Windows]]:
    """Earlier windows to train on, and later ones of the train windows to judge by: where validation has few cutoffs.

    | = = = = = = = = = = # # # | # # # | # # # |     = trained on once more, # forecast: the last horizons of the train
    | train                             | val   |     rows, as many as leave a third of the windows to train on

    One cutoff of many series is one month that all of them share, and neighbouring cutoffs are almost one.
    """
    cutoffs = len(val) // len(np.unique(val.series))  # of each series, one behind the other
    if cutoffs > (_CUTOFFS - 1) * val.horizon:
        return []
    last = np.zeros(len(train.encoded.offsets), dtype=np.int64)
    np.maximum.at(last, train.series, train.origins)
    behind = last[train.series] - train.origins
    first = train.encoded.offsets[train.series]
    # a padded window may lack the two seasons that the last one has: models that need them would be judged without
    need = min(train.lookback, 2 * season + 1)
    fair = (train.origins - first >= need) | (last[train.series] - first < need)
    stride = max(1, train.horizon // cutoffs)  # as many of each horizon as validation has
    for count in range(_CUTOFFS - 1, 0, -1):
        early = train.subset(behind >= count * train.horizon)
        if 3 * len(early) >= len(train):
            late = train.subset((behind < count * train.horizon) & (behind % stride == 0) & fair)
            log.info("few validation windows: weights are learned on the last %d train rows too", count * train.horizon)
            return [(early, thinned(late, model))]
    return []


def _behind(windows: Windows) -> Int[np.ndarray, " B"]:
    """How many rows of its series lie behind the cutoff of each window: one number at a cutoff of many series."""
    return np.asarray(windows.encoded.offsets[windows.series + 1] - windows.origins)


def learned(
    model: Ensemble, forecasts: Float[np.ndarray, "M B H C"], label: Float[np.ndarray, "B H C"], cutoffs: int
) -> list[list[float]]:
    """The weights of each member: one, or one for each quarter of the horizon where either half of the windows says so.

    Each half's weights are judged on the other half, if they do not share a cutoff or two.
    """
    steps, halves = label.shape[1], np.array_split(np.arange(len(label)), 2)

    def found(rows: Any, number: int) -> np.ndarray:
        weights = [bagged(model, forecasts[:, rows, b], label[rows, b]) for b in blocks(steps, number)]
        return np.stack(weights, axis=1)

    def judged(number: int) -> list[float]:
        losses = []
        for here, there in (halves, halves[::-1]):
            mean = np.einsum("mh,mbhc->bhc", by_step(found(here, number), steps), forecasts[:, there])
            losses.append(greedy(mean[None], label[there], model.loss, 1)[1])
        return losses

    number, unseen = 1, [np.isnan(label[half]).all(axis=(0, 2)).any() for half in halves]  # steps of a half
    if steps >= _BLOCKS and cutoffs >= _CUTOFFS and not any(unseen):
        number = _BLOCKS if all(a < b for a, b in zip(judged(_BLOCKS), judged(1), strict=True)) else 1
    return [list(map(float, each)) for each in found(np.arange(len(label)), number)]


def bagged(
    model: Ensemble, forecasts: Float[np.ndarray, "M B H C"], label: Float[np.ndarray, "B H C"]
) -> Float[np.ndarray, " M"]:
    """The mean of the weights that successive parts of the windows select, without those that hardly any has."""
    parts = np.array_split(np.arange(len(label)), max(1, min(model.bags, len(label) // _FEW)))
    seen = [part for part in parts if not np.isnan(label[part]).all()]
    mean = np.mean([greedy(forecasts[:, part], label[part], model.loss, model.rounds)[0] for part in seen], axis=0)
    kept = np.where(mean < min(_LEAST, mean.max()), 0.0, mean)
    return np.asarray(kept / kept.sum())


def _labels(windows: Windows) -> Float[np.ndarray, "B H C"]:
    return np.concatenate([windows.batch(index)[1] for index in windows.batches(1024)])


class LateError(Exception):
    """A candidate has taken its share of the time."""


class Deadline:
    """Ends a fit that takes longer: of a network with the best epoch so far, of others without a result."""

    def __init__(self, epochs: float, until: float) -> None:
        self.epochs, self.until = epochs, until

    def epoch(self, record: Mapping[str, float]) -> bool:
        """Whether this one is the last: it is to be exported, to forecast and perhaps to be trained again, too."""
        return time.monotonic() > self.epochs

    def step(self, number: int, loss: float) -> None:
        """After a round of a model that is fitted in rounds, or a part of its forecasts."""
        if time.monotonic() > self.until:
            raise LateError


def _candidates(
    model: Ensemble, val: Windows, held_out: Sequence[tuple[Windows, Windows]], fitting: Fitting
) -> Iterator[tuple[str, Candidate | str]]:
    """Each member, fitted; or why it is left out, where there is a budget."""
    late = [*model.members]
    for part in _SHARES:
        names, late = late, []
        for name in names:
            # what is kept is fitted again for intervals, and forecasts all that is scored: that takes the rest
            own = fitting.apart(1 / part)
            seconds = own.left
            try:
                yield name, _judged(model.models[name], val, held_out, own)
            except LateError:
                if part == _SHARES[-1]:
                    yield name, f"it takes more than {seconds:.0f} s"
                late.append(name)
            except TsforecastError as error:
                if model.budget is None:
                    raise
                yield name, error.what


def _judged(model: Any, val: Windows, held_out: Sequence[tuple[Windows, Windows]], fitting: Fitting) -> Candidate:
    """A member fitted, and what it forecasts for the windows that weights are learned on.

    Raises
    ------
    LateError
        It takes more time than is left.
    """
    began, share = time.monotonic(), fitting.left
    on = Deadline(began + share / (len(held_out) + 1), fitting.until)
    on.step(0, 0.0)
    fitted = fit(model, held_out[0][0], val, replace(fitting, on=on))
    if getattr(fitted.forecaster, "most", None) is not None and share < np.inf:
        _estimate(fitted, held_out[0][1], share / len(held_out))
    parts = list[np.ndarray]()
    for i, (train, windows) in enumerate(held_out):
        own = fitted
        if i:  # of earlier rows alone, with what was chosen
            own = fit(model.refitting(fitted.chosen), train, val.subset(slice(0)), fitting)
        for index in windows.batches(32 if share < np.inf else 1024):
            parts.append(own.forecaster.predict(windows.window(index)))
            on.step(len(parts), 0.0)
    return Candidate(fitted, np.concatenate(parts), time.monotonic() - began)


def _estimate(fitted: Fitted, windows: Windows, share: float) -> None:
    """Raise a LateError where a model that is fitted on each window would take too long for them, by three of them."""
    began, some = time.monotonic(), np.unique(np.linspace(0, len(windows) - 1, 3).astype(np.int64))
    for place in some:
        fitted.forecaster.predict(windows.window(slice(place, place + 1)))
    if (time.monotonic() - began) / len(some) * len(windows) > share:
        raise LateError
