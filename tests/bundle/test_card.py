"""What a bundle says of itself to a person: the facts of its run, what limits it, and nothing of one machine."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.errors import refused
from tests.serving.conftest import SHAPES, trained

import tsforecast as tsf
from tsforecast.bundle.card import card
from tsforecast.data.schema import Schema
from tsforecast.errors import DataError
from tsforecast.result import Result

SMALL = ("lookback=24", "horizon=4", "model=ridge", "feature=[calendar]")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    wave = 9 + np.sin(np.arange(600) / 24 * 2 * np.pi)
    time = pd.date_range("2024-01-01", periods=600, freq="h")
    return pd.DataFrame({"date": time, "load": wave + 0.1 * rng.standard_normal(600)})


def run(data: pd.DataFrame, *overrides: str, **dataset: object) -> Result:
    return tsf.train(*SMALL, *overrides, data=data, target=["load"], **dataset)


def cells(text: str, first: str) -> list[str]:
    """The row of a table that begins with a cell."""
    row = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return row.strip("| ").split(" | ")


def limits(text: str) -> str:
    return text.partition("## Known limits")[2].partition("## ")[0]


def test_the_card_holds_the_scores_of_the_closing_table_and_the_coverage_of_the_test_windows(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    frame.to_csv(tmp_path / "x.csv", index=False)
    stated = ("dataset=wide", f"dataset.path={tmp_path / 'x.csv'}", "dataset.licence=CC0", "+dataset.units.load=MW")
    found = tsf.train(*SMALL, *stated)
    text = card(found.bundle)
    for shown, name in (("**ridge**", "ridge"), ("naive", "naive"), ("seasonal_naive", "seasonal_naive")):
        scores = found.scores.loc[name]
        assert cells(text, shown)[1:4] == [f"{scores[key]:.4g}" for key in ("mae_raw", "rmse_raw", "mase")]
    steps = [found.metrics[f"test/coverage-90/step/{step}"] for step in range(1, 5)]
    shares = (found.metrics["test/coverage-90"], steps[0], steps[-1], min(steps))
    assert cells(text, "90 %")[1:5] == [f"{100 * share:.1f} %" for share in shares]
    train = frame["load"].to_numpy(np.float32)[: int(found.data.borders.train_end[0])]
    assert cells(text, "load") == ["load", "MW", f"{train.min():.4g}", f"{train.max():.4g}"]
    assert "licence: CC0" in text
    assert "citation: unknown" in text
    assert "one row each hour" in text
    assert f"errors on {len(found.data.windows('cal'))} windows" in text
    less = 100 * (1 - found.scores.loc["ridge", "mae"] / found.scores.loc["seasonal_naive", "mae"])
    assert f"{less:.1f} % lower than that of seasonal_naive" in text


def test_the_same_run_has_the_same_card_wherever_it_is_saved(frame: pd.DataFrame, tmp_path: Path) -> None:
    cards = []
    for place in ("one", "two"):
        saved = run(frame).bundle.save(tmp_path / place)
        cards.append((tmp_path / place / "card.md").read_text())
        assert card(saved) == cards[-1]
        assert card(saved.save(tmp_path / f"{place}-again")) == cards[-1]
    assert cards[0] == cards[1]
    config = {"model": {"_target_": "a.Net", "width": 8, "loss": {"_target_": "a.Mae"}, "depth": 2}}
    of_run, as_stored = (
        replace(saved, provenance={"config": json.loads(json.dumps(config, sort_keys=s))}) for s in (0, 1)
    )
    assert card(of_run) == card(as_stored)
    assert "model: Net (depth 2, loss Mae, width 8)" in card(of_run)
    assert str(tmp_path) not in cards[0]
    assert not re.search(r"(^|\s)/\w+/", cards[0])


def test_what_limits_a_forecast_is_told(frame: pd.DataFrame) -> None:
    told = limits(card(run(frame).bundle))
    assert "at most 4 rows ahead" in told
    assert "overlap: they tell about as much as 29 that do not" in told  # 117 windows of 4 rows
    noise = frame.assign(load=np.random.default_rng(1).standard_cauchy(600).round())
    whole = card(run(noise, "refit=all", "quantiles=[0.25,0.5,0.75]").bundle)
    assert "that the fit before the last had not seen" in whole  # what is here has
    told = limits(whole)
    assert "% of the scored values are 0" in told
    assert "fitted again, on all up to 2024-01-25 23:00:00" in told
    few = limits(card(run(frame[:90]).bundle))
    assert "So few windows say little" in few
    drift = frame.assign(load=np.where(np.arange(600) < 480, frame["load"], frame["load"] + 3 * np.arange(600) % 7))
    assert re.search(r"The 90 % interval is too narrow: it covered \d+\.\d %", limits(card(run(drift).bundle)))


def test_a_card_says_who_is_better(frame: pd.DataFrame) -> None:
    sure = frame.assign(load=np.tile([1.0, 5, 2, 8, 3, 9, 4, 7, 6, 0, 2, 5] * 2, 25))
    text = card(run(sure, "model=naive", "calibration=none", "quantiles=[]", "feature=[]").bundle)
    assert "**seasonal_naive has the lower mean absolute error.**" in limits(text)
    assert "None: it forecasts points alone." in text
    alone = card(run(sure, "model=naive", "~evaluation.baselines.seasonal_naive", "feature=[]").bundle)
    assert "It was not compared with the seasonal naive." in limits(alone)


def test_series_too_short_and_gaps_are_told(frame: pd.DataFrame) -> None:
    long = pd.concat([frame.assign(shop="a"), frame.assign(shop="b"), frame[:20].assign(shop="tiny")])
    long.iloc[100:104, 1] = np.nan
    text = card(run(long, "split.short=drop", id="shop", time="date").bundle)
    assert "Series that were too short are left out, 1: tiny." in limits(text)
    assert "load has gaps: in training up to 4 of 24 rows" in limits(text)
    assert "of each of 2 series" in text
    assert "others are refused" in limits(text)
    own = ("split.short=drop", "refit=all", "backtest.windows=2", "quantiles=[]", "calibration=none")
    found = tsf.backtest(*SMALL, *own, data=long, target=["load"], id="shop", time="date")
    assert "left out, 1: tiny." in limits(card(found.bundle("ridge")))


def test_the_card_says_how_few_rows_are_enough() -> None:
    months = pd.DataFrame({"date": pd.date_range("2021", periods=48, freq="MS"), "load": np.arange(48) % 12 + 9.0})
    bundle = tsf.train("model=theta", "quantiles=[]", "calibration=none", data=months).bundle
    text = card(bundle)
    assert "The next 6 rows from the last 38 (12 at least), one row each month (`MS`)" in text
    assert "# 12 rows or more: date, load" in text
    with refused(DataError, where="history", got="11 rows", allowed="12 rows or more, up to the cutoff"):
        bundle.forecast(months[:11])


def test_the_bundle_of_a_backtest_tells_its_folds(frame: pd.DataFrame) -> None:
    found = tsf.backtest(*SMALL, "refit=all", "backtest.windows=3", data=frame, target=["load"])
    text = card(found.bundle("ridge"))
    assert cells(text, "on 3 folds")[1] == "MAE"
    assert cells(text, "**ridge**")[1] == f"{found.scores.loc['ridge', 'mae_raw']:.4g}"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bundle_that_knows_little_has_a_card_too(tmp_path: Path, shape: str) -> None:
    bundle = trained(*SHAPES[shape], tmp_path / "bundle")
    text = (tmp_path / "bundle" / "card.md").read_text()
    assert "It was not scored." in text
    assert "licence: unknown" in text
    assert all(name in text for name in bundle.schema.columns)
    assert "{" not in text


def test_a_name_breaks_no_table(tmp_path: Path) -> None:
    frame, _ = SHAPES["wide"]
    data = frame.rename(columns={"load": "a|b\nc {x}"})
    text = card(trained(data, Schema(target=("a|b\nc {x}",), freq="h"), tmp_path / "b"))
    assert "| a\\|b c {x} | unknown |" in text


def test_the_shell_command_names_what_the_bundle_needs(frame: pd.DataFrame) -> None:
    known = run(frame.assign(promo=np.arange(600) % 7), "model=xgboost", "model.rounds=1", known=["promo"])
    assert "input=rows.csv known_future=ahead.csv output=forecast.csv" in card(known.bundle)
    assert "input=rows.csv output=forecast.csv" in card(run(frame).bundle)
