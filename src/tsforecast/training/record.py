"""What a run leaves to be compared by: the scores of its models on the test windows, whole enough for paired tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.request import Prediction
from tsforecast.data.panel import Panel
from tsforecast.files import atomic
from tsforecast.metrics import LOSSES, Scores
from tsforecast.types import Forecast
from tsforecast.windows import Windows

FILE = "scores.npz"
KEYS = ["unique_id", "ds", "cutoff", "channel", "y"]
FEW = 8  # series, and cutoffs, whose forecasts a run keeps


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


def forecast_frame(
    name: str, bundle: Bundle, panel: Panel, windows: Windows, found: Sequence[Prediction], gap: int = 0
) -> pd.DataFrame:
    """`unique_id, ds, cutoff, channel, y, <name>, <name>-lo-90, ...`: a row per window, channel and step.

    Parameters
    ----------
    found
        The forecasts of the windows in batches, in original units.
    gap
        Steps ahead that are left out, the first of them.
    """
    ahead = slice(gap, bundle.dims.horizon)
    rows = windows.origins[:, None] + np.arange(bundle.dims.horizon)[ahead]
    spread = [each.quantiles[:, ahead] for each in found if each.quantiles is not None]
    forecast = Forecast(
        ids=panel.ids[windows.series],
        cutoff=panel.time[windows.origins - 1],
        time=panel.time[rows.ravel()],
        channels=bundle.channels,
        values=np.concatenate([each.point[:, ahead] for each in found]),
        history=panel,
        quantile_levels=bundle.quantile_levels,
        quantiles=np.concatenate(spread) if spread else None,
    )
    frame = forecast.to_frame().rename(columns=lambda column: column.replace("y_hat", name, 1))
    frame.insert(4, "y", panel.target[rows].transpose(0, 2, 1).reshape(-1))
    return frame


def examples(bundles: Mapping[str, Bundle], panel: Panel, windows: Windows) -> pd.DataFrame:
    """The `forecast_frame` of several bundles over a few windows: those of evenly spaced series and cutoffs."""
    cutoffs = panel.time[windows.origins - 1]
    series, stamps = np.unique(windows.series), np.unique(cutoffs)
    few = [each[np.linspace(0, len(each) - 1, min(len(each), FEW)).astype(int)] for each in (series, stamps)]
    chosen = windows.subset(np.isin(windows.series, few[0]) & np.isin(cutoffs, few[1]))
    frames = []
    for name, bundle in bundles.items():
        scaled = bundle.predict(chosen, slice(0, len(chosen)))
        found = bundle.invert(scaled, bundle.features.series(panel.ids)[chosen.series])
        frames.append(forecast_frame(name, bundle, panel, chosen, [found]))
    return pd.concat([frames[0], *(each.drop(columns=KEYS) for each in frames[1:])], axis=1)
