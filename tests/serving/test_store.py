"""Where a bundle comes from: a path, the Bento model store, MLflow."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.errors import has, refused
from tests.serving.conftest import SHAPES, trained
from tests.serving.publishing import publish
from tsforecast.bundle import directory
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import BundleError
from tsforecast.models.boosting import XGBoost
from tsforecast.registry import Registry
from tsforecast.serving import store
from tsforecast.serving.asgi import create_app
from tsforecast.serving.store import BentoStore, served

Bundles = Callable[[str], Bundle]


def test_the_newest_bundle_in_the_store_is_served_and_a_tag_names_an_older_one(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TSFORECAST_BUNDLE", raising=False)
    store = BentoStore()
    first, second = bundles("wide"), bundles("daily")
    tags = [store.publish(Path(str(bundle.path)), f"Shop {i}") for i, bundle in enumerate((first, second))]
    assert tags == [f"shop-{i}:{str(bundle.digest)[:12]}" for i, bundle in enumerate((first, second))]
    assert Bundle.load(served().path).digest == second.digest
    assert Bundle.load(served(tags[0]).path).digest == first.digest
    assert store.publish(Path(str(first.path)), "Shop 0") == tags[0]  # trained again, to the same bytes
    assert Bundle.load(served().path).digest == first.digest
    monkeypatch.setenv("TSFORECAST_BUNDLE", "")  # as an empty field of a compose file
    assert Bundle.load(served().path).digest == first.digest
    monkeypatch.setenv("TSFORECAST_BUNDLE", str(second.path))
    assert served().path == second.path


def test_bentoml_reads_what_was_put_in_as_its_own(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bentoml

    bundle = Path(str(bundles("wide").path))
    tag = str(BentoStore().publish(bundle, "read"))
    model = bentoml.models.get(tag)
    assert model.tag == bentoml.models.get("read:latest").tag
    assert Bundle.load(model.path).digest == bundles("wide").digest
    assert sorted(file.name for file in Path(model.path).iterdir()) == sorted(
        ["model.yaml", *(file.name for file in bundle.iterdir())]
    )
    model.info.validate()
    exported = bentoml.models.export_model(tag, str(tmp_path / "read.bentomodel"))
    bentoml.models.delete(tag)
    assert bentoml.models.import_model(exported).info.metadata == model.info.metadata
    bentoml.models.delete(tag)


def test_processes_that_publish_the_same_bundle_at_the_same_time_leave_one(bundles: Bundles) -> None:
    import bentoml

    bundle = Path(str(bundles("daily").path))
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        tags = {*pool.map(publish, [bundle] * 12, ["crowd"] * 12)}
    assert len(tags) == 1
    assert [str(model.tag) for model in bentoml.models.list("crowd")] == [*tags]
    home = Path(bentoml.models.get("crowd:latest").path).parents[2]
    assert Bundle.load(bentoml.models.get("crowd:latest").path).digest == bundles("daily").digest
    assert not list(home.glob(".tsforecast-*"))


@pytest.mark.parametrize(
    ("named", "given", "tag"),
    [
        ("etth1-ridge", None, "etth1-ridge"),
        ("etth1-ridge", "shop", "shop"),
        (None, None, "bundle"),
        ("Läden 1/2", None, "l-den-1-2"),
        ("x" * 70, None, "x" * 63),
        ("...", None, "bundle"),
    ],
)
def test_a_tag_is_what_bentoml_takes_of_the_name(
    bundles: Bundles, tmp_path: Path, named: str | None, given: str | None, tag: str
) -> None:
    bundle = replace(bundles("wide"), metadata={"name": named}).save(tmp_path / "bundle")
    assert BentoStore().publish(tmp_path / "bundle", given) == f"{tag}:{str(bundle.digest)[:12]}"


@pytest.mark.parametrize(("killed_at", "left"), [(1, []), (2, ["wide"]), (5, ["wide"])])
def test_what_is_killed_while_it_publishes_leaves_nothing_half_written(
    bundles: Bundles, killed_at: int, left: list[str]
) -> None:
    import bentoml

    name = f"killed-{killed_at}"
    for shape in left:  # there before
        BentoStore().publish(Path(str(bundles(shape).path)), name)
    process = get_context("spawn").Process(target=publish, args=(Path(str(bundles("wide").path)), name, killed_at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    found = [model for model in bentoml.models.list() if model.tag.name == name]
    assert [Bundle.load(model.path).digest for model in found] == [bundles(shape).digest for shape in left]
    tag = BentoStore().publish(Path(str(bundles("wide").path)), name)
    assert str(BentoStore().get().tag) == tag


def test_a_store_that_cannot_be_written_is_told(bundles: Bundles, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "tsforecast.publish", str(bundles("wide").path), "to=bento"]
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path / "file")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"where:   {tmp_path / 'file'}" in done.stderr
    assert "not a directory" in done.stderr
    assert "BENTOML_HOME" in done.stderr


def test_what_is_no_bundle_is_not_published(bundles: Bundles, tmp_path: Path) -> None:
    with refused(BundleError, where=str(tmp_path)):
        BentoStore().publish(tmp_path)
    altered = shutil.copytree(str(bundles("wide").path), tmp_path / "altered")
    (altered / "metadata.json").write_text("{}")
    with refused(BundleError, what=has("altered"), where=str(altered / "metadata.json")):
        BentoStore().publish(altered, "altered")


@pytest.mark.parametrize("text", ["{", "[]", "name: x", "\0"])
@pytest.mark.parametrize("tag", [None, "x:v1"])
def test_a_damaged_model_in_the_store_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, tag: str | None
) -> None:
    (tmp_path / "x" / "v1").mkdir(parents=True)
    (tmp_path / "x" / "v1" / "model.yaml").write_text(text)
    from bentoml._internal.models.model import ModelStore

    monkeypatch.setattr("bentoml.models.list", ModelStore(str(tmp_path)).list)
    with pytest.raises(BundleError, match="cannot be read"):
        BentoStore().get(tag)


def test_an_unknown_tag_is_an_error_that_names_those_there_are(bundles: Bundles) -> None:
    tag = BentoStore().publish(Path(str(bundles("wide").path)), "known")
    with refused(BundleError, where="the Bento model store", got="nothing:here", allowed=has(tag)):
        served("nothing:here")


@pytest.fixture
def in_mlflow(bundles: Bundles, tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bundle that is the first version of `shop`, and its champion."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(tracking_database, tmp_path)}")
    return Registry().publish(Path(str(bundles("wide").path)), to="mlflow", name="shop", alias="champion")


def test_a_model_in_mlflow_is_served_by_its_address(bundles: Bundles, in_mlflow: str) -> None:
    for address in (in_mlflow, "models:/shop@champion"):
        assert Bundle.load(served(address).path).digest == bundles("wide").digest


def test_bentoml_has_an_address_fetched_by_another_process(
    bundles: Bundles, in_mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = importlib.import_module("tsforecast.serving.service")
    monkeypatch.setenv("TSFORECAST_BUNDLE", "models:/shop@champion")
    assert Bundle.load(service._located()).digest == bundles("wide").digest
    monkeypatch.setenv("TSFORECAST_BUNDLE", "models:/shop@previous")
    with pytest.raises(BundleError, match=f"no alias 'previous'(.|\n)*models:/shop@champion(.|\n)*{in_mlflow}"):
        service._located()


@pytest.mark.parametrize("link", [False, True])
def test_what_is_newest_is_found_once_for_all_workers(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    first, second = (Path(str(bundles(shape).path)) for shape in ("wide", "daily"))
    BentoStore().publish(first, "newest")
    monkeypatch.setenv("TSFORECAST_BUNDLE", str(tmp_path / "link") if link else "newest:latest")
    (tmp_path / "link").symlink_to(first)
    service = importlib.import_module("tsforecast.serving.service")
    service.Forecaster.inner.look()  # the parent, before any worker starts
    BentoStore().publish(second, "newest")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(second)
    assert Bundle.load(served().path).digest == bundles("wide").digest


@pytest.mark.parametrize("where", [None, "asked:latest", "asked", "models:/shop@champion", "models:/shop/latest"])
def test_one_of_several_uvicorn_workers_is_told_an_exact_version(
    bundles: Bundles, in_mlflow: str, monkeypatch: pytest.MonkeyPatch, where: str | None
) -> None:
    monkeypatch.delenv("TSFORECAST_BUNDLE", raising=False)
    tag = BentoStore().publish(Path(str(bundles("wide").path)), "asked")
    monkeypatch.setattr(store, "parent_process", object)
    assert served(tag).path.is_dir()
    assert served(in_mlflow).path.is_dir()
    if where:
        monkeypatch.setenv("TSFORECAST_BUNDLE", where)
    with pytest.raises(BundleError) as caught:
        served()
    assert caught.value.where == "TSFORECAST_BUNDLE"
    exact = in_mlflow if where and "/" in where else tag
    assert caught.value.fix == f"say exactly which: {exact}, or set TSFORECAST_RELOAD"
    first, later = str(bundles("wide").path), where or "asked"  # and so is whatever stands behind a later name
    monkeypatch.delenv("TSFORECAST_BUNDLE", raising=False)
    monkeypatch.setenv("TSFORECAST_BUNDLES", f"one={first},two={later}")
    with refused(BundleError, where="TSFORECAST_BUNDLES", fix=caught.value.fix):
        create_app().state.server.start()
    monkeypatch.setenv("TSFORECAST_BUNDLES", f"one={first},two={exact}")
    create_app().state.server.start()


@pytest.fixture(scope="module")
def boosted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of one tree a booster."""
    model = XGBoost(rounds=1, strategy="shared")
    return trained(*SHAPES["wide"], tmp_path_factory.mktemp("boosted") / "bundle", model)


