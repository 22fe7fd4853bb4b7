"""One experiment, with nothing fitted: its rows, its windows, and what of the data does not go with what is asked."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from tsforecast.checkup.findings import Findings
from tsforecast.config.experiment import experiment
from tsforecast.config.job import Job
from tsforecast.data.schema import COVARIATES
from tsforecast.data.sources import Dataset, Loaded, Source, Stored
from tsforecast.errors import TsforecastError, listed
from tsforecast.experiment import Experiment
from tsforecast.models.base import Estimator
from tsforecast.models.naive import SeasonalNaive
from tsforecast.train import listed as listed_names
from tsforecast.training.prepare import Prepared
from tsforecast.training.results import check_objective

FEW = 20  # windows of a part
MENDED: dict[str, Any] = {"gaps": "fill", "duplicates": "last", "unsorted": "sort"}


def planned(found: Findings, job: Job) -> None:
    """What `train` would find, and what is behind it: an error is told, and looked past where that can be done."""
    found.part = "Experiment"
    with found.hearing(), found.trying("configuration"):
        plan = experiment(job)
        found.tell("name", plan.name)
        for name in listed_names(job.cfg.objective):
            with found.trying("objective"):
                check_objective(name, plan.quantiles)
        if not isinstance(plan.model, Estimator):
            with found.trying("trainer"):
                plan.trainer([])
        if (loaded := _loaded(found, plan.source)) is None:
            return
        _rows(found, loaded, plan.source)
        if (data := _prepared(found, plan, loaded)) is not None:
            _sizes(found, plan, data)
            _windows(found, data)
            _values(found, data)


def _loaded(found: Findings, source: Source) -> Loaded | None:
    """What a source gives; where that is an error, what it gives once all that can be mended is."""
    if isinstance(source, Dataset) and source.url and source.sha256 and source.here is None:
        text = f"the file is not here, and is downloaded when it is trained on ({source.path})"
        found.tell("data", text, "fix", f"curl -Lo {shlex.quote(source.path)} {source.url} --create-dirs")
        return None
    with found.trying("data"):
        return source.load()
    if isinstance(source, Stored):
        with suppress(TsforecastError):
            return replace(source, **MENDED).load(for_training=False)
    return None


def _prepared(found: Findings, plan: Experiment, loaded: Loaded) -> Prepared | None:
    """What would be fitted on, and each error on the way there; from the second on with what is before it mended."""
    looser: list[dict[str, Any]] = [
        {},
        {"split": replace(plan.split, short="drop")},
        {"unused_covariates": "ignore"},
    ]
    for mended in looser:
        plan = replace(plan, **mended)
        with found.trying("plan"):
            return plan.prepare(loaded)
    return None


def _rows(found: Findings, loaded: Loaded, source: Any) -> None:
    """Series, rows and dates; columns of the file that nobody reads."""
    panel = loaded.panel
    found.tell("data", f"{loaded.address}: {panel.summary}\nchannels: {listed(panel.channels)}")
    missing = np.isnan(np.hstack([panel.target, panel.past])).mean(axis=0)
    _shares(found, "missing", missing, (*panel.channels, *panel.past_names), "of all rows are missing")
    if isinstance(source, Stored) and (unread := loaded.schema.unread(source.read_all().columns)):
        found.tell("columns", f"not read: {listed(unread)}", fix=COVARIATES, facts={"unread": unread})


def _sizes(found: Findings, plan: Experiment, data: Prepared) -> None:
    """Lookback, the least of it that a series has to have, horizon and season."""
    names = ("lookback", *["least"] * (data.dims.least < data.dims.lookback), "horizon", "season")
    facts = {name: getattr(data.dims, name) for name in names}
    text = ", ".join(f"{name} {value}" for name, value in facts.items())
    if isinstance(plan.model, SeasonalNaive):
        with found.trying("season"):
            plan.model.fit(data.windows("train"), data.windows("val"), data.dims)
    short = data.dims.season > data.dims.lookback
    text += ": shorter than one season, which the model cannot see; seasonal naive is not scored" * short
    found.tell("sizes", text, fix=f"lookback={data.dims.season}, or more" if short else None, facts=facts)


def _windows(found: Findings, data: Prepared) -> None:
    """Rows, dates and windows of each part."""
    for part, rows in data.record["parts"].items():
        name, facts = "calibration" if part == "cal" else part, rows | {"windows": len(data.windows(part))}
        text = "{windows:>9,} windows in {rows:>9,} rows, {first} to {last}".format(**facts)
        few = facts["windows"] < FEW
        fix = "more rows, or a shorter lookback and horizon" if few else None
        found.tell(name, text + ": few" * few, fix=fix, facts=facts)


def _values(found: Findings, data: Prepared) -> None:
    """Channels that do not move, and labels that percentages cannot be taken of."""
    channels, train, test = data.panel.channels, data.rows("train").target, data.rows("test").target
    constant = np.fmin.reduce(train) == np.fmax.reduce(train)  # NaN where all are missing
    _shares(found, "constant", constant, channels, "in the train rows: nothing is learned from it")
    zeros = (test == 0).sum(axis=0) / np.maximum(1, (~np.isnan(test)).sum(axis=0))
    _shares(found, "zeros", zeros, channels, "of the test rows are 0, and MAPE leaves them out: see MAE, MASE or WAPE")
    few = data.borders.train_end - data.borders.begin <= data.dims.season
    if few.any():
        text = f"{few.sum()} of {len(few)} series have no more train rows than a season ({data.dims.season})"
        found.tell("scale", f"{text}: MASE leaves them out: {listed(data.panel.ids[few])}", "note")
    if still := int((data.scale[0][~few] == 0).sum()):
        text = f"{still} of {data.scale[0].size} channels repeat their season in the train rows, or hold no pair of it"
        found.tell("scale", f"{text}: MASE leaves them out", "note")


def _shares(found: Findings, name: str, shares: np.ndarray, channels: Sequence[str], what: str) -> None:
    """A note on the channels of which some share is so."""
    some = {channel: float(share) for channel, share in zip(channels, shares, strict=True) if share >= 5e-4}
    if some:
        told = listed(f"{channel} {share:.1%}" if share < 1 else channel for channel, share in some.items())
        found.tell(name, f"{told} {what}", "note", facts=some)
