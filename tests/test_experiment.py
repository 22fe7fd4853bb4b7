"""One experiment is one call, from the command line and from Python: same numbers, same errors, no files unasked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tsforecast as tsf
from tests.errors import has, refused
from tsforecast.config.compose import compose
from tsforecast.config.experiment import experiment
from tsforecast.config.job import Job
from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.data.sources import FrameSource, Loaded
from tsforecast.data.splits import Borders
from tsforecast.errors import BundleError, ConfigError, DataError, OutputError
from tsforecast.experiment import Experiment, run_experiment
from tsforecast.models.linear import Ridge
from tsforecast.result import Result
from tsforecast.training.calibrate import Conformal, Errors
from tsforecast.training.crossfit import cutoffs
from tsforecast.training.prepare import trained_on

SMALL = ("lookback=24", "horizon=4", "tracking=none", "report=none")
NETWORK = ("model=dlinear", "trainer.enable_progress_bar=false", "trainer.max_epochs=4", "model.patience=9")


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    time = pd.date_range("2024-01-01", periods=600, freq="h")
    wave = np.sin(np.arange(600) / 24 * 2 * np.pi)
    return pd.DataFrame({"date": time, "load": wave + 0.1 * rng.standard_normal(600), "b": rng.standard_normal(600)})


def small(frame: pd.DataFrame, *overrides: str) -> Experiment:
    cfg, chosen = compose("train", ["dataset=wide", "dataset.path=memory", *SMALL, *overrides])
    return experiment(Job(cfg, chosen, source=FrameSource(frame, Schema(target=["load"]))))


@pytest.mark.parametrize("model", ["ridge", "nlinear"])
def test_python_and_the_command_give_the_same_bits(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    frame.to_csv("x.csv", index=False)
    own = (f"model={model}", "dataset.target=[load]", "trainer.enable_progress_bar=false", *SMALL)
    of_a_file = tsf.train("dataset=wide", "dataset.path=x.csv", *own, out="run")
    before = set(tmp_path.iterdir())
    in_memory = tsf.train(f"model={model}", *own[2:], data=pd.read_csv("x.csv"), target=["load"])
    assert set(tmp_path.iterdir()) == before
    assert of_a_file.scores.equals(in_memory.scores)
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["test/mse"] == in_memory.metrics["test/mse"]
    saved = tsf.load_bundle("run/bundle").forecast(frame.drop(columns="b"))
    np.testing.assert_array_equal(saved.values, in_memory.bundle.forecast(frame.drop(columns="b")).values)


def test_sizes_may_all_be_left_to_the_data(frame: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        found = [tsf.train("model=seasonal_naive", f"season={each}", data=frame) for each in ("auto", "null", 24)]
    assert len({each.metrics["test/mase"] for each in found}) == 1
    assert {each.data.dims.season for each in found} == {24}
    assert "for rows of freq 'h', season 24, 600 in the series" in caplog.text


def test_a_run_from_python_tells_its_scores_and_draws_its_forecast(frame: pd.DataFrame) -> None:
    run = tsf.train("model=ridge", *SMALL, data=frame, time="date", target=["load"])
    assert list(run.scores.index) == ["ridge", "naive", "seasonal_naive"]
    assert run.scores.loc["ridge", "mase"] == run.metrics["test/mase"]
    assert run.plot().axes
    assert "the MAE of ridge is" in run.table()
    assert repr(run) == f"{run.experiment.name}\n\n{run.table()}"
    assert repr(run.forecast()).splitlines()[1:] == repr(run.forecast().to_frame()).splitlines()
    assert len(repr(run.bundle).splitlines()) == 1


def test_the_arguments_of_python_are_checked_as_the_command_lines(frame: pd.DataFrame) -> None:
    with pytest.raises(ConfigError) as caught:
        tsf.train("modle=ridge", data=frame)
    assert caught.value.fix == "did you mean model?"
    with pytest.raises(ConfigError) as caught:
        tsf.train(*SMALL, data=frame, tme="date")
    assert caught.value.where == "dataset"
    assert "dataset.time" in str(caught.value.fix)
    with refused(DataError, where="the frame", what=has("'laod' is missing", "'load'")):
        tsf.train(*SMALL, data=frame, target=["laod"])
    with refused(DataError, where="data", got="list"):
        tsf.train(*SMALL, data=[1, 2, 3])


def test_where_a_frame_has_its_time_in_the_index_the_fix_names_the_index(frame: pd.DataFrame) -> None:
    for name, told in (("moment", "there are moment, load"), (None, "and an index without a name")):
        with refused(DataError, what=has("problem"), fix=has(told)):
            tsf.train("model=ridge", *SMALL, data=frame.set_index("date").rename_axis(name), target=["load"])
    with refused(DataError, what=has("problem"), fix=has("there are load")) as caught:
        tsf.train("model=ridge", *SMALL, data=frame.drop(columns="date"), target=["load"])
    assert "index" not in str(caught.value.fix)


def test_a_directory_that_is_taken_is_told_before_anything_is_read(frame: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(OutputError) as caught:
        tsf.train(*SMALL, data=[1, 2, 3], out=tmp_path)
    assert caught.value.where == "out"


def test_what_is_printed_after_a_frame_in_memory_names_no_file_that_is_not_there(
    frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tsf.train("model=ridge", *SMALL, data=frame, target=["load"], out=tmp_path / "run")
    said = capsys.readouterr().out
    assert "input=HISTORY.csv" in said
    assert "evaluate" not in said
    with pytest.raises(BundleError) as caught:
        trained_on(tsf.load_bundle(tmp_path / "run" / "bundle"), "dataset", {}, "data")
    assert caught.value.where == "dataset.path"


def test_what_a_model_without_a_trainer_does_not_read_is_told_from_python_too(
    frame: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    tsf.train("model=ridge", *SMALL, "trainer.max_epochs=3", "callbacks=[timer]", data=frame, target=["load"])
    told = [record.message for record in caplog.records if "without effect" in record.message]
    assert told == ["Model ridge has no trainer, so without effect: trainer.max_epochs, callbacks"]


def test_a_long_frame_has_ids(frame: pd.DataFrame) -> None:
    long = pd.concat([frame.assign(shop=name) for name in ("01", "1")])
    run = tsf.train("model=naive", *SMALL, data=long, id="shop", time="date", target=["load"])
    assert list(run.bundle.features.ids) == ["01", "1"]


def test_any_table_with_the_arrow_interface_is_a_frame(frame: pd.DataFrame) -> None:
    import pyarrow

    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    runs = [tsf.train("model=ridge", *SMALL, data=each, target=["load"]) for each in (frame, table)]
    assert runs[0].scores.equals(runs[1].scores)
    ahead = [runs[0].bundle.forecast(each) for each in (frame, table)]
    np.testing.assert_array_equal(ahead[0].values, ahead[1].values)


def test_scoring_can_be_limited_and_windows_keep_to_their_part(frame: pd.DataFrame) -> None:
    planned = small(frame, "model=ridge")
    both, val = run_experiment(planned), run_experiment(planned, parts=("val",))
    assert set(val.parts) == {"val"}
    assert not val.parts["val"].rivals
    assert val.metrics["val/mse"] == both.metrics["val/mse"]
    assert both.bundle.golden
    assert val.bundle.golden is None  # nobody saves what was not tested
    assert not any(name.startswith(("test", "baseline")) for name in val.metrics)


def test_another_split_of_the_same_experiment_leaves_the_first_as_it_was(frame: pd.DataFrame) -> None:
    from tsforecast.data.splits import RowSplit

    planned = small(frame, "model=ridge")
    first = run_experiment(planned)
    other = run_experiment(replace(planned, split=RowSplit(train=200, val=100, test=100)))
    assert other.metrics["test/mse"] != first.metrics["test/mse"]
    assert run_experiment(planned).metrics["test/mse"] == first.metrics["test/mse"]


def test_what_is_no_split_is_told_before_anything_is_read(frame: pd.DataFrame) -> None:
    with refused(ConfigError, where="split", got="dict", allowed=has("tsforecast.data.splits.Split")):
        small(frame, "model=ridge", "split._target_=builtins.dict")


def test_a_listener_hears_every_epoch_and_may_end_the_fit(frame: pd.DataFrame, tmp_path: Path) -> None:
    seen: list[Mapping[str, float]] = []

    class Listener:
        def epoch(self, record: Mapping[str, float]) -> bool:
            seen.append(record)
            return record["epoch"] >= 1

        def update(self, result: Result) -> None:
            seen.append({"parts": len(result.parts)})

    result = run_experiment(small(frame, *NETWORK), on=Listener())
    assert [record["epoch"] for record in seen if "epoch" in record] == [0, 1]
    assert result.fitted.history == [record for record in seen if "epoch" in record]
    assert [record["parts"] for record in seen if "parts" in record] == [0, 0, 1, 2, 2]
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class Store:
    """A store of one's own: no other file is touched."""

    rows: list[tuple[str, float]]

    def load(self, *, for_training: bool = True) -> Loaded:
        frame = pd.DataFrame(self.rows, columns=["date", "y"])
        schema = Schema(target=["y"])
        return Loaded(to_panel(frame, schema, for_training=for_training), schema, "mine", "digest", "here")


