"""Catalogue files are found, checked and downloaded."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.errors import has, refused

from tsforecast.data import catalogue
from tsforecast.data.catalogue import CATALOGUE, Entry, fetch, sha256
from tsforecast.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
CONTENT = b"date,a\n" + b"".join(b"2021-01-01 00:%02d:00,%d\n" % (i % 60, i) for i in range(20_000))


@dataclass
class Server:
    """Serves CONTENT; `stop_after` bytes of an answer it hangs up, once."""

    address: str = ""
    stop_after: int | None = None
    content: bytes = CONTENT
    asked: int = 0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.content)))
            self.end_headers()
            stop, state.stop_after = state.stop_after, None
            self.wfile.write(state.content[:stop])

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{httpd.server_port}/toy.csv"
    monkeypatch.setitem(
        catalogue.CATALOGUE,
        "toy",
        Entry("toy.csv", state.address, hashlib.sha256(CONTENT).hexdigest(), "CC0", "nobody"),
    )
    monkeypatch.delenv("TSFORECAST_DATA_DIR", raising=False)
    yield state
    httpd.shutdown()
    httpd.server_close()


def test_the_committed_dataset_is_the_one_of_the_catalogue():
    assert fetch("beijing_pm25", ROOT / "data") == ROOT / "data" / "beijing_pm25.csv"


def test_the_readme_states_every_digest_and_licence():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for name, entry in CATALOGUE.items():
        for fact in (name, entry.file, entry.sha256, entry.licence):
            assert fact in text


def test_when_a_file_is_nowhere_then_it_is_downloaded_whole_and_once(server, tmp_path):
    file = fetch("toy", tmp_path / "data")
    assert file.read_bytes() == CONTENT
    assert [p.name for p in file.parent.iterdir()] == ["toy.csv"]
    fetch("toy", tmp_path / "data")
    assert server.asked == 1


def test_when_a_download_breaks_off_then_nothing_is_kept_and_the_next_is_whole(server, tmp_path):
    server.stop_after = 100_000
    with refused(DataError, what=has("toy"), got=has("IncompleteRead")):
        fetch("toy", tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fetch("toy", tmp_path).read_bytes() == CONTENT


def test_when_the_download_has_another_digest_then_it_is_refused_and_not_kept(server, tmp_path):
    server.content = CONTENT.replace(b"1", b"2")
    with refused(DataError, what=has("toy"), got=has("SHA256", "toy.csv")):
        fetch("toy", tmp_path)
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    assert fetch("toy", tmp_path).read_bytes() == CONTENT


def test_when_the_server_is_away_then_the_message_says_where_to_put_the_file(server, tmp_path, monkeypatch):
    gone = Entry("toy.csv", "http://127.0.0.1:9/toy.csv", "0" * 64, "CC0", "nobody")
    monkeypatch.setitem(catalogue.CATALOGUE, "toy", gone)
    with pytest.raises(DataError) as caught:
        fetch("toy", tmp_path)
    for fact in (str(tmp_path), "TSFORECAST_DATA_DIR", "make demo", gone.address or ""):
        assert fact in str(caught.value)


def test_when_the_file_lies_in_the_folder_of_the_environment_then_it_is_used(server, tmp_path, monkeypatch):
    (tmp_path / "toy.csv").write_bytes(CONTENT)
    monkeypatch.setenv("TSFORECAST_DATA_DIR", str(tmp_path))
    assert fetch("toy", tmp_path / "elsewhere") == tmp_path / "toy.csv"
    assert server.asked == 0


def test_when_a_file_was_altered_then_it_is_refused_though_a_download_would_do(server, tmp_path):
    (tmp_path / "toy.csv").write_bytes(CONTENT[:-1])
    with refused(DataError, got=has("sha256"), allowed=has("sha256"), what=has("toy")):
        fetch("toy", tmp_path)
    assert server.asked == 0


def test_when_a_name_is_misspelt_then_the_nearest_is_named(tmp_path):
    with refused(ConfigError, where="dataset", got="eth1", fix=has("did you mean dataset=etth1")):
        fetch("eth1", tmp_path)


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    assert sha256(tmp_path / "x") == hashlib.sha256(CONTENT).hexdigest()
