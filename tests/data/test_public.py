"""Public datasets are found, checked and downloaded: one file in `conf/dataset` says all of each."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from tests.errors import has, refused

from tsforecast.config.compose import CONF_DIR, build, compose
from tsforecast.data.sources import Dataset
from tsforecast.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
STAMPS = (b"2021-01-%02d %02d:%02d:00" % (1 + i // 1440, i // 60 % 24, i % 60) for i in range(20_000))
CONTENT = b"date,a\n" + b"".join(b"%b,%d\n" % (stamp, i) for i, stamp in enumerate(STAMPS))


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
    monkeypatch.delenv("TSFORECAST_DATA_DIR", raising=False)
    yield state
    httpd.shutdown()
    httpd.server_close()


def toy(server: Server, folder: Path, **stated: str | None) -> Dataset:
    """The dataset in a folder, by the address of the server and the digest of CONTENT."""
    known = {"url": server.address, "sha256": hashlib.sha256(CONTENT).hexdigest()}
    return Dataset(path=str(folder / "toy.csv"), name="toy", **{**known, **stated})


def test_the_readme_states_every_digest_and_licence():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    public = [
        each
        for path in (CONF_DIR / "dataset").glob("*.yaml")
        if (each := yaml.safe_load(path.read_text())).get("sha256")
    ]
    assert {each["name"] for each in public} == {"beijing_pm25", "etth1", "etth2", "panel"}
    for each in public:
        for fact in (each["name"], Path(each["path"]).name, each["sha256"], each["licence"]):
            assert fact in text


def test_a_public_dataset_is_one_file_in_conf_dataset(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    lines = [
        "_target_: tsforecast.data.sources.Dataset", "path: ${paths.data_dir}/toy.csv", f"url: {server.address}",
        f"sha256: {hashlib.sha256(CONTENT).hexdigest()}",
    ]  # fmt: skip
    (tmp_path / "conf" / "dataset" / "toy.yaml").write_text("\n".join(lines))
    loaded = build(compose("train", ["dataset=toy"])[0].dataset).load()
    assert (loaded.panel.channels, loaded.name) == (("a",), "toy")
    assert (tmp_path / "data" / "toy.csv").read_bytes() == CONTENT


def test_when_a_file_is_nowhere_then_it_is_downloaded_entire_and_once(server, tmp_path):
    file = Path(toy(server, tmp_path / "data").file)
    assert file.read_bytes() == CONTENT
    assert [p.name for p in file.parent.iterdir()] == ["toy.csv"]
    assert toy(server, tmp_path / "data").load().address == str(file)
    assert server.asked == 1


def test_when_a_download_breaks_off_then_nothing_is_kept_and_the_next_is_entire(server, tmp_path):
    server.stop_after = 100_000
    with refused(DataError, where=tmp_path / "toy.csv", got=has("IncompleteRead")):
        toy(server, tmp_path).load()
    assert list(tmp_path.iterdir()) == []
    assert Path(toy(server, tmp_path).file).read_bytes() == CONTENT


def test_when_the_download_has_another_digest_then_it_is_refused_and_not_kept(server, tmp_path):
    server.content = CONTENT.replace(b"1", b"2")
    with refused(DataError, where=tmp_path / "toy.csv", got=has("SHA256", "toy.csv")):
        toy(server, tmp_path).load()
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    assert Path(toy(server, tmp_path).file).read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/toy.csv", None])
def test_when_nothing_can_be_downloaded_then_the_message_says_where_to_put_the_file(server, tmp_path, url):
    source, digest = url or "where it is kept", toy(server, tmp_path).sha256
    with refused(DataError, where=tmp_path / "toy.csv", allowed=has(digest), fix=has(source, "TSFORECAST_DATA_DIR")):
        toy(server, tmp_path, url=url).load()


def test_when_the_file_lies_in_the_folder_of_the_environment_then_it_is_used(server, tmp_path, monkeypatch):
    (tmp_path / "toy.csv").write_bytes(CONTENT)
    monkeypatch.setenv("TSFORECAST_DATA_DIR", str(tmp_path))
    assert toy(server, tmp_path / "elsewhere").load().address == str(tmp_path / "toy.csv")
    assert server.asked == 0


@pytest.mark.parametrize("folder", ["data", "elsewhere"])
def test_when_a_file_was_altered_then_it_is_refused_though_a_download_would_do(server, tmp_path, monkeypatch, folder):
    monkeypatch.setenv("TSFORECAST_DATA_DIR", str(tmp_path / "elsewhere"))
    (tmp_path / folder).mkdir()
    (file := tmp_path / folder / "toy.csv").write_bytes(CONTENT[:-1] + b"7\n")
    with refused(DataError, what=has("toy"), where=file, got=has("sha256"), allowed=has("sha256")):
        toy(server, tmp_path / "data").load()
    assert server.asked == 0
    assert len(toy(server, tmp_path / folder, sha256=None, url=None).load().panel.time) == 20_000


def test_when_a_download_could_not_be_checked_then_it_is_not_made(server, tmp_path):
    with refused(ConfigError, where="dataset.sha256", fix=has("sha256sum")):
        toy(server, tmp_path, sha256=None).load()
    assert server.asked == 0
