"""What a run leaves to read: flat scores, the closing table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsforecast.bundle.card import FEW
from tsforecast.errors import listed, one_of
from tsforecast.files import strict, write
from tsforecast.metrics import Scores

if TYPE_CHECKING:
    from tsforecast.data.sources import Loaded
    from tsforecast.training.prepare import Prepared

_BIASED = 0.25  # of the volume, which is told


def flatten(scores: Scores, prefix: str, *, detail: bool = False) -> dict[str, float]:
    """`test/mse`, ...; with `detail` also `test/mse/channel/OT` and `test/mse/step/1`."""
    flat = {f"{prefix}/{name}": value for name, value in scores.summary().items()}
    steps = {metric: dict(enumerate(values, start=1)) for metric, values in scores.by_step().items()}
    for axis, means in (("channel", scores.by_channel()), ("step", steps)) if detail else ():
        for metric, by_place in means.items():
            flat |= {f"{prefix}/{metric}/{axis}/{place}": float(value) for place, value in by_place.items()}
    return flat


def judged(scores: Mapping[str, Scores], model: str, part: str, stride: int, data: Prepared) -> dict[str, Any]:
    """What a bundle keeps of how it was judged: its scores beside those of the baselines, and on what."""
    loaded, gone = data.loaded, data.loaded.left_out
    about = {
        "licence": loaded.licence,
        "citation": loaded.citation,
        "left_out": f"{len(gone):,}: {listed(gone)}" * bool(gone),
        "series_left_out": len(gone),
    }
    summaries = {name: each.summary() for name, each in scores.items()}
    steps = {key: each for key, each in scores[model].by_step().items() if key.startswith("coverage")}
    return {"part": part, "model": model, "stride": stride, "scores": summaries, "by_step": steps, **about}


def check_objective(name: str, quantiles: tuple[float, ...], part: str = "val") -> None:
    """Raise a ConfigError when no validation score has this name: what is chosen by test scores is not tested."""
    one_of("objective", name, score_names(quantiles, part))


def score_names(quantiles: tuple[float, ...], part: str = "val") -> list[str]:
    """The scores that every run has of its validation rows, and the seconds that it took."""
    scores = Scores(("",), 1, np.ones((1, 1)), np.ones((1, 1)), quantiles)
    times = ["time/fit_seconds", "time/score_seconds"] if part == "val" else []
    return [*(f"{part}/{each}" for each in scores.summary() if each != "bias"), *times]  # the lowest is no best one


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write(path, json.dumps(strict(value), indent=2, default=str) + "\n")


def seen(model: Any, loaded: Loaded) -> dict[str, bool | None]:
    """Of a pretrained network, or a member of an ensemble: whether it was pretrained on these rows, None: unknown."""
    models = [model.models[name] for name in model.members] if hasattr(model, "members") else [model]
    asked = (getattr(getattr(each, "backbone", None), "seen", None) for each in models)
    found = [ask(loaded.name) for ask in asked if ask]
    return {"trained_on_this_dataset": True if True in found else None if None in found else False} if found else {}


def pretrained(name: str, known: Mapping[str, bool | None]) -> list[str]:
    """What to say of the scores of a pretrained network, as `seen` has it; nothing of another model."""
    said = {
        True: f"{name} was pretrained on this dataset: its scores say little about rows that it has not seen",
        False: f"{name} was not pretrained on this dataset",
        None: f"whether {name} was pretrained on this dataset is not known (model.backbone.trained_on_this_dataset)",
    }
    return [said[each] for each in known.values()]


def table(scores: Mapping[str, Scores], model: str, part: str = "test") -> str:
    """The closing table: the model and the baselines, and how they compare."""
    columns = ("mse", "mae", "mse_raw", "mae_raw", "mase", "smape", "bias")
    summaries = {name: each.summary() for name, each in scores.items()}
    frame = pd.DataFrame.from_dict(summaries, orient="index").rename_axis(part, axis=1)[list(columns)]
    lines = frame.to_string(float_format="{:.4f}".format, col_space=12).splitlines()
    mine, count = summaries[model], scores[model].windows
    few = ": so few say little about others" * (count < FEW)
    lines.append(f"over {count:,} window{'s'[: count != 1]} of {scores[model].horizon} rows{few}")
    for name, theirs in summaries.items():
        if name != model:
            change = 100 * (1 - mine["mae"] / theirs["mae"]) if theirs["mae"] else 0.0
            verdict = "lower" if change >= 0 else "higher"
            lines.append(f"the MAE of {model} is {abs(change):.1f} % {verdict} than that of {name}")
    if abs(off := mine["bias"]) > _BIASED:
        few = "less than came: model=tsb and squared losses keep the volume of what is often 0, absolute ones do not"
        said = few if off < 0 else "more than came"
        lines.append(f"the forecasts of {model} add up to {100 * abs(off):.0f} % {said}")
    if (spread := scores[model].quantiles) is not None:
        for name in spread.intervals:
            inside, wide = 100 * mine[f"coverage-{name}"], mine[f"width-{name}_raw"]
            lines.append(f"the {name} % interval covers {inside:.1f} %, {wide:.4g} wide on average in original units")
    return "\n".join(lines)
