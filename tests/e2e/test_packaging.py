"""What is installed from a wheel is what the repository holds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCES = sorted(ROOT.glob("src/**/*.py"))


def test_when_a_wheel_is_built_then_it_ships_every_module_and_config(tmp_path: Path) -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["src/tsforecast", "src/hydra_plugins"]
    assert wheel["force-include"] == {"conf": "tsforecast/conf"}
    if find_spec("hatchling") is None:  # a build back end is fetched for each build, and need not be installed here
        return
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        shipped = set(archive.namelist())
    sources = {str(file.relative_to(ROOT / "src")) for file in SOURCES}
    configs = {f"tsforecast/{file.relative_to(ROOT)}" for file in ROOT.glob("conf/**/*.yaml")}
    assert configs, "conf/ is empty"
    pages = {str(file.relative_to(ROOT / "src")) for file in ROOT.glob("src/tsforecast/serving/ui/*")}
    assert len(pages) > 5
    assert sources | configs | pages <= shipped


def test_the_core_asks_for_nothing_that_training_alone_needs() -> None:
    core = {re.split(r"[<>=!\[ ]", requirement)[0] for requirement in PROJECT["project"]["dependencies"]}
    assert core.isdisjoint({"torch", "lightning", "hydra-core", "omegaconf", "mlflow", "bentoml", "matplotlib"})


# Needed, though nothing here imports them: to export by torch.onnx, to run the ASGI app, to show the progress of pooch,
# for Optuna to draw by CMA-ES.
UNSEEN = {"onnxscript", "uvicorn", "tqdm", "cmaes"}
# What is imported by another name than it is installed by.
NAMES = {"hydra": "hydra-core", "yaml": "pyyaml", "sklearn": "scikit-learn", "xgboost": "xgboost-cpu"}
NAMES["opentelemetry"] = "opentelemetry-sdk"
NAMES["circus"] = "kantoku"
TRAINING = {"train", "xgboost-cpu", "stats", "ray", "fracast"}


def extras(path: Path) -> set[str]:
    """Whose packages a module may import besides the core's."""
    room = path.relative_to(ROOT / "src").parts[1]
    core = {"bundle.py", "panel.py", "frames.py", "windows.py", "types.py", "errors.py", "features", "schema.py"}
    return set() if room in core else {"serve", "otel", "ray"} if room == "serving" else TRAINING


def imported(path: Path) -> set[str]:
    """The distributions a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    found -= {*sys.stdlib_module_names, "tsforecast"}
    return {NAMES.get(name, name.lower().replace("_", "-")) for name in found}


def declared(*extra: str) -> set[str]:
    optional = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(line for name in extra for line in optional[name])]
    return {re.split(r"[<>=!\[; ]", line)[0].lower().replace("_", "-") for line in wanted}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_what_a_module_imports_is_declared(path: Path) -> None:
    assert imported(path) <= declared(*extras(path))


def test_what_is_declared_is_imported() -> None:
    everything = set().union(*map(imported, SOURCES)) | UNSEEN
    assert declared("train", "serve", "xgboost-cpu", "stats") <= everything


def test_the_versions_agree() -> None:
    import tsforecast

    assert tsforecast.__version__ == PROJECT["project"]["version"]


def test_when_a_requirement_is_declared_then_the_constraints_pin_it() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    declared = [
        *PROJECT["project"]["dependencies"],
        *extras["train"],
        *extras["serve"],
        *extras["stats"],
        *extras["dev"],
    ]

    def name(requirement: str) -> str:
        return re.split(r"[<>=!\[; ]", requirement)[0].lower().replace("_", "-")

    pinned = {name(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {name(requirement) for requirement in declared} <= pinned


def test_the_image_has_what_the_core_and_the_extras_of_a_server_ask_for_as_the_constraints_pin_it() -> None:
    pins = set((ROOT / "requirements-serve.txt").read_text().lower().split("\n")[1:-1])
    pinned = {line.lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert pins <= pinned
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"], *extras["serve"], *extras["otel"]]
    names = {re.split(r"[<>=!\[; ]", requirement)[0].lower().replace("_", "-") for requirement in asked}
    there = {pin.partition("==")[0].replace("_", "-") for pin in pins}
    assert names <= there
    assert there.isdisjoint({"torch", "lightning", "hydra-core", "omegaconf", "mlflow"})
