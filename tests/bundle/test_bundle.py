"""What is not a bundle, or not quite, is refused by name; what a model would not read is too."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from tests.errors import has, refused
from tests.serving.conftest import ROWS, H, L, frame, trained

from tsforecast.bundle.bundle import Bundle
from tsforecast.data.frames import to_panel
from tsforecast.data.panel import Panel
from tsforecast.data.schema import READING, Schema
from tsforecast.data.sources import read_frame
from tsforecast.errors import BundleError, DataError, RequestError
from tsforecast.models.linear import LinearForecaster
from tsforecast.serving.engine import Engine
from tsforecast.training.evaluate import evaluate
from tsforecast.windows import Windows


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
        ("schema.target", None),
        ("schema.target", ["load"]),
        ("dims", {"lookback": 24}),
        ("dims", {"lookback": 24, "horizon": 0, "channels": 2}),
        ("quantile_levels", [0.5]),
        ("features", 7),
        ("schema", {"colour": "red"}),
        ("schema", ...),
        ("schema.freq", ...),
    ],
)
def test_when_the_parts_do_not_fit_together_then_loading_says_so(bundle: Bundle, key: str, value: Any) -> None:
    body = json.loads((Path(str(bundle.path)) / "bundle.json").read_text())
    *above, key = key.split(".")
    within = body[above[0]] if above else body
    within.pop(key) if value is ... else within.update({key: value})
    rewrite(bundle, "bundle.json", json.dumps(body).encode())
    with refused(BundleError, where=bundle.path, what=has("fit together")):
        Bundle.load(str(bundle.path))


@pytest.mark.parametrize("name", ["features.npz", "forecaster.safetensors"])
def test_when_an_array_file_holds_something_else_then_loading_says_so(bundle: Bundle, name: str) -> None:
    for content in (b"", b"not arrays"):
        rewrite(bundle, name, content)
        with refused(BundleError, where=bundle.path, what=has("fit together")):
            Bundle.load(str(bundle.path))


@pytest.mark.parametrize("shape", [(2,), (3, 2, 2), (3, 1, 5), (2, 1, 2)], ids=str)
def test_when_the_ranges_of_training_have_another_shape_then_loading_says_so(
    bundle: Bundle, shape: tuple[int, ...]
) -> None:
    archive = io.BytesIO()
    np.savez(
        archive, **{**bundle.features.state(), "calibration.offsets": bundle.offsets, "range.target": np.ones(shape)}
    )
    rewrite(bundle, "features.npz", archive.getvalue())
    with refused(BundleError, where=bundle.path, what=has("fit together")):
        Bundle.load(str(bundle.path))


def test_arrays_that_unfold_to_more_than_their_file_are_not_read(bundle: Bundle) -> None:
    np.savez_compressed(packed := io.BytesIO(), ids=np.zeros(10**7))
    rewrite(bundle, "features.npz", packed.getvalue())
    tracemalloc.start()
    with refused(BundleError, where=bundle.path, got=has("features.npz unfolds")):
        Bundle.load(str(bundle.path))
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_what_onnx_runtime_refuses_is_an_error_of_the_bundle(bundle: Bundle) -> None:
    body = json.loads((Path(str(bundle.path)) / "bundle.json").read_text())
    body["forecaster"] = {"_target_": "tsforecast.models.onnx_runtime.OnnxForecaster", "inputs": ["target"], "rows": 1}
    rewrite(bundle, "bundle.json", json.dumps(body).encode())
    for graph in (b"", b"no graph", b"\n\x08location\x12\x04/etc"):
        rewrite(bundle, "network.onnx", graph)
        with refused(BundleError, where=bundle.path, what=has("fit together")):
            Bundle.load(str(bundle.path))


def test_a_forecast_that_is_not_finite_is_refused(bundle: Bundle) -> None:
    panel = bundle.panel(frame())
    far = replace(panel, target=3e38 * (-1.0) ** np.arange(L, dtype=np.float32)[:, None].repeat(2, axis=1))
    with refused(DataError, where="history", what=has("not finite")):
        bundle.forecast(far)
    with refused(DataError, where="history", what=has("'load'", "1e+18")):
        bundle.forecast(frame().assign(load=lambda f: 3e38 * (-1.0) ** f.index))


def test_forecasts_that_are_not_numbers_and_rows_without_truth_are_not_scored(bundle: Bundle) -> None:
    ahead = np.array([L]), np.array([L + H])

    def score(panel: Panel, bundle: Bundle) -> float:
        windows = Windows.over(bundle.features.encode(panel), lookback=L, horizon=H, begin=ahead[0], end=ahead[1])
        return evaluate(bundle, panel, windows, (np.ones((1, 2)), np.ones((1, 2)))).summary()["mse"]

    panel = bundle.panel(to_panel(frame(), Schema(freq="h")))
    assert np.isfinite(score(panel, bundle))
    unseen = panel.target.copy()
    unseen[L:] = np.nan
    with refused(DataError, where="split", what=has("no row", "observed")):
        score(replace(panel, target=unseen), bundle)
    assert isinstance(bundle.forecaster, LinearForecaster)
    learned = bundle.forecaster.state()
    broken = LinearForecaster().restore({**learned, "bias": learned["bias"] * np.nan})
    with refused(DataError, where="model", got="LinearForecaster"):
        score(panel, replace(bundle, forecaster=broken))


def test_a_history_in_another_kind_of_time_is_refused(bundle: Bundle) -> None:
    aware = frame().assign(date=lambda f: f["date"].dt.tz_localize("UTC"))
    with refused(DataError, where="history", what=has("UTC", "have none")):
        bundle.forecast(aware)
    panel = to_panel(aware, Schema(freq="h"))
    with refused(DataError, where="history", got="time zone UTC", allowed="they are to have none"):
        bundle.forecast(panel)


@pytest.mark.parametrize("names", [("size",), ("size", "weight", "age")], ids=", ".join)
def test_a_panel_with_other_static_covariates_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = frame(2).assign(size=lambda f: f["shop"].str[-1].astype(int), weight=lambda f: 9.0 - f["size"])
    schema = Schema("date", "shop", ("load", "visits"), static=("size", "weight"), freq="h")
    bundle, panel = trained(data, schema, tmp_path / "bundle"), to_panel(data, schema)
    assert bundle.forecast(panel).values.shape == (2, H, 2)
    static = np.ones((2, len(names)), np.float32)
    with refused(DataError, where="history", got=names, allowed=("size", "weight")):
        bundle.forecast(replace(panel, static=static, static_names=names))


@pytest.mark.parametrize("name", ["known_future", "static"])
def test_covariates_that_the_model_does_not_have_are_refused(bundle: Bundle, name: str) -> None:
    with refused(DataError, where=name, allowed="nothing", fix=f"leave {name} out"):
        bundle.forecast(frame(), **{name: frame().head(6)})
    with refused(DataError, where=name, got="dict"):
        bundle.forecast(frame(), **{name: {}})


def test_fewer_steps_and_some_intervals_are_a_part_of_the_whole(bundle: Bundle) -> None:
    whole, part = bundle.forecast(frame()), bundle.forecast(frame(), horizon=2, levels=[80])
    assert whole.quantiles is not None
    assert part.quantiles is not None
    places = [i for i, q in enumerate(whole.quantile_levels) if round(q, 6) in (0.1, 0.9)]
    np.testing.assert_array_equal(part.values, whole.values[:, :2])
    np.testing.assert_array_equal(part.quantiles, whole.quantiles[:, :2, :, places])
    assert [column for column in part.to_frame() if column.startswith("y_hat-")] == ["y_hat-lo-80", "y_hat-hi-80"]
    assert bundle.forecast(frame(), levels=[]).quantiles is None


@pytest.mark.parametrize("asked", [{"horizon": 0}, {"horizon": H + 1}, {"horizon": 1.0}, {"levels": [85]},
                                   {"levels": 80}, {"levels": [80, 80]}, {"levels": ["80"]}])  # fmt: skip
def test_steps_and_intervals_that_are_not_there_are_refused(bundle: Bundle, asked: dict[str, Any]) -> None:
    [(name, value)] = asked.items()
    allowed = {"horizon": f"1 to {H}, the trained one", "levels": "a list of some of 90, 80"}[name]
    with refused(RequestError, where=name, got=value, allowed=allowed):
        bundle.forecast(frame(), **asked)


@pytest.mark.parametrize("series", [1, 2])
@pytest.mark.parametrize("answered", ["from Python", "over HTTP"])
def test_a_series_the_scaler_has_not_seen_is_refused_however_many_it_has(
    tmp_path: Path, series: int, answered: str
) -> None:
    data = frame(max(series, 2)).query(f"shop <= 'shop{series - 1}'")
    bundle = trained(data, Schema("date", "shop", ("load",), past=("visits",), freq="h"), tmp_path / "bundle")
    other = data.query("shop == 'shop0'").tail(L).assign(shop="shop7")
    with refused(DataError, where="history", got="shop7") as caught:
        ask(bundle, other, answered)
    assert "shop7" in str(caught.value.got)
    assert "did you mean shop" in str(caught.value.fix)


@pytest.mark.parametrize("answered", ["from Python", "over HTTP"])
def test_a_channel_with_nothing_observed_is_refused_even_where_training_had_such_windows(
    tmp_path: Path, answered: str
) -> None:
    holed = frame().assign(load=lambda f: f["load"].where(f.index > L + 3))
    bundle = trained(holed, Schema(target=("load", "visits"), freq="h"), tmp_path / "bundle")
    assert bundle.missing["load"] == L
    with refused(DataError, where="history", got="load"):
        ask(bundle, frame().tail(L).assign(load=np.nan), answered)


def ask(bundle: Bundle, history: pd.DataFrame, answered: str) -> Any:
    if answered == "from Python":
        return bundle.forecast(history)
    cells = history.assign(date=history["date"].astype(str)).astype(object).where(history.notna(), None)
    return Engine(bundle).read(orjson.dumps({"history": cells.to_dict("list")}))


@pytest.mark.parametrize("turned", ["channels", "past_names", "static_names"])
def test_a_panel_is_matched_by_the_names_of_its_columns(tmp_path: Path, turned: str) -> None:
    names = {"target": ("a", "b"), "past": ("p", "q"), "static": ("s", "t")}
    data = frame(2).assign(**{name: lambda f, i=i: f["visits"] * i for i, name in enumerate("abpq", start=1)})
    data = data.assign(s=lambda f: f["shop"].str[-1].astype(int), t=lambda f: 5 - f["s"])
    bundle = trained(data, Schema("date", "shop", **names, freq="h"), tmp_path / "bundle")
    panel = bundle.panel(data).tail(L)
    values = {"channels": "target", "past_names": "past", "static_names": "static"}[turned]
    reordered = {turned: getattr(panel, turned)[::-1], values: getattr(panel, values)[:, ::-1]}
    expected = bundle.forecast(panel).values
    np.testing.assert_array_equal(bundle.forecast(replace(panel, **reordered)).values, expected)
    fewer = {turned: getattr(panel, turned)[:1], values: getattr(panel, values)[:, :1]}
    with refused(DataError, where="history", got=fewer[turned], allowed=getattr(panel, turned)):
        bundle.forecast(replace(panel, **fewer))


def test_a_bundle_reads_a_frame_as_it_was_read_for_training(tmp_path: Path) -> None:
    how = Schema(decimal="comma", thousands="space", sep="bar", date_format="%d.%m.%Y %H:%M", localize="Europe/Berlin",
                 gaps="fill", duplicates="last")  # fmt: skip
    data = frame().drop(index=[100, ROWS - 5]).iloc[[*range(ROWS - 10), *range(ROWS - 11, ROWS - 2)]]
    text = data.assign(
        date=data["date"].dt.strftime("%d.%m.%Y %H:%M"), load=data["load"].astype(str).str.replace(".", ",")
    )
    bundle = trained(text, how, tmp_path / "bundle")
    for name in READING:
        assert getattr(bundle.schema, name) == getattr(how, name)
    told = bundle.forecast(text)
    (tmp_path / "x.csv").write_text(text.to_csv(index=False, sep="|", decimal=","))
    engine = Engine(bundle)
    over_http = engine.read_csv((tmp_path / "x.csv").read_bytes())
    assert over_http.panel.time.equals(engine.read(json.dumps({"history": {
        name: list(column) for name, column in data.assign(date=data["date"].map(lambda t: t.isoformat())).items()
    }}).encode()).panel.time)  # fmt: skip
    whole = over_http.panel
    sent = bundle.forecast(whole.rows(whole.offsets[:-1], whole.offsets[:-1] + L))
    for other in (sent, bundle.forecast(read_frame(tmp_path / "x.csv", bundle.schema))):
        np.testing.assert_array_equal(told.values, other.values)
    assert str(told.cutoff.tz) == "Europe/Berlin"


@pytest.mark.parametrize("spoil", ["gap", "order", "twice", "text", "time", "huge", "nameless"])
@pytest.mark.parametrize("far", [True, False])
def test_rows_before_those_that_are_read_do_no_harm(tmp_path: Path, spoil: str, far: bool) -> None:
    clean = frame(2).rename(columns={"date": "ds", "shop": "unique_id"})
    bundle = trained(clean, Schema(id="unique_id", target=("load", "visits"), freq="h"), tmp_path / "bundle")
    data = clean.astype({"ds": str, "load": object})
    at = ROWS + 9 if far else 2 * ROWS - 9
    if spoil == "gap":
        data = data.drop(index=at)
    elif spoil == "order":
        data = data.iloc[[*range(at), at + 1, at, *range(at + 2, len(data))]]
    elif spoil == "twice":
        data = data.iloc[[*range(at), *range(at - 1, len(data))]]
    else:
        column = {"text": "load", "time": "ds", "huge": "load", "nameless": "unique_id"}[spoil]
        data.loc[at, column] = {"text": "x", "time": "soon", "huge": 1e30, "nameless": None}[spoil]
    requests: list[Callable[[], Panel]] = [
        lambda: bundle.panel(data).tail(L),
        lambda: Engine(bundle).read_csv(data.to_csv(index=False).encode()).panel,
        lambda: Engine(bundle).read(json.dumps({"history": data.to_dict("list")}).encode()).panel,
    ]
    for read in requests[: 2 if spoil in ("text", "nameless") else 3]:  # JSON has types, which all cells must have
        if far:
            time = read().time
            assert time[-1] - time[0] == (L - 1 if read is requests[0] else L + H - 1) * pd.Timedelta("1h")
        else:
            with pytest.raises(DataError):
                read()
