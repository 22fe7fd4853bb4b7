"""What a server tells of its owner's data and machine: as little as it is told to, and of paths nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.errors import refused
from tests.serving.browser import Seen
from tests.serving.conftest import SHAPES, Client, request
from tests.serving.document import Document
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError
from tsforecast.serving.asgi import create_app
from tsforecast.serving.routes import ROUTES
from tsforecast.serving.settings import Settings

Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]
TRAINED, SERVED = "of-the-machine-that-trained", "of-the-machine-that-serves"


@pytest.mark.parametrize("shape", ["wide", "covariates"])
def test_with_minimal_neither_rows_nor_scores_of_training_are_told_and_requests_are_described_as_before(
    bundles: Bundles, serve: Serve, shape: str
) -> None:
    bundle = bundles(shape)
    whole, least = serve(bundle), serve(bundle, expose="minimal")
    rows = request(bundle)["history"]["load"]
    for path in ("/openapi.json", "/model"):
        text = least("GET", path).body.decode()
        assert not any(str(value) in text for value in rows)
        assert any(str(value) in whole("GET", path).body.decode() for value in rows) is (path == "/openapi.json")
    told, known = least("GET", "/model").json, whole("GET", "/model").json
    Document(least("GET", "/openapi.json").json).check("GET", "/model", 200, {"content-type": "application/json"},
                                                       orjson.dumps(told))  # fmt: skip
    blank = {"trained_until": None, "series": None, "scores": {}, "evaluation": None}
    assert told == known | blank != known
    documents = [client("GET", "/openapi.json").json for client in (least, whole)]
    assert documents[0]["components"] == documents[1]["components"]
    shifted = request(bundle)
    shifted["history"]["load"] = [value * 3 + 7 for value in shifted["history"]["load"]]
    for client in (least, whole):
        assert client("POST", "/forecast", shifted).status == 200
    told, known = (client("GET", "/drift").json for client in (least, whole))
    assert [each["what"] for each in told["reasons"]] == [each["what"] for each in known["reasons"]] != []
    assert {each["usual"] for each in told["reasons"]} | {each["got"] for each in told["reasons"]} == {"", None}
    assert (told["columns"]["load"], told["errors"]) == ({"verdict": known["columns"]["load"]["verdict"]}, {})
    assert least("POST", "/forecast", request(bundle)).body == whole("POST", "/forecast", request(bundle)).body


def test_with_minimal_the_page_takes_a_file_and_shows_no_example(
    look: Seen, shop: tuple[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSFORECAST_EXPOSE", "minimal")
    SHAPES["long"][0].to_csv(tmp_path / "rows.csv", index=False)
    browser = look.browser
    browser.open(f"{look.serve(shop[1])}/ui")
    browser.wait("document.getElementById('scores').textContent.includes('no scores')")
    browser.wait("document.getElementById('example').hidden")
    assert not browser.run("document.getElementById('example').checkVisibility()")
    assert "2024-01-05" not in browser.run("document.body.innerText"), "until when it was trained"
    browser.drop(tmp_path / "rows.csv")
    browser.wait("!document.getElementById('found').hidden")
    assert browser.complaints() == []


def test_what_is_neither_all_nor_minimal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSFORECAST_EXPOSE", "min")
    with refused(ConfigError, where="TSFORECAST_EXPOSE", got="min", allowed=["all", "minimal"]):
        Settings.from_environment()


def several() -> Client:
    """Of a server of TSFORECAST_BUNDLES."""
    app = create_app()
    app.state.server.start()
    return Client(app)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as the command trains it, in a folder whose name can be told, and then taken to another machine."""
    home = tmp_path_factory.mktemp(TRAINED)
    SHAPES["wide"][0].to_csv(home / "rows.csv", index=False)
    words = ["dataset=wide", f"dataset.path={home}/rows.csv", f"hydra.run.dir={home}/run", "model=ridge",
             "lookback=24", "horizon=6", "tracking=none", "report=none"]  # fmt: skip
    command = [sys.executable, "-m", "tsforecast.train", *words]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert any(TRAINED in file.read_text() for file in (home / "run/bundle").glob("*.json")), "the bundle knows it"
    place = tmp_path_factory.mktemp(SERVED) / "bundle"
    return shutil.copytree(home / "run/bundle", place)


def test_no_route_tells_a_path_of_the_machine_that_trained_nor_to_any_but_the_owner_of_the_one_that_serves(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSFORECAST_WEBHOOK_SECRET", "s" * 16)
    away = shutil.copytree(elsewhere, elsewhere.parent / "away")
    monkeypatch.setenv("TSFORECAST_BUNDLES", f"one={elsewhere},two={away}")
    monkeypatch.setenv("TSFORECAST_ADMIN_KEY", "k" * 16)
    client, bundle = several(), Bundle.load(elsewhere)
    good, told = orjson.dumps(request(bundle)), dict[str, bytes]()
    csv = SHAPES["wide"][0].tail(30).to_csv(index=False).encode()
    bodies = (b"", good, csv, b"{", b'{"history": []}', good.replace(b"load", b"laod"), b"x" * 100, b"\xff")
    admin = {"authorization": "Bearer " + "k" * 16}
    for name in ("", "/models/one", "/models/two", "/models/none"):
        for route in ROUTES:
            path = name + route.replace("{file}", "app.js").replace("{name}", "one")
            for method in ("GET", "POST", "PUT"):
                for body in bodies if method == "POST" else (b"",):
                    for headers in ({}, {"content-type": "application/json"}, {"content-type": "text/csv"}, admin):
                        found = client(method, path, body, headers)
                        told[f"{method} {path} {body[:20]!r} {headers}"] = found.body + repr(found.headers).encode()
    assert sum(b'"point"' in each for each in told.values()) > 4
    assert not [what for what, each in told.items() if TRAINED.encode() in each]
    assert not [what for what, each in told.items() if SERVED.encode() in each and "/admin/reload" not in what]
    shutil.rmtree(away)
    fresh = several()
    found = fresh("GET", "/models/two/model")
    assert (found.status, SERVED in found.body.decode()) == (503, False), "nor where one cannot be loaded"