def test_a_store_of_ones_own_is_a_class_with_a_load(frame: pd.DataFrame) -> None:
    rows = list(zip(frame["date"].astype(str), frame["load"], strict=True))
    result = run_experiment(replace(small(frame, "model=ridge"), source=Store(rows)))
    assert result.bundle.provenance["data"]["name"] == "mine"
    assert result.metrics["test/mse"] > 0


def test_refit_on_all_rows_keeps_the_scores_and_says_what_they_are_of(frame: pd.DataFrame) -> None:
    scored, refitted = (run_experiment(small(frame, "model=ridge", f"refit={which}")) for which in ("none", "all"))
    assert scored.metrics.keys() == refitted.metrics.keys()
    assert all(scored.metrics[name] == refitted.metrics[name] for name in scored.metrics if "time/" not in name)
    about = refitted.bundle.metadata
    assert about["chosen_until"] == str(frame["date"].iloc[-1])
    assert about["refit"]["scored_until"] == scored.bundle.metadata["chosen_until"]
    assert about["scores"]["test/mae"] == scored.metrics["test/mae"]
    every = replace(
        small(frame, "model=ridge", "split=dates", "split.val_start=2024-01-20", "split.test_start=2024-01-22")
    )
    whole = every.prepare()
    first, end = whole.panel.offsets[:-1], whole.panel.offsets[1:]
    train = whole.fitted_on(Borders(first, end, end, end)).windows("train")
    by_hand = Ridge([scored.fitted.chosen["lambda"]]).fit(train, train, whole.dims)
    np.testing.assert_array_equal(
        refitted.bundle.forecaster.predict(train.window(slice(5))), by_hand.predict(train.window(slice(5)))
    )


