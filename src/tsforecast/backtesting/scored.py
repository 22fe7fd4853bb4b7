"""What a model says of one fold: its forecasts, scores and errors, and the files that keep them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.request import Prediction
from tsforecast.data.folds import Fold
from tsforecast.data.sources import Loaded
from tsforecast.errors import OutputError
from tsforecast.files import atomic
from tsforecast.metrics import Scores, seasonal_scale
from tsforecast.plotting import Fan
from tsforecast.training.calibrate import Errors
from tsforecast.training.evaluate import evaluate
from tsforecast.training.prepare import Prepared
from tsforecast.training.record import forecast_frame
from tsforecast.training.results import write_json


@dataclass(frozen=True)
class Scored:
    """One model on one fold.

    Attributes
    ----------
    frame
        `unique_id, ds, cutoff, channel, y, <model>, <model>-lo-90, ...`: a row per series, channel and step.
    errors
        What intervals are made from.
    seconds, chosen
        Of the fit, and what it chose; NaN and None where the fit of an earlier fold forecasts, and for a baseline.
    """

    fold: int
    model: str
    scores: Scores
    frame: pd.DataFrame
    errors: Errors
    seconds: float = float("nan")
    chosen: Mapping[str, Any] | None = None

    def fan(self, loaded: Loaded, fold: Fold, baseline: Scored | None) -> Fan:
        """The forecast to draw of the first series and the last channel, a baseline's beside it."""
        panel, c = loaded.panel, len(loaded.panel.channels) - 1
        frame = self.frame[(self.frame["unique_id"] == panel.ids[0]) & (self.frame["channel"] == panel.channels[c])]
        fan = Fan.at(panel, 0, c, int(fold.borders.test_end[0]) - len(frame), frame[self.model].to_numpy())
        shares = [column.rpartition("-")[2] for column in frame if column.startswith(f"{self.model}-lo-")]
        within = {n: tuple(frame[f"{self.model}-{end}-{n}"].to_numpy() for end in ("lo", "hi")) for n in shares}
        rival = None if baseline is None else baseline.frame.loc[frame.index, baseline.model].to_numpy()
        unit = loaded.schema.units.get(fan.channel, "")
        return replace(fan, baseline=rival, intervals=within, label=f"fold {self.fold}", unit=unit)

    def save(self, path: Path, key: str) -> None:
        """Write the directory of this model and fold; `result.json` comes last, and says that all is there."""
        path.mkdir(parents=True, exist_ok=True)
        with atomic(path / "forecasts.parquet") as file:
            self.frame.to_parquet(file, index=False)
        with atomic(path / "scores.npz") as file:
            own = {"errors": self.errors.values, "statistics": self.errors.statistics}
            np.savez(file, allow_pickle=False, **own, **self.scores.state())
        about = {"fold": self.fold, "model": self.model, "key": key, "time/fit_seconds": self.seconds}
        about |= {"chosen": self.chosen}
        write_json(path / "result.json", {**about, **self.scores.summary()})

    @classmethod
    def load(cls, path: Path, key: str) -> Scored | None:
        """What `save` wrote; None where it did not end.

        Raises
        ------
        OutputError
            It is of another experiment, other data or other folds.
        """
        if not (path / "result.json").exists():
            return None
        about = json.loads((path / "result.json").read_text(encoding="utf-8"))
        if about["key"] != key:
            what, fix = "this directory holds folds of another backtest", "name another directory, or delete it"
            raise OutputError(what, where="hydra.run.dir", got=path, fix=fix)
        with np.load(path / "scores.npz", allow_pickle=False) as arrays:
            state = dict(arrays)
        frame, seconds = pd.read_parquet(path / "forecasts.parquet"), about["time/fit_seconds"]
        errors = Errors(state.pop("errors"), state.pop("statistics"))
        seconds = float("nan") if seconds is None else seconds
        return cls(about["fold"], about["model"], Scores.restore(state), frame, errors, seconds, about["chosen"])


def score(name: str, fold: Fold, bundle: Bundle, data: Prepared, gap: int) -> Scored:
    """Forecast and score the fold's windows; the first `gap` steps ahead are left out."""
    panel, windows, borders = data.panel, data.windows("test"), data.borders
    scale = seasonal_scale(panel.target, panel.offsets, borders.begin, borders.val_end, data.dims.season)
    found: list[Prediction] = []
    scores = evaluate(bundle, panel, windows, scale, keep=True, skip=gap, sink=found.append)
    frame = forecast_frame(name, bundle, panel, windows, found, gap)
    return Scored(fold.number, name, scores, frame, Errors.of(bundle, windows))
