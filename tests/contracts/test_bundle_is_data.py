"""Whatever stands in whichever string of a bundle: nothing runs, and nothing outside it is opened or fetched."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import sys
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.errors import has, refused
from tests.serving.conftest import frame, trained
from tsforecast import load_bundle
from tsforecast.bundle.bundle import Bundle
from tsforecast.config.compose import compose
from tsforecast.config.job import MARK, Job
from tsforecast.config.recorded import going_on, recompose
from tsforecast.data.schema import Schema
from tsforecast.data.sources import read_frame
from tsforecast.errors import BundleError, DataError, TsforecastError
from tsforecast.serving.engine import Engine
from tsforecast.training.prepare import trained_on

FILES = ("bundle.json", "metadata.json", "provenance.json", "golden.json", "manifest.json")
TARGETS = (
    "pandas.read_pickle", "os.system", "builtins.eval", "tsforecast.train.train", "tsforecast.windows.Windows",
    "tsforecast.serving.service.Forecaster", "tsforecast.features.base.np.load", "tsforecast", "", "..",
)  # fmt: skip
STARTS = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "urllib.", "ctypes.dlopen")
watched: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if watched is not None and event == "open" and isinstance(arguments[0], str | bytes):
        watched.append(str(arguments[0]))
    elif watched is not None and event.startswith(STARTS):
        watched.append(event)


sys.addaudithook(_audit)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With the metadata that train writes, in a folder `work` beside which others lie."""
    place = tmp_path_factory.mktemp("data") / "work"
    place.mkdir()
    frame().to_csv(place / "own.csv", index=False)
    frame().to_csv(place.parent / "other.csv", index=False)
    (place.parent / "bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    config = {
        "dataset": {
            "_target_": "tsforecast.data.sources.Dataset", "path": "own.csv", "time": "date",
            "target": ["load", "visits"], "freq": "h", "timezone": "naive", "gaps": "error", "name": "own",
            "static_path": None, "url": "http://127.0.0.1:9/own.csv",
            "sha256": hashlib.sha256((place / "own.csv").read_bytes()).hexdigest(),
        },
        "split": {
            "_target_": "tsforecast.data.splits.DateSplit", "val_start": "2024-01-04", "test_start": "2024-01-05",
        },
        "model": {"_target_": "tsforecast.models.linear.Ridge"},
    }  # fmt: skip
    about = {"name": "own-ridge", "scores": {"test/mse": 1.0}, "chosen_until": "2024-01-05 00:00:00"}
    origin = {"data": {"name": "own", "digest": "0", "source": "own.csv", "rows": 150}, "config": config}
    made = trained(frame(), Schema(freq="h", timezone="naive"), place / "first")
    return replace(made, metadata=about, provenance=origin).save(place / "bundle")


