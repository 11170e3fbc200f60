"""OpenSLO out and in: what we write we read back whole, and what we cannot do is refused by name."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slo.errors import ConfigError
from slo.report.openslo import openslo_file, read_openslo
from slo.report.promise import BurnWindow, Promise
from slo.stats import LATENCY_EDGES_S
from tests.report.promises import AVAILABLE, P95, P99

windows = st.builds(
    BurnWindow,
    severity=st.sampled_from(["critical", "page", "ticket", "info"]),
    long_s=st.integers(2, 10_000).map(lambda minutes: minutes * 60),
    short_s=st.integers(1, 60).map(lambda minutes: minutes * 60),
    factor=st.floats(0.5, 15).map(lambda x: round(x, 3)),
)
promises = st.builds(
    Promise,
    model=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", fullmatch=True),
    name=st.sampled_from(["latency", "availability"]),
    title=st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=40),
    alert=st.sampled_from(["LatencyBudgetBurn", "AvailabilityBudgetBurn"]),
    target=st.floats(0.95, 0.9999).map(lambda x: round(x, 6)),
    threshold_s=st.one_of(st.none(), st.sampled_from(LATENCY_EDGES_S)),
    windows=st.lists(windows, max_size=4).map(lambda rows: tuple(sorted(rows, key=lambda row: row.severity))),
    period_days=st.integers(1, 90),
    min_total=st.integers(0, 100),
    min_bad=st.integers(0, 100),
)


@given(st.lists(promises, min_size=1, max_size=3))
def test_what_was_written_is_read_back_whole(given_promises: list[Promise]) -> None:
    assert read_openslo(openslo_file(given_promises)) == given_promises


def document(promise: Promise = P95) -> Any:
    return yaml.safe_load(openslo_file([promise]))


@pytest.mark.parametrize("promise", [P95, P99, AVAILABLE], ids=lambda p: p.id)
def test_the_shape_is_openslo_v1(promise: Promise) -> None:
    slo = document(promise)
    assert (slo["apiVersion"], slo["kind"]) == ("openslo/v1", "SLO")
    spec = slo["spec"]
    assert spec["budgetingMethod"] == "Occurrences"
    assert len(spec["timeWindow"]) == len(spec["objectives"]) == 1
    assert 0 <= spec["objectives"][0]["target"] < 1
    ratio = spec["indicator"]["spec"]["ratioMetric"]
    assert set(ratio) == {"counter", "good", "total"}
    names = [slo["metadata"]["name"], *(policy["metadata"]["name"] for policy in spec["alertPolicies"])]
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in names)
    assert len(set(names)) == len(names)
    assert all(len(policy["spec"]["conditions"]) == 1 for policy in spec["alertPolicies"])


def test_a_foreign_document_without_our_notes_is_understood() -> None:
    slo = document()
    del slo["metadata"]["annotations"]
    slo["spec"]["objectives"] = [{"displayName": "p95", "targetPercent": 95}]
    for policy in slo["spec"]["alertPolicies"]:
        del policy["spec"]["conditions"][0]["metadata"]["annotations"]
    (promise,) = read_openslo(yaml.safe_dump(slo))
    assert (promise.target, promise.threshold_s, promise.title) == (0.95, 0.15, "p95")
    assert [row.short_s for row in promise.windows] == [60, 60, 150, 1800, 21600]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("kind", "Service", "kind"),
        ("apiVersion", "openslo/v2", "apiVersion"),
        ("spec.budgetingMethod", "Timeslices", "spec.budgetingMethod"),
        ("spec.timeWindow.0.isRolling", False, "isRolling"),
        ("spec.objectives", [], "spec.objectives"),
        ("spec.indicator.spec.ratioMetric.good.metricSource.spec.query", "up", "ratioMetric"),
        ("spec.alertPolicies.0.spec.conditions.0.spec.severity", "warning", "alertPolicies.0"),
        ("spec.alertPolicies.0.spec.conditions.0.spec.condition.lookbackWindow", "soon", "alertPolicies.0"),
        ("spec.alertPolicies.0.spec.conditions", [], "conditions"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(path: str, value: object, named: str) -> None:
    slo = document()
    place: Any = slo
    *keys, last = path.split(".")
    for key in keys:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[last] = value
    with pytest.raises(ConfigError, match=re.escape(named)):
        read_openslo(yaml.safe_dump(slo))


@pytest.mark.parametrize("text", ["- a\n b: [", "just text", "[]"])
def test_what_is_no_document_is_an_error_of_the_file(text: str) -> None:
    with pytest.raises(ConfigError):
        read_openslo(text)
