"""The page at /ui: what is served of it."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser

import pytest

from tests.serving.conftest import Client
from tsforecast.serving.page import FOLDER

NPM = {  # of the package uplot 1.6.32, as the registry has it
    "uPlot.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uPlot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


class Markup(HTMLParser):
    """Tags and attributes of a page, and the text inside its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.inline += data if self.tags and self.tags[-1][0] in ("script", "style") else ""


def test_every_file_that_the_page_asks_for_is_served_and_lets_nothing_else_in(client: Client) -> None:
    index = client("GET", "/ui")
    assert index.status == 200
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    page = Markup(index.body.decode())
    assert page.inline.strip() == ""
    assert not [name for _, given in page.tags for name in given if name.startswith("on") or name == "style"]
    linked = [given.get(name) for _, given in page.tags for name in ("src", "href") if given.get(name)]
    links = [str(link) for link in linked if not str(link).startswith("#")]
    assert len(links) > 5
    for link in links:
        assert not re.match(r"\w+:|//|/", link), "relative, so that it works behind a prefix"
        found = client("GET", f"/{link}")
        assert found.status == 200, link
    for answer in (index, client("GET", "/ui/app.js"), client("GET", "/ui/app.css")):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_is_kept_until_it_is_another_one(client: Client) -> None:
    first = client("GET", "/ui/app.js")
    assert first.headers["cache-control"] == "no-cache"
    again = client("GET", "/ui/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert client("GET", "/ui/app.js", headers={"if-none-match": '"other"'}).body == first.body


def test_the_head_of_a_file_is_that_of_its_get(client: Client) -> None:
    head, whole = client("HEAD", "/ui"), client("GET", "/ui")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) == len(whole.body)


@pytest.mark.parametrize(
    "path", ["/ui/nope", "/ui/..", "/ui/../page.py", "/ui/page.py", "/ui/index.html", "/ui/app.js/"]
)
def test_nothing_else_is_served(client: Client, path: str) -> None:
    assert client("GET", path).status == 404
    assert client("GET", path).json["code"] == "not_found"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_page_is_only_read(client: Client, method: str) -> None:
    assert client(method, "/ui").status == 405


def test_an_address_with_a_slash_leads_to_the_one_without(client: Client) -> None:
    found = client("GET", "/ui/")
    assert (found.status, found.headers["location"]) == (307, "../ui")


def test_the_chart_library_is_the_published_one_with_its_licence() -> None:
    assert {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in NPM} == NPM
    assert "MIT" in (FOLDER / "uPlot.LICENSE").read_text()


def test_no_script_of_ours_writes_markup_or_knows_another_host() -> None:
    for file in sorted({each.name for each in FOLDER.iterdir()} - {*NPM, "icon.svg"}):
        text = (FOLDER / file).read_text(encoding="utf-8")
        found = re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|https?://|localStorage", text)
        assert found == [], file


def test_the_model_tells_what_the_page_shows(client: Client) -> None:
    told = client("GET", "/model").json
    assert told["csv"] == {"sep": ",", "decimal": ".", "thousands": None, "date_format": None, "unsorted": "error"}
    assert {"units", "trained_until", "evaluation"} <= set(told)
