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
    """The bars of benchmarks/README.md, the peers beside us in an environment of their own."""
    peers = ("darts==0.48.1", "pytorch-lightning", "torch", "skforecast", "mlforecast", "xgboost-cpu")
    session.install("-c", "constraints.txt", *peers)
    python = str(Path(session.virtualenv.location, "bin", "python"))
    beside = {"wholeprocess": ["--darts-python", python], "boosting": ["--peers-python", python]}
    for script in ("wholeprocess", "throughput", "scoring", "panel", "boosting", "tft_step", "serving"):
        session.run(sys.executable, f"benchmarks/{script}.py", *beside.get(script, []), *session.posargs, external=True)


@nox.session(venv_backend="none")
def image(session: nox.Session) -> None:
    """Train, `bentoml build`, an image by buildah, started and compared with the bundle (as root, on Debian)."""
    session.run("bash", "benchmarks/image.sh", sys.executable, *session.posargs, external=True)
