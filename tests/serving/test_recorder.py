"""What requests bring is kept to train on: every row, once a file, in files that are whole."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from tests.contracts.test_serving import call, serving
from tests.errors import has, refused
from tests.serving.conftest import SHAPES, Client, H, L, request
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.frames import to_panel
from tsforecast.data.sources import Dataset
from tsforecast.errors import ConfigError
from tsforecast.serving.recorder import Recorder

Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]


def body(data: pd.DataFrame, bundle: Bundle, begin: int, rows: int = L) -> bytes:
    """A request that ends at some row, of all series."""
    schema = bundle.schema
    each = [part for _, part in data.groupby(schema.id)] if schema.id else [data]
    history = pd.concat([part.iloc[begin : begin + rows] for part in each])
    own = [*schema.stamp_columns, *schema.key, *bundle.channels, *schema.past, *schema.known, *schema.static]
    asked: dict[str, Any] = {"history": history[own].to_dict("list")}
    if schema.known:
        future = pd.concat([part.iloc[begin + rows : begin + rows + H] for part in each])
        asked["known_future"] = future[[*schema.stamp_columns, *schema.key, *schema.known]].to_dict("list")
    text = [stamp.isoformat() for stamp in asked["history"]["date"]]
    asked["history"]["date"] = text
    if schema.known:
        asked["known_future"]["date"] = [stamp.isoformat() for stamp in asked["known_future"]["date"]]
    return orjson.dumps(asked, option=orjson.OPT_SERIALIZE_NUMPY)


def read(folder: Path, bundle: Bundle, **how: Any) -> Any:
    """The panel of the files of a model, as `dataset.path=FOLDER` reads it."""
    roles = {name: getattr(bundle.schema, name) for name in ("time", "id", "target", "past", "known", "static")}
    more = {"categorical": bundle.schema.categorical, "timezone": bundle.schema.timezone, "freq": bundle.schema.freq}
    return Dataset(path=str(folder), **roles, **more, **how).load(for_training=False).panel


@pytest.mark.parametrize("shape", ["wide", "long", "covariates", "zoned", "holes"])
def test_rows_of_requests_that_overlap_are_read_back_as_they_stood_in_the_data(
    bundles: Bundles, serve: Serve, shape: str, tmp_path: Path
) -> None:
    (data, schema), bundle = SHAPES[shape], bundles(shape)
    client = serve(bundle, request_log=tmp_path)
    for begin in (0, 1, 1, 5, 3, 20, 21, 0):
        answer = client("POST", "/forecast", body(data, bundle, begin))
        assert answer.status == 200, answer.body
    client("POST", "/forecast", b'{"history": []}')  # what is refused is not kept
    assert not list(tmp_path.rglob("*.parquet"))
    client.app.state.server.close()
    (file,) = tmp_path.rglob("*.parquet")
    assert file.parent.name == "test"
    assert not list(tmp_path.rglob(".*"))
    kept = pd.read_parquet(file)
    assert not kept.duplicated([*bundle.schema.key, bundle.schema.stamp]).any()
    first = [part.iloc[: 21 + L] for _, part in data.groupby(schema.id)] if schema.id else [data.iloc[: 21 + L]]
    expected, found = to_panel(pd.concat(first), bundle.schema), read(file.parent, bundle)
    assert list(found.ids) == list(expected.ids)
    pd.testing.assert_index_equal(found.time, expected.time, exact=False, check_names=False)
    for name in ("target", "past", "known", "static"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_rows_between_and_before_those_that_are_known_are_kept_and_the_first_that_came_counts(
    bundles: Bundles, serve: Serve, tmp_path: Path
) -> None:
    (data, _), bundle = SHAPES["wide"], bundles("wide")
    client = serve(bundle, request_log=tmp_path)
    later = data.assign(load=data["load"] + 1)
    for begin, rows in ((60, data), (0, data), (30, data), (95, data), (50, later), (1, later)):
        assert client("POST", "/forecast", body(rows, bundle, begin)).status == 200
    client.app.state.server.close()
    known = [*range(24), *range(30, 54), *range(60, 84), *range(95, 119)]
    expected = pd.concat([data.iloc[known], later.iloc[[24, *range(54, 60)]]]).sort_values("date")
    found = pd.read_parquet(next(tmp_path.rglob("*.parquet")))
    assert list(found["date"]) == list(expected["date"])
    np.testing.assert_array_equal(found["load"], expected["load"].astype(np.float32))


def test_a_model_is_trained_on_the_folder_by_the_command(bundles: Bundles, serve: Serve, tmp_path: Path) -> None:
    (data, _), bundle = SHAPES["long"], bundles("long")
    client = serve(bundle, request_log=tmp_path / "kept")
    for step in range(3):  # a file each, the second and third with rows of the ones before
        for begin in range(step * 40, step * 40 + 46, 5):
            assert client("POST", "/forecast", body(data, bundle, begin)).status == 200
        client.app.state.server.close()
    assert len(list((tmp_path / "kept").rglob("*.parquet"))) == 3
    words = ["dataset=long", f"dataset.path={tmp_path}/kept/test", "dataset.time=date", "dataset.id=shop",
             "model=ridge",
             "dataset.target=[load]", "dataset.past=[visits]", "dataset.duplicates=last", "dataset.unsorted=sort",
             "lookback=24", "horizon=6", "tracking=none", "report=none", f"hydra.run.dir={tmp_path}/run"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tsforecast.train", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    again = Bundle.load(tmp_path / "run/bundle")
    assert (again.channels, len(again.features.ids)) == (("load",), 3)


def test_a_row_that_comes_again_with_another_value_is_the_later_one(
    bundles: Bundles, serve: Serve, tmp_path: Path
) -> None:
    (data, _), bundle = SHAPES["wide"], bundles("wide")
    client = serve(bundle, request_log=tmp_path)
    client("POST", "/forecast", body(data, bundle, 0))
    client.app.state.server.close()
    mended = data.assign(load=data["load"] + 1)
    client("POST", "/forecast", body(mended, bundle, 0))
    client.app.state.server.close()
    found = read(tmp_path / "test", bundle, duplicates="last", unsorted="sort")
    np.testing.assert_array_equal(found.target[:, 0], mended["load"].to_numpy(np.float32)[:L])


def test_beyond_the_bound_the_oldest_files_go_and_only_those_of_the_log(
    bundles: Bundles, serve: Serve, tmp_path: Path
) -> None:
    (data, _), bundle = SHAPES["wide"], bundles("wide")
    (tmp_path / "test").mkdir()
    mine, begun = tmp_path / "test" / "mine.parquet", tmp_path / "test" / ".20200101T000000000000Z-abc-1-1.parquet"
    for file in (mine, begun):
        file.write_bytes(b"x" * 9000)
    os.utime(begun, (1, 1))  # left by a process that was killed
    client, seen = serve(bundle, request_log=tmp_path, request_log_max=0.02), []
    for begin in range(0, 60, 6):
        assert client("POST", "/forecast", body(data, bundle, begin)).status == 200
        client.app.state.server.close()
        files = sorted((tmp_path / "test").glob("2*.parquet"))
        assert sum(file.stat().st_size for file in files) <= 0.02 * 2**20
        seen.append(files[-1])
    assert len(files) > 2
    assert files == seen[-len(files) :], "those that were written last"
    assert mine.exists()
    assert not begun.exists()


def test_a_server_that_is_stopped_has_written_all(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSFORECAST_REQUEST_LOG", str(tmp_path / "kept"))
    bundle = bundles("wide")
    with serving("asgi", Path(str(bundle.path)), tmp_path) as port:
        assert call(port, "/forecast", body(SHAPES["wide"][0], bundle, 0))[0] == 200
    assert len(read(tmp_path / "kept/test", bundle).time) == L


KILLED = """
import sys, types, numpy as np
from pathlib import Path
from tsforecast.bundle.bundle import Bundle
from tsforecast.serving.engine import Engine
from tsforecast.serving.recorder import Recorder
import orjson
engine = Engine(Bundle.load(Path(sys.argv[1])), True)
live = types.SimpleNamespace(engine=engine, about={"model": "load"})
asked = engine.read(orjson.dumps(engine.example))
recorder = Recorder(Path(sys.argv[2]), 64)
while True:
    recorder.add(live, asked)
    recorder.step(now=True)
    print("one more", flush=True)