def test_intervals_after_a_refit_are_of_the_errors_on_unseen_rows(frame: pd.DataFrame) -> None:
    refitted = run_experiment(small(frame, "model=ridge", "refit=all", "quantiles=[0.1,0.5,0.9]"))
    scored = run_experiment(small(frame, "model=ridge", "quantiles=[0.1,0.5,0.9]"))
    errors = Errors.joined(Errors.of(scored.bundle, scored.data.windows(part)) for part in ("cal", "test"))
    wanted = Conformal()(scored.bundle, errors, (0.1, 0.5, 0.9))
    np.testing.assert_array_equal(refitted.bundle.offsets, wanted.offsets)
    assert repr(refitted.bundle.spread) == repr(wanted.spread)


@pytest.mark.parametrize("rows", [48, 500])
def test_a_short_series_has_intervals_from_earlier_cutoffs_that_see_no_later_row(rows: int) -> None:
    time, rng = pd.date_range("2020-01-01", periods=rows, freq="MS"), np.random.default_rng(3)
    short = pd.DataFrame({"date": time, "load": 10 + np.sin(np.arange(rows) / 2) + rng.standard_normal(rows)})
    own = ("model=ridge", "lookback=12", "horizon=6", "feature=[]")
    run = tsf.train(*own, data=short)
    assert run.data.borders.calibration == (0 if rows == 48 else 0.5)
    forecast = run.bundle.forecast(short)
    assert forecast.quantiles is not None
    assert (np.diff(forecast.quantiles, axis=-1) > 0).all()
    until = int(run.data.borders.val_end[0])
    poisoned = short.assign(load=short["load"].where(np.arange(rows) < until, 1e3))
    np.testing.assert_array_equal(tsf.train(*own, data=poisoned).bundle.offsets, run.bundle.offsets)


