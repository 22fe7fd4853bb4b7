"""Drift: what a server has seen beside its training, in words; and its forecasts beside what came true."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tsforecast as tsf
from tests.errors import refused
from tests.serving.conftest import SHAPES, Client, H, L, frame, request, trained
from tests.serving.document import Document
from tests.serving.test_document import places
from tsforecast.bundle import golden, reference
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema
from tsforecast.errors import BundleError
from tsforecast.serving.actuals import Kept
from tsforecast.serving.drift import Monitor

Bundles, Serve = Callable[[str], Bundle], Callable[..., Client]
HOURS = 1200


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of 1,000 hours; those behind them are what it is asked to forecast from."""
    data = frame(rows=HOURS)
    return trained(
        data[:1000], Schema(target=("load", "visits"), freq="h"), tmp_path_factory.mktemp("hours") / "bundle"
    )


def asked(cutoff: int, rows: int = L, **changed: Any) -> dict[str, Any]:
    """The body of a request whose last row is the one before `cutoff`."""
    data = frame(rows=HOURS).assign(date=lambda f: f["date"].dt.strftime("%Y-%m-%dT%H:%M:%S"))
    for name, change in changed.items():
        data[name] = change(data[name])
    return {"history": data[cutoff - rows : cutoff].to_dict("list")}


def drift(client: Client) -> dict[str, Any]:
    told: dict[str, Any] = client("GET", "/drift").json
    return told


def test_a_fresh_server_has_seen_nothing_and_says_so(hours: Bundle, serve: Serve) -> None:
    told = drift(serve(hours))
    assert (told["verdict"], told["reasons"], told["requests"], told["columns"]) == ("ok", [], 0, {})
    assert told["window"] == 96, "as many rows as a window of training: 1,000 hours are 4 times ten days"
    assert (told["errors"]["forecasts"], told["errors"]["mase"]["got"]) == (0, None)


def test_what_is_asked_as_in_training_is_ok_and_rows_that_come_again_count_once(hours: Bundle, serve: Serve) -> None:
    client = serve(hours)
    for cutoff in range(1000, 1100):
        assert client("POST", "/forecast", asked(cutoff)).status == 200
    told = drift(client)
    assert (told["verdict"], told["reasons"]) == ("ok", [])
    assert (told["requests"], told["series"], told["rows"]) == (100, 1, 96)
    last = frame(rows=HOURS)[1099 - 96 : 1099]
    for name in ("load", "visits"):
        for level, each in told["columns"][name]["quantiles"].items():
            wanted = last[name].quantile(float(level) / 100)
            assert each["got"] == pytest.approx(wanted, rel=1e-4)
            assert each["least"] < each["most"]


@pytest.mark.parametrize("slope", [3.0, 10.0, -2.0])
def test_the_file_that_was_trained_on_is_no_drift_though_it_trends(serve: Serve, tmp_path: Path, slope: float) -> None:
    months, rng = np.arange(48), np.random.default_rng(0)
    sales = 200 + slope * months + 10 * np.sin(months / 6 * np.pi) + rng.normal(size=48) * 4
    data = pd.DataFrame({"date": pd.date_range("2022-01-01", periods=48, freq="MS"), "sales": sales})
    client = serve(tsf.train("tracking=none", "report=none", data=data).bundle.save(tmp_path / "bundle"))
    answer = client("POST", "/forecast_csv", data.to_csv(index=False).encode(), {"content-type": "text/csv"})
    assert answer.status == 200, answer.json
    told = drift(client)
    assert told["rows"] == told["window"] == 12
    assert (told["verdict"], told["columns"]["sales"]["outside"]["got"]) == ("ok", 0), told["reasons"]
    beyond = data.assign(sales=data["sales"] + 3 * data["sales"].std())
    client("POST", "/forecast_csv", beyond.to_csv(index=False).encode(), {"content-type": "text/csv"})
    assert drift(client)["verdict"] == "act"


