"""What nobody has stated is chosen on validation: of several options, by a ridge fitted with each.

| = = = = = = = = = = = = | # # # # # # | - - - - |     train rows fit, the same validation windows judge all options;
  train                     validation    test          rows behind these are not even read

A few rows of validation are one cutoff, whose weather is that of all series: earlier rows as many judge too.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tsforecast.data.folds import Fold
from tsforecast.data.panel import GROUPS, Panel
from tsforecast.data.sources import Loaded
from tsforecast.data.splits import Borders
from tsforecast.errors import DataError
from tsforecast.models.design import covariate_columns
from tsforecast.models.linear import Ridge
from tsforecast.training.evaluate import evaluate
from tsforecast.training.fit import Fitted
from tsforecast.training.prepare import Prepared

log = logging.getLogger(__name__)
CLEAR = 0.01  # share of the score
CUTOFFS = 4  # horizons of validation rows, or more


@dataclass(frozen=True)
class Selection:
    """Options of one setting, each tried by a ridge.

    Attributes
    ----------
    of
        The setting, as it is typed.
    scores
        MASE of the ridge on the validation windows, by option: a unit that scalers have in common.
    """

    of: str
    scores: Mapping[str, float]

    @property
    def best(self) -> str:
        """The option with the lowest score, where it is clearly lower than that of the first."""
        first, best = next(iter(self.scores)), min(self.scores, key=self.scores.__getitem__)
        return best if self.scores[best] < (1 - CLEAR) * self.scores[first] else first

    def __str__(self) -> str:
        ranked = sorted(self.scores.items(), key=lambda item: item[1])
        found = ", ".join(f"{name} {score:.4f}" for name, score in ranked)
        return f"{self.of}={self.best} chosen on validation, by the MASE of a ridge: {found}"


def selected(plan: Any, loaded: Loaded) -> Any:
    """The plan with the scaler, and then the lookback, that do best; as it is where it leaves nothing open.

    Parameters
    ----------
    plan
        A `tsforecast.experiment.Experiment`, with `scalers` or several `lookbacks` to choose from.

    Raises
    ------
    DataError
        Every option of a setting refuses the rows.
    """
    scalers = {name: {"features": replace(plan.features, scaler=each)} for name, each in plan.scalers.items()}
    lookbacks = {str(rows): {"lookback": rows} for rows in sorted(plan.lookbacks, reverse=True)}
    options: dict[str, Mapping[str, Mapping[str, Any]]] = {"scaler": scalers, "lookback": lookbacks}
    plan = replace(plan, scalers={}, lookback=max(plan.lookbacks))
    if all(len(each) < 2 for each in options.values()):
        return plan
    loaded, folds = _judging(plan.encoded(loaded))
    for of, changes in options.items():
        scores: dict[str, float] = {}
        for name, change in changes.items() if len(changes) > 1 else ():
            tried = replace(plan, quantiles=(), **change)
            try:
                scores[name] = float(np.mean([_mase(replace(tried, split=fold).encoded(loaded)) for fold in folds]))
            except DataError as error:
                if not scores and name == [*changes][-1]:
                    raise
                log.info("%s=%s is not tried: %s", of, name, error)
        if scores:
            selection = Selection(of, scores)
            log.info("%s", selection)
            plan = replace(plan, **changes[selection.best])
    return plan


def _judging(data: Prepared) -> tuple[Loaded, list[Fold]]:
    """The rows before calibration and test, and splits of them, whose validation rows follow one another."""
    begin, end = data.borders.rows("val")
    known, size, horizon = data.panel.rows(data.borders.begin, end), end - begin, data.dims.horizon
    first, end, found = known.offsets[:-1], known.offsets[1:], list[Fold]()
    while len(found) < -(-CUTOFFS * horizon // int(size.max())):
        later = np.maximum(end - len(found) * size, first)
        train_end = np.maximum(later - size, first)
        windows = np.maximum(train_end - first - data.dims.least - horizon + 1, 0)
        own = [np.where(windows > 0, rows, first) for rows in (train_end, later, end)]  # else nothing scales a series
        fold = Fold(0, 0, Borders(first, *own))
        if found and (2 * windows.sum() < data.dims.lookback or not _categories_are_known(data, known, fold)):
            break
        found.append(fold)
    return data.loaded.keeping(known), found


def _categories_are_known(data: Prepared, known: Panel, fold: Fold) -> bool:
    """Whether the train rows of a fold hold those of the rows behind them."""
    train = known.rows(fold.borders.begin, fold.borders.train_end)
    return data.features.fit(train).categories == data.features.categories


def _mase(data: Prepared) -> float:
    """Of a ridge on the validation windows; in original units where no series has a scale."""
    val = data.windows("val")
    fitted, _ = Ridge().solve(data.windows("train"), val, data.dims)
    scores = evaluate(data.bundle(fitted), data.panel, val, data.scale).summary()
    return scores["mase"] if np.isfinite(scores["mase"]) else scores["mae_raw"]


def with_spare_covariates(fitted: Fitted, data: Prepared, uses: Collection[str]) -> Fitted:
    """With a note of the covariates and features that a ridge forecasts the validation windows better without, if any.

    One after another, each time that without which the squared error is lowest, as long as it falls clearly; the
    penalty stays. What the forecaster has solved is not solved again.

    Parameters
    ----------
    uses
        The groups that are used: of others none is named.
    """
    if not (groups := _named(data, uses)):
        return fitted
    loaded, folds = _judging(data)
    earlier = [replace(data, loaded=loaded).fitted_on(fold.borders) for fold in folds[1:]]
    try:
        found = [fitted.forecaster.solved or _solved(data), *map(_solved, earlier)]
    except DataError as error:
        log.info("covariates are not judged: %s", error)
        return fitted
    first, share, left = [each.error for each in found], 1.0, dict[str, float]()
    while groups:
        rest = {
            name: float(np.mean([each.without(columns).error / of for each, of in zip(found, first, strict=True)]))
            for name, columns in groups.items()
        }
        best = min(rest, key=rest.__getitem__)
        if not rest[best] < share - CLEAR:
            break
        columns, left[best], share = groups.pop(best), share - rest[best], rest[best]
        found = [each.without(columns, whole=True) for each in found]
    told = ", then ".join(f"{name} by {fall:.1%}" for name, fall in left.items())
    note = f"left out, these lower the squared error of a ridge on validation: {told}\n  {_words(data, left)}"
    return replace(fitted, note="\n".join(filter(None, (fitted.note, note * bool(left)))))


def _solved(data: Prepared) -> Any:
    return Ridge().solve(data.windows("train"), data.windows("val"), data.dims)[0].solved


def _named(data: Prepared, uses: Collection[str]) -> dict[str, np.ndarray]:
    """The design's columns of each covariate and each row feature that is used, by name."""
    columns, found = covariate_columns(data.dims), dict[str, np.ndarray]()
    for group in [each for each in columns if each in uses]:
        found |= dict(zip(getattr(data.panel, GROUPS[group]), columns[group], strict=False))
    begin = len(data.panel.known_names)
    for feature in data.features.rows if "known" in uses else ():
        end = begin + len(feature.names())
        found[_key(feature)] = np.concatenate(columns["known"][begin:end])
        begin = end
    return found


def _key(feature: object) -> str:
    return type(feature).__name__.lower()


def _words(data: Prepared, left: Collection[str]) -> str:
    """What to type so that these are left out."""
    panel, features = data.panel, [_key(each) for each in data.features.features]
    stated = {f"dataset.{group}": getattr(panel, key) for group, key in GROUPS.items() if group != "target"}
    stated |= {"dataset.categorical": [*panel.categories], "feature": features}
    kept = {key: [each for each in names if each not in left] for key, names in stated.items()}
    return shlex.join(f"{key}=[{','.join(kept[key])}]" for key, names in stated.items() if {*names} & {*left})
