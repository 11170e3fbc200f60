"""The dashboard: what Grafana needs to import it, the panels that were asked for, and metrics that exist."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from slo.report.grafana import dashboard, dashboard_file, panels, provisioning_files
from tests.report.promises import P95, P99


def test_it_has_what_an_import_needs() -> None:
    data = json.loads(dashboard_file(P95))
    assert data["uid"] == "xinference-slo"
    assert data["schemaVersion"] == 39
    variables = {variable["name"]: variable for variable in data["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for panel in data["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == [chr(65 + i) for i in range(len(panel["targets"]))]
    assert len({panel["id"] for panel in data["panels"]}) == len(data["panels"])


def test_panels_do_not_overlap_and_fit_the_width() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard(P95)["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells


@pytest.mark.parametrize("promise", [P95, P99], ids=lambda p: p.title)
def test_the_objective_is_a_line(promise: object) -> None:
    data = dashboard(P95 if promise is P95 else P99)
    latency = next(panel for panel in data["panels"] if panel["title"] == "Latency")
    defaults = latency["fieldConfig"]["defaults"]
    assert defaults["custom"]["thresholdsStyle"] == {"mode": "line"}
    edge = 0.15 if promise is P95 else 0.3
    assert defaults["thresholds"]["steps"] == [{"color": "green", "value": None}, {"color": "red", "value": edge}]


def test_what_the_article_asks_for_is_there() -> None:
    titles = {panel.title for panel in panels(P95)}
    assert titles >= {"P95 now", "Success rate", "In flight", "SLO attainment", "Processor", "Memory"}


def test_rates_use_the_interval_that_grafana_computes() -> None:
    for panel in panels(P95):
        if panel.kind == "timeseries":
            fixed = [query for query, _ in panel.targets if re.search(r"rate\([^)]*\[\d", query)]
            assert fixed == [] or panel.title == "SLO attainment"


def test_provisioning_names_the_folder_and_the_server() -> None:
    files = provisioning_files("/dashboards", "http://prometheus:9090")
    provider = yaml.safe_load(files["provisioning/dashboards/xinference-slo.yaml"])
    assert provider["providers"][0]["options"] == {"path": "/dashboards"}
    source = yaml.safe_load(files["provisioning/datasources/prometheus.yaml"])
    assert source["datasources"][0]["url"] == "http://prometheus:9090"


def test_the_data_source_takes_nobodys_place() -> None:
    files = provisioning_files("/dashboards", "http://prometheus:9090")
    source = yaml.safe_load(files["provisioning/datasources/prometheus.yaml"])["datasources"][0]
    assert source["isDefault"] is False  # a second default keeps Grafana from starting
    assert source["name"] != "Prometheus"  # what most people call theirs
    assert source["uid"] == "xinference-slo-prometheus"


def test_units_kinds_and_thresholds_are_those_that_grafana_has() -> None:
    for panel in dashboard(P95)["panels"]:
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["type"] in {"stat", "gauge", "timeseries", "bargauge", "heatmap", "table"}
        assert defaults["unit"] in {"s", "short", "percentunit", "reqps", "bytes"}
        assert defaults["thresholds"]["steps"][0]["value"] is None
        assert {step["color"] for step in defaults["thresholds"]["steps"]} <= {"red", "green"}


def test_alerts_and_starts_are_marked_on_every_panel() -> None:
    marks = {mark["name"]: mark["target"]["expr"] for mark in dashboard(P95)["annotations"]["list"]}
    assert marks["Alerts"].startswith("ALERTS{")
    assert "slo_process_cpu_seconds_total" in marks["Starts"]
