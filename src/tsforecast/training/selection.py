"""What nobody has stated is chosen on validation: of several options, by a ridge fitted with each.

| = = = = = = = = = = = = | # # # # # # | - - - - |     train rows fit, the same validation windows judge all options;
  train                     validation    test          rows behind these are not even read

A few rows of validation are one cutoff, whose weather is that of all series: earlier rows as many judge too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tsforecast.data.folds import Fold
from tsforecast.data.sources import Loaded
from tsforecast.data.splits import Borders
from tsforecast.errors import DataError
from tsforecast.models.linear import Ridge
from tsforecast.training.evaluate import evaluate
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
        windows = np.maximum(train_end - first - data.dims.lookback - horizon + 1, 0).sum()
        if found and 2 * windows < data.dims.lookback:
            break
        found.append(Fold(0, 0, Borders(first, train_end, later, end)))
    return data.loaded.keeping(known), found


def _mase(data: Prepared) -> float:
    """Of a ridge on the validation windows; in original units where no series has a scale."""
    val = data.windows("val")
    fitted = Ridge().fit(data.windows("train"), val, data.dims)
    scores = evaluate(data.bundle(fitted), data.panel, val, data.scale).summary()
    return scores["mase"] if np.isfinite(scores["mase"]) else scores["mae_raw"]
