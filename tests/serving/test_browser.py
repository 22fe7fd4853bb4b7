"""The page at /ui as a person has it: in a browser, with a file, a keyboard or a phone."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.serving.browser import Seen, chart, table, text
from tests.serving.conftest import SHAPES, H, L, frame, trained
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.schema import Schema

Bundles = Callable[[str], Bundle]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
seen = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which is not installed")
BAD = "<img src=x onerror=document.title='hacked'>"
SCORES = {"mae": 0.5, "mse": 0.4, "mae_raw": 1.25, "rmse_raw": 2.5, "mase": 0.5, "smape": 0.1, "windows": 40.0}


def scored(bundle: Bundle, place: Path) -> Bundle:
    """The bundle with an evaluation beside a baseline, as a run leaves it."""
    steps = {"coverage-90": [0.9, 0.91, 0.92, 0.93, 0.94, 0.95], "coverage-80": [0.8] * H}
    judged = {"model": "ridge", "part": "test", "stride": 1, "by_step": steps}
    judged["scores"] = {"naive": {**SCORES, "mae_raw": 2.75}, "ridge": SCORES}
    metadata = {**bundle.metadata, "name": "shop load", "chosen_until": "2024-01-05 00:00:00", "evaluation": judged}
    return replace(bundle, metadata=metadata).save(place)


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    assert CHROMIUM is not None
    found = Seen(CHROMIUM, tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def shop(look: Seen, bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Bundle]:
    """A scored bundle of three series, and where it is served."""
    bundle = scored(bundles("long"), tmp_path_factory.mktemp("scored") / "bundle")
    return look.serve(bundle), bundle


@seen
def test_when_a_file_is_dropped_then_chart_table_and_download_are_the_forecast(
    look: Seen, shop: tuple[str, Bundle], tmp_path: Path
) -> None:
    (address, bundle), data = shop, SHAPES["long"][0]
    data.to_csv(tmp_path / "shop's rows.csv", index=False)
    browser = look.open(address)
    browser.drop(tmp_path / "shop's rows.csv")
    browser.wait("!document.getElementById('found').hidden")
    expected = bundle.forecast(data).to_frame()
    for series in ("shop0", "shop2"):
        browser.run(f"$('series').value = '{series}'; $('series').dispatchEvent(new Event('change'))")
        own = expected[expected["unique_id"] == series]
        x, past, ahead, *bounds = (np.array(each, float) for each in chart(browser))
        history = data.loc[data["shop"] == series, "load"].to_numpy()
        shown = len(x) - H
        assert shown >= L
        np.testing.assert_allclose(past[:shown], history[-shown:])
        assert np.isnan(past[shown:]).all()
        assert np.isnan(ahead[:shown]).all()
        np.testing.assert_array_equal(ahead[shown:].astype(np.float32), own["y_hat"].to_numpy(np.float32))
        names = ["y_hat-lo-90", "y_hat-hi-90", "y_hat-lo-80", "y_hat-hi-80"]
        for name, bound in zip(names, bounds, strict=True):
            np.testing.assert_array_equal(bound[shown:].astype(np.float32), own[name].to_numpy(np.float32))
        numbers = table(browser, "numbers")
        assert list(pd.to_datetime(numbers["time"])) == list(own["ds"])
        np.testing.assert_array_equal(numbers["forecast"].astype(np.float32), own["y_hat"].to_numpy(np.float32))
    browser.run("document.getElementById('download').click()")
    file = look.home / "shop's rows-forecast.csv"
    deadline = time.monotonic() + 20
    while not file.exists():
        browser.run("0")
        assert time.monotonic() < deadline
        time.sleep(0.02)
    told = bundle.forecast(data).to_frame().to_csv(index=False)
    assert file.read_text() == told
    for name, run in (("curl", ["bash", "-c"]), ("python", [sys.executable, "-c"])):
        command = browser.run(f"document.getElementById('{name}').textContent")
        done = subprocess.run([*run, command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
    assert (tmp_path / "forecast.csv").read_text() == told
    assert browser.complaints() == []


@seen
def test_when_steps_and_levels_are_chosen_then_only_they_are_there(look: Seen, shop: tuple[str, Bundle]) -> None:
    browser = look.open(shop[0])
    browser.run("$('example').click()")
    browser.wait("!document.getElementById('found').hidden")
    assert len(chart(browser)) == 7
    browser.run("$('horizon').value = 2; $('levels').querySelector('input').click()")
    browser.wait("$('status').textContent.startsWith('2 steps')")
    assert list(table(browser, "numbers")) == ["time", "forecast", "lower 80 %", "upper 80 %"]
    assert len(table(browser, "numbers")) == 2
    assert "horizon=2&levels=80" in browser.run("$('curl').textContent")


@seen
def test_what_is_served_stands_on_the_page(look: Seen, shop: tuple[str, Bundle]) -> None:
    browser = look.open(shop[0])
    assert text(browser, "name") == "shop load"
    assert str(shop[1].digest)[:12] in text(browser, "served")
    assert "2024-01-05" in text(browser, "served")
    scores = table(browser, "scores").set_index("model")
    assert list(scores.index) == ["ridge (served)", "naive"]
    assert list(scores["MAE"]) == ["1.25", "2.75"]
    steps, first, promised, *_ = chart(browser, "coverage")
    assert (steps, promised) == ([1, 2, 3, 4, 5, 6], [90] * H)
    np.testing.assert_allclose(np.array(first, float), [90, 91, 92, 93, 94, 95])
    assert table(browser, "steps")["90 %"].iloc[0] == "90.0 %"


@seen
def test_when_rows_are_refused_then_every_problem_is_there_with_its_rows(look: Seen, shop: tuple[str, Bundle]) -> None:
    data = SHAPES["long"][0].copy()
    data.loc[145, "date"] = data.loc[144, "date"]
    browser = look.open(shop[0])
    browser.run(f"$('text').value = {json.dumps(data.to_csv(index=False))}; $('ask').requestSubmit()")
    browser.wait("document.getElementById('problems').textContent")
    told = [
        each.split(" (")[0]
        for each in browser.run("[...document.querySelectorAll('#problems li')].map((each) => each.innerText)")
    ]
    assert told == ["duplicate timestamps", "gaps against freq 'h', 1 timestamps missing, before"]
    rows = browser.run("[...$('problems').querySelectorAll('tbody tr')].map((row) => row.innerText.split('\\t'))")
    assert [row[:2] for row in rows] == [[str(i + 2), str(data.loc[i, "date"])] for i in (145, 146)]
    assert browser.run("$('found').hidden")


@seen
def test_when_another_bundle_is_served_then_the_page_tells_of_the_one_that_answered(
    look: Seen, bundles: Bundles, shop: tuple[str, Bundle], tmp_path: Path
) -> None:
    address = look.serve(bundles("long"))
    browser, slot = look.open(address), look.apps[address].state.server.slot
    assert str(bundles("long").digest)[:12] in text(browser, "served")
    slot.where = str(shop[1].path)
    assert asyncio.run(slot.reload())
    browser.run("$('example').click()")
    browser.wait("!document.getElementById('found').hidden")
    assert str(shop[1].digest)[:12] in text(browser, "served")
    assert list(table(browser, "scores")["model"]) == ["ridge (served)", "naive"]


@seen
def test_rows_pasted_from_a_spreadsheet_become_the_csv_that_is_read(look: Seen, shop: tuple[str, Bundle]) -> None:
    data = SHAPES["long"][0].assign(note='a, "b"')
    browser = look.open(shop[0])
    copied = json.dumps(data.to_csv(index=False, sep="\t"))
    browser.run(f"""$('pasted').open = true; const copied = new DataTransfer(); copied.setData('text/plain', {copied});
        $('text').dispatchEvent(new ClipboardEvent('paste', {{clipboardData: copied, cancelable: true}}))""")
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(browser.run("$('text').value"))), data.astype({"date": str}))
    browser.run("$('ask').requestSubmit()")
    browser.wait("!document.getElementById('found').hidden")
    assert "3 series" in text(browser, "status")


@seen
def test_when_the_server_wants_a_key_then_it_is_asked_for_and_stays_out_of_what_is_copied(
    look: Seen, bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSFORECAST_KEYS", "ada:" + "k3y/" * 6)
    browser = look.open(look.serve(bundles("wide")))
    browser.run(
        "asked_for = []; window.prompt = (text) => { asked_for.push(text); return null; }; $('example').click()"
    )
    browser.wait("$('problems').textContent.includes('needs a key')")
    typed = ["wrong", "\u20ac", " " + "k3y/" * 6]
    browser.run(
        f"typed = {json.dumps(typed)}; window.prompt = (text) => {{ asked_for.push(text); return typed.shift(); }}"
    )
    browser.run("$('example').click()")
    browser.wait("!document.getElementById('found').hidden")
    assert browser.run("asked_for.length") == 4
    assert browser.run("asked_for[2]") == "That is no key of this server. The key:"
    browser.run("$('horizon').value = 2; $('horizon').dispatchEvent(new Event('change'))")
    browser.wait("$('status').textContent.startsWith('2 steps')")
    assert browser.run("asked_for.length") == 4, "it is asked for once"
    (tmp_path / "example.csv").write_text(browser.run("example"))
    for name, run in (("curl", ["bash", "-c"]), ("python", [sys.executable, "-c"])):
        command = browser.run(f"document.getElementById('{name}').textContent")
        assert "k3y" not in command
        own = {**os.environ, "KEY": "k3y/" * 6}
        done = subprocess.run([*run, command], cwd=tmp_path, capture_output=True, text=True, env=own)
        assert done.returncode == 0, (command, done.stderr)
    assert len((tmp_path / "forecast.csv").read_text().splitlines()) == 3
    browser.run("sessionStorage.clear()")


@seen
def test_when_the_server_is_gone_then_the_page_says_so_and_goes_on(look: Seen, bundles: Bundles) -> None:
    browser = look.open(look.serve(bundles("wide")))
    server, thread = look.servers.pop()
    server.should_exit = True
    thread.join()
    browser.run("$('example').click()")
    browser.wait("$('problems').textContent")
    assert "the server cannot be reached" in text(browser, "problems")


@seen
def test_a_refused_row_to_forecast_is_shown_as_it_stands_in_the_file(look: Seen, bundles: Bundles) -> None:
    browser = look.open(look.serve(bundles("covariates")))
    lines = str(browser.run("example")).splitlines()
    cells = lines[L + 2].split(",")
    cells[lines[0].split(",").index("price")] = "oops"
    lines[L + 2] = ",".join(cells)
    browser.run(f"$('text').value = {json.dumps(chr(10).join(lines))}; $('ask').requestSubmit()")
    browser.wait("document.getElementById('problems').textContent")
    row = browser.run("document.querySelector('#problems tbody tr').innerText.split('\\t')")
    assert row == [str(L + 3), *cells]


@seen
def test_a_cell_that_is_refused_is_never_markup(look: Seen, shop: tuple[str, Bundle]) -> None:
    data = SHAPES["long"][0].astype({"load": object})
    data.loc[140, "load"] = BAD
    browser = look.open(shop[0])
    browser.run(f"$('text').value = {json.dumps(data.to_csv(index=False))}; $('ask').requestSubmit()")
    browser.wait("document.getElementById('problems').textContent")
    assert text(browser, "problems").count(BAD) == 2, "in what is said, and in the row"
    assert browser.run("document.images.length") == 0
    assert "hacked" not in browser.run("document.title")


@seen
def test_a_script_that_comes_with_markup_is_not_run(look: Seen, shop: tuple[str, Bundle]) -> None:
    browser = look.open(shop[0])
    browser.run("""document.body.insertAdjacentHTML('beforeend', '<img src="ui/none" onerror="window.evil = 1">');
        const script = document.createElement('script'); script.textContent = 'window.evil = 2';
        document.body.append(script); document.images[0].decode().catch(() => 0)""")
    assert browser.run("window.evil") is None
    assert sum("Content Security Policy" in each for each in browser.complaints()) >= 2


@seen
def test_names_from_the_data_are_never_markup(look: Seen, tmp_path: Path) -> None:
    data = frame(2).rename(columns={"load": BAD, "shop": "<b>id"})
    data["<b>id"] = BAD + data["<b>id"]
    schema = Schema("date", "<b>id", (BAD, "visits"), freq="h", units={BAD: "<i>W"})
    browser = look.open(look.serve(trained(data, schema, tmp_path / "bundle")))
    data.to_csv(tmp_path / "<b>rows.csv", index=False)
    browser.drop(tmp_path / "<b>rows.csv")
    browser.wait("!document.getElementById('found').hidden")
    assert browser.run("[...$('channel').options].map((each) => each.text)") == [BAD, "visits"]
    assert BAD in text(browser, "numbers")
    assert browser.run("document.images.length + document.querySelectorAll('b, i').length") == 0
    assert "hacked" not in browser.run("document.title")
    assert browser.complaints() == []


@seen
@pytest.mark.parametrize("shape", ["wide", "daily", "monthly", "zoned", "covariates", "holes"])
def test_the_example_of_every_kind_of_model_is_drawn(look: Seen, bundles: Bundles, shape: str) -> None:
    bundle = bundles(shape)
    browser = look.open(look.serve(bundle), width=400)
    browser.run("$('example').click()")
    browser.wait("!document.getElementById('found').hidden")
    assert bundle.golden is not None
    for channel in bundle.channels:
        browser.run(f"$('channel').value = '{channel}'; $('channel').dispatchEvent(new Event('change'))")
        _, past, ahead, *_ = (np.array(each, float) for each in chart(browser))
        assert (len(past), len(ahead)) == (L + H, L + H)
        np.testing.assert_allclose(past[:L], np.array(bundle.golden["history"][channel], float))
        golden = np.array(bundle.golden["values"])[0, :, bundle.channels.index(channel)]
        np.testing.assert_allclose(ahead[L:], golden, rtol=1e-5)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth"), "a phone need not scroll sideways"
    assert browser.complaints() == []


@seen
def test_all_of_it_can_be_done_with_the_keyboard(look: Seen, shop: tuple[str, Bundle]) -> None:
    browser = look.open(shop[0])
    reached: list[str] = []
    while "example" not in reached:
        browser.press("Tab", 9)
        reached.append(browser.run("document.activeElement.id || document.activeElement.className"))
        assert len(reached) < 10, reached
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter", 13, "\r")
    browser.wait("!document.getElementById('found').hidden")
    for _ in range(40):
        browser.press("Tab", 9)
        reached.append(browser.run("document.activeElement.id || document.activeElement.dataset.copy"))
    assert {"skip", "file", "horizon", "download", "curl", "python", "channel"} - set(reached) <= {"channel"}
    unnamed = "[...document.querySelectorAll('input, select, textarea')].filter((each) => !each.labels.length).length"
    assert browser.run(unnamed) == 0


@seen
def test_in_the_dark_the_ground_is_dark_and_the_charts_are_drawn_anew(look: Seen, shop: tuple[str, Bundle]) -> None:
    browser = look.open(shop[0])
    browser.run("$('example').click()")
    browser.wait("!document.getElementById('found').hidden")
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    light, ink = sum(browser.run(ground)), browser.run("$('chart').uplot.series[2].stroke()")
    browser.resize(1400, "dark")
    browser.wait(f"$('chart').uplot.series[2].stroke() !== '{ink}'")
    assert (light > 600, sum(browser.run(ground)) < 160) == (True, True)