def read(path: Path) -> None:
    """All that commands, servers and Python do with a bundle."""
    with suppress(TsforecastError):
        bundle = load_bundle(path)
        for use in (
            lambda: bundle.forecast(read_frame("own.csv", bundle.schema)),
            lambda: Engine(bundle).checked().describe(),
            lambda: trained_on(bundle, "split", {}, "data")(bundle.panel(frame()), 24, 6),
            lambda: bundle.panel(trained_on(bundle, "dataset", {}, "data").load().panel),
        ):
            with suppress(TsforecastError):
                use()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the strings of a JSON value are; of a long list the first three."""
    if isinstance(value, str):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, each in items:
        yield from places(each, (*path, key))


def forged(bundle: Bundle, name: str, change: Callable[[Any], None], folder: Path) -> Path:
    """A copy in which one JSON file is another, with a manifest that says so."""
    place = Path(shutil.copytree(Path(str(bundle.path)), folder, dirs_exist_ok=True))
    body = json.loads((place / name).read_text())
    change(body)
    (place / name).write_text(json.dumps(body))
    if name != "manifest.json":
        manifest = json.loads((place / "manifest.json").read_text())
        manifest[name] = hashlib.sha256((place / name).read_bytes()).hexdigest()
        (place / "manifest.json").write_text(json.dumps(manifest))
    return place


def put(place: tuple[Any, ...], value: Any) -> Callable[[Any], None]:
    def change(body: Any) -> None:
        for key in place[:-1]:
            body = body[key]
        body[place[-1]] = value

    return change


@pytest.mark.parametrize("name", FILES)
def test_whatever_is_planted_in_a_string_of_a_bundle_nothing_runs_and_nothing_else_is_read(
    bundle: Bundle, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    global watched
    work = Path(str(bundle.path)).parent
    monkeypatch.chdir(work)
    bomb, other = work.parent / "bomb.pkl", work.parent / "other.csv"
    values: list[Any] = [
        {"_target_": "pandas.read_pickle", "filepath_or_buffer": str(bomb)},
        str(other), "../other.csv", "http://127.0.0.1:9/x.csv", f"dateutil/{other}", "\\\\host\\share\\x.csv",
    ]  # fmt: skip
    read(Path(str(bundle.path)))  # whole, it is read; and what is imported then is not looked at later
    inside = (str(work), sys.prefix, sys.base_prefix, *zoneinfo.TZPATH, str(Path(np.__file__).parents[1]))
    source = str(Path(__file__).parents[2] / "src")
    for place in places(json.loads((Path(str(bundle.path)) / name).read_text())):
        for value in TARGETS if place[-1] == "_target_" else values:
            path = forged(bundle, name, put(place, value), work / "forged")
            watched = []
            try:
                read(path)
            finally:
                seen, watched = watched, None
            strange = [each for each in seen if not each.startswith((*inside, source)) and Path(each).name != "own.csv"]
            assert not strange, (place, value)
            assert not (work / "ran").exists(), (place, value)


@pytest.mark.parametrize("part", ["dataset", "split"])
@pytest.mark.parametrize("target", TARGETS)
def test_evaluate_builds_nothing_but_the_data_and_the_splits_of_this_package(
    bundle: Bundle, tmp_path: Path, part: str, target: str
) -> None:
    path = forged(bundle, "provenance.json", put(("config", part, "_target_"), target), tmp_path / "b")
    with pytest.raises(BundleError) as error:
        trained_on(load_bundle(path), part, {}, "data")
    assert error.value.where == "provenance.json"


@pytest.mark.parametrize("key", ["path", "static_path"])
def test_a_path_outside_is_followed_only_when_the_caller_names_it(
    bundle: Bundle, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in (str(tmp_path / "x.csv"), "../x.csv", "https://host/x.csv"):
        path = forged(bundle, "provenance.json", put(("config", "dataset", key), value), tmp_path / "b")
        with pytest.raises(BundleError) as error:
            trained_on(load_bundle(path), "dataset", {}, "data")
        assert f"+dataset.{key}={value}" in str(error.value.fix)
        assert getattr(trained_on(load_bundle(path), "dataset", {key: value}, "data"), key) == value


def test_nothing_is_downloaded_from_an_address_that_a_bundle_states(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = forged(bundle, "provenance.json", put(("config", "dataset", "path"), "gone.csv"), tmp_path / "b")
    with refused(DataError, where="gone.csv", got=has("no url")):
        trained_on(load_bundle(path), "dataset", {}, "data").load()
    address = {"url": "http://127.0.0.1:9/x.csv"}
    with refused(DataError, where="gone.csv", got=has("Connection")):
        trained_on(load_bundle(path), "dataset", address, "data").load()


def test_rows_that_the_caller_names_need_not_have_the_digest_of_those_of_training(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(str(bundle.path)).parent)
    frame()[:-1].to_csv("newer.csv", index=False)
    assert len(trained_on(bundle, "dataset", {"path": "newer.csv"}, "data").load().panel.time) == len(frame()) - 1
    frame()[:-1].to_csv("own.csv", index=False)
    with refused(DataError, where="own.csv", got=has("sha256")):
        trained_on(bundle, "dataset", {}, "data").load()
    frame().to_csv("own.csv", index=False)


@pytest.mark.parametrize("spec", ["tsforecast.features.base.FeatureSet", "tsforecast.features.scaling.NoScaler"])
def test_what_is_no_feature_is_refused_as_one(bundle: Bundle, tmp_path: Path, spec: str) -> None:
    path = forged(bundle, "bundle.json", put(("features",), [{"_target_": spec}]), tmp_path / "b")
    with refused(BundleError, where="bundle.json", allowed="Feature"):
        load_bundle(path)


def origin_of(config: Any) -> dict[str, Any]:
    """What a run of this configuration says of itself."""
    return {"config": config, "overrides": [], "choices": {}, "data": {}, "host": {}, "git": None}


@cache
def _recorded(*overrides: str, dataset: str) -> Any:
    cfg, _ = compose("train", [f"dataset={dataset}", "dataset.path=own.csv", *overrides])
    return OmegaConf.to_container(cfg, resolve=True)


def recorded(*overrides: str, dataset: str = "wide") -> Any:
    """The configuration that a run keeps: a copy, to be forged."""
    return deepcopy(_recorded(*overrides, dataset=dataset))


@pytest.mark.parametrize("target", [*TARGETS, "lightning.pytorch.callbacks.ModelCheckpoint"])
@pytest.mark.parametrize("place", ["model", "trainer", "callbacks.own", "evaluation.baselines.naive", "dataset"])
def test_a_rerun_builds_nothing_that_no_file_of_the_caller_names(place: str, target: str, tmp_path: Path) -> None:
    config = recorded("+callbacks.own=null")
    put(tuple(place.split(".")), {"_target_": target})(config)
    with refused(BundleError, where=f"provenance.json: .{place}._target_", got=target):
        recompose(origin_of(config), tmp_path, {})


@pytest.mark.parametrize(("key", "value"), [("model", {"_target_": "os.system"}), ("name", "${oc.env:HOME}")])
def test_a_run_that_goes_on_builds_and_looks_up_nothing_that_no_file_of_the_caller_names(
    key: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job(*compose("train", ["dataset=wide", "dataset.path=x.csv"]), out=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), job.at_work():
        raise KeyboardInterrupt
    assert going_on(tmp_path / "run").cfg == job.cfg
    mark = tmp_path / "run" / MARK
    about = json.loads(mark.read_text())
    about["config"][key] = value
    mark.write_text(json.dumps(about))
    with refused(BundleError, where=has(f"{MARK}: .{key}"), got=value if isinstance(value, str) else "os.system"):
        going_on(tmp_path / "run")


def test_what_a_run_names_may_be_built_once_the_caller_allows_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = origin_of(recorded() | {"model": {"_target_": "mine.Net", "width": 3}})
    with refused(BundleError, where="provenance.json: .model._target_", fix=has("TSFORECAST_ALLOW=mine")):
        recompose(origin, tmp_path, {})
    monkeypatch.setenv("TSFORECAST_ALLOW", "mine")
    assert recompose(origin, tmp_path, {})[0].model == {"_target_": "mine.Net", "width": 3}


@pytest.mark.parametrize(
    "text", ["${oc.env:HOME}", "x${paths.data_dir}${oc.env:HOME}", "${oc.env:${paths.root_dir}}", "${"]
)
def test_a_rerun_looks_nothing_up_that_a_run_names(text: str, tmp_path: Path) -> None:
    config = recorded()
    config["callbacks"] = {"own": [{"text": text}]}
    with refused(BundleError, where="provenance.json: .callbacks.own.0.text", got=text):
        recompose(origin_of(config), tmp_path, {})


def test_a_rerun_downloads_only_from_an_address_that_the_callers_files_state(tmp_path: Path) -> None:
    config = recorded(dataset="etth1")
    known = config["dataset"]["url"]
    assert recompose(origin_of(config), tmp_path, {})[0].dataset.url == known
    config["dataset"]["url"] = "http://127.0.0.1:9/ETTh1.csv"
    assert "url" not in recompose(origin_of(config), tmp_path, {})[0].dataset


def test_where_a_rerun_tracks_reports_and_publishes_is_not_what_the_run_says(tmp_path: Path) -> None:
    config = recorded()
    for key in ("tracking", "report", "publish", "paths"):
        config[key] = {"_target_": "os.system", "command": "touch ran"}
    found, _ = recompose(origin_of(config), tmp_path, {}, ["tracking=none"])
    assert found.tracking._target_ == "tsforecast.tracking.runs.NoTracker"
    assert "os.system" not in OmegaConf.to_yaml(found)
