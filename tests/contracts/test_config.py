"""Every file in conf/ composes, builds, and says how to run it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import yaml

from tests.contracts.conftest import compose, options
from tsforecast.config import compose as composition
from tsforecast.config.compose import CONF_DIR, build
from tsforecast.config.roots import COMMANDS
from tsforecast.errors import ConfigError

GROUPS = ["dataset", "split", "scaler", "model", "evaluation", "tracking", "report", "publish"]
UNTOLD = ("hydra", "paths", "evaluation")
FILES = sorted(path for path in CONF_DIR.rglob("[!_]*.yaml") if path.parent.name not in UNTOLD)
NEEDS = {"split/tail": ["split.val=20", "split.test=20"],
         "dataset/wide": ["dataset.path=x.csv"], "dataset/long": ["dataset.path=x.csv"],
         "dataset/sql": ["dataset.address=sqlite:///x.db", "dataset.query=x"],
         "split/dates": ["split.val_start=2014-01-01", "split.test_start=2014-06-01"]}  # fmt: skip


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in GROUPS for o in options(g)])
def test_every_option_composes_and_builds(
    group: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = compose("train", f"{group}={option}", *NEEDS.get(f"{group}/{option}", []))
    assert build(cfg[group]) is not None


@pytest.mark.parametrize("path", sorted(CONF_DIR.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF_DIR)))
def test_no_shipped_file_chooses_hydras_mode_which_is_not_looked_for_there(path: Path) -> None:
    composed = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    assert "mode" not in (composed if path.parent.name == "hydra" else composed.get("hydra") or {})


@pytest.mark.parametrize("option", options("callbacks"))
def test_every_callback_composes_with_the_others_and_builds(option: str) -> None:
    from lightning.pytorch.callbacks import Callback

    chosen = {option, *options("callbacks")[:1]}
    built = build(compose("train", "model=nhits", f"callbacks=[{','.join(sorted(chosen))}]").callbacks)
    assert len(built) == len(chosen)
    assert all(isinstance(each, Callback) for each in built.values())


@pytest.mark.parametrize("option", options("model/optimizer"))
def test_every_optimizer_composes_with_a_network_and_builds(option: str) -> None:
    import torch

    cfg = compose("train", "model=nhits", f"model/optimizer={option}", "model.optimizer.lr=0.002")
    optimizer = build(cfg.model).optimizer([torch.zeros(1, requires_grad=True)])
    assert optimizer.param_groups[0]["lr"] == 0.002


def test_a_local_file_changes_defaults_of_this_checkout_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "default.yaml").write_text("# @package _global_\nhorizon: 7\n")
    assert compose("train", f"hydra.searchpath=[file://{tmp_path}]").horizon == 7


@pytest.mark.parametrize("option", options("feature"))
def test_every_feature_composes_with_the_others(option: str) -> None:
    cfg = compose("train", f"feature=[{option},{'lags' if option != 'lags' else 'calendar'}]")
    assert len(build(cfg.feature)) == 2


@pytest.mark.parametrize("option", [*options("debug")])
def test_every_debug_option_composes(option: str) -> None:
    cfg = compose("train", "model=nlinear", f"+debug={option}")
    assert cfg.trainer.max_epochs >= 1
    assert not build(cfg.publish)  # what is tried out must not become the newest to serve
    assert build(compose("train", f"+debug={option}", "publish=bento").publish)


@pytest.mark.parametrize("option", options("trainer"))
def test_every_trainer_composes_as_a_partial(option: str) -> None:
    cfg = compose("train", f"trainer={option}")
    assert cfg.trainer._partial_
    if cfg.trainer.accelerator == "cpu":
        assert build(cfg.trainer)(callbacks=[]).max_epochs == cfg.trainer.max_epochs


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF_DIR)))
def test_the_first_comment_is_the_command_that_runs_it(path: Path) -> None:
    first = next(line for line in path.read_text().splitlines() if not line.startswith("# @package"))
    assert first.startswith("# python -m tsforecast."), path
    assert path.stem in first, path
    words = first.removeprefix("# ").split()[3:]
    if path.parent.name in ("experiment", "debug"):
        assert f"+{path.parent.name}={path.stem}" in words
        given = [word.partition(",")[0] for word in words if word != "-m"]  # of a sweep the first
        assert compose("train", *given).lookback


@pytest.mark.parametrize("command", COMMANDS)
def test_the_keys_of_a_command_are_those_of_its_file_again_and_again_and_outlive_a_pickle(command: str) -> None:
    file = yaml.safe_load((CONF_DIR / f"{command}.yaml").read_text(encoding="utf-8"))
    for _ in range(2):  # what Hydra knows of keys is put back behind each composition
        cfg, _ = composition.compose(command, [])
        assert {*file} - {"defaults", "hydra"} <= {*cfg}
    assert pickle.loads(pickle.dumps(cfg)) == cfg
    with pytest.raises(ConfigError, match=r"Key 'nonsense' not in"):
        composition.compose(command, ["+nonsense=1"])


@pytest.mark.parametrize("command", ["train", "backtest", "doctor"])
@pytest.mark.parametrize(("dataset", "channel"), [("dataset=wide dataset.path=x.csv", "load"), ("", "pm2.5")])
def test_bounds_and_units_are_said_as_the_documentation_has_them(command: str, dataset: str, channel: str) -> None:
    words = [f"dataset.bounds={{{channel}: [0, 9]}}", f"dataset.units={{{channel}: MW}}"]
    found = compose(command, *dataset.split(), *words).dataset
    assert (found.bounds, found.units) == ({channel: [0, 9]}, {channel: "MW"})


@pytest.mark.parametrize(("word", "owner"), [("budget=2m", "auto"), ("members=[ridge]", "ensemble"),
                                             ("weights=x", "pretrained")])  # fmt: skip
def test_a_word_of_another_model_says_whose_it_is(word: str, owner: str) -> None:
    with pytest.raises(ConfigError, match=f"model={owner}") as told:
        compose("train", "model=ridge", word)
    assert "To append" not in str(told.value)


def test_a_member_that_is_no_model_is_told_as_a_member() -> None:
    with pytest.raises(ConfigError, match=r"no such member(.|\n)*model\.members(.|\n)*did you mean xgboost\?"):
        compose("train", "model=ensemble", "members=[ridge,'xgbost model.max_depth=2']")
