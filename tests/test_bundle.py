"""What is not a bundle, or not quite, is refused by name; what a model would not read is too."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import frame, trained
from tsforecast.bundle import Bundle
from tsforecast.errors import BundleError, DataError
from tsforecast.schema import Schema


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return trained(frame(), Schema(freq="h"), tmp_path / "bundle")


def rewrite(bundle: Bundle, name: str, content: bytes) -> None:
    """A file of the bundle and its digest."""
    assert bundle.path is not None
    (bundle.path / name).write_bytes(content)
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    manifest[name] = hashlib.sha256(content).hexdigest()
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("channels", None),
        ("channels", ["load"]),
        ("dims", {"lookback": 24}),
        ("dims", {"lookback": 24, "horizon": 0, "channels": 2}),
        ("levels", [0.5]),
        ("features", 7),
        ("schema", {"colour": "red"}),
        ("freq", ...),
    ],
)
def test_when_the_parts_do_not_fit_together_then_loading_says_so(bundle: Bundle, key: str, value: Any) -> None:
    body = json.loads((Path(str(bundle.path)) / "bundle.json").read_text())
    body.pop(key) if value is ... else body.update({key: value})
    rewrite(bundle, "bundle.json", json.dumps(body).encode())
    with pytest.raises(BundleError, match="do not fit together"):
        Bundle.load(str(bundle.path))


@pytest.mark.parametrize("name", ["features.npz", "forecaster.safetensors"])
def test_when_an_array_file_holds_something_else_then_loading_says_so(bundle: Bundle, name: str) -> None:
    for content in (b"", b"not arrays"):
        rewrite(bundle, name, content)
        with pytest.raises(BundleError, match="do not fit together"):
            Bundle.load(str(bundle.path))


@pytest.mark.parametrize("name", ["known_future", "static"])
def test_covariates_that_the_model_does_not_have_are_refused(bundle: Bundle, name: str) -> None:
    with pytest.raises(DataError, match=f"leave {name} out"):
        bundle.forecast(frame(), **{name: frame().head(6)})