"""


def test_a_kill_leaves_whole_files_alone(bundles: Bundles, tmp_path: Path) -> None:
    bundle = bundles("long")
    for wait in (0.001, 0.004):  # into the writing of the next
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(bundle.path), str(tmp_path)],
                                   stdout=subprocess.PIPE)  # fmt: skip
        assert process.stdout is not None
        for _ in range(4):
            process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
    files = list((tmp_path / "load").glob("2*.parquet"))
    assert len(files) >= 8
    rows = len(request(bundle)["history"]["date"])
    assert {len(pd.read_parquet(file)) for file in files} == {rows}
    assert len(read(tmp_path / "load", bundle, duplicates="last", unsorted="sort").time) == rows


def test_of_a_series_with_fewer_rows_than_a_forecast_reads_those_that_it_has_are_kept_and_looked_at(
    bundles: Bundles, serve: Serve, tmp_path: Path
) -> None:
    (data, _), able = SHAPES["wide"], bundles("wide")
    able = replace(able, dims=replace(able.dims, least=10)).save(tmp_path / "bundle")
    client = serve(able, request_log=tmp_path / "kept")
    for rows in (12, 15, L + 3):
        asked = data[:rows].assign(date=data["date"][:rows].astype(str)).to_dict("list")
        assert client("POST", "/forecast", {"history": asked}).status == 200
    client.app.state.server.close()
    (file,) = (tmp_path / "kept").rglob("*.parquet")
    kept = pd.read_parquet(file)
    assert kept["date"].tolist() == data["date"][: L + 3].tolist()
    np.testing.assert_array_equal(kept["load"], data["load"][: L + 3].astype(np.float32))
    told = client("GET", "/drift").json
    assert told["rows"] == min(told["window"], L + 3)
    assert told["columns"]["load"]["missing"]["got"] == 0


def test_a_disk_that_is_full_stops_no_forecast_and_is_told(
    bundles: Bundles, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(bundles("wide"), request_log=tmp_path)
    logging.getLogger("tsforecast").addHandler(caplog.handler)

    def full(_: Any, file: Any, **__: Any) -> None:
        file.write_bytes(b"as much as there is room for")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    for _ in range(2):
        assert client("POST", "/forecast", request(bundles("wide"))).status == 200
        client.app.state.server.recorder.step(now=True)
    logging.getLogger("tsforecast").removeHandler(caplog.handler)
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == [has("No space left")] * 2
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_folder_that_cannot_be_written_to_is_an_error_when_the_server_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused(ConfigError, where="TSFORECAST_REQUEST_LOG", got=has("file")):
        Recorder(tmp_path / "file" / "kept", 1)


def test_by_default_nothing_is_kept(client: Client) -> None:
    assert client.app.state.server.recorder is None


def test_it_is_looked_at_while_the_server_answers(bundles: Bundles, serve: Serve, tmp_path: Path) -> None:
    client = serve(bundles("wide"), request_log=tmp_path, patience=0.1)

    async def run() -> None:
        client.app.state.server.watch()
        await client.send("POST", "/forecast", request(bundles("wide")))
        async with asyncio.timeout(5):
            while not client.app.state.server.recorder._bytes:
                await asyncio.sleep(0.02)

    asyncio.run(run())
