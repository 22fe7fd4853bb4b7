"""Models are ranked among those scored on the same rows, and what cannot be compared is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.errors import has, refused

import tsforecast as tsf
from tsforecast.errors import ConfigError, DataError
from tsforecast.leaderboards.board import Leaderboard

SMALL = ("lookback=24", "horizon=4", "quantiles=[0.1,0.5,0.9]", "tracking=none", "report=none")


def made(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    time = pd.date_range("2024-01-01", periods=400, freq="h")
    wave = np.sin(np.arange(400) / 24 * 2 * np.pi)
    return pd.DataFrame({"date": time, "load": wave + 0.1 * rng.standard_normal(400), "b": rng.standard_normal(400)})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four runs, one of other data, one that did not end, and a backtest of two models."""
    root, frame = tmp_path_factory.mktemp("runs"), made()
    for i, own in enumerate((["model=ridge"], ["model=nlinear", "+debug=fast_dev_run"], ["model=ridge", "horizon=6"])):
        tsf.train(*SMALL, *own, data=frame, out=root / "sweep" / str(i))
    tsf.train(*SMALL, "model=ridge", "feature=[]", data=frame, out=root / "sweep" / "10")
    tsf.train(*SMALL, "model=ridge", data=made(1), out=root / "other")
    (root / "broken").mkdir()
    (root / "broken" / "train.log").touch()
    (root / "empty").mkdir()
    tsf.backtest(
        *SMALL, "backtest.windows=8", "backtest.models=[ridge,seasonal_naive]", data=frame, out=root / "backtest"
    )
    return root


@pytest.fixture(scope="module")
def board(runs: Path) -> Leaderboard:
    return tsf.leaderboard([runs])


def test_models_of_the_same_rows_are_ranked_with_each_baseline_once(board: Leaderboard) -> None:
    sweep = next(block for block in board.blocks if len(block.entries) == 5)
    assert {each.model for each in sweep.entries} == {"ridge", "nlinear", "naive", "seasonal_naive"}
    scores = sweep.frame["mase"].tolist()
    assert scores == sorted(scores)
    assert sweep.frame["rank"].tolist() == [1, 2, 3, 4, 5]


def test_the_table_holds_what_the_runs_have_scored(runs: Path, board: Leaderboard) -> None:
    metrics = json.loads((runs / "other" / "metrics.json").read_text())
    rows = board.frame[board.frame["block"] == next(b.number for b in board.blocks if _runs(b) == {runs / "other"})]
    own = rows.set_index("model")
    for score in ("mse", "mae", "mse_raw", "mae_raw", "mase", "wql", "coverage-80"):
        assert own.loc["ridge", score] == metrics[f"test/{score}"]
    assert own.loc["naive", "mae"] == metrics["baseline/naive/test/mae"]
    assert own.loc["ridge", "fit_seconds"] == metrics["time/fit_seconds"]
    assert own.loc["naive", "predict_seconds"] > 0


def test_runs_of_other_rows_horizons_or_data_are_apart_and_it_says_why(board: Leaderboard) -> None:
    assert len(board.blocks) == 4
    assert {block.entries[0].run.record.facts["horizon"] for block in board.blocks} == {4, 6}
    said = " ".join(board.remarks)
    for why in ("horizon: ", "data: frame [", "test rows: 8 windows"):
        assert why in said
    assert all(f"Block {block.number} is not compared with block" in said for block in board.blocks[1:])


def test_several_runs_of_one_model_are_named_by_what_differs_else_by_their_directory(
    board: Leaderboard, tmp_path: Path
) -> None:
    sweep = next(block for block in board.blocks if len(block.entries) == 5)
    ridge = {each.name for each in sweep.entries if each.model == "ridge"}
    assert ridge == {"ridge (run 0)", "ridge (run 10)"}
    for lookback in (24, 30):
        tsf.train(*SMALL, "model=ridge", f"lookback={lookback}", data=made(), out=tmp_path / str(lookback))
    names = set(tsf.leaderboard([tmp_path]).frame["model"])
    assert names == {"ridge lookback=24", "ridge lookback=30", "naive", "seasonal_naive"}
    tsf.train(*SMALL, "model=ridge", data=made(), out=tmp_path / "again" / "24")
    names = set(tsf.leaderboard([tmp_path]).frame["model"])
    assert f"ridge (run {tmp_path / 'again' / '24'})" in names
    assert len(names) == 5


def test_a_backtest_has_standard_errors_of_its_folds(runs: Path, board: Leaderboard) -> None:
    block = next(block for block in board.blocks if _runs(block) == {runs / "backtest"})
    folds = pd.read_csv(runs / "backtest" / "folds.csv").set_index("model")
    for name, row in block.frame.set_index("model").iterrows():
        assert row["mase_se"] == pytest.approx(folds.loc[name, "mase"].sem())


def test_better_is_said_only_where_test_and_interval_agree(board: Leaderboard) -> None:
    for block in board.blocks:
        assert block.difference is not None
        assert (" is better than " in block.verdict) == block.difference.told_apart
        assert ("are not told apart" in block.verdict) != block.difference.told_apart
        assert block.difference.mean == pytest.approx(np.diff(block.frame["mase"][1::-1])[0], rel=1e-3, abs=1e-6)


