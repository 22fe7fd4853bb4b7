"""Where a bundle comes from: a path, the Bento model store, MLflow."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tsforecast import examples
from tsforecast.bundle import Bundle
from tsforecast.errors import BundleError, OutputError
from tsforecast.serving.store import BentoStore, NoStore, locate
from tsforecast.tracking.runs import MLflowTracker

Bundles = Callable[[str], Bundle]


def test_the_newest_bundle_in_the_store_is_served_and_a_tag_names_an_older_one(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TSFORECAST_BUNDLE", raising=False)
    store = BentoStore()
    first, second = bundles("wide"), bundles("daily")
    tags = [store.put(Path(str(bundle.path)), f"Shop {i}") for i, bundle in enumerate((first, second))]
    assert tags == [f"shop-{i}:{str(bundle.digest)[:12]}" for i, bundle in enumerate((first, second))]
    assert Bundle.load(locate()).digest == second.digest
    assert Bundle.load(locate(tags[0])).digest == first.digest
    assert store.put(Path(str(first.path)), "Shop 0") == tags[0]  # trained again, to the same bytes
    assert Bundle.load(locate()).digest == first.digest
    monkeypatch.setenv("TSFORECAST_BUNDLE", "")  # as an empty field of a compose file
    assert Bundle.load(locate()).digest == first.digest
    monkeypatch.setenv("TSFORECAST_BUNDLE", str(second.path))
    assert locate() == second.path
    assert NoStore().put(Path(str(first.path)), "x") is None


def test_bentoml_reads_what_was_put_in_as_its_own(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bentoml

    bundle = Path(str(bundles("wide").path))
    tag = str(BentoStore().put(bundle, "read"))
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


def test_processes_that_put_the_same_bundle_at_the_same_time_leave_one(bundles: Bundles) -> None:
    import bentoml

    bundle = Path(str(bundles("daily").path))
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        tags = {*pool.map(BentoStore().put, [bundle] * 12, ["crowd"] * 12)}
    assert len(tags) == 1
    assert [str(model.tag) for model in bentoml.models.list("crowd")] == [*tags]
    home = Path(bentoml.models.get("crowd:latest").path).parents[2]
    assert not list(home.glob(".tsforecast-*"))


def test_a_store_that_cannot_be_written_is_told(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="BENTOML_HOME may be written"):
        BentoStore().put(Path(str(bundles("wide").path)), "nowhere")


def test_an_unknown_tag_is_an_error_that_names_those_there_are(bundles: Bundles) -> None:
    tag = BentoStore().put(Path(str(bundles("wide").path)), "known")
    with pytest.raises(BundleError, match=str(tag)):
        locate("nothing:here")


def test_a_model_in_mlflow_is_found_by_its_address(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, uri = bundles("wide"), f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with MLflowTracker(uri).run("name", {}) as run:
        address = run.log_bundle(Path(str(bundle.path)), examples.example(bundle, bundle.panel(_history(bundle))))
    assert Bundle.load(locate(address)).digest == bundle.digest
    with pytest.raises(BundleError, match="MLflow does not give"):
        locate("models:/nothing@champion")


def _history(bundle: Bundle):  # type: ignore[no-untyped-def]
    import pandas as pd

    return pd.DataFrame((bundle.golden or {})["history"])
