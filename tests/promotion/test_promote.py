"""Promotions in an MLflow registry: who becomes champion, what is recorded, and what the command says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.e2e.conftest import Run, fresh, run  # noqa: F401 (a fixture)
from tests.errors import has, has_parts, refused
from tests.promotion.conftest import Trained, biased

import tsforecast as tsf
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import BundleError, ConfigError
from tsforecast.files import lock
from tsforecast.promotion.decision import Decision
from tsforecast.registry import Registry
from tsforecast.result import Result
from tsforecast.tracking.registered import Models

BIAS = 0.085  # by which ridge is surely worse, by 2 % and a bit


@dataclass(frozen=True)
class Store:
    """A registry in a folder, with a model `load` of ridge (version 1) and what is published later."""

    folder: Path
    registry: Registry
    data: Path

    def publish(self, bundle: Bundle, alias: str = "candidate") -> int:
        place = self.folder / f"bundle-{len(list(self.folder.glob('bundle-*')))}"
        bundle.save(place)
        return int(self.registry.publish(place, to="mlflow", name="load", alias=alias).rpartition("/")[2])

    def promote(self, *words: str, **how: Any) -> Any:
        keys = (f"uri={self.registry.store.uri}", f"out={self.folder}/decisions", f"paths.data_dir={self.data}")
        return tsf.promote("model=load", *keys, *words, **how)

    @property
    def aliases(self) -> dict[str, int]:
        return dict(self.registry.aliases("load"))

    @property
    def records(self) -> list[dict[str, Any]]:
        files = (self.folder / "decisions").glob("*/decision.json")
        return sorted((json.loads(file.read_text()) for file in files), key=lambda record: record["at"])

    def tags(self, version: int) -> dict[str, str]:
        from mlflow.tracking import MlflowClient

        return dict(MlflowClient(self.registry.store.uri).get_model_version("load", str(version)).tags)


@pytest.fixture
def store(tmp_path: Path, tracking_database: Path, ett_dir: Path, ridge: Result) -> Store:
    shutil.copy(tracking_database, tmp_path / "mlflow.db")
    made = Store(tmp_path, Registry(f"sqlite:///{tmp_path}/mlflow.db"), ett_dir)
    made.publish(ridge.bundle)
    return made


def test_the_first_candidate_becomes_champion_and_the_next_better_one_takes_its_place(
    store: Store, ridge: Result
) -> None:
    store.publish(biased(ridge.bundle, BIAS))
    first = store.promote()
    assert first.done
    assert store.aliases == {"candidate": 2, "champion": 2}
    assert first.record["champion"] is None
    assert {"baseline", "coverage-90", "latency"} == {rule["rule"] for rule in first.record["rules"]}
    better = store.promote("from=1", "gate=strict", "gate.coverage=0.1")
    assert better.done
    assert store.aliases == {"candidate": 2, "champion": 1, "previous": 2}
    record = json.loads((better.folder / "decision.json").read_text())
    assert record == better.record
    assert record["state"] == "carried out"
    assert record["candidate"]["reference"] == "models:/load/1"
    assert record["candidate"]["digest"] == Bundle.load(store.folder / "bundle-0").digest
    assert record["champion"]["version"] == 2
    assert record["aliases"] == {"candidate": 2, "champion": 2}
    assert record["windows"]["count"] == ridge.metrics["test/windows"]
    assert record["scores"]["candidate"]["mase"] == ridge.metrics["test/mase"]
    assert record["data"]["digest"] == ridge.data.loaded.fingerprint
    assert record["by"]
    assert json.loads(store.tags(1)[f"tsforecast.decision.{better.id}"]) == record
    page = (better.folder / "decision.md").read_text()
    assert "models:/load/1 becomes champion" in page
    assert all(rule["said"] in page for rule in record["rules"])
    assert f"{record['scores']['champion']['mase']:.4f}" in page


def test_a_worse_one_is_refused_with_figures_unless_it_is_forced_with_a_reason(store: Store, ridge: Result) -> None:
    store.promote()
    worse = store.publish(biased(ridge.bundle, BIAS))
    decision = store.promote()
    assert not decision.done
    assert store.aliases == {"candidate": worse, "champion": 1}
    assert decision.record["state"] == "refused"
    assert has_parts(decision.refusal, what="models:/load/2 does not become champion")
    assert decision.refusal.got == has("metric: mase", "of the champion: +2.", "told apart as worse")
    assert store.records[-1] == decision.record
    assert json.loads(store.tags(worse)[f"tsforecast.decision.{decision.id}"])["state"] == "refused"
    with refused(ConfigError, what=has("needs a reason"), fix="--force reason='...'"):
        store.promote("force=true")
    assert store.aliases["champion"] == 1
    forced = store.promote("force=true", "reason='the old one has lost a sensor'")
    assert forced.done
    assert forced.record["forced"]
    assert not forced.record["passed"]
    assert store.aliases == {"candidate": worse, "champion": worse, "previous": 1}
    assert store.tags(worse)["tsforecast.forced"] == "the old one has lost a sensor"


def test_rollback_puts_back_what_was_champion_before_and_again(store: Store, ridge: Result) -> None:
    with refused(BundleError, what=has("no version before its champion"), got=["candidate: 1"]):
        store.promote("action=rollback")
    store.promote()
    store.publish(biased(ridge.bundle, 0.0, 0.001))
    assert store.promote().done
    assert store.aliases == {"candidate": 2, "champion": 2, "previous": 1}
    back = store.promote("action=rollback", "reason='alarms at night'")
    assert back.done
    assert store.aliases == {"candidate": 2, "champion": 1, "previous": 2}
    assert back.record["reason"] == "alarms at night"
    assert store.records[-1]["action"] == "rollback"
    store.promote("action=rollback")
    assert store.aliases == {"candidate": 2, "champion": 2, "previous": 1}


def test_names_and_versions_that_are_not_there_are_told_and_nothing_is_recorded(store: Store) -> None:
    with refused(BundleError, what=has("no alias 'staged'"), allowed=has("models:/load@candidate")):
        store.promote("from=staged")
    with refused(BundleError, what=has("no version"), allowed=has("models:/load/1")):
        store.promote("from=7")
    with refused(BundleError, got="lod", fix="did you mean load?"):
        tsf.promote("model=lod", f"uri={store.registry.store.uri}", f"out={store.folder}/decisions")
    with refused(ConfigError, where="gate.metric"):
        store.promote("gate.metric=mse")
    store.promote("from=staging", "to=production")
    assert store.aliases == {"candidate": 1, "champion": 1}
    with refused(ConfigError, what="version 1 is champion already"):
        store.promote()
    assert len(store.records) == 1


def test_another_horizon_is_refused_as_not_comparable_and_can_be_forced(store: Store, trained: Trained) -> None:
    store.promote()
    store.publish(trained("horizon=12", "quantiles=[]", "calibration=none").bundle)
    decision = store.promote()
    assert decision.refusal.got == has("comparable: candidate and champion cannot be compared", "other horizon")
    assert store.aliases["champion"] == 1
    assert store.promote("force=true", "reason='half a day is enough'").done
    assert store.aliases["champion"] == 2


def test_newer_rows_are_compared_on_and_only_those_that_no_bundle_has_seen(
    store: Store, ridge: Result, trained: Trained, tmp_path: Path
) -> None:
    store.promote()
    store.publish(trained("refit=all", "quantiles=[]", "calibration=none", "split.test=1500").bundle)
    decision = store.promote()
    assert decision.refusal.got == has("no test window is left", "+dataset.path=NEWER.csv")
    wide = ridge.data.panel.to_wide(time="date")
    later = wide.assign(date=wide["date"] + (wide["date"].iloc[-1] - wide["date"].iloc[0]))
    later.to_csv(tmp_path / "newer.csv", index=False)
    decision = store.promote(f"+dataset.path={tmp_path}/newer.csv")
    assert decision.record["windows"]["count"] == 1500 - 24 + 1  # by the split of the candidate
    assert decision.record["data"]["source"] == str(tmp_path / "newer.csv")
    frame = store.promote("action=promote", "from=1", "to=shadow", data=later, time="date", target=list(wide)[1:])
    assert frame.record["windows"]["count"] == ridge.metrics["test/windows"]
    assert store.aliases["shadow"] == 1


def test_a_candidate_with_another_covariate_is_compared_on_the_same_rows(store: Store, trained: Trained) -> None:
    store.promote()
    words = (
        "dataset.target=[HUFL,HULL,MUFL,MULL,LUFL,LULL]",
        "quantiles=[]",
        "calibration=none",
        "unused_covariates=ignore",
    )
    one, other = (trained(*words, *own) for own in ([], ["+dataset.past=[OT]"]))
    store.publish(one.bundle)
    store.promote("to=six")
    store.publish(other.bundle)
    ungated = store.promote("to=six", "gate=none")
    scores = ungated.record["scores"]
    assert f"{scores['candidate']['mae_raw']:.4f}" in str(ungated)  # no rule tells it
    assert scores["champion"]["mae_raw"] == pytest.approx(one.metrics["test/mae_raw"], rel=1e-9)
    assert scores["candidate"]["mae_raw"] == pytest.approx(other.metrics["test/mae_raw"], rel=1e-9)
    wide, names = one.data.panel.to_wide(time="ds").assign(OT=other.data.panel.past[:, 0]), list(one.bundle.channels)
    back = store.promote("to=six", "from=2", "gate=none", data=wide, time="ds", target=names)  # and no word of OT
    assert back.record["scores"]["champion"]["mae_raw"] == pytest.approx(other.metrics["test/mae_raw"], rel=1e-9)


def test_a_champion_that_moves_while_they_are_compared_is_not_overwritten(
    store: Store, ridge: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.promote()
    third = store.publish(biased(ridge.bundle, 0.0, 0.002), alias="other")
    store.publish(biased(ridge.bundle, 0.0, 0.001))
    from tsforecast.promotion import comparison

    scored = comparison.evaluate

    def moved(*args: Any, **how: Any) -> Any:  # somebody on another machine
        store.registry.point("load", "champion", third)
        return scored(*args, **how)

    monkeypatch.setattr(comparison, "evaluate", moved)
    decision = store.promote()
    assert not decision.done
    assert "champion was version 1 when they were compared, and is version 2 now" in str(decision.refusal)
    assert store.aliases == {"candidate": 3, "champion": third, "other": third}
    assert store.records[-1]["state"] == "refused"


@pytest.mark.parametrize(
    ("action", "died", "settled"),
    [
        (
            "promote",  # version 2 in the place of 1, before which 3 was champion
            [
                ("save", [], 1, 3),
                ("tag", ["decided"], 1, 3),
                ("point", ["decided"], 1, 3),
                ("point", ["decided"], 1, 1),
                ("tag", ["decided"], 2, 1),
                ("save", ["decided"], 2, 1),
            ],
            [([], 1, 3), *[(["cut off"], 1, 3)] * 3, *[(["carried out"], 2, 1)] * 2],
        ),
        (
            "rollback",
            [
                ("save", [], 1, 3),
                ("tag", ["decided"], 1, 3),
                ("point", ["decided"], 1, 3),
                ("point", ["decided"], 3, 3),
                ("tag", ["decided"], 3, 1),
                ("save", ["decided"], 3, 1),
            ],
            [([], 1, 3), *[(["cut off"], 1, 3)] * 2, *[(["carried out"], 3, 1)] * 3],
        ),
    ],
)
def test_whatever_step_a_process_dies_before_there_is_one_champion_and_the_next_command_makes_its_record_true(
    store: Store, ridge: Result, monkeypatch: pytest.MonkeyPatch, action: str, died: Any, settled: Any
) -> None:
    class Killed(BaseException):
        pass

    done: list[str] = []
    last = 0

    def dying(method: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any, **named: Any) -> Any:
            done.append(method.__name__)
            if len(done) == last:
                raise Killed
            return method(*given, **named)

        return step

    def found(place: Path) -> tuple[list[str], int, int]:
        states = [json.loads(file.read_text())["state"] for file in place.glob("*/decision.json")]
        return states, store.aliases["champion"], store.aliases["previous"]

    store.publish(biased(ridge.bundle, 0.0, 0.001))
    store.publish(biased(ridge.bundle, 0.0, 0.002))
    for owner, name in ((Decision, "save"), (Registry, "tag"), (Registry, "point")):
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    at_death, after = [], []
    for number in range(1, 7):
        done.clear()
        last = number
        Models.point(store.registry, "load", "champion", 1)
        Models.point(store.registry, "load", "previous", 3)
        place = store.folder / f"{number}"
        with pytest.raises(Killed):
            store.promote(f"action={action}", "from=2", "stride=48", f"out={place}")
        at_death.append((done[-1], *found(place)))
        last = 0
        with refused(BundleError, what=has("no version")):
            store.promote("from=7", f"out={place}")
        after.append(found(place))
        for file in place.glob("*/decision.json"):
            record, tags = json.loads(file.read_text()), store.tags(2 if action == "promote" else 3)
            assert json.loads(tags[f"tsforecast.decision.{file.parent.name}"]) == record
            assert f"**state**: {record['state']}" in file.with_suffix(".md").read_text()
    assert at_death == died
    assert after == settled


def test_the_record_of_another_store_and_one_whose_version_is_gone_hold_up_nothing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.promote()
    (file,) = (store.folder / "decisions").glob("*/decision.json")
    for name, change in {
        "elsewhere": {"store": "sqlite:////elsewhere.db"},
        "deleted": {"candidate": {"reference": "models:/load/9", "version": 9}},
    }.items():
        (file.parents[1] / name).mkdir()
        record = {**json.loads(file.read_text()), "state": "decided", **change}
        (file.parents[1] / name / "decision.json").write_text(json.dumps(record))
    with refused(BundleError, what=has("no version before")):
        store.promote("action=rollback")
    assert [record["state"] for record in store.records].count("decided") == 2
    assert "decisions/deleted stays as it is" in caplog.text
    assert "elsewhere" not in caplog.text


def test_the_lock_lies_beside_the_database_wherever_temporary_files_go(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with refused(BundleError, what=has("no version before")):
        store.promote("action=rollback")
    (found,) = tmp_path.glob(".tsforecast-*.lock")
    with found.open() as held:
        assert lock(held)
        thread = Thread(target=lambda: store.promote("from=1", "stride=48"))
        thread.start()
        thread.join(1)
        assert "champion" not in store.aliases
    thread.join(60)
    assert store.aliases["champion"] == 1


def test_the_command_shows_the_decision_and_ends_with_what_failed(store: Store, ridge: Result, run: Run) -> None:  # noqa: F811
    data = f"paths.data_dir={store.data}"
    done = run(store.folder, "promote", "model=load", data)
    assert done.returncode == 0, done.stderr
    assert "models:/load/1 becomes champion" in done.stdout
    assert "pass  baseline: mase" in done.stdout
    assert "there was no champion to compare with" in done.stdout
    assert "TSFORECAST_BUNDLE=models:/load@champion bentoml serve" in done.stdout
    assert "promote rollback" not in done.stdout  # there is nothing to go back to
    store.publish(biased(ridge.bundle, BIAS))
    done = run(store.folder, "promote", "model=load", data)
    assert done.returncode == 1
    assert "FAIL  metric: mase" in done.stdout
    assert "Error: models:/load/2 does not become champion" in done.stderr
    assert run(store.folder, "promote", "model=load", data, "--force").error == has("needs a reason")
    done = run(store.folder, "promote", "model=load", data, "--force", "reason=because it is")
    assert done.returncode == 0, done.stderr
    assert "python -m tsforecast.promote rollback model=load\n" in done.stdout
    assert run(store.folder, "promote", "rollback", "model=load").returncode == 0
    assert store.aliases == {"candidate": 2, "champion": 1, "previous": 2}
    assert len(list((store.folder / "outputs/promotions").glob("load-*/decision.md"))) == 4


def test_a_user_without_a_name_as_in_a_container_can_promote(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any) -> Any:
        raise KeyError("getpwuid(): uid not found")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert store.promote("stride=48").record["by"] == f"user {os.getuid()}"