def test_what_is_missing_to_serve_a_bundle_is_named_by_its_package(
    boosted: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tsforecast.models.trees")
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(BundleError) as caught:
        Bundle.load(str(boosted.path))
    assert caught.value.fix == f"pip install xgboost-cpu=={importlib.metadata.version('xgboost-cpu')}"


@pytest.mark.parametrize(
    "asked", ["evil", "tsforecast==6", "xgboost-cpu @ http://evil/x.whl", "--index-url=http://evil", "xgboost\nevil"]
)
def test_a_bundle_cannot_have_anything_installed(asked: str) -> None:
    with refused(BundleError, where="bundle.json", allowed=("xgboost-cpu", "xgboost", "statsmodels")):
        directory.required({"requires": [asked]}, directory.allowed())
    assert directory.required({}, directory.allowed()) == []
    assert directory.required({"requires": ["mine==1.2"]}, directory.allowed("mine")) == ["mine==1.2"]


def test_an_image_has_what_its_bundle_needs_and_no_file_that_git_does_not_track(
    boosted: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("bentofile.yaml", "requirements-serve.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    for name in ("models/secret.py", "serving/ui/secret.html"):
        (tmp_path / "src/tsforecast" / name).write_text("")
    tag = str(BentoStore().publish(Path(str(boosted.path)), "boosted"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "TSFORECAST_BUNDLE": tag}
    build = [sys.executable, "-m", "bentoml", "build", "--version", "test"]
    subprocess.run(build, cwd=tmp_path, env=environment, check=True, capture_output=True)
    image = Path(os.environ["BENTOML_HOME"], "bentos/forecaster/test")
    requirements = (image / "env/python/requirements.txt").read_text().splitlines()
    assert {*type(boosted.forecaster).requires} <= {*requirements}
    packed = {file.relative_to(image / "src") for file in (image / "src/tsforecast").rglob("*.*")}
    source = [*(ROOT / "src/tsforecast").rglob("*.py"), *(ROOT / "src/tsforecast/serving/ui").iterdir()]
    assert packed == {file.relative_to(ROOT / "src") for file in source}


def test_an_image_of_a_bundle_that_is_not_in_the_store_is_refused(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    BentoStore().publish(Path(str(bundles("wide").path)), "any")
    service = importlib.import_module("tsforecast.serving.service")
    monkeypatch.setattr(service, "_packed", None)  # as with TSFORECAST_BUNDLE=RUN/bundle
    with pytest.raises(service.BentoMLException, match="TSFORECAST_BUNDLE=TAG"):
        service._Image(base_image="any", distro="slim").freeze(tmp_path)


def test_a_bundle_of_an_earlier_version_does_not_become_the_newest(bundles: Bundles, tmp_path: Path) -> None:
    shutil.copytree(Path(str(bundles("wide").path)), old := tmp_path / "old")
    (old / "provenance.json").unlink()
    manifest = directory.parse_json((old / "manifest.json").read_bytes(), old)
    del manifest["provenance.json"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    with refused(BundleError, got=["provenance.json"], fix=has("train again")):
        BentoStore().publish(old)