def test_a_run_that_has_not_ended_is_left_out_and_named(runs: Path, board: Leaderboard) -> None:
    assert board.left_out == {str(runs / "broken"): "it has not ended, or failed"}
    assert f"Left out: {runs / 'broken'}: it has not ended, or failed" in board.table()


def test_runs_in_scaled_units_are_compared_under_one_scaler_alone(tmp_path: Path) -> None:
    for scaler in ("standard", "robust"):
        tsf.train(*SMALL, "model=ridge", f"scaler={scaler}", data=made(), out=tmp_path / scaler)
    assert len(tsf.leaderboard([tmp_path]).blocks) == 1
    apart = tsf.leaderboard([tmp_path], score="mae")
    assert len(apart.blocks) == 2
    assert "No two of these runs can be compared." in apart.remarks
    assert any("scaler" in remark for remark in apart.remarks)


def test_what_is_no_run_is_refused(runs: Path) -> None:
    with refused(DataError, where="runs", got=runs / "swep", fix=f"did you mean {runs / 'sweep'}?"):
        tsf.leaderboard([runs / "swep"])
    with refused(DataError, where="runs", got=runs / "empty"):
        tsf.leaderboard([runs / "sweep", runs / "empty"])
    with refused(DataError, where="runs", got=[has("it has not ended, or failed")]):
        tsf.leaderboard([runs / "broken"])
    with refused(ConfigError, where="score", got="mas", fix="did you mean score=mase?"):
        tsf.leaderboard([runs / "sweep"], score="mas")


def test_a_pattern_finds_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(tsf.leaderboard(f"{runs}/sweep/[01]").blocks) == 1
    monkeypatch.chdir(runs)
    assert len(tsf.leaderboard("swe*").frame) == len(tsf.leaderboard("sweep").frame)


def test_fev_summaries_have_its_columns_and_means_over_windows(runs: Path) -> None:
    board = tsf.leaderboard([runs / "backtest"])
    table = board.fev().set_index("model_name")
    folds = pd.read_csv(runs / "backtest" / "folds.csv").groupby("model")[["mase", "wape", "wql"]].mean()
    wanted = [
        "dataset_config",
        "horizon",
        "num_windows",
        "eval_metric",
        "test_error",
        "training_time_s",
        "inference_time_s",
    ]
    assert {*wanted, "dataset_fingerprint", "trained_on_this_dataset", "MASE", "WAPE", "WQL"} <= set(table)
    assert table.loc["ridge", "test_error"] == pytest.approx(folds.loc["ridge", "mase"])
    assert table.loc["ridge", "WQL"] == pytest.approx(folds.loc["ridge", "wql"])
    assert table.loc["naive", "WQL"] == table.loc["naive", "WAPE"]
    assert (table["num_windows"] == 8).all()


def test_what_is_saved_is_the_same_in_each_form(runs: Path, tmp_path: Path) -> None:
    board = tsf.leaderboard([runs])
    files = {path.name: path for path in board.save(tmp_path / "out")}
    assert set(files) == {"leaderboard.csv", "leaderboard.md", "leaderboard.html", "fev.csv"}
    assert pd.read_csv(files["leaderboard.csv"])["mase"].tolist() == pytest.approx(board.frame["mase"].tolist())
    text = files["leaderboard.md"].read_text()
    data = _data(files["leaderboard.html"].read_text())
    for block, drawn in zip(board.blocks, data["blocks"], strict=True):
        assert drawn["verdict"] == block.verdict
        assert block.verdict in text
        assert [row[1] for row in drawn["rows"]] == [each.name for each in block.entries]
        assert [*drawn["steps"]] == [each.name for each in block.entries]
        horizon = block.entries[0].run.record.facts["horizon"]
        assert [len(steps) for steps in drawn["steps"].values()] == [horizon] * len(block.entries)


def test_the_page_shows_the_forecasts_of_a_backtest(runs: Path) -> None:
    from tsforecast.leaderboards.page import page

    text = page(tsf.leaderboard([runs / "backtest"]))
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)", text)
    (block,) = _data(text)["blocks"]
    frame = pd.read_parquet(runs / "backtest" / "forecasts.parquet")
    assert len(block["forecasts"]) == 2 * 8
    for item in block["forecasts"][:3]:
        own = frame[(frame["channel"] == item["series"]) & (frame["cutoff"] == item["cutoff"])]
        assert item["models"]["ridge"]["point"] == pytest.approx(own["ridge"].tolist(), rel=1e-3)
        assert item["models"]["ridge"]["low"] == pytest.approx(own["ridge-lo-80"].tolist(), rel=1e-3)
        assert item["truth"][-4:] == pytest.approx(own["y"].tolist(), rel=1e-3)
    assert block["coverage"]["ridge"][-1][0] == 80
    assert not block["left_out"]


def test_a_page_of_many_forecasts_stays_small_and_says_what_is_left_out(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tsforecast.leaderboards import page

    board = tsf.leaderboard([runs / "backtest"])
    whole = len(page.page(board))
    monkeypatch.setattr(page, "LIMIT", whole - 3000)
    text = page.page(board)
    assert len(text.encode()) < whole - 3000
    assert any(
        re.match(r"forecasts of \d of \d (series|cutoffs)", said) for said in _data(text)["blocks"][0]["left_out"]
    )


def _runs(block: object) -> set[Path]:
    return {each.run.path for each in block.entries if each.fitted}  # type: ignore[attr-defined]


def _data(page: str) -> dict:
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))
