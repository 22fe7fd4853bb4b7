"""One experiment, with nothing fitted: its rows, its windows, and what of the data does not go with what is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tsforecast.checkup.findings import Finding, heard, tried
from tsforecast.config.compose import explain
from tsforecast.config.experiment import experiment
from tsforecast.data.sources import Dataset, Loaded, Stored
from tsforecast.errors import DataError, listed
from tsforecast.experiment import Experiment
from tsforecast.models.base import Estimator
from tsforecast.models.naive import SeasonalNaive
from tsforecast.train import listed as names_of
from tsforecast.training.calibrate import NoCalibration
from tsforecast.training.prepare import Prepared
from tsforecast.training.results import check_objective

PART = "Experiment"
FEW = 20  # windows of a part
MENDED: dict[str, Any] = {"gaps": "fill", "duplicates": "last", "unsorted": "sort"}


def planned(cfg: DictConfig, chosen: Mapping[str, str], overrides: Sequence[str]) -> Iterator[Finding]:
    """What `train` would find, and what is behind it: an error is told, and looked past where that can be done."""
    with heard() as told:
        found, wrong = tried(PART, "configuration", _built, cfg, chosen, overrides)
        yield from wrong
        if found is None:
            return
        yield Finding(PART, "name", found.name)
        for name in names_of(cfg.objective):
            yield from tried(PART, "objective", check_objective, name, found.quantiles)[1]
        if not isinstance(found.model, Estimator):
            yield from tried(PART, "trainer", found.trainer, [])[1]
        loaded, wrong = _loaded(found.source)
        yield from wrong
        if loaded is None:
            return
        yield from _rows(loaded, found.source)
        data, wrong = _prepared(found, loaded)
        yield from wrong
        if data is not None:
            yield from _sizes(found, data)
            yield from _windows(data)
            yield from _values(data)
    yield from (Finding(PART, "log", text, "note") for text in dict.fromkeys(told))


def _built(cfg: DictConfig, chosen: Mapping[str, str], overrides: Sequence[str]) -> Experiment:
    try:
        return experiment(cfg, chosen, overrides=overrides)
    except OmegaConfBaseException as error:  # a key that is asked for and not given
        raise explain(error, "train", overrides) from error


def _loaded(source: Any) -> tuple[Loaded | None, list[Finding]]:
    """What a source gives; where that is an error, what it gives once all that can be mended is."""
    if isinstance(source, Dataset) and source.here is None:
        what, fix = (
            "the file is not here, and is downloaded when it is trained on",
            f"curl -Lo {source.path} {source.url}",
        )
        return None, [Finding.of(PART, "data", DataError(what, where=source.path, fix=fix))]
    loaded, wrong = tried(PART, "data", source.load)
    if loaded is None and isinstance(source, Stored):
        lenient = partial(replace(source, **MENDED).load, for_training=False)
        loaded = tried(PART, "data", lenient)[0]
    return loaded, wrong


def _prepared(plan: Experiment, loaded: Loaded) -> tuple[Prepared | None, list[Finding]]:
    """What would be fitted on, and each error on the way there; from the second on with what is before it mended."""
    split: Any = plan.split
    looser: list[dict[str, Any]] = [
        {},
        {"unused_covariates": "ignore"},
        {"calibration": NoCalibration(), "quantiles": ()},
        {"split": replace(split, short="drop") if hasattr(split, "short") else split},
    ]
    wrong: dict[str, Finding] = {}
    for mended in looser:
        plan = replace(plan, **mended)
        data, errors = tried(PART, "plan", plan.prepare, loaded)
        wrong |= {each.text: each for each in errors}
        if data is not None:
            break
    return data, list(wrong.values())


def _rows(loaded: Loaded, source: Any) -> Iterator[Finding]:
    """Series, rows and dates; columns of the file that nobody reads."""
    panel = loaded.panel
    size = f"{len(panel)} series, {len(panel.time):,} rows of freq {panel.freq}, channels: {listed(panel.channels)}"
    yield Finding(PART, "data", f"{loaded.address}: {size}\n{panel.time.min()} to {panel.time.max()}")
    missing = np.isnan(np.hstack([panel.target, panel.past])).mean(axis=0)
    yield from _shares("missing", missing, (*panel.channels, *panel.past_names), "of all rows are missing")
    if isinstance(source, Stored) and source.target:
        roles: dict[str, Any] = {
            "target": (),
            "past": (),
            "known": (),
            "static": (),
            "categorical": (),
            "id": None,
            "units": {},
        }
        there = replace(source, **roles).read().frame.columns
        if unread := [str(name) for name in there if str(name) not in source.schema.columns]:
            how = "as covariates: dataset.past=[...] if known up to now, dataset.known=[...] if known ahead"
            yield Finding(PART, "columns", f"not read: {listed(unread)}", "note", how, {"unread": unread})


def _sizes(plan: Experiment, data: Prepared) -> Iterator[Finding]:
    """Lookback, horizon and season."""
    dims = data.dims
    text = f"lookback {dims.lookback}, horizon {dims.horizon}, season {dims.season}"
    facts = {"lookback": dims.lookback, "horizon": dims.horizon, "season": dims.season}
    if isinstance(plan.model, SeasonalNaive):
        yield from tried(PART, "season", plan.model.fit, *map(data.windows, ("train", "val")), dims)[1]
    short = dims.season > dims.lookback
    text += ": shorter than one season, which the model cannot see; seasonal naive is not scored" * short
    fix = f"lookback={dims.season}, or more" if short else None
    yield Finding(PART, "sizes", text, "note" if short else "ok", fix, facts)


def _windows(data: Prepared) -> Iterator[Finding]:
    """Rows, dates and windows of each part."""
    parts = {"train": "train", "val": "val", "cal": "calibration", "test": "test"}
    for part, name in parts.items():
        rows, windows = data.rows(part), len(data.windows(part))
        if part == "cal" and not len(rows.time):
            continue
        first, last = rows.time.min(), rows.time.max()
        facts = {"rows": len(rows.time), "first": str(first), "last": str(last), "windows": windows}
        few = windows < FEW
        text = f"{windows:>9,} windows in {len(rows.time):>9,} rows, {first} to {last}"
        fix = "more rows, or a shorter lookback and horizon" if few else None
        yield Finding(PART, name, text + ": few" * few, "note" if few else "ok", fix, facts)


def _values(data: Prepared) -> Iterator[Finding]:
    """Missing values, channels that do not move, and labels that percentages cannot be taken of."""
    panel, train, test = data.panel, data.rows("train").target, data.rows("test").target
    constant = np.fmin.reduce(train) == np.fmax.reduce(train)  # NaN where all are missing
    yield from _shares("constant", constant, panel.channels, "in the train rows: nothing is learned from it")
    what = "of the test rows are 0, and MAPE leaves them out: look at MAE, MASE or WAPE"
    yield from _shares(
        "zeros", (test == 0).sum(axis=0) / np.maximum(1, (~np.isnan(test)).sum(axis=0)), panel.channels, what
    )
    if still := int((data.scale[0] == 0).sum()):
        text = f"{still} of {data.scale[0].size} channels repeat their season in the train rows: MASE leaves them out"
        yield Finding(PART, "scale", text, "note")


def _shares(name: str, shares: np.ndarray, channels: Sequence[str], what: str) -> Iterator[Finding]:
    """A note on the channels of which some share is so."""
    some = {channel: float(share) for channel, share in zip(channels, shares, strict=True) if share >= 5e-4}
    if some:
        told = listed(f"{channel} {share:.1%}" if share < 1 else channel for channel, share in some.items())
        yield Finding(PART, name, f"{told} {what}", "note", facts=some)
