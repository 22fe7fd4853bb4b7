"""The page at /ui as a person has it: in a browser, with a file, a keyboard or a phone."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import until
from tests.serving.browser import Seen, chart, table, text
from tests.serving.conftest import SHAPES, H, L
from tsforecast.bundle.bundle import Bundle

Bundles = Callable[[str], Bundle]


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
    assert browser.run("$('series').checkVisibility()")
    browser.run("document.getElementById('download').click()")
    file = look.home / "shop's rows-forecast.csv"
    until(lambda: (browser.run("0"), file.exists())[1])
    told = bundle.forecast(data).to_frame().to_csv(index=False)
    assert file.read_text() == told
    for name, run in (("curl", ["bash", "-c"]), ("python", [sys.executable, "-c"])):
        command = browser.run(f"document.getElementById('{name}').textContent")
        done = subprocess.run([*run, command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
    assert (tmp_path / "forecast.csv").read_text() == told
    assert browser.complaints() == []


def test_a_file_that_was_mended_can_be_chosen_again_and_the_last_date_is_whole(
    look: Seen, shop: tuple[str, Bundle], tmp_path: Path
) -> None:
    (address, _), file = shop, tmp_path / "rows.csv"
    browser, data = look.open(address), SHAPES["long"][0]
    for rows, said in ((data.head(2), "There is no forecast."), (data, f"{H} steps")):
        rows.to_csv(file, index=False)
        node = browser.call("Runtime.evaluate", expression="$('file')")["result"]["objectId"]
        browser.call("DOM.setFileInputFiles", files=[str(file)], objectId=node)
        browser.wait(f"$('status').textContent.startsWith({json.dumps(said)})")
    assert text(browser, "taken") == f"rows.csv: {len(data)} rows"
    ink = "(part) => getComputedStyle($('file'), part).color"
    hidden, shown = (browser.run(f"({ink})({part})") for part in ("null", "'::file-selector-button'"))
    assert hidden == "rgba(0, 0, 0, 0)" != shown
    room = "(({ uplot: { bbox, width } }) => width - (bbox.left + bbox.width) / devicePixelRatio)($('chart'))"
    assert browser.run(room) >= 36  # half of a date


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
    write = "CanvasRenderingContext2D.prototype.fillText"
    drawn = browser.run(
        f"(async () => {{ const before = {write}, said = []; {write} = (text, x, y) => said.push([text, y]);"
        f" $('coverage').uplot.redraw(false); await null; {write} = before; return said; }})()"
    )
    ends = {said: height for said, height in drawn if said.endswith("%")}
    assert [*ends] == ["90 %", "80 %"]
    assert ends["90 %"] < ends["80 %"], "beside the end of its line, which is higher"


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
    assert browser.run("$('channel').checkVisibility()") == (len(bundle.channels) > 1), "there is something to choose"
    assert not browser.run("$('series').checkVisibility()")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth"), "a phone need not scroll sideways"
    assert browser.complaints() == []


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


def test_in_the_dark_the_ground_is_dark_and_the_charts_are_drawn_anew(look: Seen, shop: tuple[str, Bundle]) -> None:
    browser = look.open(shop[0])
    browser.run("$('example').click()")
    browser.wait("!document.getElementById('found').hidden")
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    light, ink = sum(browser.run(ground)), browser.run("$('chart').uplot.series[2].stroke()")
    browser.resize(1400, "dark")
    browser.wait(f"$('chart').uplot.series[2].stroke() !== '{ink}'")
    assert (light > 600, sum(browser.run(ground)) < 160) == (True, True)


def test_when_several_are_served_then_another_is_chosen_and_forecasts_the_same_file(
    look: Seen, bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bundles("wide"), bundles("holes")
    named = {"wide": first.path, "full of holes": tmp_path / "gone", "holes": second.path}
    lines = [f"{name.replace(' ', '-')}={path}" for name, path in named.items()]
    monkeypatch.setenv("TSFORECAST_BUNDLES", ",".join(lines))
    address, data = look.serve(None), SHAPES["wide"][0]
    data.to_csv(tmp_path / "rows.csv", index=False)
    browser = look.open(address)
    assert browser.run("[...$('model').options].map((each) => each.value)") == ["wide", "full-of-holes", "holes"]
    browser.drop(tmp_path / "rows.csv")
    choose = "$('model').value = '{}'; $('model').dispatchEvent(new Event('change'))"
    for name, bundle in (("wide", first), ("holes", second), ("wide", first)):
        if name != browser.run("$('model').value"):
            browser.run(choose.format(name))
        digest = str(bundle.digest)[:12]
        browser.wait(f"$('served').textContent.includes('{digest}') && !$('found').hidden")
        expected = bundle.forecast(data).to_frame()
        own = expected[expected["channel"] == "load"]["y_hat"].to_numpy(np.float32)
        cells = "[...$('numbers').rows].slice(1).map((row) => row.cells[1].textContent).join()"
        browser.wait(f"{cells} === '{','.join(map(str, own))}'")
        if name == "holes":
            assert browser.run("location.pathname") == "/models/holes/ui"
            assert "/models/holes/forecast_csv" in browser.run("$('curl').textContent")
    browser.run(choose.format("full-of-holes"))
    browser.wait("$('problems').textContent.includes('Refused')")
    assert browser.run("[$('model').value, location.pathname]") == ["wide", "/models/wide/ui"], (
        "the page stays as it is"
    )
    browser.open(f"{address}/models/holes/ui")  # as somebody has kept it
    browser.wait(f"$('served').textContent.includes('{str(second.digest)[:12]}')")
    assert browser.run("$('model').value") == "holes"


def test_a_page_of_one_model_has_nothing_to_choose(look: Seen, shop: tuple[str, Bundle]) -> None:
    assert not look.open(shop[0]).run("$('model').checkVisibility()")


def test_whether_the_data_looks_like_training_stands_on_the_page_and_changes_with_what_is_asked(
    look: Seen, bundles: Bundles, tmp_path: Path
) -> None:
    address, data = look.serve(bundles("wide")), SHAPES["wide"][0]
    browser = look.open(address)
    browser.wait("$('seen').textContent.startsWith('Nothing was asked yet')")
    data.assign(load=data["load"] + 9).to_csv(tmp_path / "shifted.csv", index=False)
    browser.drop(tmp_path / "shifted.csv")
    browser.wait("$('verdict').className === 'act'")
    told = json.loads(urllib.request.urlopen(f"{address}/drift").read())
    assert told["verdict"] == "act"
    reasons = browser.run("[...$('reasons').children].map((each) => each.textContent)")
    assert len(reasons) == len(told["reasons"])
    assert reasons[0].startswith(f"act: load, {told['reasons'][0]['what']}")
    columns = table(browser, "columns").set_index("column")
    assert dict(columns["verdict"]) == {name: each["verdict"] for name, each in told["columns"].items()}
    assert columns.loc["load", "outside the range"] == f"{100 * told['columns']['load']['outside']['got']:.1f} %"
    actuals = data.tail(H).assign(date=lambda f: f["date"] + pd.Timedelta(hours=H))
    actuals["date"] = actuals["date"].dt.strftime("%Y-%m-%dT%H:%M:%S")
    body = json.dumps({"actuals": actuals.to_dict("list")}).encode()
    asked = urllib.request.Request(f"{address}/actuals", body, {"Content-Type": "application/json"})
    assert json.loads(urllib.request.urlopen(asked).read())["matched"] == 2 * H
    browser.run("$('again').click()")
    browser.wait("$('errors').rows.length === 6")
    told = json.loads(urllib.request.urlopen(f"{address}/drift").read())["errors"]
    errors = table(browser, "errors").set_index("")
    mae = np.mean(told["mae"]["load"]["got"])
    assert float(errors.loc["MAE of load", "now"].replace(",", "")) == pytest.approx(mae, rel=1e-3)
    covered = np.mean(told["coverage"]["90"]["got"])
    assert errors.loc["coverage of 90 %", "now"] == f"{100 * covered:.1f} %"
    assert browser.complaints() == []
