"""Whatever threshold an objective names is an edge of every histogram, from the request to the Prometheus text."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from slo.serve.door.cache import Cache
from slo.serve.telemetry.edges import Edges
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.web.exposition import Exposition
from slo.serve.web.reports import window_report
from slo.stats import LATENCY_EDGES_S, edge_s
from slo.watch.model.counts import Counts
from slo.watch.model.objectives import Goal
from slo.watch.sli.scrape import parse_exposition

THRESHOLDS_MS = st.floats(1, 10_000) | st.integers(1, 10_000).map(float)


def page(telemetry: Telemetry) -> str:
    processes = SimpleNamespace(uses=list)
    directory = SimpleNamespace(lanes=[])
    return Exposition(directory, Cache(0), telemetry, processes).text().decode()  # type: ignore[arg-type]


@given(THRESHOLDS_MS, st.lists(st.floats(1e-4, 30.0), min_size=1, max_size=50))
def test_requests_within_any_threshold_are_counted_exactly(threshold_ms: float, latencies_s: list[float]) -> None:
    threshold_s = edge_s(threshold_ms)
    telemetry = Telemetry(lambda: 0.0, Edges([threshold_ms]))
    for seconds in (threshold_s, *latencies_s):
        telemetry.request("m", "short", "2xx", cached=False, seconds=seconds)
    expected = 1 + sum(seconds <= threshold_s for seconds in latencies_s)
    assert window_report(telemetry, 60, threshold_s)["good"] == expected
    reading = parse_exposition(page(telemetry), model="m", url="u")
    goal = Goal(name="latency", kind="latency", target=0.95, threshold_ms=threshold_ms)
    assert reading.minute(start_s=0, source="passive").counts(goal) == Counts(expected, 1 + len(latencies_s))


def test_thresholds_come_on_top_of_the_standard_edges_and_every_label_is_the_edge() -> None:
    telemetry = Telemetry(lambda: 0.0, Edges([120.0, 150.0, 1234.5678]))
    telemetry.request("m", "short", "2xx", cached=False, seconds=0.11)
    labels = [
        sample.labels["le"]
        for family in text_string_to_metric_families(page(telemetry))
        for sample in family.samples
        if sample.name == "slo_request_duration_seconds_bucket"
    ]
    assert {"0.12", "0.15", "1.2345678"} <= set(labels)
    assert len(labels) == len(set(labels)) == len(LATENCY_EDGES_S) + 3
