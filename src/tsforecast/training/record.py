"""What a run leaves to be compared by: the scores of its models on the test windows, whole enough for paired tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsforecast.files import atomic
from tsforecast.metrics import LOSSES, Scores

FILE = "scores.npz"


@dataclass(frozen=True)
class Record:
    """The models of a run and its baselines, each scored on the same windows of the same folds.

    Attributes
    ----------
    facts
        What decides whether another run can be compared: `data` (name and digest), `horizon`, `gap`, `step` (rows from
        one cutoff to the next), `season`, `rows` (where each fold is divided), and `configs` by model. JSON values.
    windows
        `fold, unique_id, cutoff` of each window, in the order in which they were scored.
    scores
        By model, the one of the run first: all folds as one, with the losses of the windows.
    folds
        By model, the summary of each fold.
    seconds
        Of all fits of a model; none of what was not fitted.
    """

    facts: Mapping[str, Any]
    windows: pd.DataFrame
    scores: Mapping[str, Scores]
    folds: Mapping[str, Sequence[Mapping[str, float]]]
    seconds: Mapping[str, float]

    def losses(self, model: str, loss: str) -> pd.Series:
        """A mean loss of each cutoff, over series: of each fold where there are several, else of each timestamp."""
        values = pd.Series(self.scores[model].losses[:, LOSSES.index(loss)].astype(np.float64))
        by = "fold" if self.windows["fold"].nunique() > 1 else "cutoff"
        return values.groupby(self.windows[by].to_numpy()).mean()

    def save(self, path: Path) -> None:
        """Write one `.npz` without pickle.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        ids, series = np.unique(self.windows["unique_id"].to_numpy(dtype=np.str_), return_inverse=True)
        cutoff = pd.DatetimeIndex(self.windows["cutoff"])
        facts = {**self.facts, "models": [*self.scores], "folds": dict(self.folds), "seconds": dict(self.seconds)}
        arrays = {f"{i}/{key}": each for i, own in enumerate(self.scores.values()) for key, each in own.state().items()}
        arrays |= {"ids": ids, "series": series.astype(np.int32), "fold": self.windows["fold"].to_numpy()}
        arrays["cutoff"] = (cutoff.tz_convert(None) if cutoff.tz else cutoff).to_numpy()
        arrays["facts"] = np.asarray(json.dumps(facts, default=str))
        with atomic(path) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> Record:
        """What `save` wrote; the cutoffs in UTC."""
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        facts = json.loads(str(arrays["facts"]))
        windows = pd.DataFrame({name: arrays[name] for name in ("fold", "cutoff")})
        windows.insert(1, "unique_id", arrays["ids"][arrays["series"]])
        scores = {}
        for i, name in enumerate(facts.pop("models")):
            state = {key.partition("/")[2]: each for key, each in arrays.items() if key.startswith(f"{i}/")}
            scores[name] = Scores.restore(state)
        return cls(facts, windows, scores, facts.pop("folds"), facts.pop("seconds"))
