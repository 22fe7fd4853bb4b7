"""What lies in deploy/ fits the servers that there are: schemas, paths, metrics, and what the docs call them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import numpy as np
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.serving.conftest import SHAPES, Client, request
from tsforecast.bundle import reference
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.frames import to_panel
from tsforecast.serving.asgi import create_app
from tsforecast.serving.routes import ROUTES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = [
    each
    for file in sorted(DEPLOY.glob("kubernetes/*.yaml"))
    for each in yaml.safe_load_all(file.read_text())
    if each["kind"] != "Kustomization"
]
POD = next(each for each in MANIFESTS if each["kind"] == "Deployment")["spec"]["template"]
SERVED = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["forecaster"]
IMAGE = (
    "docker run -p 3000:3000 -v ./keys.txt:/keys.txt:ro -e TSFORECAST_KEYS=/keys.txt forecaster:latest --host 0.0.0.0"
)


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda each: each["kind"])
def test_each_manifest_is_what_kubernetes_takes(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_manifests_name_each_other() -> None:
    kinds = {each["kind"]: each["spec"] for each in MANIFESTS}
    assert set(kinds) == {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
    labels = POD["metadata"]["labels"]
    selectors = [kinds["Deployment"]["selector"]["matchLabels"], kinds["Service"]["selector"]]
    selectors += [kinds["PodDisruptionBudget"]["selector"]["matchLabels"]]
    selectors += [kinds["NetworkPolicy"]["podSelector"]["matchLabels"]]
    assert all(selector.items() <= labels.items() for selector in selectors)
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    there = {file.name for file in DEPLOY.glob("kubernetes/*.yaml")} - {"kustomization.yaml"}
    assert set(listed["resources"]) == there
    (container,) = POD["spec"]["containers"]
    assert [image["name"] for image in listed["images"]] == [container["image"]]
    (port,) = container["ports"]
    assert (
        kinds["Service"]["ports"][0]["targetPort"]
        == port["name"]
        == kinds["NetworkPolicy"]["ingress"][0]["ports"][0]["port"]
    )
    assert int(POD["metadata"]["annotations"]["prometheus.io/port"]) == port["containerPort"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in POD["spec"]["volumes"]}


def test_the_image_is_started_as_the_docs_say_and_by_nobody_who_is_root() -> None:
    assert IMAGE in (ROOT / "docs" / "serving.md").read_text()
    (container,) = POD["spec"]["containers"]
    for args in (container["args"], SERVED["command"]):
        assert args == IMAGE.split("forecaster:latest ")[1].split()
    image = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["images"][0]
    assert f"{image['newName']}:{image['newTag']}" == SERVED["image"] == "forecaster:latest"
    from bentoml._internal.container.generate import BENTO_UID_GID

    who = POD["spec"]["securityContext"]
    assert (who["runAsUser"], who["runAsGroup"], who["runAsNonRoot"]) == (BENTO_UID_GID, BENTO_UID_GID, True)
    assert container["securityContext"]["readOnlyRootFilesystem"] is SERVED["read_only"] is True
    homes = {each["value"] for each in container["env"] if each["name"] == "BENTOML_HOME"}
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "scratch"}
    assert homes == writable == {SERVED["environment"]["BENTOML_HOME"], *SERVED["tmpfs"]}, "BentoML writes there"


ALONE = """
import sys
from importlib.metadata import packages_distributions

class Missing:
    def find_spec(self, name, path=None, target=None):
        whose = {each.lower().replace("_", "-") for each in found.get(name, ())} if "." not in name else set()
        if whose and not whose & allowed:
            raise ModuleNotFoundError(f"{name} of {whose} is not in the image", name=name)

