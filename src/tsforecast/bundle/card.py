"""The model card: what a bundle forecasts, how well, and where it stops, as Markdown made from the bundle alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsforecast.bundle import directory
from tsforecast.data.frequency import parse
from tsforecast.data.schema import NAIVE
from tsforecast.errors import listed
from tsforecast.markdown import table

if TYPE_CHECKING:
    from tsforecast.bundle.bundle import Bundle

FEW = 10  # windows on which a score still says little
OFF = 0.05  # a coverage further than this from what its interval promises is a limit to tell
_MOST = 20  # channels in the table
_HIDDEN = ("_target_", "_partial_")
_UNKNOWN = "unknown"
_NEEDS = {"past": "up to the last row", "known": "for the rows ahead too", "static": "one value a series"}
_PARTS = {"train": "taught it", "val": "chose", "cal": "calibrated it", "test": "judged it"}
_SCORES = {"mae_raw": "MAE", "rmse_raw": "RMSE", "mase": "MASE", "smape": "sMAPE", "bias": "bias"}
_SCORES |= {"mae": "MAE, scaled", "mse": "MSE, scaled"}
_NOTE = (
    "Lower is better. MAE and RMSE are in the units of the data, scaled ones in those that the model computes in; MASE"
    " is 1 where the error is that of the seasonal naive in training."
)


def card(bundle: Bundle) -> str:
    """The card of a bundle: the same for the same run, with no clock and no path in it.

    What the bundle does not know, as when it was made from Python without a configuration, is said to be unknown.
    """
    schema, features, made = bundle.schema, bundle.features, bundle.provenance
    model = (made.get("config") or {}).get("model")
    covariates = [f"{listed(n, 40)} ({when})" for group, when in _NEEDS.items() if (n := getattr(schema, group))]
    template = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    return template.format(
        bundle=bundle,
        name=bundle.metadata.get("name", "A forecast"),
        channels=listed(bundle.channels),
        each=_each(bundle.freq),
        verdict=_verdict(bundle),
        series=f" of each of {len(features.ids):,} series" if schema.id else "",
        least=f" ({bundle.least} at least)" * (bundle.least < bundle.context),
        zone="without a time zone" if schema.timezone == NAIVE else f"in {schema.timezone}",
        covariates="; ".join(covariates) or "none",
        ranges=_ranges(bundle),
        scores=_scores(bundle),
        intervals=_intervals(bundle),
        limits="\n".join(f"- {each}" for each in _limits(bundle)),
        data=_data(bundle),
        model=_weights(bundle) or _words(model or directory.spec(bundle.forecaster, learned=bundle.forecaster.state())),
        features="; ".join(_words(directory.spec(each)) for each in features.features) or "none",
        scaler=_words(directory.spec(features.scaler, learned=features.scaler.state())),
        inputs=", known_future" * bool(schema.known) + ", static=static" * bool(schema.static),
        columns=listed(schema.columns, 40),
        files=" known_future=ahead.csv" * bool(schema.known),
        provenance=_provenance(made),
    )


def _judged(bundle: Bundle) -> tuple[Mapping[str, Any], Mapping[str, float], dict[str, Mapping[str, float]]]:
    """How it was scored, its own scores, and those of the baselines; empty where it was not."""
    about = bundle.metadata.get("evaluation", {})
    scores = dict(about.get("scores", {}))
    return about, scores.pop(about.get("model"), {}), scores


def _verdict(bundle: Bundle) -> str:
    _, mine, rivals = _judged(bundle)
    if not mine:
        return "It was not scored."
    changes = {name: 100 * (mine["mae"] / each["mae"] - 1) for name, each in rivals.items() if each["mae"]}
    than = [f"{abs(c):.1f} % {'lower' if c <= 0 else 'higher'} than that of {name}" for name, c in changes.items()]
    error = ", and ".join(than) or f"{_number(mine['mae_raw'])}, with no baseline beside it"
    fit = "the fit before the last" if bundle.metadata.get("refit") else "it"
    return f"Its mean absolute error is {error}, {_over(bundle, mine)} that {fit} had not seen."


def _over(bundle: Bundle, scores: Mapping[str, float]) -> str:
    count = scores["windows"]
    return f"over {count:,.0f} window{'s'[: count != 1]} of {bundle.dims.horizon} rows"


def _ranges(bundle: Bundle) -> str:
    bounds = bundle.features.ranges["target"]
    least, most = np.fmin.reduce(bounds[0], axis=0), np.fmax.reduce(bounds[1], axis=0)
    units = [bundle.schema.units.get(name, _UNKNOWN) for name in bundle.channels]
    rows = [*zip(bundle.channels, units, map(_number, least), map(_number, most), strict=True)]
    more = f"\n\nand {len(rows) - _MOST} more channels" if len(rows) > _MOST else ""
    return table(("channel", "unit", "least in training", "greatest in training"), rows[:_MOST]) + more


def _scores(bundle: Bundle) -> str:
    about, mine, rivals = _judged(bundle)
    if not mine:
        return _verdict(bundle)
    rows = {f"**{about['model']}**": mine, **rivals}
    cells = [(name, *(_number(each.get(key)) for key in _SCORES)) for name, each in rows.items()]
    scored = table((f"on {about['part']}", *_SCORES.values()), cells)
    return f"{scored}\n\nMeans {_over(bundle, mine)}. {_NOTE}"


def _intervals(bundle: Bundle) -> str:
    about, mine, _ = _judged(bundle)
    if not bundle.quantile_levels:
        return "None: it forecasts points alone."
    rows = []
    for name in bundle.intervals:
        steps = about.get("by_step", {}).get(f"coverage-{name}", [math.nan])
        shares = (_share(each) for each in (mine.get(f"coverage-{name}"), steps[0], steps[-1], min(steps)))
        rows.append((f"{name} %", *shares, _number(mine.get(f"width-{name}_raw"))))
    how = "The model learned its quantiles; nothing corrects them."
    if bundle.offsets is not None:
        how = "The model learned its quantiles, and they are moved" if bundle.dims.quantiles else "They are placed"
        count = _number(bundle.metadata.get("calibration"))
        how += f" by conformal calibration, with the errors on {count} windows that the fit had not seen."
    titles = ("interval", "covered", "of the first step", "of the last", "of the worst", "mean width, original units")
    return f"{table(titles, rows)}\n\n{how}"


def _limits(bundle: Bundle) -> Iterable[str]:
    about, mine, rivals = _judged(bundle)
    horizon, categories = bundle.dims.horizon, bundle.features.categories
    yield f"Horizon and frequency are fixed: at most {horizon} rows ahead, one row {_each(bundle.freq)}."
    yield "Rows far outside the range of training are forecast with a warning; no score says how well."
    if bundle.schema.id and bundle.features.scaler.scope == "series":
        how = "forecast by seasonal naive" if bundle.fallback else "refused"
        yield f"It knows the series it was trained on; others are {how}."
    if categories:
        yield f"A category that training did not hold is refused: {listed(categories, 40)}."
    for name, most in bundle.missing.items():
        yield f"{name} has gaps: in training up to {most} of {bundle.context} rows were missing; beyond that it warns."
    if left := about.get("left_out"):
        instead = ", and forecast by seasonal naive" * (bundle.fallback is not None)
        yield f"Series that were too short are left out{instead}, {left}."
    if refit := bundle.metadata.get("refit"):
        since, until = refit["scored_until"], bundle.metadata["chosen_until"]
        yield f"The scores are of a fit on rows up to {since}; what is here was fitted again, on all up to {until}."
    if bundle.metadata.get("trained_on_this_dataset"):
        yield "**The network was pretrained on this dataset: its scores say little about rows that it has not seen.**"
    elif bundle.metadata.get("trained_on_this_dataset", False) is None:
        yield "Whether the network was pretrained on this dataset is not known."
    if not mine:
        return
    apart = mine["windows"] * min(1, about["stride"] / horizon)
    if apart < mine["windows"]:
        yield f"The scored windows overlap: they tell about as much as {max(apart, 1):,.0f} that do not."
    if apart < FEW:
        yield "**So few windows say little about others.**"
    better = [name for name, each in rivals.items() if each["mae"] < mine["mae"]]
    yield from (f"**{name} has the lower mean absolute error.**" for name in better)
    if "seasonal_naive" not in {about["model"], *rivals}:
        yield "It was not compared with the seasonal naive."
    for name in bundle.intervals:
        covered = mine.get(f"coverage-{name}", math.nan)
        if abs(off := covered - float(name) / 100) > OFF:
            yield f"**The {name} % interval is too {'wide' if off > 0 else 'narrow'}: it covered {_share(covered)}.**"
    if zeros := mine.get("mape_zero_share"):
        yield f"{_share(zeros)} of the scored values are 0: a percentage error says little here."


def _data(bundle: Bundle) -> str:
    data, about = bundle.provenance.get("data") or {}, bundle.metadata.get("evaluation", {})
    lines = [f"- name: {data.get('name', _UNKNOWN)}, {_number(data.get('rows'))} rows"]
    lines += [f"- {key}: {about.get(key) or _UNKNOWN}" for key in ("licence", "citation")]
    if parts := data.get("parts"):
        there = {what: parts[part] for part, what in _PARTS.items() if part in parts}
        rows = [(what, f"{each['rows']:,}", each["first"], each["last"]) for what, each in there.items()]
        lines += ["", table(("rows that", "number", "first", "last"), rows)]
    return "\n".join(lines)


def _provenance(made: Mapping[str, Any]) -> str:
    git, installed, data = (made.get(key) or {} for key in ("git", "packages", "data"))
    facts = {"tsforecast": installed.get("tsforecast"), "commit": git.get("commit"), "seed": made.get("seed")}
    facts |= {"packages": made.get("packages_digest"), "data": data.get("digest")}
    told = [f"{name} {_UNKNOWN if value is None else str(value)[:12]}" for name, value in facts.items()]
    return ", ".join(told) + ", with uncommitted changes" * bool(git.get("dirty"))


def _each(freq: str) -> str:
    """`each hour`, `every 15 minutes`, `each month` on whichever of its days."""
    offset = parse(freq)
    unit = re.sub(r"(?<!^)(?=[A-Z])", " ", type(offset).__name__).lower().removesuffix(" begin").removesuffix(" end")
    return f"each {unit}" if offset.n == 1 else f"every {offset.n} {unit}s"


def _weights(bundle: Bundle) -> str:
    """Of an ensemble: the mean weight of each member, with the settings that it was fitted with."""
    models = ((bundle.provenance.get("config") or {}).get("model") or {}).get("models", {})
    weights = bundle.metadata.get("weights", {}).items()
    each = [f"{np.mean(own):.2f} {name}, {_words(models.get(name, name))}" for name, own in weights]
    return "the weighted mean of " + "; ".join(each) if each else ""


def _words(value: Any) -> str:
    """A configuration as a person says it: the class, and its parameters that have a value."""
    if isinstance(value, Mapping):
        kept = {k: v for k, v in sorted(value.items()) if k not in _HIDDEN and v not in (None, {}, [], ())}
        inner = ", ".join(f"{key.replace('_', ' ')} {_words(each)}" for key, each in kept.items())
        name = str(value.get("_target_", "")).rpartition(".")[2]
        return f"{name} ({inner})" if name and inner else name or inner
    return listed(map(_words, value), 40) if isinstance(value, list | tuple) else str(value)


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return _UNKNOWN
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _share(value: float | None) -> str:
    return _UNKNOWN if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"
