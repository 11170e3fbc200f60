"""Classes of requests, what is counted, and the Prometheus page."""

import gc
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.telemetry.telemetry import MAX_COMPUTED, Fine, Telemetry, code_class, length_class
from slo.serve.web.exposition import Exposition
from slo.serve.web.processes import Processes
from slo.serve.web.reports import window_report
from slo.settings_serve import ServeSection
from slo.stats import LATENCY_EDGES_S
from tests.serve.fakes import FakeFinder


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (("字" * 8,), "short"),
        (("字" * 9,), "medium"),
        (("字" * 32,), "medium"),
        (("字" * 33,), "long"),
        (("a", "b" * 99), "long"),
    ],
)
def test_length_class(texts: tuple[str, ...], name: str) -> None:
    assert length_class(texts) == name


@pytest.mark.parametrize(
    ("status", "reason", "name"),
    [
        (200, None, "2xx"),
        (404, None, "4xx"),
        (429, "overloaded", "429"),
        (503, "x", "5xx"),
        (503, "timeout", "timeout"),
    ],
)
def test_code_class(status: int, reason: str | None, name: str) -> None:
    assert code_class(status, reason) == name


def test_a_window_counts_failures_as_bad_and_leaves_out_mistakes_of_clients_and_batches() -> None:
    telemetry = Telemetry(Hand())
    for code, seconds in (("2xx", 0.1), ("2xx", 0.15), ("2xx", 0.2), ("429", 0.001), ("5xx", 0.01), ("timeout", 10)):
        telemetry.request("m", "short", code, cached=False, seconds=seconds)
    telemetry.request("m", "short", "4xx", cached=False, seconds=0.001)
    telemetry.request("m", "batch", "2xx", cached=False, seconds=9.0)
    telemetry.request("m", "batch", "5xx", cached=False, seconds=9.0)
    telemetry.request("m", "long", "2xx", cached=True, seconds=0.001)
    report = window_report(telemetry, 60, 0.150)
    assert (report["total"], report["good"], report["attainment"]) == (7, 3, 3 / 7)
    assert report["codes"] == {"2xx": 4, "4xx": 1, "429": 1, "5xx": 1, "timeout": 1, "gone": 0}
    assert report["availability"] == {"total": 9, "good": 5}, "whatever class failed"
    assert (report["excluded"]["caller_erred"], report["excluded"]["batch"]) == (1, 2)
    assert (report["cached"]["total"], report["computed"]["total"]) == (1, 6)
    assert report["classes"]["batch"]["total"] == 2
    assert report["p95_ms"] == pytest.approx(200, rel=0.02)


def test_an_empty_window_says_nothing_instead_of_something_false() -> None:
    report = window_report(Telemetry(Hand()), 300, 0.150)
    assert (report["total"], report["good"], report["attainment"], report["p95_ms"]) == (0, 0, None, None)


def test_collections_are_timed() -> None:
    telemetry = Telemetry()
    undo = telemetry.watch_gc()
    gc.collect()
    undo()
    gc.collect()
    telemetry.count_collections()
    telemetry.count_collections()
    assert sum(telemetry.stages["gc_pause"].bins) == 1


class Collected(Fine):
    """A histogram during whose reading the collector runs, as it may at any allocation and in any thread."""

    def __getattribute__(self, name: str) -> Any:
        if name == "bins":
            gc.collect()
        return super().__getattribute__(name)


def test_a_collection_while_the_page_is_written_spoils_it_not() -> None:
    telemetry = Telemetry(Hand())
    telemetry.stages["infer"] = Collected(telemetry.edges)
    cache = Cache(1000)
    directory = Directory(FakeFinder(), ServeSection(), cache, telemetry)
    undo = telemetry.watch_gc()
    try:
        page = Exposition(directory, cache, telemetry, Processes(lambda: [])).text().decode()
    finally:
        undo()
    assert 'slo_stage_duration_seconds_count{stage="infer"} 0.0' in page
    telemetry.count_collections()
    assert sum(telemetry.stages["gc_pause"].bins) > 0


def test_however_many_replicas_come_and_go_their_series_stay_few() -> None:
    telemetry = Telemetry(Hand())
    for number in range(1000):
        telemetry.computed("m", f"m-{number}", "2xx", 0.1)
    assert len(telemetry.computed_by) == MAX_COMPUTED
    assert ("m", "m-999", "2xx") in telemetry.computed_by


def test_the_page_shows_what_part_of_the_computed_tokens_only_fills_shapes() -> None:
    status = {"tokens": 970, "filling_tokens": 30}
    replica = SimpleNamespace(identity=("m-0", "127.0.0.1:1"), status=status)
    planner = SimpleNamespace(online_tokens=0, deferred_tokens=0, batch_tokens=0)
    lane = SimpleNamespace(model="m", planner=planner, replicas=[replica], capacity_tokens_per_s=lambda: 1.0)
    directory: Any = SimpleNamespace(lanes=[lane])
    page = Exposition(directory, Cache(0), Telemetry(Hand()), Processes(lambda: [])).text().decode()
    assert 'slo_engine_tokens_total{model="m",replica="m-0",what="text"} 970.0' in page
    assert 'slo_engine_tokens_total{model="m",replica="m-0",what="filling"} 30.0' in page


async def test_the_page_is_prometheus_text_with_an_exact_edge_at_150_ms() -> None:
    telemetry = Telemetry(Hand())
    for seconds in (0.1, 0.15, 0.150001, 20.0):
        telemetry.request("m", "short", "2xx", cached=False, seconds=seconds)
    telemetry.count("rejected", "overloaded", amount=3)
    telemetry.stage("infer", 0.01)
    cache = Cache(1000)
    directory = Directory(FakeFinder(), ServeSection(), cache, telemetry)
    text = Exposition(directory, cache, telemetry, Processes(lambda: directory.lanes)).text().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = {
        sample.labels["le"]: sample.value
        for sample in families["slo_request_duration_seconds"].samples
        if sample.name.endswith("_bucket")
    }
    assert list(samples) == [*(f"{edge:g}" for edge in LATENCY_EDGES_S), "+Inf"]
    assert (samples["0.1"], samples["0.125"], samples["0.15"], samples["0.175"], samples["+Inf"]) == (1, 1, 2, 3, 4)
    assert families["slo_rejected"].samples[0].labels == {"reason": "overloaded"}
    assert families["slo_rejected"].samples[0].value == 3
    assert {"slo_stage_duration_seconds", "slo_inflight_requests", "slo_queue_tokens", "slo_build_info"} <= set(
        families
    )
    assert families["slo_process_resident_memory_bytes"].samples[0].value > 1e6
