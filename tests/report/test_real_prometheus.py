"""
End to end on real servers: exporter → Prometheus with the exported rules → Alertmanager with the exported
configuration → webhook; and every query of the dashboard against the same Prometheus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from slo.report.grafana import marks, panels
from slo.report.prometheus import alertmanager_file, rules_file
from tests.real_servers import alertmanager, get_json, prometheus, until
from tests.report.promises import P95, QUICK
from tests.report.tiny_exporter import TinyExporter
from tests.watch.delivery.sinks.receiver import Answer, Receiver


@dataclass(frozen=True)
class Stack:
    """What runs, and where it ends."""

    exporter: TinyExporter
    prometheus: str
    alertmanager: str
    webhooks: Receiver

    def query(self, expression: str) -> list[dict[str, object]]:
        found = get_json(f"{self.prometheus}/api/v1/query", query=expression)
        assert found["status"] == "success"
        rows: list[dict[str, object]] = found["data"]["result"]
        return rows

    def told(self, status: str) -> set[str]:
        """Names of alerts that a webhook told with `status`."""
        return {
            alert["labels"]["alertname"]
            for request in self.webhooks.requests
            for alert in request.json["alerts"]
            if alert["status"] == status
        }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("prometheus")
    rules = rules_file([QUICK], runbook="https://runbook.example/")
    (folder / "rules.yml").write_text(rules.replace("interval: 30s", "interval: 1s"), encoding="utf-8")
    with TinyExporter() as exporter, Receiver(lambda _: Answer("")) as webhooks:
        routes = alertmanager_file(urgent_url=webhooks.url("/urgent"), ticket_url=webhooks.url("/tickets"))
        routes = routes.replace("group_wait: 30s", "group_wait: 1s").replace("group_wait: 10s", "group_wait: 1s")
        with alertmanager(folder, routes.replace("group_interval: 5m", "group_interval: 1s")) as am:
            config = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{folder / "rules.yml"}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{am.removeprefix("http://")}"]}}]}}]}}
scrape_configs: [{{job_name: xinference-slo, static_configs: [{{targets: ["{exporter.address}"]}}]}}]
"""
            with prometheus(folder, config) as address:
                yield Stack(exporter, address, am, webhooks)


def test_slowness_fires_is_told_and_resolves(stack: Stack) -> None:
    healthy = 'slo:sli_error:ratio_rate15s{sloth_id="gte-base-zh-latency"} == 0'
    until("the rules record", lambda: stack.query(healthy))
    assert stack.query('ALERTS{alertname="LatencyBudgetBurn"}') == []
    stack.exporter.slow = True
    firing = 'ALERTS{alertname="LatencyBudgetBurn",alertstate="firing",sloth_severity="page"}'
    until("the alert fires", lambda: stack.query(firing))
    until("the webhook is told", lambda: "LatencyBudgetBurn" in stack.told("firing"))
    stack.exporter.slow = False
    until("the alert ends", lambda: not stack.query(firing))
    until("the webhook is told of the end", lambda: "LatencyBudgetBurn" in stack.told("resolved"))
    assert {request.path for request in stack.webhooks.requests} == {"/urgent"}


QUERIES = [
    pytest.param(query, id=f"{panel.title}-{index}")
    for panel in panels(P95)
    for index, (query, _) in enumerate(panel.targets)
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_dashboard_brings_something(stack: Stack, query: str) -> None:
    asked = query.replace("$model", "gte-base-zh").replace("$__rate_interval", "4s")
    if asked == 'ALERTS{alertstate="firing"}':
        stack.query(asked)  # empty is what one hopes for
        return
    until(f"{asked} brings a row", lambda: stack.query(asked), timeout_s=30)


@pytest.mark.parametrize("mark", marks(), ids=lambda mark: mark["name"])
def test_every_query_of_an_annotation_is_one(stack: Stack, mark: dict[str, str]) -> None:
    stack.query(mark["expr"].replace("$model", "gte-base-zh"))  # raises for one that Prometheus does not understand


METADATA = (
    "slo:objective:ratio", "slo:error_budget:ratio", "slo:time_period:days", "slo:current_burn_rate:ratio",
    "slo:period_burn_rate:ratio", "slo:period_error_budget_remaining:ratio", "sloth_slo_info",
)  # fmt: skip


@pytest.mark.parametrize("name", METADATA)
def test_the_recorded_metadata_is_what_sloths_dashboards_ask_for(stack: Stack, name: str) -> None:
    query = f'{name}{{sloth_service="gte-base-zh",sloth_slo="latency"}}'
    until(f"{query} brings a row", lambda: stack.query(query))
