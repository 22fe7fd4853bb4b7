"""A bundle is published once and found by every word that stands for it, in a real MLflow database."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tsforecast as tsf
from tests.errors import has, refused
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.directory import weights_digest
from tsforecast.errors import BundleError, ConfigError, OutputError
from tsforecast.registry import Publish, Registry
from tsforecast.tracking.models import DIGEST

ETT = ("+experiment=etth1", "lookback=48", "horizon=6", "report=none", "tracking=none")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, ett_dir: Path) -> dict[str, Path]:
    """Two models of ETTh1."""
    place = tmp_path_factory.mktemp("runs")
    for model in ("ridge", "seasonal_naive"):
        tsf.train(*ETT, f"model={model}", f"paths.data_dir={ett_dir}", out=place / model)
    return {model: place / model / "bundle" for model in ("ridge", "seasonal_naive")}


@pytest.fixture
def registry(tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An empty one, where the test works."""
    shutil.copy(tracking_database, tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return Registry()


@pytest.fixture(scope="module")
def published(bundles: dict[str, Path], tracking_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with two versions of `load`: the ridge as champion, then seasonal naive as candidate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        file = Path(shutil.copy(tracking_database, tmp_path_factory.mktemp("published")))
        registry = Registry(f"sqlite:///{file}")
        assert registry.publish(bundles["ridge"], to="mlflow", name="load", alias="champion") == "models:/load/1"
        assert registry.publish(bundles["seasonal_naive"], to="mlflow", name="load") == "models:/load/2"
    return file


@pytest.fixture
def full(registry: Registry, published: Path, tmp_path: Path) -> Registry:
    """A copy of it, where the test works."""
    shutil.copy(published, tmp_path)
    return registry


def client(registry: Registry) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(registry.store.uri)


@pytest.mark.parametrize(
    ("reference", "model", "exact"),
    [
        ("models:/load@champion", "ridge", "models:/load/1"),
        ("models:/load@production", "ridge", "models:/load/1"),
        ("models:/load/Production", "ridge", "models:/load/1"),
        ("models:/load/1", "ridge", "models:/load/1"),
        ("models:/load@candidate", "seasonal_naive", "models:/load/2"),
        ("models:/load@Staging", "seasonal_naive", "models:/load/2"),
        ("models:/load/staging", "seasonal_naive", "models:/load/2"),
        ("models:/load/2", "seasonal_naive", "models:/load/2"),
        ("models:/load/latest", "seasonal_naive", "models:/load/2"),
        ("models:/load@Latest", "seasonal_naive", "models:/load/2"),
    ],
)
def test_a_version_is_found_by_its_number_its_alias_and_the_words_of_old_stages(
    full: Registry, bundles: dict[str, Path], reference: str, model: str, exact: str
) -> None:
    found = full.resolve(reference)
    assert found.exact == exact
    assert tsf.load_bundle(reference).digest == Bundle.load(bundles[model]).digest


def test_the_same_bundle_is_the_same_version_and_another_is_the_next(full: Registry, bundles: dict[str, Path]) -> None:
    assert full.aliases("load") == {"candidate": 2, "champion": 1}
    copied = shutil.copytree(bundles["ridge"], Path("copied"))
    assert full.publish(copied, to="mlflow", name="load") == "models:/load/1"
    assert full.aliases("load") == {"candidate": 1, "champion": 1}
    assert full.publish(bundles["seasonal_naive"], to="mlflow", name="load", alias=None) == "models:/load/2"
    assert full.aliases("load") == {"candidate": 1, "champion": 1}


def test_those_that_publish_one_bundle_at_once_get_one_version(registry: Registry, bundles: dict[str, Path]) -> None:
    def publish(_: int) -> str:
        return Registry(registry.store.uri).publish(bundles["ridge"], to="mlflow", name="load")

    with ThreadPoolExecutor(4) as pool:
        assert len(found := {*pool.map(publish, range(8))}) == 1
    (only,) = client(registry).search_model_versions("name = 'load'")
    assert found == {f"models:/load/{only.version}"}


def test_a_publication_that_was_cut_off_is_completed_by_the_next_and_nothing_is_there_twice(
    registry: Registry, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    def cut_off(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("cut off")

    for call in ("log_model_artifacts", "finalize_logged_model", "create_model_version", "set_registered_model_alias"):
        with monkeypatch.context() as patched, refused(OutputError, got=has("cut off")):
            patched.setattr(MlflowClient, call, cut_off)
            registry.publish(bundles["ridge"], to="mlflow", name="my load")
    assert registry.publish(bundles["ridge"], to="mlflow", name="my load") == "models:/my load/1"
    here = client(registry)
    assert len(here.search_model_versions()) == 1
    assert len(here.search_logged_models([each.experiment_id for each in here.search_experiments()])) == 1
    assert tsf.load_bundle("models:/my load@candidate").digest == Bundle.load(bundles["ridge"]).digest


@pytest.mark.parametrize("alias", ["a b", "a/b", "latest", "v3"])
def test_an_alias_that_mlflow_would_refuse_is_refused_before_there_is_a_version(
    registry: Registry, bundles: dict[str, Path], alias: str
) -> None:
    with refused(ConfigError, where="alias", got=alias):
        registry.publish(bundles["ridge"], to="mlflow", name="load", alias=alias)
    assert not client(registry).search_registered_models()
    with refused(ConfigError, where="publish.alias", got=alias):
        Publish("mlflow", alias=alias)


def test_the_words_of_old_stages_are_aliases_too(registry: Registry, bundles: dict[str, Path]) -> None:
    registry.publish(bundles["ridge"], to="mlflow", name="load", alias="Staging")
    registry.publish(bundles["ridge"], to="mlflow", name="load", alias="production")
    assert registry.aliases("load") == {"candidate": 1, "champion": 1}


def test_a_name_that_begins_like_the_id_of_a_logged_model_is_found(
    registry: Registry, bundles: dict[str, Path]
) -> None:
    exact = registry.publish(bundles["ridge"], to="mlflow", name="m-load")
    assert exact == registry.resolve("models:/m-load@candidate").exact == registry.resolve(exact).exact


def test_a_version_whose_files_are_lost_has_them_again_when_it_is_published_again(
    registry: Registry, bundles: dict[str, Path]
) -> None:
    exact = registry.publish(bundles["ridge"], to="mlflow", name="load")
    shutil.rmtree(registry.resolve(exact).path.parents[1])
    with refused(BundleError, where=exact):
        registry.resolve(exact)
    assert registry.publish(bundles["ridge"], to="mlflow", name="load") == exact
    assert tsf.load_bundle(exact).digest == Bundle.load(bundles["ridge"]).digest


def test_a_version_tells_what_it_is(full: Registry, bundles: dict[str, Path]) -> None:
    bundle = Bundle.load(bundles["ridge"])
    version = client(full).get_model_version("load", "1")
    assert version.tags[DIGEST] == bundle.digest
    assert version.tags["data.digest"] == bundle.provenance["data"]["digest"]
    assert version.tags["weights.digest"] == weights_digest(bundles["ridge"])
    assert version.tags["trained.until"] == bundle.metadata["chosen_until"]
    assert float(version.tags["test/mae"]) == bundle.metadata["scores"]["test/mae"]
    assert len(version.tags) < 25  # a page of versions shows each of them
    card = (bundles["ridge"] / "card.md").read_text(encoding="utf-8")
    assert version.description == card.partition("\n\n")[2]  # whose first line is what a list of versions shows
    assert version.description.startswith("Forecasts")
    full.tag("load", 1, "seen", "yes")
    assert client(full).get_model_version("load", "1").tags["seen"] == "yes"


def test_mlflow_loads_a_version_with_pickle_forbidden_and_forecasts_the_same(
    full: Registry, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", full.store.uri)
    model, bundle = mlflow.pyfunc.load_model("models:/load@champion"), Bundle.load(bundles["ridge"])
    history = pd.DataFrame((bundle.golden or {})["history"])
    pd.testing.assert_frame_equal(model.predict(history), bundle.forecast(history).to_frame())
    assert {*history} == {*model.metadata.get_input_schema().input_names()} == {*model.input_example}


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("models:/laod@champion", {"got": "laod", "allowed": ["load"], "fix": "did you mean load?"}),
        ("models:/load@champoin", {"what": has("no alias 'champoin'"), "allowed": has("models:/load@champion")}),
        ("models:/load@previous", {"what": has("no alias 'previous'"), "allowed": has("models:/load@candidate")}),
        ("models:/load/3", {"what": has("no version 3"), "allowed": has("models:/load/1", "models:/load/2")}),
        ("models:/load", {"what": has("which version"), "allowed": has("models:/load@champion", "models:/load/2")}),
        ("models:/load/champion", {"fix": "models:/load@champion"}),
        ("models:/load/1/model", {"what": has("no address"), "allowed": has("models:/NAME@ALIAS")}),
        ("models:/m-0123", {"where": "models:/m-0123", "got": has("m-0123")}),
        ("runs:/" + "a" * 32, {"where": "runs:/" + "a" * 32, "got": has("a" * 32)}),
        ("a" * 32, {"where": "a" * 32}),
        ("load:0123456789ab", {"got": "load:0123456789ab", "what": has("no such bundle")}),
    ],
)
def test_what_there_is_not_is_refused_with_those_there_are_and_nothing_stands_in_for_it(
    full: Registry, reference: str, parts: dict[str, Any]
) -> None:
    with refused(BundleError, **parts):
        tsf.load_bundle(reference)


def test_a_store_that_is_not_there_is_told_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with refused(BundleError, where="models:/load/1", got=f"sqlite:///{tmp_path}/mlflow.db"):
        Registry().resolve("models:/load/1")
    assert not list(tmp_path.iterdir())


def test_a_store_that_cannot_be_written_is_told_and_a_run_outlives_it(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_text("this is not a database" * 100)
    with refused(OutputError, where=str(bundles["ridge"]), what=has("mlflow.db"), got=has("not a database")):
        Registry(f"sqlite:///{tmp_path}/mlflow.db").publish(bundles["ridge"], to="mlflow")
    monkeypatch.chdir(bundles["ridge"].parent)
    assert Publish("mlflow", "my load", uri=f"sqlite:///{tmp_path}/mlflow.db")(bundles["ridge"]) is None
    assert "not published, `python -m tsforecast.publish bundle to=mlflow name='my load'` does it later" in caplog.text


def test_what_is_no_bundle_and_a_place_that_there_is_not_are_refused(registry: Registry, tmp_path: Path) -> None:
    with refused(BundleError, where=str(tmp_path / "none")):
        registry.publish(tmp_path / "none", to="mlflow", name="load")
    with refused(ConfigError, where="publish.to", got="mlfow", fix="did you mean publish.to=mlflow?"):
        Publish("mlfow")


@pytest.mark.parametrize("log_model", [True, False])
def test_a_version_is_linked_to_the_run_that_made_it_and_nothing_is_uploaded_twice(
    registry: Registry, tmp_path: Path, ett_dir: Path, log_model: bool
) -> None:
    tracked = (*ETT[:-1], "model=naive", f"tracking.log_model={str(log_model).lower()}", f"paths.data_dir={ett_dir}")
    tsf.train(*tracked, "publish=mlflow", "publish.name=load", out=tmp_path / "run")
    here = client(registry)
    (run,) = here.search_runs([each.experiment_id for each in here.search_experiments()])
    assert here.get_model_version("load", "1").run_id == run.info.run_id
    (model,) = run.outputs.model_outputs
    scores = {each.key: each.value for each in here.get_logged_model(model.model_id).metrics}
    assert scores["test/mae"] == run.data.metrics["test/mae"]
    assert len(here.get_metric_history(run.info.run_id, "test/mae")) == 1
    assert registry.publish(tmp_path / "run" / "bundle", to="mlflow", name="load") == "models:/load/1"
    digest = Bundle.load(tmp_path / "run" / "bundle").digest
    for reference in ("models:/load@candidate", f"runs:/{run.info.run_id}", f"runs:/{run.info.run_id}/model"):
        assert tsf.load_bundle(reference).digest == digest
    assert tsf.load_bundle(run.info.run_id).digest == digest
    assert registry.resolve(run.info.run_id).exact == f"runs:/{run.info.run_id}/model"
    with refused(BundleError, got=f"runs:/{run.info.run_id}/other", allowed=["model"]):
        tsf.load_bundle(f"runs:/{run.info.run_id}/other")


def test_without_mlflow_a_path_still_loads_and_an_address_says_what_to_install(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert tsf.load_bundle(bundles["ridge"]).path == bundles["ridge"]
    for asked in (lambda: tsf.load_bundle("models:/load@champion"), lambda: Publish("mlflow")):
        with refused(BundleError, fix=has("pip install mlflow")):
            asked()