def test_a_channel_one_standard_deviation_off_is_acted_upon_with_what_it_was_and_what_is_usual(
    hours: Bundle, serve: Serve
) -> None:
    client, by = serve(hours), float(frame(rows=1000)["visits"].std())
    for cutoff in range(1000, 1100):
        client("POST", "/forecast", asked(cutoff, visits=lambda cells: cells + by))
    told = drift(client)
    assert told["verdict"] == told["columns"]["visits"]["verdict"] == "act"
    reasons = {each["what"]: each for each in told["reasons"] if each["column"] == "visits"}
    middle = reasons["the 50 % quantile of the last 96 rows"]
    assert middle["got"] == pytest.approx(50 + by, abs=2.0)
    least, most = map(float, middle["usual"].split(" to "))
    assert least < 50 < most < middle["got"]
    assert told["columns"]["visits"]["psi"]["got"] > told["columns"]["visits"]["psi"]["most"]
    text = client("GET", "/metrics").body.decode()
    assert 'tsforecast_drift{model=""} 2.0' in text
    assert f'tsforecast_drift_psi{{column="visits",model=""}} {told["columns"]["visits"]["psi"]["got"]}' in text


def test_of_several_series_of_one_column_reasons_have_a_unit_and_name_no_other_columns(
    serve: Serve, tmp_path: Path
) -> None:
    data = frame(3, rows=HOURS).drop(columns="visits")
    schema = Schema("date", "shop", ("load",), freq="h")
    client = serve(trained(data.groupby("shop").head(1000), schema, tmp_path / "bundle"))
    later = data.assign(date=data["date"].astype(str), load=data["load"] + 9).groupby("shop")
    for cutoff in range(HOURS - 100, HOURS, L // 2):
        rows = pd.concat([each[cutoff - L : cutoff] for _, each in later]).to_dict("list")
        assert client("POST", "/forecast", {"history": rows}).status == 200
    told = [each["what"] for each in drift(client)["reasons"]]
    assert "the 50 % quantile of the last 96 rows (in standard deviations from the mean of each series)" in told, told
    assert "the population stability index of the last 96 rows" in told, told
    assert not any("other columns" in each for each in told), told


def test_rows_that_were_sent_before_and_are_others_now_are_told(hours: Bundle, serve: Serve) -> None:
    client = serve(hours)
    for cutoff in range(1000, 1010):
        client("POST", "/forecast", asked(cutoff))
    assert drift(client)["verdict"] == "ok"
    client("POST", "/forecast", asked(1010, visits=lambda cells: cells + 9.0))
    (again,) = (each for each in drift(client)["reasons"] if "came again" in each["what"])
    assert (again["verdict"], again["column"], again["got"]) == ("act", "visits", 1.0)
    by = 9 / float(frame(rows=HOURS)["visits"][:1000].std(ddof=0))
    assert f"{by:+.2g} standard deviations" in again["what"]
    for cutoff in range(1011, 1031):  # the rest as it is from now on: nothing new
        client("POST", "/forecast", asked(cutoff, visits=lambda cells: cells + 9.0))
    assert len([each for each in drift(client)["reasons"] if "came again" in each["what"]]) == 1


def test_a_column_that_is_missing_more_often_than_ever_is_told(hours: Bundle) -> None:
    """A server refuses more than training had in one request; a bundle that had many sees them come more often."""
    data = frame(rows=HOURS)
    holes = np.isin(np.arange(HOURS) % 400, np.arange(12))
    data["load"] = data["load"].mask(holes)
    panel = to_panel(data, Schema(target=("load", "visits"), freq="h"))
    bundle = golden.with_golden(hours, panel.rows(np.array([0]), np.array([1000])))
    monitor = Monitor(bundle)
    for cutoff in range(1000, 1150):
        rows = panel.rows(np.array([cutoff - L]), np.array([cutoff]))
        often = np.where(np.arange(cutoff - L, cutoff)[:, None] % 3 == 0, np.nan, rows.target)
        asked = bundle.request(replace(rows, target=often).extend(H), H, None, stale="ignore")
        monitor.seen(asked, bundle.infer(asked.panel, asked.series))
    told = monitor.report()
    (missing,) = (each for each in told["reasons"] if "missing" in each["what"] and each["column"] == "load")
    assert (missing["verdict"], missing["got"]) == ("act", pytest.approx(1 / 3, abs=0.02))
    assert missing["usual"] == "0 to 0.125", "12 rows of 96"


def test_an_earlier_cutoff_asked_for_once_more_changes_nothing(hours: Bundle, serve: Serve) -> None:
    client = serve(hours)
    for cutoff in (1000, 1050, 1100):
        client("POST", "/forecast", asked(cutoff))
    before = drift(client)
    client("POST", "/forecast", asked(1050))
    after = drift(client)
    assert after["requests"] == before["requests"] + 1
    assert after["columns"] == before["columns"]


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_what_came_true_is_matched_by_series_channel_and_timestamp(bundles: Bundles, serve: Serve, shape: str) -> None:
    bundle = bundles(shape)
    client, body = serve(bundle), request(bundle)
    document = Document(client("GET", "/openapi.json").json)
    answer = client("POST", "/forecast", body).json["forecasts"][0]
    schema, rng = bundle.schema, np.random.default_rng(3)
    truth = {name: rng.normal(size=H) * 3 for name in bundle.channels}
    rows: dict[str, Any] = {schema.stamp: answer["timestamps"], **{name: [*map(float, v)] for name, v in truth.items()}}
    if schema.id:
        rows[schema.id] = [answer["series"]] * H
    rows[bundle.channels[0]][1] = None
    posted = client("POST", "/actuals", {"actuals": rows})
    document.check("POST", "/actuals", posted.status, posted.headers, posted.body)
    nothing = {name: [None] * H if name in truth else cells for name, cells in rows.items()}
    assert client("POST", "/actuals", {"actuals": nothing}).json == {"values": 0, "matched": 0, "forecasts": 0}
    count = H * len(bundle.channels) - 1
    assert posted.json == {"values": count, "matched": count, "forecasts": 1}
    found = client("GET", "/drift")
    document.check("GET", "/drift", found.status, found.headers, found.body)
    errors = found.json["errors"]
    assert errors["values"] == count
    for name in bundle.channels:
        off = np.abs(np.array(answer["point"][name]) - truth[name])
        off[1] = np.nan if name == bundle.channels[0] else off[1]
        wanted = [np.nanmean(part) for part in np.array_split(off, 4)]
        assert errors["mae"][name]["got"] == pytest.approx(wanted, rel=1e-5)
    for level, each in errors["coverage"].items():
        low, high = (
            np.array([answer["intervals"][level][side][n] for n in bundle.channels]) for side in ("lower", "upper")
        )
        inside = ((low <= np.array([*truth.values()])) & (np.array([*truth.values()]) <= high)).astype(float)
        inside[0, 1] = np.nan
        wanted = [np.nanmean(part) for part in np.array_split(inside, 4, axis=1)]
        assert each["got"] == pytest.approx(wanted)


def test_actuals_that_nobody_forecast_are_taken_and_match_nothing(bundles: Bundles, serve: Serve) -> None:
    client, body = serve(bundles("long")), request(bundles("long"))
    assert client("POST", "/actuals", {"actuals": body["history"]}).json["matched"] == 0
    client("POST", "/forecast", body)
    posted = client("POST", "/actuals", {"actuals": body["history"]}).json
    assert posted == {"values": L, "matched": 0, "forecasts": 0}


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        (lambda body: b"{", "json", 400),
        (lambda body: {"history": body["history"]}, "request", 400),
        (lambda body: {"actuals": 3}, "request", 400),
        (lambda body: {"actuals": {}}, "data", 422),
        (lambda body: {"actuals": {**body["history"], "loud": [1.0] * L}}, "data", 422),
        (lambda body: {"actuals": {**body["history"], "load": ["1.5"] * L}}, "data", 422),
        (lambda body: {"actuals": {**body["history"], "date": ["yesterday"] * L}}, "data", 422),
        (
            lambda body: {"actuals": {name: cells for name, cells in body["history"].items() if name != "load"}},
            "data",
            422,
        ),
    ],
)
def test_actuals_that_cannot_be_read_are_refused_as_a_request_is(
    bundles: Bundles, serve: Serve, change: Callable[[Any], Any], code: str, status: int
) -> None:
    client = serve(bundles("wide"))
    found = client("POST", "/actuals", change(request(bundles("wide"))), {"content-type": "application/json"})
    assert (found.status, found.json["code"]) == (status, code)
    assert {*found.json} == {"code", "message", "where", "got", "allowed", "fix"}
    Document(client("GET", "/openapi.json").json).check("POST", "/actuals", found.status, found.headers, found.body)


