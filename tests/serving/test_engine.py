"""An engine is ready when what it computes is what training computed, weight by weight."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.serving.conftest import frame, trained
from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.models.boosting import XGBoost
from tsforecast.models.linear import LinearForecaster
from tsforecast.models.trees import TreeForecaster
from tsforecast.serving.engine import Engine
from tsforecast.windows import Windows

Bundles = Callable[[str], Bundle]


def test_when_any_weight_that_matters_is_another_then_nothing_is_ready(bundles: Bundles) -> None:
    bundle = bundles("wide")
    assert Engine(bundle).checked().ready
    learned = bundle.forecaster.state()
    for row in range(0, len(learned["weight"]), 5):
        weight = learned["weight"].copy()
        weight[row, row % weight.shape[1]] += 0.01
        forecaster = LinearForecaster().restore({**learned, "weight": weight})
        assert not Engine(replace(bundle, forecaster=forecaster)).checked().ready, row


def test_when_one_leaf_of_the_trees_is_another_then_nothing_is_ready(tmp_path: Path) -> None:
    panel = to_panel(frame(rows=400), Schema(freq="h"))
    bundle = trained(frame(rows=400), Schema(freq="h"), tmp_path / "bundle")
    begin, end = panel.offsets[:-1], panel.offsets[1:]
    windows = Windows.over(bundle.features.encode(panel), lookback=24, horizon=6, begin=begin, end=end)
    fitted = XGBoost(rounds=5, patience=None, max_depth=3).fit(windows, windows, bundle.dims)
    whole = golden.with_golden(replace(bundle, forecaster=fitted, quantile_levels=(), offsets=None), panel)
    assert Engine(whole).checked().ready
    state, unseen = fitted.state(), 0
    content = json.loads(state["trees-0002"].tobytes())
    leaves = content["learner"]["gradient_booster"]["model"]["trees"][0]["split_conditions"]
    for node in range(len(leaves) - 4, len(leaves)):  # the last of a tree are leaves
        leaves[node] *= -1
        changed = np.frombuffer(json.dumps(content).encode(), np.uint8)
        leaves[node] *= -1
        other = TreeForecaster(6, fitted.channels).restore({**state, "trees-0002": changed})
        unseen += Engine(replace(whole, forecaster=other)).checked().ready
    assert unseen == 0
