"""The front door: `nox -s lint types tests`, from the environment that `make venv` makes (`.venv/bin/nox`).

`lint`, `types`, `tests` and `docs` run in that environment; `minimal` and `bench` make one of their own.
"""

import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

CORE = """
import sys, tsforecast.bundle.bundle
heavy = {"torch", "lightning", "hydra", "mlflow"} & set(sys.modules)
assert not heavy, heavy
"""

# Each benchmark in its shortest form, and what it prints when it has come to its end: a timed test is no test.
SMOKE = {
    "scoring": (["--rounds", "1"], "scoring 2785 windows x 7 channels"),
    "frames": (["--series", "20", "--rounds", "1"], "a long frame of 20 x 500"),
    "throughput": (["--epochs", "2"], "channel-windows/s"),
    "boosting": (["--ours", "--trees", "2"], '"mse"'),
    "serving": (["--only", "many", "--rounds", "1", "--seconds", "0.1"], "1,000 series"),
    "reading": (["--rounds", "1", "--seconds", "0.2"], "panel: known"),
    "swaps": (["--swaps", "4"], "answers of no bundle: 0"),
    "overload": (["--only", "crowd", "--connections", "200", "--seconds", "2"], "requests a call"),
    "shelf": (["--names", "20", "--memory", "2"], "20 requests, "),
    "panel": (["--series", "20", "--rows", "300", "--rounds", "1"], "NeuralForecast, the same"),
    "coverage": (["--series", "2"], "refit=all"),
    "intervals": (["--cases", "drawn"], "| drawn | ridge | 0 | ."),
    "tft_step": (["--steps", "12", "--rounds", "1"], "| theirs |"),
    "killed": (["--rounds", "1", "--model", "ridge"], "1 of 1 killed runs"),
    "wholeprocess": (["--rounds", "1"], "creates mlflow.db"),
    "promotions": (["--rounds", "1", "--kills", "1"], "all records"),
    "outage": ([], "| killed |"),
    "backtest": (["--series", "20", "--rounds", "1"], "cpu_ratio"),
    "drift": (["--only", "panel", "--weeks", "1"], "1 quiet weeks: 1 ok"),
    "classical": (["--panels", "panel", "--data", "data", "--series", "5", "--models", "ets"], "| panel | ets | 5 |"),
    "members": (["--series", "nile", "--members", "seasonal_naive", "ridge"], "| nile | "),
    "panels": (
        ["--drawn", "--overrides", "model=auto", "budget=1m", "members=[seasonal_naive,ridge]"],
        "| drawn | 6 of 6",
    ),
    "short": (["--panels", "panel", "--series", "20"], "| panel | 14 | "),
    "choosing": (["--cases", "demo"], "| demo | scaler=auto | "),
    "pretrained": (["--files", "data/panel.parquet", "--series", "3", "--windows", "1", "--lookback", "60"], "WAPE"),
    "rerun": (["--short", "--models", "ridge", "nlinear"], "the same digests"),
}


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Ruff, rules and format."""
    session.run(sys.executable, "-m", "ruff", "check", ".")
    session.run(sys.executable, "-m", "ruff", "format", "--check", ".")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Mypy, strict, on src/tsforecast."""
    session.run(sys.executable, "-m", "mypy")


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """All tests; arguments after `--` are pytest's."""
    session.run(sys.executable, "-m", "pytest", *session.posargs)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Every command in README.md and docs/, run as a reader would."""
    session.run(sys.executable, "-m", "pytest", "tests/e2e/test_docs.py", *session.posargs)


@nox.session
def minimal(session: nox.Session) -> None:
    """The core alone reads a bundle: no torch, lightning, hydra or mlflow installed."""
    session.install("-c", "constraints.txt", ".")
    session.run("python", "-c", CORE)


@nox.session
def bench(session: nox.Session) -> None:
    """The bars of benchmarks/README.md, the peers beside us; first, and alone with `-- --smoke`, the shortest runs."""
    for script, (options, printed) in SMOKE.items():
        out = session.run(sys.executable, f"benchmarks/{script}.py", *options, external=True, silent=True)
        if printed not in str(out):
            session.error(f"benchmarks/{script}.py does not print {printed!r}:\n{out}")
    if "--smoke" in session.posargs:
        return
    peers = ("darts==0.48.1", "pytorch-lightning", "torch", "skforecast", "mlforecast", "xgboost-cpu")
    session.install("-c", "constraints.txt", *peers)
    python = str(Path(session.virtualenv.location, "bin", "python"))
    beside = {"wholeprocess": ["--darts-python", python], "boosting": ["--peers-python", python]}
    for script in SMOKE:
        session.run(sys.executable, f"benchmarks/{script}.py", *beside.get(script, []), *session.posargs, external=True)


@nox.session(venv_backend="none")
def image(session: nox.Session) -> None:
    """Train, `bentoml build`, an image by buildah, started and compared with the bundle (as root, on Debian)."""
    session.run("bash", "benchmarks/image.sh", sys.executable, *session.posargs, external=True)
