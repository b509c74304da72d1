"""The dashboard asks only for metrics and labels that the server has, and the services of the compose file match."""

import json
import tomllib
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.config import ServeSettings
from service.core.messages.events import Gauges, StepDone
from service.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "container/grafana/dashboards/fastswitch.json"
SCRAPE_LABELS = {"job", "instance"}  # added by Prometheus


def read_yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def panels() -> list[dict[str, Any]]:
    """Return all panels except the rows' headings."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def parsed(query: str) -> list[promql_parser.Expr]:
    """Return every node of a query. Grafana's own variable stands for a duration."""
    nodes: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(query.replace("$__rate_interval", "1m")), nodes.append)
    return nodes


def selectors(nodes: list[promql_parser.Expr]) -> list[promql_parser.VectorSelector]:
    return [node for node in nodes if isinstance(node, promql_parser.VectorSelector)]


@pytest.fixture(scope="module")
def series() -> dict[str, set[str]]:
    """The labels of each series of /metrics after every kind of event."""
    metrics = Metrics()
    metrics.http_answered("/health", "GET", 200)
    metrics.tenants.meter("alice")
    metrics.observe(StepDone(0, 1, 0, 0.0, 0.0, 0.0, 0.0, Gauges(0, 0, 0, 0, 1, 0, 0)))
    families = text_string_to_metric_families(metrics.exposition().decode())
    found: dict[str, set[str]] = {}
    for sample in (sample for family in families for sample in family.samples):
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("query", queries())
def test_every_metric_of_a_query_exists(query, series):
    names = {selector.name for selector in selectors(parsed(query))}
    assert names
    assert names <= series.keys()


@pytest.mark.parametrize("query", queries())
def test_every_label_of_a_query_exists(query, series):
    nodes = parsed(query)
    known = SCRAPE_LABELS.union(*(series[selector.name] for selector in selectors(nodes)))
    matched = {matcher.name for selector in selectors(nodes) for matcher in selector.matchers.matchers}
    grouped = {
        label
        for node in nodes
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier
        for label in node.modifier.labels
    }
    assert matched | grouped <= known


@pytest.mark.parametrize("query", queries())
def test_counters_are_charted_as_rates(query):
    nodes = parsed(query)
    counters = [s for s in selectors(nodes) if s.name.endswith(("_total", "_bucket", "_sum", "_count"))]
    rated = [
        node.args[0].vector_selector.name
        for node in nodes
        if isinstance(node, promql_parser.Call) and node.func.name == "rate"
    ]
    assert [selector.name for selector in counters if selector.name != "fastswitch_kv_blocks_total"] == rated


def test_panels_do_not_overlap_and_use_the_provisioned_data_source():
    (source,) = read_yaml("container/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    cells = set()
    for panel in panels():
        grid = panel["gridPos"]
        covered = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        assert not cells & covered
        cells |= covered


def test_prometheus_scrapes_the_server_and_grafana_asks_prometheus():
    services = read_yaml("compose.yaml")["services"]
    (job,) = read_yaml("container/prometheus.yml")["scrape_configs"]
    (source,) = read_yaml("container/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert job["static_configs"] == [{"targets": [f"fastswitch:{inner_port(services['fastswitch'])}"]}]
    assert source["url"] == f"http://prometheus:{inner_port(services['prometheus'])}"
    assert inner_port(services["fastswitch"]) == ServeSettings().port


def test_compose_publishes_on_loopback_only():
    services = read_yaml("compose.yaml")["services"].values()
    assert all(port.startswith("127.0.0.1:") for service in services for port in service["ports"])


def test_compose_mounts_existing_files_at_the_paths_that_grafana_reads():
    services = read_yaml("compose.yaml")["services"]
    mounts = dict(
        volume.removesuffix(":ro").split(":") for service in services.values() for volume in service.get("volumes", [])
    )
    assert all((ROOT / source).exists() for source in mounts if source.startswith("."))
    (provider,) = read_yaml("container/grafana/provisioning/dashboards/fastswitch.yml")["providers"]
    assert provider["options"]["path"] == mounts["./container/grafana/dashboards"]
    assert services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == (
        f"{provider['options']['path']}/{DASHBOARD.name}"
    )


def test_the_override_for_gpus_names_an_existing_service_and_the_image_that_make_builds():
    overridden = read_yaml("compose.gpu.yaml")["services"]
    assert overridden.keys() <= read_yaml("compose.yaml")["services"].keys()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"CUDA_IMAGE := {overridden['fastswitch']['image']}\n" in makefile
    assert f"--build-arg 'EXTRAS={overridden['fastswitch']['build']['args']['EXTRAS']}'" in makefile


def test_the_images_extra_is_one_of_the_projects():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert read_yaml("compose.gpu.yaml")["services"]["fastswitch"]["build"]["args"]["EXTRAS"].strip("[]") in extras


def inner_port(service: dict[str, Any]) -> int:
    """Return the one port of a compose service, as the other services reach it."""
    (port,) = service["ports"]
    return int(port.rpartition(":")[2])
