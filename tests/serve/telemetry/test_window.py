"""The last hour: sums over any window are exact, percentiles at most 2 % too long, old seconds go."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from slo.serve.door.cache import Cache
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.telemetry.window import GROWTH, SECONDS, STANDARD, Edges, Window
from slo.serve.web.exposition import Exposition
from slo.serve.web.reports import window_report
from slo.stats import LATENCY_EDGES_S, edge_s, nearest_rank
from slo.watch.model.counts import Counts
from slo.watch.model.objectives import Goal
from slo.watch.sli.scrape import parse_exposition

REQUEST = ("request", "m")
THRESHOLDS_MS = st.floats(1, 10_000) | st.integers(1, 10_000).map(float)


def test_150_ms_is_within_150_ms_and_a_little_more_is_not() -> None:
    window = Window()
    for seconds in (0.1499999, 0.150, 0.1500001):
        window.observe(REQUEST, seconds, 0.0)
    assert window.sums(60, 0.0)[0][REQUEST].within(0.150) == 2


def test_a_window_holds_its_seconds_and_no_others() -> None:
    window = Window()
    for second in range(100):
        window.observe(REQUEST, 0.01, second + 0.5)
        window.count(("cache", "hit"), 2, second + 0.5)
    for seconds in (1, 10, 99, 100, 3600):
        histograms, counters = window.sums(seconds, 99.9)
        assert histograms[REQUEST].total == min(seconds, 100)
        assert counters[("cache", "hit")] == 2 * min(seconds, 100)


def test_after_an_hour_of_silence_nothing_is_left() -> None:
    window = Window()
    window.observe(REQUEST, 0.01, 5.0)
    assert window.sums(SECONDS, 5.0 + SECONDS - 1)[0][REQUEST].total == 1
    assert window.sums(SECONDS, 5.0 + SECONDS + 1) == ({}, {})


def test_series_do_not_mix() -> None:
    window = Window()
    window.observe(("a",), 0.01, 0.0)
    window.observe(("b",), 70.0, 0.0)
    histograms, _ = window.sums(10, 0.0)
    assert histograms[("a",)].total == histograms[("b",)].total == 1
    assert histograms[("b",)].bins[STANDARD.bins - 1] == 1


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(1e-4, 50)), min_size=1, max_size=200), st.integers(1, 300))
def test_counts_and_percentiles_equal_those_of_the_raw_values(events: list[tuple[float, float]], seconds: int) -> None:
    window = Window()
    for at_s, took_s in sorted(events):
        window.observe(REQUEST, took_s, at_s)
    inside = sorted(took_s for at_s, took_s in events if int(at_s) > 300 - seconds)
    histograms, _ = window.sums(seconds, 300.0)
    if not inside:
        assert histograms == {}
        return
    counts = histograms[REQUEST]
    assert counts.total == len(inside)
    assert counts.within(0.150) == sum(took_s <= 0.150 for took_s in inside)
    for q in (0.5, 0.95, 0.99):
        exact, shown = nearest_rank(inside, q), counts.quantile_s(q)
        assert shown is not None
        assert exact <= shown <= exact * GROWTH * (1 + 1e-9)


def test_a_counter_is_no_histogram() -> None:
    window = Window()
    window.count(("x",), 1, 0.0)
    assert window.sums(10, 0.0)[0] == {}


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
