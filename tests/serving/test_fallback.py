"""Series too short for the model: forecast all the same, told in every answer; no other forecast is touched."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT
from tests.errors import has, refused
from tests.serving.browser import Seen, text
from tests.serving.conftest import SHAPES, Client
from tests.serving.document import Document
from tsforecast import load_bundle, train
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.frames import to_panel
from tsforecast.errors import BundleError, ConfigError, DataError
from tsforecast.fallback import Fallback
from tsforecast.result import Result
from tsforecast.windows import Windows

L, H, SEASON = 48, 12, 24
WORDS = ("dataset=long", "model=ridge", f"lookback={L}", f"horizon={H}", "feature=[calendar]")
WORDS += ("+dataset.bounds.y=[0,null]",)


def series(ett_dir: Path, rows: dict[str, int]) -> pd.DataFrame:
    """The first so many hours of channels of ETTh1, as series of their own, less the least of each."""
    wide = pd.read_csv(ett_dir / "ETTh1.csv", parse_dates=["date"])
    parts = [
        pd.DataFrame({"unique_id": name, "ds": wide["date"][:n], "y": (wide[name] - wide[name].min())[:n]})
        for name, n in rows.items()
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def data(ett_dir: Path) -> pd.DataFrame:
    return series(ett_dir, {"HUFL": 900, "MUFL": 900, "LUFL": 900, "OT": 900, "HULL": 60, "MULL": 30, "LULL": 1})


@pytest.fixture(scope="module")
def result(data: pd.DataFrame) -> Result:
    dead = data[data["unique_id"] == "HULL"].assign(
        unique_id="dead", y=np.where(np.arange(60) < 5, 1.0 + np.arange(60), np.nan)
    )
    return train(*WORDS, "split.short=naive", data=pd.concat([data, dead]))


@pytest.fixture(scope="module")
def bundle(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(result.bundle.save(tmp_path_factory.mktemp("short") / "bundle").path)


@pytest.fixture(scope="module")
def items() -> tuple[Bundle, pd.DataFrame]:
    """Trained on fifty items of the panel, and fifty others."""
    long = pd.read_parquet(ROOT / "data" / "panel.parquet", columns=["unique_id", "ds", "y"])
    names = long["unique_id"].unique()[:100]
    first, second = (long[long["unique_id"].isin(names[i::2])] for i in (0, 1))
    words = ("dataset=long", "model=ridge", "lookback=21", "horizon=14", "feature=[]", "split.short=naive")
    return train(*words, "dataset.gaps=fill", data=first).bundle, second


def repeated(y: np.ndarray) -> np.ndarray:
    """The last season over and over, or the last value."""
    last = y[-SEASON:] if len(y) >= SEASON else y[-1:]
    return np.array([last[h % len(last)] for h in range(H)], dtype=np.float32)


def test_short_series_are_left_out_of_training_named_and_forecast_by_what_they_repeat(
    data: pd.DataFrame, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train(*WORDS, "split.short=naive", data=data)
    said = "3 of 7 series are too short and left out: HULL, MULL, LULL, and will be forecast by seasonal naive"
    assert said in caplog.text
    assert list(bundle.features.ids) == ["HUFL", "MUFL", "LUFL", "OT"]
    found = bundle.forecast(data)
    frame = found.to_frame()
    assert set(frame.loc[frame["fallback"] == "seasonal_naive", "unique_id"]) == {"HULL", "MULL", "LULL"}
    assert frame["fallback"].notna().sum() == 3 * H
    by = "of 7 series forecast by seasonal_naive"
    assert found.warnings[1:3] == (
        f"2 {by}, for fewer rows than the {L} that the model needs: MULL (30), LULL (1)",
        f"1 {by}, as the model was not trained on them: HULL",
    )
    for name in ("HULL", "MULL", "LULL"):
        y = data.loc[data["unique_id"] == name, "y"].to_numpy()
        np.testing.assert_array_equal(found.values[list(found.ids).index(name), :, 0], repeated(y))
    assert np.isfinite(found.quantiles).all()
    assert (found.quantiles >= 0).all()
    assert (np.diff(found.quantiles, axis=-1) >= 0).all()


def test_the_forecasts_of_other_series_are_the_same_to_the_bit(data: pd.DataFrame, bundle: Bundle) -> None:
    long = data[data.groupby("unique_id")["y"].transform("size") > L + H * 5]
    alone, among = bundle.forecast(long), bundle.forecast(data)
    assert "fallback" not in alone.to_frame()
    others = ~among.fallback
    assert list(alone.ids) == list(among.ids[others])
    np.testing.assert_array_equal(alone.values, among.values[others])
    np.testing.assert_array_equal(alone.quantiles, among.quantiles[others])
    by_drop = bundle.forecast(data, short="drop")
    np.testing.assert_array_equal(by_drop.quantiles, alone.quantiles)
    only = bundle.forecast(data[~data["unique_id"].isin(long["unique_id"])])
    np.testing.assert_array_equal(only.quantiles, among.quantiles[among.fallback])


def test_a_series_that_is_new_is_forecast_however_many_rows_it_has(data: pd.DataFrame, bundle: Bundle) -> None:
    y = data.loc[data["unique_id"] == "OT", ["ds", "y"]]
    for held in (3, L - 1, L, 3 * L):
        found = bundle.forecast(y.tail(held).assign(unique_id="new"))
        np.testing.assert_array_equal(found.values[0, :, 0], repeated(y["y"].to_numpy()[-held:]))
        short = f"for fewer rows than the {L} that the model needs: new ({held})"
        why = short if held < L else "as the model was not trained on them: new"
        assert found.warnings[0] == f"1 of 1 series forecast by seasonal_naive, {why}"
    for how in ("drop", "error"):
        with refused(DataError, got="new (not trained on)"):
            bundle.forecast(y.assign(unique_id="new"), short=how)
    panel = to_panel(pd.concat([data, y.assign(unique_id="mid")]), bundle.schema, for_training=False)
    gone = panel.target.copy()
    gone[panel.offsets[1] - L : panel.offsets[1]] = np.nan  # of the first, which has a value before
    kept = bundle.forecast(replace(panel, target=gone), short="drop")
    assert panel.ids[0] not in kept.ids
    assert "mid" not in kept.ids


def test_warnings_and_charts_tell_who_is_too_short_apart_from_who_is_unknown_and_of_how_many(
    data: pd.DataFrame, bundle: Bundle
) -> None:
    lately = data[data["unique_id"].isin(["OT", "MULL", "LULL"])].groupby("unique_id").tail(L)
    found = bundle.forecast(
        pd.concat([lately, lately[lately["unique_id"] == "OT"].assign(unique_id="new")]), stale="ignore"
    )
    by = "of 4 series forecast by seasonal_naive"
    assert found.warnings[:2] == (
        f"2 {by}, for fewer rows than the {L} that the model needs: MULL (30), LULL (1)",
        f"1 {by}, as the model was not trained on them: new",
    )
    titles = {axes.get_title("left").split(" · ")[-2]: axes.get_title("left") for axes in found.plot().axes}
    named = {name for name, title in titles.items() if title.startswith("seasonal naive (too few rows")}
    assert (named, titles["OT"]) == ({"MULL", "LULL", "new"}, "OT · y")


def told(client: Client) -> tuple[dict[str, Any], float]:
    """What /drift says, and how many series /metrics counts as forecast by the fallback."""
    families = text_string_to_metric_families(client("GET", "/metrics").body.decode())
    (family,) = (each for each in families if each.name == "tsforecast_fallback_series")
    (count,) = (each.value for each in family.samples if each.name.endswith("_total"))
    return client("GET", "/drift").json, count


@pytest.mark.parametrize(
    ("names", "left", "told_of"),
    [
        (("MULL", "LULL"), 0, (1.0, "0")),
        (("OT", "HUFL", "MULL", "LULL"), 0, (0.5, "0")),
        (("OT", "HUFL", "MULL", "LULL"), 4, None),  # half of them, as in training
        (("HULL", "MULL", "LULL"), 4, (1.0, "0.5")),
        (("LULL",), 4, None),  # of three that may be chance
        (("OT", "HUFL"), 0, None),
    ],
)
def test_more_series_forecast_by_the_fallback_than_training_left_out_are_to_watch_and_counted(
    data: pd.DataFrame,
    bundle: Bundle,
    serve: Callable[..., Client],
    tmp_path: Path,
    names: tuple[str, ...],
    left: int,
    told_of: tuple[float, str] | None,
) -> None:
    about = {**bundle.metadata["evaluation"], "series_left_out": left}
    made = replace(bundle, metadata={**bundle.metadata, "evaluation": about}).save(tmp_path / "bundle")
    client, rows = serve(made), data[data["unique_id"].isin(names)].groupby("unique_id").tail(L)
    cells = rows.assign(ds=rows["ds"].map(pd.Timestamp.isoformat)).to_dict("list")
    assert told(client)[1] == 0
    for _ in range(3):
        assert client("POST", "/forecast", {"history": cells}).status == 200
    drift, count = told(client)
    assert count == 3 * len({"HULL", "MULL", "LULL"}.intersection(names))
    own = [each for each in drift["reasons"] if "seasonal_naive" in each["what"]]
    assert [(each["verdict"], each["column"], each["got"], each["usual"]) for each in own] == (
        [] if told_of is None else [("watch", None, *told_of)]
    )
    if names == ("MULL", "LULL"):
        assert (drift["verdict"], drift["series"]) == ("watch", 0)


def test_the_page_says_of_each_series_whether_the_model_forecast_it(
    data: pd.DataFrame, bundle: Bundle, look: Seen, tmp_path: Path
) -> None:
    browser, file = look.open(look.serve(bundle)), tmp_path / "rows.csv"
    data[data["unique_id"].isin(["OT", "MULL"])].to_csv(file, index=False)
    browser.drop(file)
    browser.wait("!document.getElementById('found').hidden")
    names = browser.run("[...$('series').options].map(({ value, text }) => [value, text])")
    assert dict(names) == {"OT": "OT", "MULL": "MULL (not by the model)"}
    for name in ("OT", "MULL"):
        browser.run(f"$('series').value = '{name}'; $('series').dispatchEvent(new Event('change'))")
        shown = {part: text(browser, part) for part in ("numbers", "legend")}
        shown["chart"] = browser.run("$('chart').getAttribute('aria-label')")
        said = {part for part, each in shown.items() if "seasonal naive: too few rows for the model" in each}
        assert said == (set(shown) if name == "MULL" else set())
    assert browser.complaints() == []


def test_what_a_run_forecasts_has_the_series_that_were_left_out_as_far_as_they_have_a_value(
    data: pd.DataFrame, result: Result, bundle: Bundle
) -> None:
    found, wanted = result.forecast().to_frame(), bundle.forecast(data).to_frame()
    pd.testing.assert_frame_equal(found, wanted)
    assert "dead" in (gone := result.data.loaded.left_out)
    assert bundle.metadata["evaluation"]["series_left_out"] == len(gone)
    assert [len(axes.lines) > 0 for axes in result.plot(["LULL"]).axes] == [True]


def test_with_known_covariates_a_run_forecasts_the_last_rows_of_those_that_are_long_enough(
    data: pd.DataFrame,
) -> None:
    known = data.assign(hour=data["ds"].dt.hour.astype(float))
    result = train(*WORDS, "split.short=naive", data=known, known=["hour"])
    found = result.forecast()
    assert found.fallback is not None
    flags = dict(zip(found.ids, found.fallback, strict=True))
    assert flags == {"HUFL": False, "MUFL": False, "LUFL": False, "OT": False, "HULL": True, "MULL": True}
    y = data.loc[data["unique_id"] == "MULL", "y"].to_numpy()
    np.testing.assert_array_equal(found.values[-1, :, 0], repeated(y[:-H]))


def test_series_without_a_value_are_left_out_where_that_is_asked_for_and_else_named(
    data: pd.DataFrame, bundle: Bundle, serve: Callable[..., Client]
) -> None:
    last = data.groupby("unique_id").tail(L)
    empty = last.assign(y=last["y"].mask(last["unique_id"].isin(["OT", "LULL"])))
    said = "y of OT, y of LULL"
    with refused(DataError, where="history", got=said, fix=has("short=drop")):
        bundle.forecast(empty)
    found = bundle.forecast(empty, short="drop")
    assert list(found.ids) == ["HUFL", "MUFL", "LUFL"]
    cells = empty.assign(
        ds=empty["ds"].map(pd.Timestamp.isoformat), y=empty["y"].astype(object).where(empty["y"].notna(), None)
    )
    told = serve(bundle)("POST", "/forecast", {"history": cells.to_dict("list")})
    assert (told.status, told.json["got"]) == (422, said)


def test_requests_that_are_answered_together_get_what_each_gets_alone(data: pd.DataFrame, bundle: Bundle) -> None:
    groups = dict(list(data.groupby("unique_id")))
    asked = []
    for names in (["LULL"], ["OT"], ["MULL", "HUFL"], ["HULL"]):
        panel = bundle.with_future(bundle.panel(pd.concat([groups[name] for name in names])))
        asked.append(bundle.request(panel, *bundle.asked(5, [80])))
    for request, together in zip(asked, bundle.predictions(asked), strict=True):
        (alone,) = bundle.predictions([request])
        np.testing.assert_array_equal(together.quantiles, alone.quantiles)
        answer = request.answer(bundle, together)
        assert answer.quantiles is not None
        assert (answer.values.shape[1], answer.quantiles.shape[3]) == (5, 2)
        assert answer.to_frame().get("fallback", pd.Series(dtype=object)).notna().any() == (
            "OT" not in request.panel.ids
        )


@pytest.mark.parametrize("part", [{"season": 0}, {"season": -3}, {"offsets": np.zeros((2, H + 1, 1, 5), np.float32)}])
def test_a_bundle_whose_fallback_does_not_fit_it_is_refused(bundle: Bundle, tmp_path: Path, part: Any) -> None:
    assert bundle.fallback is not None
    spoilt = replace(bundle, fallback=replace(bundle.fallback, **part))
    with refused(BundleError, what=has("do not fit together")):
        spoilt.save(tmp_path / "bundle")


def test_a_series_of_training_that_is_short_in_a_request_is_forecast_likewise(
    data: pd.DataFrame, bundle: Bundle
) -> None:
    few = data[data["unique_id"] == "OT"].tail(L - 1)
    found = bundle.forecast(few)
    np.testing.assert_array_equal(found.values[0, :, 0], repeated(few["y"].to_numpy()))
    assert list(found.time) == list(pd.date_range(few["ds"].iloc[-1], periods=H + 1, freq="h")[1:])
    holes = few.assign(y=few["y"].where(np.arange(len(few)) % 9 > 0))  # the last but one of them is missing, too
    np.testing.assert_array_equal(bundle.forecast(holes).values[0, :, 0], repeated(holes["y"].ffill().to_numpy()))
    with refused(DataError, where="history", what=has("no observed value")):
        bundle.forecast(few.assign(y=np.nan))
    with refused(DataError, what=has("1 series cannot be forecast"), fix=has("give more history")):
        bundle.forecast(few, short="error")


def test_a_series_whose_train_rows_are_all_missing_is_too_short_as_well(data: pd.DataFrame) -> None:
    late = (data["unique_id"] == "OT") & (data["ds"] < data["ds"].max() - pd.Timedelta(hours=30))
    holes = data.assign(y=data["y"].mask(late))
    for short in ("error", "pad"):  # else nothing would say how large it is, and its intervals be as wide as those of 1
        with refused(DataError, what=has("OT has none with a value")):
            train(*WORDS, f"split.short={short}", data=holes[~holes["unique_id"].isin(["HULL", "MULL", "LULL"])])
    made = train(*WORDS, "split.short=naive", data=holes).bundle
    assert list(made.features.ids) == ["HUFL", "MUFL", "LUFL"]
    found = made.forecast(holes)
    y = data.loc[data["unique_id"] == "OT", "y"].to_numpy()
    np.testing.assert_array_equal(found.values[list(found.ids).index("OT"), :, 0], repeated(y))


def test_without_it_short_series_are_refused_with_the_word_that_forecasts_them(data: pd.DataFrame) -> None:
    with refused(DataError, what=has("too few rows"), fix=has("split.short=drop", "=naive")):
        train(*WORDS, data=data)
    plain = train(*WORDS, "split.short=drop", data=data).bundle
    with refused(DataError, got=has("MULL (30 rows)"), fix=has("split.short=naive")):
        plain.forecast(data)
    with refused(ConfigError, where="short", got="naive", allowed=["error", "drop"]):
        plain.forecast(data, short="naive")


def test_all_routes_give_the_same_forecasts_and_flag_the_same_series_as_their_document_says(
    data: pd.DataFrame,
    bundle: Bundle,
    serve: Callable[..., Client],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = bundle.forecast(data)
    assert expected.fallback is not None
    flags = dict(zip(expected.ids, np.where(expected.fallback, "seasonal_naive", None), strict=True))
    client, rows = serve(bundle, request_log=tmp_path), data.groupby("unique_id").tail(L)
    document = Document(client("GET", "/openapi.json").json)
    cells = rows.assign(ds=rows["ds"].map(pd.Timestamp.isoformat)).to_dict("list")
    ours = client("POST", "/forecast", {"history": cells})
    document.check("POST", "/forecast", ours.status, ours.headers, ours.body)
    assert ours.json["warnings"] == list(expected.warnings)
    assert {each["series"]: each.get("fallback") for each in ours.json["forecasts"]} == flags
    points = [each["point"]["y"] for each in ours.json["forecasts"]]
    np.testing.assert_allclose(points, expected.values[..., 0], rtol=1e-6)
    csv = client("POST", "/forecast_csv", rows.to_csv(index=False).encode())
    frame, wanted = pd.read_csv(io.BytesIO(csv.body)), expected.to_frame()
    assert frame["fallback"].where(frame["fallback"].notna(), None).tolist() == wanted["fallback"].tolist()
    np.testing.assert_allclose(frame["y_hat-hi-90"], wanted["y_hat-hi-90"], rtol=1e-6)
    each = {"type": "univariate_time_series", "frequency": "H"}
    inputs = [
        {**each, "name": name, "series": part["y"].tolist(), "start_timestamp": part["ds"].iloc[0].isoformat()}
        for name, part in rows.groupby("unique_id")
    ]
    told = client("POST", "/v1/timeseries/forecast", {"model": "default", "inputs": inputs, "options": {"horizon": H}})
    document.check("POST", "/v1/timeseries/forecast", told.status, told.headers, told.body)
    found = {each["content"][0]["name"]: each["content"][0] for each in told.json["outputs"]}
    assert {name: content.get("fallback") for name, content in found.items()} == flags
    assert [found[name]["mean_forecast"] for name in expected.ids] == points
    described = client("GET", "/model")
    document.check("GET", "/model", described.status, described.headers, described.body)
    assert described.json["short"] == "seasonal_naive"
    short = {"history": {name: each[-1:] for name, each in cells.items()}}
    assert client("POST", "/forecast", short).json["forecasts"][0]["fallback"] == "seasonal_naive"
    assert client("GET", "/drift").status == 200
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
    client.app.state.server.close()
    kept = pd.read_parquet(next(tmp_path.rglob("*.parquet")))
    assert kept.groupby("unique_id").size().to_dict() == rows.groupby("unique_id").size().to_dict()


def test_what_came_true_of_series_that_the_model_did_not_forecast_is_no_error_of_it(
    data: pd.DataFrame, bundle: Bundle, serve: Callable[..., Client]
) -> None:
    def after(client: Client, *names: str) -> tuple[Any, Any]:
        rows = data[data["unique_id"].isin(names)].groupby("unique_id").tail(L)
        cells = rows.assign(ds=rows["ds"].map(pd.Timestamp.isoformat)).to_dict("list")
        true: dict[str, list[Any]] = {"unique_id": [], "ds": [], "y": []}
        for each in client("POST", "/forecast", {"history": cells}).json["forecasts"]:
            true["unique_id"] += [each["series"]] * H
            true["ds"] += each["timestamps"]
            true["y"] += [value + (1e4 if "fallback" in each else 0.5) for value in each["point"]["y"]]
        return client("POST", "/actuals", {"actuals": true}).json, client("GET", "/drift").json["errors"]

    among, alone = (after(serve(bundle), *names) for names in (("OT", "MULL", "HUFL", "LULL"), ("OT", "HUFL")))
    assert among[0] == {"values": 4 * H, "matched": 2 * H, "forecasts": 2}
    assert among[1] == alone[1]
    assert among[1]["forecasts"] == 2
    assert among[1]["mae"]["y"]["got"] == pytest.approx([0.5] * 4, rel=1e-4)
    only = after(serve(bundle), "LULL")
    assert (only[0]["matched"], only[1]["forecasts"]) == (0, 0)


@pytest.mark.parametrize("shape", ["covariates", "monthly", "zoned"])
def test_a_history_of_any_shape_may_be_as_short_as_a_row(bundles: Callable[[str], Bundle], shape: str) -> None:
    """With covariates, categories that training has never seen, months, and a change to summer time before the row."""
    (frame, schema), made = SHAPES[shape], bundles(shape)
    rows = to_panel(frame, made.schema)
    encoded = made.features.encode(rows)
    sizes = {"lookback": made.context, "horizon": made.dims.horizon}
    windows = Windows.over(encoded, **sizes, begin=rows.offsets[:-1], end=rows.offsets[1:])
    able = replace(made, fallback=Fallback.of(windows, 24, made.quantile_levels))
    if shape == "zoned":
        frame = frame.assign(date=frame["date"] + pd.Timedelta(days=90))
    own = [column for column in frame if column not in schema.static]
    known = [*schema.stamp_columns, *schema.key, *schema.known]
    static = frame[[*schema.key, *schema.static]].drop_duplicates() if schema.static else None
    groups = [part for _, part in frame.groupby(schema.id)] if schema.id else [frame]
    ends = [40, *[24] * (len(groups) - 1)]
    for held in (1, 23):
        parts = [
            part.iloc[end - (held if i == 0 else 24) : end]
            for i, (part, end) in enumerate(zip(groups, ends, strict=True))
        ]
        ahead = [part.iloc[end : end + made.dims.horizon][known] for part, end in zip(groups, ends, strict=True)]
        if shape == "covariates":
            parts[0] = parts[0].assign(weather="hail")
        future = pd.concat(ahead) if schema.known else None
        found = able.forecast(pd.concat(parts)[own], future, static=static, stale="ignore")
        assert found.fallback is not None
        assert found.fallback.tolist() == [True] + [False] * (len(groups) - 1)
        wanted = groups[0][[*made.channels]].to_numpy(np.float32)[39]
        np.testing.assert_array_equal(found.values[0], np.tile(wanted, (made.dims.horizon, 1)))
        assert list(found.time[: made.dims.horizon]) == list(groups[0][schema.stamp].iloc[40 : 40 + made.dims.horizon])
        if len(groups) > 1:
            others = [pd.concat(each) if schema.known else None for each in (parts[1:], ahead[1:])]
            alone = able.forecast(others[0][own], others[1], static=static[1:], stale="ignore")
            np.testing.assert_array_equal(alone.quantiles, found.quantiles[1:])


@pytest.mark.parametrize("held", [1, 3, 7, 20])
def test_intervals_cover_what_they_say_of_series_that_nothing_was_fitted_or_calibrated_on(
    items: tuple[Bundle, pd.DataFrame], held: int
) -> None:
    """Of fifty items and four places each: .90 less or more three standard deviations, were places of an item one."""
    bundle, others = items
    rng, parts, labels = np.random.default_rng(held), [], []
    for name, rows in others.groupby("unique_id"):
        for k in range(4):
            at = int(rng.integers(held, len(rows) - 14))
            if rows["ds"].iloc[at + 13] - rows["ds"].iloc[at - held] != pd.Timedelta(days=held + 13):
                continue  # days are missing there
            if rows["y"].iloc[at - held : at].isna().all():
                continue
            parts.append(rows.iloc[at - held : at].assign(unique_id=f"{name} {k}"))
            labels.append(rows["y"].iloc[at : at + 14].to_numpy())
    found = bundle.forecast(pd.concat(parts), stale="ignore")
    y, (low, high) = np.stack(labels), np.moveaxis(found.quantiles[:, :, 0][..., [0, -1]], -1, 0)
    inside = np.mean(((low <= y) & (y <= high))[~np.isnan(y)])
    assert 0.9 - 3 * 0.3 / 50**0.5 < inside < 0.9 + 3 * 0.3 / 50**0.5
