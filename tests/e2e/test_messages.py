"""How errors look, letter by letter: a change of all of them is seen here, and every other test asks for parts."""

from __future__ import annotations

import pytest

from .conftest import Cli

TINY = ("train", "dataset=wide", "dataset.path=x.csv", "model=ridge", "lookback=24", "horizon=4", "quantiles=[]",
        "report=none", "tracking=none", "hydra.run.dir=run")  # fmt: skip

MESSAGES = {
    (*TINY, "horizn=24"): """
Error: Could not override 'horizn'.
  where:   horizn
  got:     Key 'horizn' not in 'TrainConfig'
  fix:     did you mean horizon?
""",
    (*TINY, "feature=[calender]"): """
Error: there is no such feature
  where:   feature
  got:     calender
  allowed: calendar, differences, fourier, holidays, lags, rolling
  fix:     did you mean feature=calendar?
""",
    ("train", "dataset=wide"): """
Error: Missing mandatory value: dataset.path
  where:   dataset.path
  fix:     add dataset.path=... to the command
""",
    ("promote", "gate=strict"): """
Error: Missing mandatory value: name
  where:   name
  fix:     add model=... to the command
""",
    (*TINY, "seed=-1"): """
Error: a seed is a whole number
  where:   seed
  got:     -1
  allowed: 0 to 2**32 - 1
""",
    (*TINY, "dataset.path=y.csv"): """
Error: there is no such file
  where:   y.csv
  got:     nothing
  fix:     did you mean x.csv?
""",
    (*TINY, "dataset=long"): """
Error: 1 problem in the data
  - column 'unique_id' is missing
  where:   x.csv
  fix:     say which column is what: dataset.time=, dataset.target=, dataset.id=; there are date, y
""",
    (*TINY, "lookback=5000"): """
Error: too few rows for the split and windows: train needs 5004 rows, it has 280
  where:   split, with lookback 5000 and horizon 4
  fix:     lookback=72 horizon=24, say, fit into rows of freq 'h', or change the split, \
or let windows reach back before the first row: split.short=pad
""",
    (*TINY, "feature=[lags]", "feature.lags.steps=[99]"): """
Error: a window feature reaches back further than the window
  where:   feature.lags
  got:     99 rows, lookback 24
  allowed: 1 to 24 rows
  fix:     set lookback=99 or more
""",
    ("predict", "bundle=nowhere", "input=x.csv", "output=y.csv"): """
Error: there is no bundle here
  where:   nowhere
  fix:     give the path of a run's bundle/ folder, such as nowhere/bundle
""",
    ("trian",): """
Error: there is no command 'trian'
  allowed: doctor, check, train, backtest, evaluate, leaderboard, predict, promote, publish, rerun, sync
  fix:     did you mean train?
""",
}


@pytest.mark.parametrize("words", MESSAGES, ids=lambda words: words[-1])
def test_a_message_says_what_where_what_was_got_what_is_allowed_and_the_fix(
    cli: Cli, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert cli(*words) == (2 if len(words) == 1 else 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err[err.index("Error: ") :] == MESSAGES[words].lstrip("\n")
