"""Fitting an ensemble: every member on the train windows, its weights on windows that none was fitted on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from tsforecast.errors import ConfigError, DataError
from tsforecast.models.ensemble import Ensemble, EnsembleForecaster, Weights, blocks, greedy
from tsforecast.training.fit import Fitted, Fitting, Silent, fit
from tsforecast.windows import Windows

log = logging.getLogger(__name__)
_BLOCKS = 4  # of the horizon
_FEW = 20  # windows of a part
_LEAST = 0.05  # of a weight
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
    own, horizon = replace(fitting, out=None, on=Silent()), fitting.dims.horizon
    if model.weights is not None:
        fits = {name: fit(model.models[name], train, val, own) for name in model.members}
        return _joined(fits, model.weights, horizon)
    held_out = thinned(val, model)
    found = dict(_candidates(model, train, val, held_out, own))
    label = _labels(held_out)
    forecasts = np.stack([each.forecasts for each in found.values()])
    weights = dict(zip(found, learned(model, forecasts, label), strict=True))
    kept = {name: each.fitted for name, each in found.items() if any(weights[name])}
    losses = [greedy(each[None], label, model.loss, 1)[1] for each in forecasts]
    combined = EnsembleForecaster.of({name: each.fitted.forecaster for name, each in found.items()}, weights, horizon)
    mean = np.einsum("mh,mbhc->bhc", combined.weights, forecasts)
    log.info("weights of %d members learned on %d windows: %s", len(found), len(held_out), told(weights))
    rows = [("ensemble", greedy(mean[None], label, model.loss, 1)[1], "", sum(each.seconds for each in found.values()))]
    rows += [(n, loss, _shares(weights[n]), found[n].seconds) for n, loss in zip(found, losses, strict=True)]
    lines = [f"{'validation':<20}{model.loss + ' error':>16}{'weight':>28}{'seconds':>10}"]
    lines += [f"{name:<20}{loss:>16.4f}{share:>28}{took:>10.1f}" for name, loss, share, took in _sorted(rows)]
    best = min(zip(losses, found, strict=True))[1]
    lines += [f"the best of its members alone: the same command with model={best}"]
    return replace(_joined(kept, {name: weights[name] for name in kept}, horizon), note="\n".join(lines))


def _sorted(rows: list[tuple[str, float, str, float]]) -> list[tuple[str, float, str, float]]:
    return sorted(rows, key=lambda row: row[1])


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


def learned(
    model: Ensemble, forecasts: Float[np.ndarray, "M B H C"], label: Float[np.ndarray, "B H C"]
) -> list[list[float]]:
    """The weights of each member: one, or one for each quarter of the horizon where either half of the windows says so.

    Each half's weights are judged on the other half.
    """
    steps, halves = label.shape[1], np.array_split(np.arange(len(label)), 2)

    def found(rows: Any, number: int) -> np.ndarray:
        weights = [bagged(model, forecasts[:, rows, b], label[rows, b]) for b in blocks(steps, number)]
        return np.stack(weights, axis=1)

    def judged(number: int) -> list[float]:
        losses = []
        for here, there in (halves, halves[::-1]):
            weights = found(here, number).repeat([b.stop - b.start for b in blocks(steps, number)], axis=1)
            mean = np.einsum("mh,mbhc->bhc", weights, forecasts[:, there])
            losses.append(greedy(mean[None], label[there], model.loss, 1)[1])
        return losses

    number = 1
    if steps >= _BLOCKS and all((~np.isnan(label[half])).any(axis=(0, 2)).all() for half in halves):  # none is unseen
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


def _candidates(
    model: Ensemble, train: Windows, val: Windows, held_out: Windows, fitting: Fitting
) -> Iterator[tuple[str, Candidate]]:
    """Each member, fitted."""
    for name in model.members:
        began = time.monotonic()
        fitted = fit(model.models[name], train, val, fitting)
        parts = [fitted.forecaster.predict(held_out.window(index)) for index in held_out.batches(1024)]
        yield name, Candidate(fitted, np.concatenate(parts), time.monotonic() - began)
