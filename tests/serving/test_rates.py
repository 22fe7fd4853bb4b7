"""A caller that asks too often is told when to come back, and only it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.errors import refused
from tests.serving.conftest import Client, request
from tests.serving.document import Document
from tests.serving.test_keys import ADA, BEN, GIVEN, bearer
from tsforecast.bundle.bundle import Bundle
from tsforecast.errors import ConfigError, RequestError
from tsforecast.serving import rates
from tsforecast.serving.keys import Keys
from tsforecast.serving.rates import Rate, Rates
from tsforecast.serving.watch import Watch

Bundles = Callable[[str], Bundle]
Serve = Callable[..., Client]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the time is: a list of one number."""
    now = [1000.0]
    monkeypatch.setattr(rates, "time", SimpleNamespace(monotonic=lambda: now[0]))  # the loop has its own
    return now


@given(
    st.sampled_from(["1/s", "3/s", "7/min", "1000/h"]),
    st.lists(st.floats(0, 40) | st.just(0.0), min_size=1, max_size=60),
)
def test_in_no_time_more_is_taken_than_a_full_bucket_and_what_flows_in_and_whoever_waits_as_told_is_taken(
    said: str, pauses: list[float]
) -> None:
    rate, buckets, taken, now = Rate.of("", said), Rates(), list[float](), 0.0
    assert rate is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "time", SimpleNamespace(monotonic=lambda: now))
        for pause in pauses:
            now += pause
            try:
                buckets.take("ada", rate)
            except RequestError as error:
                now += error.wait - 1
                if error.wait > 1:
                    with pytest.raises(RequestError):
                        buckets.take("ada", rate)
                now += 1
                buckets.take("ada", rate)
            taken.append(now)
    taken.sort()
    for i, first in enumerate(taken):
        for count, last in enumerate(taken[i:], 1):
            assert count <= rate.count + (last - first) * rate.count / rate.seconds + 1e-3


def test_one_more_than_allowed_is_answered_429_with_the_seconds_to_wait_and_before_its_body_is_read(
    bundles: Bundles, serve: Serve, clock: list[float]
) -> None:
    client, asked = serve(bundles("wide"), rate="2/min"), request(bundles("wide"))
    document = Document(client("GET", "/openapi.json").json)
    assert [client("POST", "/forecast", asked).status for _ in range(2)] == [200, 200]
    found = client("POST", "/forecast", b"not even JSON")
    document.check("POST", "/forecast", found.status, found.headers, found.body)
    assert (found.status, found.json["code"], found.headers["retry-after"]) == (429, "rate", "30")
    assert (found.json["allowed"], found.headers["connection"]) == ("2/min", "close")
    for path in ("/model", "/livez", "/readyz", "/metrics", "/ui"):
        assert client("GET", path).status == 200, "only forecasts are counted"
    clock[0] += 29
    assert client("POST", "/forecast", asked).headers["retry-after"] == "1"
    clock[0] += 1
    assert client("POST", "/forecast", asked).status == 200
    assert client("POST", "/forecast", asked).status == 429


def test_each_key_has_a_bucket_of_its_own_and_may_have_another_rate(
    bundles: Bundles, serve: Serve, clock: list[float]
) -> None:
    client, asked = serve(bundles("wide"), keys=f"ada:{ADA}, ben:{BEN} 3/h", rate="1/s"), request(bundles("wide"))
    got = {key: [client("POST", "/forecast", asked, bearer(key)).status for _ in range(5)] for key in (ADA, BEN)}
    assert got == {ADA: [200, 429, 429, 429, 429], BEN: [200, 200, 200, 429, 429]}
    assert client("POST", "/forecast", asked).status == 401, "no key, no bucket"
    told = client("POST", "/forecast", asked, bearer(BEN))
    assert (told.headers["retry-after"], "'ben'" in told.json["message"]) == ("1200", True)
    clock[0] += 1
    assert [client("POST", "/forecast", asked, bearer(key)).status for key in (ADA, BEN)] == [200, 429]


@pytest.mark.parametrize("said", ["100", "0/s", "-1/s", "1.5/s", "10/week", "a lot", "10 / s"])
def test_a_rate_that_is_none_is_an_error_when_the_server_starts(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSFORECAST_RATE", said)
    with refused(ConfigError, where="TSFORECAST_RATE", got=said, allowed=["100/s", "6000/min", "10000/h"]):
        Keys.from_environment()
    monkeypatch.delenv("TSFORECAST_RATE")
    monkeypatch.setenv("TSFORECAST_KEYS", f"ada:{ADA} {said}")
    with pytest.raises(ConfigError) as caught:
        Keys.from_environment()
    assert ADA not in str(caught.value)


def test_a_key_that_is_added_or_revoked_in_the_file_is_so_within_seconds_and_a_broken_file_changes_nothing(
    bundles: Bundles, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, asked = tmp_path / "keys", request(bundles("wide"))
    file.write_text(f"ada:{ADA}\n")
    client = serve(bundles("wide"), keys=file, patience=0.1)  # it looks as often as that
    logging.getLogger("tsforecast").addHandler(caplog.handler)

    async def becomes(status: int, key: str) -> None:
        async with asyncio.timeout(5):
            while (await client.send("POST", "/forecast", asked, bearer(key))).status != status:
                await asyncio.sleep(0.05)

    async def written(text: str) -> None:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(file)

    async def run() -> None:
        Watch(client.app.state.server)
        await becomes(200, ADA)
        await becomes(401, BEN)
        await written(f"ada:{ADA}\nben:{BEN}\n")
        await becomes(200, BEN)
        for broken in ("", "ada:short\n", f"ada:{ADA}\nada:{BEN}\n"):
            await written(broken)
            before = len(caplog.records)
            async with asyncio.timeout(5):
                while len(errors := [each for each in caplog.records[before:] if each.levelname == "ERROR"]) < 1:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
            errors = [each for each in caplog.records[before:] if each.levelname == "ERROR"]
            assert len(errors) == 1, "told once, not once a second"
            assert "the keys stay as they were" in errors[0].getMessage()
            await becomes(200, ADA)
            await becomes(200, BEN)
        file.unlink()
        await asyncio.sleep(0.3)
        await becomes(200, BEN)
        await written(f"ben:{BEN}\n")
        await becomes(401, ADA)
        await becomes(200, BEN)

    asyncio.run(run())
    logging.getLogger("tsforecast").removeHandler(caplog.handler)
    assert not any(key in str([each.__dict__ for each in caplog.records]) for key in (ADA, BEN))


def test_keys_in_the_variable_are_those_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSFORECAST_KEYS", GIVEN)
    keys: Any = Keys.from_environment()
    assert keys.current() is keys
