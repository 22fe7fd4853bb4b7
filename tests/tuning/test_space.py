"""Hydra's sweep grammar becomes a space; what it cannot mean is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.errors import has, refused
from tests.tuning.conftest import QUICK, Cli
from tsforecast.config.compose import options
from tsforecast.errors import ConfigError
from tsforecast.tuning.space import Dimension, parsed, value


@pytest.mark.parametrize(
    ("text", "kind", "bounds"),
    [
        ("interval(1,100)", "float", {"low": 1.0, "high": 100.0, "log": False}),
        ("int(interval(1,100))", "int", {"low": 1, "high": 100, "log": False}),
        ("tag(log, interval(0.001,1))", "float", {"low": 0.001, "high": 1.0, "log": True}),
        ("tag(log, int(interval(1,64)))", "int", {"low": 1, "high": 64, "log": True}),
        ("range(2,9)", "int", {"low": 2, "high": 8, "step": 1, "log": False}),
        ("range(24,721,24)", "int", {"low": 24, "high": 720, "step": 24, "log": False}),
        ("range(0.1,0.5,0.2)", "float", {"low": 0.1, "high": pytest.approx(0.3), "step": 0.2, "log": False}),
        ("choice(a,b)", "categorical", {"choices": ["a", "b"]}),
        ("a,b", "categorical", {"choices": ["a", "b"]}),
        ("choice([calendar],[calendar,lags])", "categorical", {"choices": ["[calendar]", "[calendar,lags]"]}),
    ],
)
def test_the_grammar_of_hydra_is_the_space(text: str, kind: str, bounds: dict[str, Any]) -> None:
    assert parsed({"key": text}, [])[1] == {"key": Dimension(kind, bounds)}


def test_the_command_line_wins_over_the_file() -> None:
    params = {"a": "range(1,5)", "b": "choice(x,y)"}
    fixed, space = parsed(params, ["b=z", "+experiment=etth1", "a=range(1,9)", "c=3"])
    assert fixed == ("b=z", "+experiment=etth1", "c=3")
    assert space == {"a": Dimension("int", {"low": 1, "high": 8, "step": 1, "log": False})}


def test_a_choice_is_a_value_again() -> None:
    assert [value(each) for each in ("[calendar,lags]", "1.5", "true", "null", "text")] == [
        ["calendar", "lags"], 1.5, True, None, "text",
    ]  # fmt: skip
    assert value(0.25) == 0.25


@pytest.mark.parametrize("text", ["range(5,5)", "interval(2,1)", "tag(log, interval(0,1))", "tag(log, range(1,100,3))"])
def test_a_range_with_nothing_in_it_is_refused(text: str) -> None:
    with refused(ConfigError, where="key", got=has(text)):
        parsed({"key": text}, [])


def test_an_unknown_tag_is_refused() -> None:
    with refused(ConfigError, where="the tag of key", got="lgo", allowed=["log"], fix=has("log")):
        parsed({"key": "tag(lgo, interval(1,2))"}, [])


def test_what_is_not_the_grammar_is_told_with_it() -> None:
    with refused(ConfigError, where="hydra.sweeper.params", got=has("interval(1)"), fix=has("tag(log")):
        parsed({"key": "interval(1)"}, [])


def test_a_search_over_nothing_is_refused() -> None:
    with refused(ConfigError, where="hydra.sweeper.params", fix=has("+hparams_search")):
        parsed({}, ["model=ridge"])
    with refused(ConfigError, what=has("nothing is to be varied"), got=has("lookback=12")):
        parsed({"lookback": "range(24,721,24)"}, ["model=ridge", "lookback=12"])


@pytest.mark.parametrize("name", options("hparams_search"))
def test_every_search_composes_with_its_own_model(cli: Cli, name: str) -> None:
    words = [word for word in QUICK if not word.startswith("+hparams_search")]
    task = "hydra.sweeper.task=tests.tuning.tasks.parabola"
    words += ["lookback=48"] * (name not in ("ridge", "linear"))  # which vary it
    assert cli(*words, f"+hparams_search={name}", task, "hydra.sweeper.refit=false", "hydra.sweeper.n_trials=1") == 0
