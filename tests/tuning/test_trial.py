"""What one trial scores."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tsforecast.config.compose import compose
from tsforecast.tuning.trial import score


@pytest.mark.parametrize("short", ["drop", "naive"])
def test_a_trial_over_folds_leaves_out_the_series_that_a_backtest_would(tmp_path: Path, short: str) -> None:
    rng, parts = np.random.default_rng(0), []
    for name, rows in {"a": 200, "b": 200, "c": 40}.items():  # of c there is a window in every part, and no five folds
        time = pd.date_range(end="2024-02-01", periods=rows, freq="h")
        parts.append(pd.DataFrame({"unique_id": name, "ds": time, "y": rng.standard_normal(rows)}))
    pd.concat(parts).to_csv(tmp_path / "x.csv", index=False)
    words = ["dataset=long", f"dataset.path={tmp_path / 'x.csv'}", "model=ridge", "feature=[]", "quantiles=[]"]
    words += ["lookback=12", "horizon=4", "split=tail", "split.val=4", "split.test=4", f"split.short={short}"]
    seen: list[list[str]] = []
    listener = SimpleNamespace(fold=lambda scored: bool(seen.append([*scored.frame["unique_id"].unique()])))
    score(*compose("backtest", [*words, "backtest.windows=5"]), listener)
    assert seen == [["a", "b"]] * 5