def test_the_shortest_series_of_a_panel_does_not_say_how_many_cutoffs_the_errors_of_all_come_from() -> None:
    rng, lengths = np.random.default_rng(3), [34, *[90] * 6, 120]
    stamps = pd.date_range("2020-01-01", periods=120, freq="MS")
    long = pd.concat(
        pd.DataFrame({"unique_id": f"s{i}", "ds": stamps[-rows:], "y": rng.standard_normal(rows)})
        for i, rows in enumerate(lengths)
    )
    own = ("model=ridge", "lookback=12", "horizon=3", "feature=[]", "split=tail", "split.val=3", "split.test=3")
    run = tsf.train(*own, data=long, id="unique_id", time="ds", target=["y"])
    rows = run.data.panel.rows(run.data.borders.begin, run.data.borders.val_end)
    found = cutoffs(rows, 12, 3)
    assert len(found) == 20
    assert run.bundle.metadata["calibration"] == sum(len(panel) for panel, _ in found)
    behind = [rows.lengths.max() - (borders.val_end - borders.begin).max() for _, borders in found]
    assert behind == sorted(behind, reverse=True)
    assert (behind[-1], behind[0]) == (3, 3 + 87 // 3 - 1), "from the last third of the median series to its end"
    for panel, borders in found:
        fits = rows.lengths >= 12 + 3 + 120 - 3 - int((borders.val_end - borders.begin).max())
        assert [*panel.ids] == [*rows.ids[fits]], "each series with a window before the cutoff"
        assert (borders.train_end == borders.val_end).all()
        assert (borders.test_end == borders.val_end + 3).all()
    assert {len(panel) for panel, _ in found} == {7, 8}


def test_a_series_without_a_value_before_an_earlier_cutoff_is_not_judged_there() -> None:
    stamps, rng = pd.date_range("2020-01-01", periods=60, freq="MS"), np.random.default_rng(3)
    parts = [pd.DataFrame({"unique_id": f"s{i}", "ds": stamps, "y": 1000 + rng.standard_normal(60)}) for i in range(8)]
    parts[-1].loc[:46, "y"] = np.nan  # opened late, and its rows are there all the same
    words = ("model=ridge", "lookback=6", "horizon=3", "feature=[]", "split=tail", "split.val=3", "split.test=3")
    run = tsf.train(*words, data=pd.concat(parts), id="unique_id", time="ds", target=["y"])
    rows = run.data.panel.rows(run.data.borders.begin, run.data.borders.val_end)
    found = cutoffs(rows, 6, 3)
    for panel, borders in found:
        known = panel.rows(borders.begin, borders.train_end)
        assert not any(np.isnan(known.target[a:b]).all() for a, b in pairwise(known.offsets))
    assert {len(panel) for panel, _ in found} == {7, 8}


def test_a_series_too_short_for_some_interval_has_the_others_and_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    time = pd.date_range("2020-01-01", periods=40, freq="MS")
    short = pd.DataFrame({"date": time, "load": np.random.default_rng(3).standard_normal(40)})
    own = ("model=ridge", "feature=[]", "horizon=2")
    some = tsf.train(*own, "lookback=10", data=short[:28]).bundle
    assert [*some.intervals] == ["80"]
    assert "too few rows for all quantiles: 14 errors, and the outermost needs 19" in caplog.text
    none = tsf.train(*own, "lookback=12", data=short[:20]).bundle
    assert none.forecast(short[:20]).quantiles is None


@pytest.mark.parametrize("refit", ["none", "all"])
def test_a_bundle_knows_how_far_the_scored_forecasts_were_off_and_how_its_own_rows_are_spread(
    frame: pd.DataFrame, tmp_path: Path, refit: str
) -> None:
    own = ("model=ridge", f"refit={refit}", "quantiles=[0.1,0.5,0.9]")
    first, again = (run_experiment(small(frame, *own)) for _ in range(2))
    assert first.experiment.prepare().dims.season == 24
    known, scores = first.bundle.reference, first.parts["test"].scores["ridge"]
    assert known["mae"].mean() == pytest.approx(first.metrics["test/mae_raw"], rel=1e-5), "four steps are four quarters"
    np.testing.assert_allclose(known["coverage"][0], scores.by_step()["coverage-80"], rtol=1e-6)
    assert known["mase"][0] <= first.metrics["test/mase"] <= known["mase"][2]
    assert known["covered"][0, 0] <= first.metrics["test/coverage-80"] <= known["covered"][0, 2]
    borders, panel = first.data.borders, first.data.panel
    rows = frame["load"] if refit == "all" else panel.rows(borders.begin, borders.test_end).target[:, 0]
    assert known["center"][0, 0] == pytest.approx(rows.mean(), rel=1e-4, abs=1e-6)
    assert known["scale"][0, 0] == pytest.approx(np.std(rows), rel=1e-4)
    assert [*known] == [*again.bundle.reference]
    saved = first.bundle.save(tmp_path / "bundle")
    for name, each in again.bundle.reference.items():
        np.testing.assert_array_equal(each, saved.reference[name], err_msg=name)
