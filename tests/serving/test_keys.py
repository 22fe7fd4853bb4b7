"""Where there are keys, whoever asks needs one; where there are none, other machines are kept out."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.test_serving import ADAPTERS, serving
from tests.errors import refused
from tests.serving.conftest import Client, request
from tests.serving.document import Document
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError
from tsforecast.serving.keys import Keys

ADA, BEN = "a" * 16, "ben:" + "b/" * 12
GIVEN = f"ada:{ADA}, ben:{BEN}"
Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer(ADA[1:]),
        bearer(ADA + "a"),
        bearer("ada"),
        bearer(GIVEN),
        {"authorization": ADA},
        {"authorization": f"Basic {ADA}"},
        {"authorization": "Bearer \xff\xfe"},
        {"x-api-key": ADA},
    ],
)
def test_without_one_of_the_keys_nothing_is_forecast_nor_read(
    bundles: Bundles, serve: Serve, headers: dict[str, str]
) -> None:
    client, read = serve(bundles("wide"), keys=GIVEN), []

    async def receive() -> Any:
        read.append(1)
        return {"type": "http.request", "body": b""}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/forecast", "raw_path": b"/forecast", "root_path": "",
             "query_string": b"", "headers": given, "scheme": "http"}  # fmt: skip
    asyncio.run(client.app(scope, receive, send))
    assert (sent[0]["status"], read) == (401, [])
    found = client("POST", "/forecast", request(bundles("wide")), headers)
    assert (found.status, found.json["code"], found.headers["www-authenticate"]) == (401, "key", "Bearer")
    assert set(found.json) == {"code", "message", "where", "got", "allowed", "fix"}
    assert not any(key in found.body.decode() for key in (ADA, BEN))


def test_with_a_key_the_answer_is_as_without_keys_and_the_log_has_its_name(
    bundles: Bundles, serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(bundles("wide"))
    open_ = serve(bundles("wide"))("POST", "/forecast", asked).body
    client = serve(bundles("wide"), keys=GIVEN)
    logging.getLogger("tsforecast").addHandler(caplog.handler)
    compared, compare = [], hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(1) or compare(a, b))
    for key in (ADA, BEN):
        assert client("POST", "/forecast", asked, bearer(key)).body == open_
    assert client("POST", "/forecast", asked, {"authorization": f"bearer  {ADA}"}).body == open_
    assert client("POST", "/forecast", asked).status == 401
    logging.getLogger("tsforecast").removeHandler(caplog.handler)
    logged = [record.__dict__ for record in caplog.records if record.getMessage() == "request"][-4:]
    assert [line.get("key") for line in logged] == ["ada", "ben", "ada", None]
    assert len(compared) == 8, "each is compared with every key, so that the time does not tell which it was"
    assert not any(key in str(logged) for key in (ADA, BEN))


@pytest.mark.parametrize("for_all", ["", "1"])
def test_what_needs_a_key_is_what_the_document_says(bundles: Bundles, serve: Serve, for_all: str) -> None:
    client = serve(bundles("wide"), keys=GIVEN, keys_for_all=for_all)
    document = Document(client("GET", "/openapi.json", b"", bearer(ADA)).json)
    assert document.told["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    locked = set()
    for path, operations in document.told["paths"].items():
        for method, operation in operations.items():
            found = client(method.upper(), path, b"{")
            document.check(method, path, found.status, found.headers, found.body)
            assert (found.status == 401) is bool(operation.get("security")) is ("401" in operation["responses"])
            assert client(method.upper(), path, b"{", bearer(BEN)).status != 401
            locked |= {path} if found.status == 401 else set()
    told = {"/model", "/models", "/metrics"} if for_all else set()
    kserve = {"/v1/timeseries/forecast", "/v2/models/{name}", "/v2/models/{name}/ready"}
    assert locked == {"/forecast", "/forecast_csv", "/actuals", "/drift"} | kserve | told
    assert client("GET", "/openapi.json").status == (401 if for_all else 200)
    assert client("GET", "/nope").status == 401, "nor does it tell which paths there are"
    assert client("GET", "/nope", b"", bearer(ADA)).status == 404


def test_without_keys_the_document_speaks_of_none(client: Client) -> None:
    told = client("GET", "/openapi.json").json
    assert "securitySchemes" not in told["components"]
    assert not any("401" in each["responses"] for path in told["paths"].values() for each in path.values())


def test_keys_may_stand_in_a_file(bundles: Bundles, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"# who\nada: {ADA}\n\nben:{BEN}\n")
    client = serve(bundles("wide"), keys=tmp_path / "keys")
    assert client("POST", "/forecast", request(bundles("wide")), bearer(BEN)).status == 200
    assert client("POST", "/forecast", request(bundles("wide"))).status == 401


@pytest.mark.parametrize(
    ("given", "where"),
    [
        (f"ada:{ADA},ben", "TSFORECAST_KEYS, entry 2"),
        ("ada:secretsecret", "TSFORECAST_KEYS, entry 1"),
        (f":{ADA}", "TSFORECAST_KEYS, entry 1"),
        (f"ada lovelace:{ADA}", "TSFORECAST_KEYS, entry 1"),
        ("ada:secret secret secret", "TSFORECAST_KEYS, entry 1"),
        ("ada:secretsecretsecretsecré", "TSFORECAST_KEYS, entry 1"),
        (f"ada:{ADA},ada:{BEN}", "TSFORECAST_KEYS, entry 2"),
        (f"ada:{ADA},ben:{ADA}", "TSFORECAST_KEYS, entry 2"),
        ("#:", "TSFORECAST_KEYS"),
        ("secretsecretsecret", "TSFORECAST_KEYS"),
        ("secret" * 100, "TSFORECAST_KEYS"),
    ],
)
def test_keys_that_cannot_be_meant_are_an_error_that_tells_no_key(
    monkeypatch: pytest.MonkeyPatch, given: str, where: str
) -> None:
    monkeypatch.setenv("TSFORECAST_KEYS", given)
    with pytest.raises(ConfigError) as caught:
        Keys.from_environment()
    assert caught.value.where == where
    assert "secret" not in str(caught.value)
    assert ADA not in str(caught.value)


def test_an_empty_file_of_keys_is_an_error_and_opens_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("\n# none yet\n")
    monkeypatch.setenv("TSFORECAST_KEYS", str(tmp_path / "keys"))
    with refused(ConfigError, where="TSFORECAST_KEYS", what="there is no key"):
        Keys.from_environment()


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), (None, True), ("0.0.0.0", False),
     ("::", False), ("192.168.1.5", False), ("example.org", False), ("localhost.example.org", False), ("", False)],
)  # fmt: skip
def test_without_keys_only_an_address_of_this_machine_is_taken(host: str | None, own: bool) -> None:
    if own:
        Keys().check_address(host)
    else:
        with refused(ConfigError, where="host", got=host, allowed="127.0.0.1, ::1, localhost"):
            Keys().check_address(host)
    Keys({"ada": b""}).check_address(host)
    Keys(open=True).check_address(host)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_server_without_keys_does_not_start_where_others_could_ask(
    bundles: Bundles, tmp_path: Path, adapter: str
) -> None:
    environment = {**os.environ, "TSFORECAST_BUNDLE": str(bundles("wide").path), "BENTOML_HOME": str(tmp_path),
                   "BENTOML_DO_NOT_TRACK": "True"}  # fmt: skip
    command = [sys.executable, *ADAPTERS[adapter], "0", "--host", "0.0.0.0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode != 0
    assert "whoever reaches this address could ask" in done.stderr
    assert "set TSFORECAST_KEYS, or TSFORECAST_OPEN=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_keys_bento_listens_anywhere_and_asks_for_them(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys.txt").write_text(f"ada:{ADA}\nben:{BEN}\n")
    monkeypatch.setenv("TSFORECAST_KEYS", "keys.txt")
    monkeypatch.setenv("BENTOML_HOST", "0.0.0.0")
    with serving("bento", Path(str(bundles("wide").path)), tmp_path) as port:
        for headers, status in (({}, 401), (bearer(ADA), 422), (bearer("x" * 16), 401)):
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/forecast", b'{"history": []}', {
                "Content-Type": "application/json", **headers})  # fmt: skip
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(asked, timeout=30)
            assert caught.value.code == status
