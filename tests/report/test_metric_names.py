"""Every metric that rules and dashboard ask for is one that our own pages and files really give."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from slo.report.grafana import panels
from slo.report.prometheus import rules_file
from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.web.exposition import Exposition
from slo.serve.web.processes import Processes
from slo.settings_serve import ServeSection
from slo.watch.delivery.policy import metric_text as notifications_text
from slo.watch.heartbeat import Beat
from slo.watch.heartbeat import metric_text as heartbeat_text
from tests.report.promises import AVAILABLE, P95
from tests.serve.fakes import FakeFinder

_NAME = re.compile(r"\bslo_[a-z_]+")


def given() -> set[str]:
    """Names on the server's page and in the watcher's two files."""
    telemetry = Telemetry()
    telemetry.request("gte-base-zh", "short", "2xx", cached=False, seconds=0.1)
    telemetry.stage("infer", 0.01)
    for series in (("rejected", "deadline"), ("cache", "hit"), ("pass", "tokens"), ("replica", "lost")):
        telemetry.count(*series)
    cache = Cache(1000)
    directory = Directory(FakeFinder(), ServeSection(), cache, telemetry)
    page = Exposition(directory, cache, telemetry, Processes(lambda: directory.lanes)).text().decode()
    names = set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    names |= {sample.name for family in text_string_to_metric_families(page) for sample in family.samples}
    files = notifications_text(["dingtalk"], {("dingtalk", "failed"): 1}, {}) + heartbeat_text(
        Beat(at_s=1.0, pid=1, interval_s=60.0)
    )
    return names | {sample.name for family in text_string_to_metric_families(files) for sample in family.samples}


async def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    asked = {name for panel in panels(P95) for query, _ in panel.targets for name in _NAME.findall(query)}
    assert asked - given() == set()


async def test_the_rules_ask_for_metrics_that_exist() -> None:
    text = rules_file([P95, AVAILABLE], runbook="x")
    asked = set(_NAME.findall(text)) - {"slo_info"}
    assert asked - given() == set()


async def test_the_labels_of_the_histogram_are_those_that_the_queries_select() -> None:
    telemetry = Telemetry()
    telemetry.request("gte-base-zh", "short", "2xx", cached=False, seconds=0.1)
    cache = Cache(1000)
    directory = Directory(FakeFinder(), ServeSection(), cache, telemetry)
    page = Exposition(directory, cache, telemetry, Processes(lambda: directory.lanes)).text().decode()
    sample = next(line for line in page.splitlines() if line.startswith("slo_request_duration_seconds_bucket"))
    labels = set(re.findall(r'(\w+)="', sample))
    selected = set(re.findall(r'(\w+)!?="', P95.good + P95.counted))
    assert selected <= labels
    assert 'le="0.15"' in page
