"""Categories: by label, fitted on train rows, one-hot for linear models; windows scaled by themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tests.errors import refused

from tsforecast.data.frames import read_known_future, to_panel
from tsforecast.data.panel import Panel
from tsforecast.data.schema import Schema
from tsforecast.errors import ConfigError, DataError
from tsforecast.features.base import FeatureSet
from tsforecast.features.categorical import one_hot
from tsforecast.features.scaling import StandardScaler
from tsforecast.models.design import design, design_size
from tsforecast.models.linear import Ridge
from tsforecast.windows import Windows

SCHEMA = Schema(
    id="unique_id", known=["promo", "event"], static=["category", "size"], categorical=["event", "category"]
)
SALES = pd.read_parquet(Path(__file__).parents[2] / "data" / "panel.parquet")
FRAME = SALES[(SALES.unique_id < "item-0005") & (SALES.ds >= "2024-07-15")].reset_index(drop=True)


def panel(frame: pd.DataFrame = FRAME) -> Panel:
    return to_panel(frame, SCHEMA)


def windows(panel: Panel, features: FeatureSet, lookback: int = 14, horizon: int = 7) -> Windows:
    encoded = features.encode(panel)
    begin, end = panel.offsets[:-1], panel.offsets[1:]
    return Windows.over(encoded, lookback=lookback, horizon=horizon, begin=begin, end=end)


def test_categories_come_back_as_they_went_in() -> None:
    back = panel().to_frame()
    assert back["event"].tolist() == FRAME["event"].tolist()
    assert back["category"].tolist() == FRAME["category"].tolist()


def test_a_number_a_text_and_a_missing_cell_are_categories_too() -> None:
    codes = pd.Series([1.0, 2.0, np.nan] * 400)[: len(FRAME)]
    found = panel(FRAME.assign(event=codes))
    assert found.categories["event"] == ("1", "2", "missing")
    as_text = panel(FRAME.assign(event=codes.map({1.0: "1", 2.0: "2"})))
    np.testing.assert_array_equal(found.known, as_text.known)


def test_codes_do_not_depend_on_the_order_or_the_choice_of_rows() -> None:
    whole, some = panel(), panel(FRAME[FRAME.unique_id >= "item-0003"])
    features = FeatureSet().fit(whole)
    encoded, part = features.encode(whole), features.encode(some)
    np.testing.assert_array_equal(part.known, encoded.known[whole.offsets[3] :])
    np.testing.assert_array_equal(part.static, encoded.static[3:])
    assert encoded.cardinality == {"known": (0, 4), "static": (len(set(FRAME["category"])), 0)}


def test_categories_are_in_the_order_of_the_columns_whatever_the_seed_of_hashes() -> None:
    names = [f"event {name}" for name in "zyxwvutsrq"]
    schema = Schema(id="unique_id", known=names, categorical=names)
    frame = FRAME.filter(["unique_id", "ds", "y"]).assign(**dict.fromkeys(names, FRAME["event"]))
    features = FeatureSet().fit(to_panel(frame, schema))
    assert list(features.categories) == names
    assert [key for key in features.state() if key.startswith("cat")] == [f"categories.{name}" for name in names]


def test_a_category_that_train_rows_do_not_hold_is_an_error_that_names_it() -> None:
    features = FeatureSet().fit(panel())
    with refused(
        DataError, where="column 'event'", got="blackfriday", allowed="clearance, holiday, none, payday"
    ) as error:
        features.encode(panel(FRAME.assign(event=FRAME["event"].replace("payday", "blackfriday"))))
    assert "column 'event'" in str(error.value)
    assert "clearance, holiday, none, payday" in str(error.value)
    train = panel(FRAME[FRAME["event"] != "payday"].assign(ds=lambda f: f.groupby("unique_id").cumcount().map(
        lambda day: pd.Timestamp("2024-01-01") + pd.Timedelta(days=day))))  # fmt: skip
    with refused(DataError, where="column 'event'", got="payday", allowed="clearance, holiday, none"):
        FeatureSet().fit(train).encode(panel())


def test_a_new_category_in_the_future_rows_is_found_too() -> None:
    history = panel(FRAME[FRAME.ds < FRAME.ds.max()])
    future = FRAME[FRAME.ds == FRAME.ds.max()].assign(event="surprise")
    values, categories = read_known_future(future, history, SCHEMA, 1)
    assert categories["event"] == (*history.categories["event"], "surprise")
    extended = replace(history, categories=categories).extend(1, values)
    with refused(DataError, where="column 'event'", got="surprise", allowed="clearance, holiday, none, payday"):
        FeatureSet().fit(history).encode(extended)


def test_what_was_fitted_survives_saving_by_name() -> None:
    features = FeatureSet().fit(panel())
    again = FeatureSet().restore(features.state())
    for name in ("target", "known", "static"):
        np.testing.assert_array_equal(getattr(again.encode(panel()), name), getattr(features.encode(panel()), name))


def test_only_covariates_can_be_categories() -> None:
    with refused(ConfigError, where="dataset.categorical", got=["y"], allowed=("promo",)):
        Schema(id="unique_id", known=["promo"], categorical=["y"])


def test_one_hot_leaves_numbers_alone() -> None:
    values = np.array([[2.0, 0.5], [0.0, 1.5]], dtype=np.float32)
    assert one_hot(values, (3, 0)).tolist() == [[0, 0, 1, 0.5], [1, 0, 0, 1.5]]


def test_a_linear_model_sees_a_column_per_category_and_finds_its_effect() -> None:
    features = FeatureSet().fit(panel())
    each = windows(panel(), features)
    dims = each.encoded.dims(14, 7, 7)
    rows, _ = design(each.window(slice(None)), dims.cardinality)
    assert rows.shape[1] == design_size(dims) == 14 + 7 * (1 + 4) + (len(set(FRAME["category"])) + 1)
    effect = FRAME.assign(y=FRAME["event"].map({"none": 0.0, "payday": 5.0, "holiday": -3.0, "clearance": 1.0}))
    found = panel(effect)
    features = FeatureSet(scaler=StandardScaler(scope="global")).fit(found)
    each = windows(found, features)
    out = Ridge().fit(each, each, dims).predict(each.window(slice(None)))
    steps = np.diff(each.label(slice(None)), axis=1)  # the level, the last value, is only partly explained by events
    np.testing.assert_allclose(np.diff(out, axis=1), steps, atol=0.05)


def test_a_window_scaled_by_itself_does_not_feel_a_change_of_level_or_scale() -> None:
    features = FeatureSet(scaler=StandardScaler(scope="window")).fit(panel())
    moved = replace(panel(), target=panel().target * 7 + 300)
    (window, label), (other, other_label) = (windows(p, features).batch(slice(None)) for p in (panel(), moved))
    np.testing.assert_allclose(other.target, window.target, atol=2e-4)
    np.testing.assert_allclose(other_label, label, atol=2e-3)
    assert window.center is not None
    assert window.scale is not None
    np.testing.assert_allclose(
        label * window.scale + window.center, windows(panel(), features).label(slice(None)), atol=1e-5
    )
    assert window.observed is not None
    own = np.where(window.observed, window.target, np.nan)  # what fills gaps says nothing of the scale
    np.testing.assert_allclose(np.nanstd(own, axis=1), 1, atol=1e-3)


def test_series_that_were_not_trained_on_are_accepted_only_without_statistics_of_their_own() -> None:
    known, other = panel(FRAME[FRAME.unique_id < "item-0003"]), panel(FRAME[FRAME.unique_id >= "item-0003"])
    keep = replace(other, static=known.static[:2], categories=known.categories)
    for scope in ("window", "global"):
        FeatureSet(scaler=StandardScaler(scope=scope)).fit(known).encode(keep)
    with refused(
        DataError, where="history", got="item-0003, item-0004", allowed="item-0000, item-0001, item-0002"
    ) as error:
        FeatureSet().fit(known).encode(keep)
    assert "scaler.scope=window" in str(error.value)
