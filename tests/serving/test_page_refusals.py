"""What the page at /ui shows in a browser of what is refused, and of names and cells that look like markup."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.serving.browser import Seen, text
from tests.serving.conftest import SHAPES, L, frame, trained
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.schema import Schema

Bundles = Callable[[str], Bundle]
BAD = "<img src=x onerror=document.title='hacked'>"


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


def test_when_the_server_is_gone_then_the_page_says_so_and_goes_on(look: Seen, bundles: Bundles) -> None:
    browser = look.open(look.serve(bundles("wide")))
    server, thread = look.servers.pop()
    server.should_exit = True
    thread.join()
    browser.run("$('example').click()")
    browser.wait("$('problems').textContent")
    assert "the server cannot be reached" in text(browser, "problems")


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


def test_a_cell_that_is_refused_is_never_markup(look: Seen, shop: tuple[str, Bundle]) -> None:
    data = SHAPES["long"][0].astype({"load": object})
    data.loc[140, "load"] = BAD
    browser = look.open(shop[0])
    browser.run(f"$('text').value = {json.dumps(data.to_csv(index=False))}; $('ask').requestSubmit()")
    browser.wait("document.getElementById('problems').textContent")
    assert text(browser, "problems").count(BAD) == 2, "in what is said, and in the row"
    assert browser.run("document.images.length") == 0
    assert "hacked" not in browser.run("document.title")


def test_a_script_that_comes_with_markup_is_not_run(look: Seen, shop: tuple[str, Bundle]) -> None:
    browser = look.open(shop[0])
    browser.run("""document.body.insertAdjacentHTML('beforeend', '<img src="ui/none" onerror="window.evil = 1">');
        const script = document.createElement('script'); script.textContent = 'window.evil = 2';
        document.body.append(script); document.images[0].decode().catch(() => 0)""")
    assert browser.run("window.evil") is None
    assert sum("Content Security Policy" in each for each in browser.complaints()) >= 2


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