def test_forecasts_are_kept_within_bounds_and_the_oldest_go(hours: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsforecast.serving.actuals._MOST", 5)
    panel = to_panel(frame(rows=HOURS), Schema(target=("load", "visits"), freq="h"))
    kept = Kept(hours)
    for cutoff in [*range(1000, 1010)] * 2:
        rows = panel.rows(np.array([cutoff - L]), np.array([cutoff])).extend(H)
        ask = hours.request(rows, H, None)
        kept.add(ask, hours.infer(ask.panel, ask.series))
    assert kept.match(panel)["forecasts"] == 5, "of the last five, each once though it was asked for twice"


def test_the_reference_is_of_the_rows_that_were_fitted_and_the_same_again(hours: Bundle) -> None:
    panel = to_panel(frame(rows=HOURS), Schema(target=("load", "visits"), freq="h"))
    train = panel.rows(np.array([0]), np.array([1000]))
    for name, each in reference.of_columns(hours, train).items():
        np.testing.assert_array_equal(each, hours.reference[name], err_msg=name)
    later = replace(panel, target=np.where(np.arange(HOURS)[:, None] < 1000, panel.target, 1e6))
    again = reference.of_columns(hours, later.rows(np.array([0]), np.array([1000])))
    np.testing.assert_array_equal(again["usual"], hours.reference["usual"])
    assert hours.reference["center"][0, 1] == pytest.approx(train.target[:, 1].mean(), rel=1e-5)


def test_an_index_and_quantiles_are_those_of_a_slow_loop(hours: Bundle) -> None:
    known, rng = hours.reference, np.random.default_rng(0)
    window = rng.normal(size=(1, 2, 50)).astype(np.float32)
    window[0, 1, :7] = np.nan
    told = reference.tell(window, known)[0]
    for j, cells in enumerate(window[0]):
        cells = cells[~np.isnan(cells)]
        np.testing.assert_allclose(told[j, :5], np.quantile(cells, reference.LEVELS), rtol=1e-5)
        bins = np.histogram(cells, [-np.inf, *np.nextafter(known["edges"][j], np.inf), np.inf])[0]
        actual = (bins + 0.5) / (len(cells) + 5)
        index = sum((a - e) * np.log(a / e) for a, e in zip(actual, known["shares"][j], strict=True))
        assert told[j, reference.PSI] == pytest.approx(index, rel=1e-5)
        assert told[j, reference.MISSING] == pytest.approx(1 - len(cells) / 50)


@pytest.mark.parametrize("name", ["usual", "others", "sizes", "mase", "center", "windows"])
def test_a_bundle_whose_reference_does_not_fit_is_not_loaded(hours: Bundle, tmp_path: Path, name: str) -> None:
    wrong = {**hours.reference, "mae": np.zeros((4, 2), np.float32), name: np.zeros((2, 2), np.int64) - 3}
    with refused(BundleError):
        replace(hours, reference=wrong).save(tmp_path / "bundle")


def test_two_workers_tell_which_they_are(hours: Bundle, serve: Serve) -> None:
    assert isinstance(drift(serve(hours))["worker"], int)
    assert pd.Timestamp(drift(serve(hours))["since"]).tz is not None


@pytest.mark.parametrize("shape", ["wide", "covariates", "zoned"])
def test_whatever_stands_in_actuals_is_answered_as_the_document_says(
    bundles: Bundles, serve: Serve, shape: str
) -> None:
    client, columns = serve(bundles(shape)), request(bundles(shape))["history"]
    document = Document(client("GET", "/openapi.json").json)
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for body in ({"actuals": columns}, {"actuals": records}):
        for at in [*places(body)]:
            for odd in (None, True, -1, 1e300, "", "0001-01-01", "9999-12-31T23:00:00", [], {}, [[]], [{}]):
                told = deepcopy(body) if at else odd
                within: Any = told
                for key in at[:-1]:
                    within = within[key]
                if at:
                    within[at[-1]] = deepcopy(odd)
                found = client("POST", "/actuals", told, {"content-type": "application/json"})
                document.check("POST", "/actuals", found.status, found.headers, found.body)
                assert found.status in (200, 400, 422)
                assert found.status != 200 or document.permits("/actuals", "application/json", told)
    assert client("GET", "/drift").status == 200
