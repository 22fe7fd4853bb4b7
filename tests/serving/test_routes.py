"""Every path stands in the one table, which says what it takes and who may ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.serving.conftest import Client, request
from tests.serving.document import Document
from tsforecast.bundle.bundle import Bundle
from tsforecast.serving.asgi import create_app
from tsforecast.serving.routes import ROUTES, Place


def test_every_path_that_is_answered_stands_in_the_table_and_every_line_of_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TSFORECAST_ADMIN_KEY", "a key of sixteen letters")
    monkeypatch.setenv("TSFORECAST_WEBHOOK_SECRET", "a secret of sixteen letters")
    assert {str(getattr(route, "path", "")) for route in create_app().routes} == {*ROUTES}


@pytest.mark.parametrize(
    ("path", "found"),
    [("/forecast", "/forecast"), ("/ui/", "/ui/"), ("/ui/app.js", "/ui/{file}"), ("/ui/a/b", None),
     ("/forecast/", None), ("", None), ("/nope", None), ("/ui/{file}", "/ui/{file}"), ("/forecast\n", None)],
)  # fmt: skip
def test_a_path_is_found_by_its_shape(path: str, found: str | None) -> None:
    assert Place.of(path).path == found
    assert Place.of(path).route.key == (ROUTES[found].key if found else "always")


def test_what_the_table_does_not_know_is_answered_by_no_route(
    bundles: Callable[[str], Bundle], serve: Callable[..., Client]
) -> None:
    client, asked = serve(bundles("wide"), max_body=0.01), request(bundles("wide"))
    for path in {*ROUTES} - {"/ui/", "/ui/{file}", "/v2/models/{name}"}:  # there it belongs to the name
        for method in ("GET", "POST"):
            found = client(method, f"{path}\n", asked)
            assert (found.status, found.json["code"]) == (404, "not_found"), (method, path)


def test_a_parameter_that_no_route_reads_is_refused_and_told_but_of_probes(
    bundles: Callable[[str], Bundle], serve: Callable[..., Client]
) -> None:
    client = serve(bundles("wide"))
    document = Document(client("GET", "/openapi.json").json)
    lenient = {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}/ready"}
    for path, operations in document.told["paths"].items():
        for method, asked in ((name.upper(), each) for name, each in operations.items()):
            found = client(method, f"{path.format(name='default')}?verbose=1", b"")
            declared = {each["name"] for each in asked.get("parameters", ()) if each["in"] == "query"}
            assert (found.status == 400) == (path not in lenient), (method, path)
            assert declared == ({"horizon", "levels"} if path == "/forecast_csv" else set())
            document.check(method, path, found.status, found.headers, found.body)
            if found.status == 400:
                assert (found.json["where"], found.json["got"]) == ("query", "verbose")
    twice = client("POST", "/forecast_csv?horizon=1&horizon=2", b"x", {"content-type": "text/csv"})
    assert (twice.status, twice.json["allowed"]) == (400, "horizon, levels")
    assert client("GET", "/ui?utm=1").status == 200


def test_behind_a_prefix_the_limits_and_the_document_are_the_same(
    bundles: Callable[[str], Bundle], serve: Callable[..., Client]
) -> None:
    client, asked = serve(bundles("wide"), max_body=0.01), request(bundles("wide"))
    client.app.root_path = "/forecasts"  # as uvicorn's --root-path, which stands before the path as well
    assert client("POST", "/forecasts/forecast", b" " * 20_000).status == 413
    assert client("POST", "/forecasts/forecast", asked).json["digest"] == bundles("wide").digest
    assert client("GET", "/forecasts/openapi.json").json["servers"] == [{"url": "/forecasts"}]
    assert 'path="/forecast",status="413"' in client("GET", "/forecasts/metrics").body.decode()
