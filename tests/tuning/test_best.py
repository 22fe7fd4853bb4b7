"""The file of the best experiment is another way to say its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tsforecast.config.compose import compose
from tsforecast.tuning.best import difference, experiment_file
from tsforecast.tuning.study import APART


@pytest.mark.parametrize(
    "arguments",
    [
        ["model=nhits", "model.optimizer.lr=0.5", "feature=[calendar,lags]"],
        ["+experiment=panel", "feature=[]", "lookback=33"],
        ["+experiment=patchtst_paper", "model=xgboost", "scaler=none"],
    ],
)
def test_what_is_written_composes_to_what_it_was_written_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "conf" / "experiment" / "found.yaml"
    file.parent.mkdir(parents=True)
    cfg, chosen = compose("train", arguments)
    file.write_text(experiment_file(cfg, chosen, "found", "by this test"))
    found, _ = compose("train", ["+experiment=found"])
    mine, theirs = OmegaConf.to_container(cfg), OmegaConf.to_container(found)
    assert {key: mine[key] for key in mine.keys() - APART} == {key: theirs[key] for key in theirs.keys() - APART}


def test_a_difference_has_what_is_new_or_another_value_and_nothing_else() -> None:
    base = {"a": 1, "b": {"c": 1, "d": [1, 2]}, "e": {"f": 1}}
    assert difference({"a": 1, "b": {"c": 2, "d": [1, 2]}, "e": {"f": 1}, "g": None}, base) == {
        "b": {"c": 2},
        "g": None,
    }
    assert difference(base, base) == {}
