"""The commands in this process, as a shell starts them: what they leave behind in it is put back."""

from __future__ import annotations

import logging
import os
import re
import runpy
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra.core.global_hydra import GlobalHydra

from tsforecast import __main__
from tsforecast.errors import TsforecastError


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def error(self) -> TsforecastError:
        """The one error that it told, taken apart again; there was no traceback, and nothing came out as a result."""
        assert self.returncode == 1, self.stderr
        assert "Traceback" not in self.stderr
        assert self.stderr.count("Error: ") == 1, self.stderr
        what, *parts = self.stderr.partition("Error: ")[2].rstrip("\n").split("\n")
        told: dict[str, str] = {}
        for line in parts:
            name = re.match(r"  (where|got|allowed|fix): ", line)
            if name:
                told[name[1]] = line[11:]
            elif told:  # a part of several lines
                told[list(told)[-1]] += f"\n{line}"
            else:
                what += f"\n{line}"
        return TsforecastError(what, **told)


Cli = Callable[..., int]
Run = Callable[..., Done]


@contextmanager
def fresh(folder: Path) -> Iterator[None]:
    """Work in `folder` as a process of its own would; what belongs to a process is as before afterwards."""
    before, environment, path, modules = Path.cwd(), dict(os.environ), list(sys.path), set(sys.modules)
    root, argv, signals = logging.root, sys.argv, signal.getsignal(signal.SIGTERM)
    handlers, level, ours = list(root.handlers), root.level, logging.getLogger("tsforecast").level
    os.chdir(folder)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.chdir(before)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        sys.path[:], sys.argv = path, argv
        for name in sys.modules.keys() - modules:  # a user's own
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("tsforecast").setLevel(ours)
        signal.signal(signal.SIGTERM, signals)


def start(*words: str) -> int:
    """`tsforecast VERB ...`, or `python -m tsforecast.VERB ...`; returns the exit status."""
    sys.argv = ["tsforecast", *words]
    os.environ["HYDRA_FULL_ERROR"] = "0"  # a command sets it
    try:
        if words and words[0].startswith("tsforecast."):
            sys.argv = [*words]
            sys.path.insert(0, str(Path.cwd()))
            with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # it was imported before
                runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        else:
            __main__.main()
    except SystemExit as left:
        return int(left.code or 0)
    finally:
        GlobalHydra.instance().clear()
    return 0


@pytest.fixture(scope="session")
def run() -> Run:
    """`run(folder, verb, *words)`: a command in a folder, in this process; the verb may be `tsforecast.VERB`."""

    def call(folder: Path, *words: str) -> Done:
        with fresh(folder), redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            return Done(start(*words), out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """`cli(verb, *words)` in an empty folder with a file; returns the exit status. What it sets stays for the test."""
    rng = np.random.default_rng(0)
    time = pd.date_range("2024-01-01", periods=400, freq="h")
    pd.DataFrame({"date": time, "y": rng.normal(size=400).cumsum()}).to_csv(tmp_path / "x.csv", index=False)
    with fresh(tmp_path):
        os.environ["BENTOML_HOME"] = str(tmp_path / "bentoml")
        yield start
