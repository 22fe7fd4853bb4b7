"""Imports go one way, and heavy packages stay where they belong: read from the source, so that lazy imports count."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "tsforecast"
FILES = sorted(ROOT.rglob("*.py"))

# room -> the rooms its modules may import; a room may always import itself
BUNDLE = {
    "errors",
    "files",
    "markdown",
    "types",
    "quantiles",
    "spread",
    "fallback",
    "windows",
    "data",
    "features",
    "models",
}
LAYERS = {
    "errors": set(),
    "files": {"errors"},
    "markdown": set(),
    "cluster": {"errors"},
    "quantiles": {"errors"},
    "spread": {"types"},
    "fallback": {"quantiles", "windows", "features"},
    "types": {"errors", "data", "plotting"},  # for `Forecast.plot`, once it is called; plotting imports no types
    "plotting": {"errors", "quantiles"},
    "windows": {"errors", "types", "features"},  # the fill inside a window is a feature, shared with serving
    "metrics": {"errors", "quantiles"},
    "data": {"errors", "files", "types"},
    "features": {"errors", "types", "data"},
    "models": {"errors", "types", "windows", "features"},
    "bundle": BUNDLE,
    "report": {"files", "quantiles", "windows", "training", "plotting"},  # which commands alone import
    "training": BUNDLE | {"bundle", "metrics"},
    "result": BUNDLE | {"bundle", "metrics", "training"},
    "experiment": BUNDLE | {"bundle", "metrics", "training", "result"},
    "backtesting": {*BUNDLE, "cluster", "bundle", "plotting", "metrics", "training", "experiment", "result"},
    "leaderboards": {"errors", "files", "markdown", "metrics", "plotting", "training"},
    "promotion": BUNDLE | {"bundle", "metrics", "training", "leaderboards", "registry", "tracking"},
    "registry": {"errors", "bundle", "tracking", "serving"},
    "tracking": BUNDLE | {"bundle", "__init__"},
    "serving": BUNDLE | {"bundle", "registry", "__init__"},  # which finds the bundle to serve
    "__init__": {"errors", "types", "bundle", "data", "registry", "train", "backtest", "leaderboard"},
}

# package -> the modules (or folders) that may import it; commands and config stand above all layers
COMMANDS = {
    "check",
    "checkup",
    "doctor",
    "train",
    "backtest",
    "evaluate",
    "leaderboard",
    "predict",
    "promote",
    "publish",
    "rerun",
    "sync",
    "config",
    "tuning",
    "__main__",
}
ONLY_IN = {
    "hydra": COMMANDS,
    "omegaconf": COMMANDS,
    "optuna": {"tuning"},
    "ray": {"cluster", "serving.ray"},
    "mlflow": {"tracking"},
    "matplotlib": {"plotting"},
    "pooch": {"data"},
    "torch": {
        "checkup.house",
        "models.networks",
        "models.pretrained",
        "models.chronos_bolt",
        "models.dilated_conv",
        "models.timesfm",
        "models.neural",
        "models.backbones",
        "training",
    },
    "neuralforecast": {"models.backbones"},
    "onnx": {"training.export"},
    "lightning": {"models.neural", "models.backbones", "training"},
    "onnxruntime": {"models.onnx_runtime"},
    "xgboost": {"models.boosting", "models.feed", "models.trees"},  # fitting; its data; predicting
    "sklearn": {"models.boosting"},
    "opentelemetry": {"serving.telemetry"},
    "statsmodels": {"models.arima", "models.classical"},
    **{name: {"serving"} for name in ("bentoml", "fastapi", "starlette", "uvicorn", "orjson", "prometheus_client")},
}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports(path: Path) -> set[str]:
    """Every module named in an import statement, wherever in the file it stands, except for type checkers only."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layers_of(name: str) -> str:
    """`tsforecast.features.base.Feature` -> `features`; the package itself -> `__init__`."""
    inside = name.removeprefix("tsforecast").strip(".").split(".")[0]
    return inside if inside and ((ROOT / inside).is_dir() or (ROOT / f"{inside}.py").exists()) else "__init__"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_module_imports_only_layers_below_its_own(path: Path) -> None:
    layer = module(path).split(".")[0]
    if layer in COMMANDS:
        return
    allowed = LAYERS[layer] | {layer}
    above = {name for name in imports(path) if name.split(".")[0] == "tsforecast" and layers_of(name) not in allowed}
    assert not above, f"{module(path)} reaches above its layer"


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_heavy_package_is_imported_only_where_it_belongs(package: str) -> None:
    def belongs(name: str) -> bool:
        return any(name == home or name.startswith(home + ".") for home in ONLY_IN[package])

    users = {module(path) for path in FILES if package in {name.split(".")[0] for name in imports(path)}}
    assert not {name for name in users if not belongs(name)}


CORE = {"numpy", "pandas"}
TRAIN_HELP = "sys.argv = ['tsforecast', 'train', '--help']; from tsforecast.__main__ import main; main()"
UNTRACKED = (
    "from tsforecast.tracking.runs import NoTracker\nwith NoTracker().run('r', {}) as run: run.log_metrics({'a': 1})"
)
STEPS = {  # one after the other in one process, and what is there afterwards of that which costs
    "import tsforecast; dir(tsforecast)": set(),
    "import tsforecast.bundle.bundle": CORE,
    "import tsforecast.registry": CORE,
    "import tsforecast.report.plots": CORE,
    UNTRACKED: CORE,
    TRAIN_HELP: CORE | {"hydra", "omegaconf"},
}


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    costly = [*CORE, *ONLY_IN]
    told = f"print('LOADED', *[name for name in {costly} if name in sys.modules])"
    script = "\n".join(["import sys", *(f"{step}\n{told}" for step in STEPS)])
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    loaded = [set(line.split()[1:]) for line in out.splitlines() if line.startswith("LOADED")]
    assert loaded == list(STEPS.values())