found, allowed = packages_distributions(), {*sys.argv[2].split(), "tsforecast"}
sys.meta_path.insert(0, Missing())
import tsforecast.serving.service, tsforecast.serving.telemetry
from tsforecast.serving.engine import Engine
print(Engine.open(sys.argv[1]).ready)
"""


def test_with_the_packages_of_the_image_alone_a_bundle_is_served(bundles: Callable[[str], Bundle]) -> None:
    there = [
        line.partition("==")[0] for line in (ROOT / "requirements-serve.txt").read_text().lower().split("\n")[1:-1]
    ]
    names = " ".join(name.replace("_", "-") for name in there)
    environment = {**os.environ, "TSFORECAST_BUNDLE": str(bundles("wide").path)}
    command = [sys.executable, "-c", ALONE, str(bundles("wide").path), names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr[-2000:]


def test_probes_ask_paths_that_need_no_key() -> None:
    (container,) = POD["spec"]["containers"]
    probes = {name: each["httpGet"]["path"] for name, each in container.items() if name.endswith("Probe")}
    assert probes == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    check = re.search(r"3000(/\w+)", SERVED["healthcheck"]["test"][-1])
    assert check
    assert {ROUTES[path].key for path in [*probes.values(), check[1]]} == {"never"}


def variables() -> Iterator[tuple[str, str]]:
    """Where a variable is set, and its name."""
    for name in SERVED["environment"]:
        yield "compose.yaml", name
    for each in POD["spec"]["containers"][0]["env"]:
        yield "deployment.yaml", each["name"]
    for file in ("forecaster.env", "forecaster.service"):
        for name in re.findall(r"\b(TSFORECAST_\w+)=", (DEPLOY / file).read_text()):
            yield file, name


@pytest.mark.parametrize(("file", "name"), sorted(set(variables())))
def test_each_setting_is_one_that_the_docs_explain(file: str, name: str) -> None:
    told = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert f"`{name}" in told, f"{file} sets {name}"


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze, which is not installed")
    text = (DEPLOY / "forecaster.service").read_text()
    program = re.search(r"^ExecStart=(\S+)", text, re.MULTILINE)
    assert program
    (tmp_path / "forecaster.service").write_text(text.replace(program[1], "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "forecaster.service")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def queries() -> Iterator[tuple[str, str]]:
    """Where a query of Prometheus stands, and the query."""
    board = json.loads((DEPLOY / "grafana.json").read_text())
    for panel in [*board["panels"], *board["annotations"]["list"]]:
        for target in panel.get("targets", [panel]):
            yield panel.get("title") or panel["name"], target["expr"]
    yield from ((alert, rule["expr"]) for alert, rule in alerts())


def alerts() -> Iterator[tuple[str, dict[str, Any]]]:
    """The alerts by their names."""
    for group in yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]:
        yield from ((rule["alert"], rule) for rule in group["rules"])


@pytest.fixture(scope="module")
def told(bundles: Callable[[str], Bundle], tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What a server tells that has answered, and was told what came true: names, and their labels."""
    bundle, rows = bundles("wide"), to_panel(*SHAPES["wide"], for_training=True)
    known = reference.of_columns(bundle, rows) | {"mase.scale": np.ones((1, 2), np.float32)}
    app = create_app()
    app.state.server.start(str(replace(bundle, reference=known).save(tmp_path_factory.mktemp("told") / "bundle").path))
    client = Client(app)
    assert client("POST", "/forecast", b"{").status == 400
    (answer,) = client("POST", "/forecast", request(bundle)).json["forecasts"]
    assert client("POST", "/actuals", {"actuals": {"date": answer["timestamps"], **answer["point"]}}).status == 200
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(client("GET", "/metrics").body.decode()):
        found |= {sample.name: {*sample.labels} for sample in family.samples}
    return found


@pytest.mark.parametrize(("where", "query"), [*queries()], ids=lambda text: text[:40])
def test_each_query_asks_for_what_a_server_tells(where: str, query: str, told: dict[str, set[str]]) -> None:
    for variable, value in {"$__rate_interval": "5m", "$__range": "6h", "$job": "x"}.items():
        query = query.replace(variable, value)
    asked: list[promql_parser.VectorSelector] = []
    promql_parser.walk(promql_parser.parse(query), lambda each: selectors(each, asked))
    assert asked
    for selector in asked:
        assert selector.name in told
        labels = {matcher.name for matcher in selector.matchers.matchers}
        labels.update(*(group.split(", ") for group in re.findall(r"by \(([^)]*)\)", query)))
        assert labels <= {*told[selector.name], "job", "instance"}


@pytest.mark.parametrize(
    ("alert", "told"),
    [
        ("ForecasterDrifts", {'tsforecast_drift{model="a"}': "2 0 0 0 2 0 0 0 2 0"}),
        (
            "ForecasterServesTwoVersions",
            {
                'tsforecast_model{model="a",version="1"}': "1 stale stale stale 1 stale stale 1 1 1",
                'tsforecast_model{model="a",version="2"}': "stale 1 1 1 stale 1 1 stale stale stale",
            },
        ),
    ],
)
def test_when_one_of_two_workers_says_so_then_an_alert_comes(alert: str, told: dict[str, str], tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool, which is not installed")
    series = [{"series": name, "values": " ".join([values] * 20)} for name, values in told.items()]
    (rule,) = (rule for name, rule in alerts() if name == alert)
    summary = rule["annotations"]["summary"].replace("{{ $labels.model }}", "a")
    labels = {"exp_labels": {"model": "a", "severity": "ticket"}, "exp_annotations": {"summary": summary}}
    asked = {"eval_time": "45m", "alertname": alert, "exp_alerts": [labels]}
    case = {"interval": "15s", "input_series": series, "alert_rule_test": [asked]}
    (tmp_path / "case.yaml").write_text(yaml.safe_dump({"rule_files": [str(DEPLOY / "alerts.yaml")], "tests": [case]}))
    done = subprocess.run(["promtool", "test", "rules", str(tmp_path / "case.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def selectors(each: promql_parser.Expr, found: list[promql_parser.VectorSelector]) -> bool:
    if isinstance(each, promql_parser.VectorSelector):
        found.append(each)
    if isinstance(each, promql_parser.MatrixSelector):
        found.append(each.vector_selector)
    return True


def test_no_two_panels_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((DEPLOY / "grafana.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_service_of_kuberay_is_one_that_ray_and_kubernetes_take() -> None:
    pytest.importorskip("ray")
    from ray.serve.schema import ServeDeploySchema

    from tsforecast.serving import ray as ours

    spec = yaml.safe_load((DEPLOY / "rayservice.yaml").read_text())["spec"]
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"])).applications
    module, _, name = application.import_path.partition(":")
    assert module == ours.__name__
    assert callable(getattr(ours, name))
    assert set(application.args) <= set(ours.Arguments.model_fields)
    ours.Arguments.model_validate(application.args)
    made = {each.name for each in application.deployments}
    assert all(hasattr(ours, name) for name in made)
    cluster = spec["rayClusterConfig"]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={cluster['rayVersion']}" in pins
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, "1.33", strict=True)
