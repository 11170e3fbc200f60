import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from slo.clock import ManualClock
from slo.errors import BadAnswer, RequestError, Unreachable
from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.web.exposition import Exposition
from slo.serve.web.processes import Processes
from slo.stats import LATENCY_EDGES_S
from slo.watch.model.counts import Counts
from slo.watch.model.objectives import parse_goal
from slo.watch.sli.scrape import parse_exposition, reading_from_json
from slo.watch.sli.sources import PassiveSource, PrometheusSource, needs_probes, query_url, read_increase

P95 = parse_goal("latency", "p95 <= 150ms")


class Server:
    """The metrics page of a server that was used so far."""

    def __init__(self) -> None:
        self.down = False
        self.start()

    def start(self) -> None:
        """Anew, from zero."""
        self._registry = CollectorRegistry()
        names = ["model", "length_class", "source", "code", "cache"]
        self._requests = Histogram(
            "slo_request_duration_seconds", "h", names, buckets=LATENCY_EDGES_S, registry=self._registry
        )
        self._stage = Histogram("slo_stage_duration_seconds", "h", ["stage"], registry=self._registry)
        self._lookups = Counter("slo_cache_lookups", "h", ["result"], registry=self._registry)

    def use(
        self, count: int, seconds: float = 0.02, code: str = "2xx", length: str = "short", model: str = "m"
    ) -> None:
        for _ in range(count):
            self._requests.labels(model, length, "gateway", code, "miss").observe(seconds)
            self._stage.labels("infer").observe(seconds / 2)
            self._lookups.labels("miss").inc()

    def __call__(self, url: str) -> bytes:
        if self.down:
            raise Unreachable(f"{url}: nobody answers there", url=url)
        return generate_latest(self._registry)


class ExtensionPage:
    """The page of the extension itself, of a server that starts at another time each time."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Anew, from zero."""
        self._telemetry = Telemetry()
        directory = cast("Directory", SimpleNamespace(lanes=[]))
        self._page = Exposition(directory, Cache(1000), self._telemetry, Processes(lambda: []))

    def use(self, count: int, seconds: float = 0.02, source: str = "") -> None:
        for _ in range(count):
            if source:
                self._telemetry.own("m", "short", source, "2xx", cached=False, seconds=seconds)
            else:
                self._telemetry.request("m", "short", "2xx", cached=False, seconds=seconds)

    def cut(self, texts: int) -> None:
        self._telemetry.count("truncated", "texts", amount=texts)

    def __call__(self, url: str) -> bytes:
        return self._page.text()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_s=1_700_000_040.0)


@pytest.fixture
def source(server: Server, clock: ManualClock) -> PassiveSource:
    return made(server, clock)


def made(server: Callable[[str], bytes], clock: ManualClock) -> PassiveSource:
    return PassiveSource(server, "http://h:9997/", model="m", clock=clock, interval_s=60, thresholds_ms=[150])


def counted(source: PassiveSource, clock: ManualClock) -> list[tuple[int, Counts | None]]:
    """Slices of the next round, a minute later: start before now, and counts."""
    clock.advance(60)
    start_s = int(clock.wall()) - 60
    return [(minute.start_s - start_s, minute.counts(P95)) for minute in source.collect(start_s).minutes]


def test_the_first_reading_counts_nothing_and_the_next_the_difference(
    server: Server, source: PassiveSource, clock: ManualClock
) -> None:
    server.use(1000)
    assert counted(source, clock) == []
    server.use(8)
    server.use(2, 0.4)
    assert counted(source, clock) == [(0, Counts(8, 10))]
    assert counted(source, clock) == []


def test_failures_are_bad_a_callers_mistakes_are_left_out_and_batch_counts_for_availability(
    server: Server, source: PassiveSource, clock: ManualClock
) -> None:
    server.use(1)
    counted(source, clock)
    for code in ("429", "5xx", "timeout", "gone", "4xx"):
        server.use(1, code=code)
    server.use(5, 3.0, length="batch")
    server.use(2, code="5xx", length="batch")
    server.use(1, code="4xx", length="batch")
    server.use(5, model="another")
    server.use(6)
    clock.advance(60)
    harvest = source.collect(0)
    (minute,) = harvest.minutes
    assert minute.counts(P95) == Counts(6, 10)
    assert minute.counts(parse_goal("availability", "errors <= 0.2%")) == Counts(11, 17)
    assert minute.failures == {"refused": 1, "server_fault": 1, "timeout": 1, "client_gone": 1}
    assert harvest.evidence["classes"] == {"short": [6, 10]}
    assert harvest.evidence["cache_hit_ratio"] == 0
    assert harvest.evidence["stages"]["infer"][1] == 24


def test_an_answer_at_exactly_the_threshold_is_good(server: Server, source: PassiveSource, clock: ManualClock) -> None:
    server.use(1)
    counted(source, clock)
    server.use(1, 0.15)
    server.use(1, 0.150001)
    assert counted(source, clock) == [(0, Counts(1, 2))]


def test_a_restarted_server_counts_from_zero(server: Server, source: PassiveSource, clock: ManualClock) -> None:
    server.use(100)
    counted(source, clock)
    server.start()
    server.use(7)
    assert counted(source, clock) == [(0, Counts(7, 7))]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([(0.02, 1000)], [(0.3, 1100)], id="more than before, and slower"),
        pytest.param([(0.02, 10), (0.3, 10)], [(0.02, 50)], id="a slow one less"),
        pytest.param([(0.02, 10)], [(0.02, 10)], id="as many as before"),
    ],
)
def test_a_restart_is_seen_whatever_the_new_totals_are(
    before: list[tuple[float, int]], after: list[tuple[float, int]], clock: ManualClock
) -> None:
    page = ExtensionPage()
    source = made(page, clock)
    for seconds, count in before:
        page.use(count, seconds)
    counted(source, clock)
    page.start()
    for seconds, count in after:
        page.use(count, seconds)
    total = sum(count for _, count in after)
    good = sum(count for seconds, count in after if seconds <= 0.15)
    assert counted(source, clock) == [(0, Counts(good, total))]


@given(st.lists(st.lists(st.sampled_from([0.02, 0.12, 0.2, 0.4]), max_size=30), min_size=2, max_size=6),
       st.lists(st.booleans(), min_size=6, max_size=6))  # fmt: skip
def test_no_difference_is_ever_negative_though_nobody_tells_of_restarts(
    minutes: list[list[float]], restarts: list[bool]
) -> None:
    clock, server = ManualClock(wall_s=1_700_000_040.0), Server()
    source = made(server, clock)
    for latencies, restart in zip(minutes, restarts, strict=False):
        if restart:
            server.start()
        for seconds in latencies:
            server.use(1, seconds)
        for _, counts in counted(source, clock):
            assert counts is None or 0 <= counts.good <= counts.total


def test_buckets_that_do_not_grow_are_a_bad_answer() -> None:
    page = 'slo_request_duration_seconds_bucket{model="m",code="2xx",le="0.1"} 5\n'
    page += 'slo_request_duration_seconds_bucket{model="m",code="2xx",le="+Inf"} 4\n'
    with pytest.raises(BadAnswer, match="do not grow"):
        parse_exposition(page, model="m", url="http://h")


def test_what_came_while_nobody_looked_is_spread_over_that_time_and_none_is_lost(
    server: Server, source: PassiveSource, clock: ManualClock
) -> None:
    server.use(1)
    counted(source, clock)
    server.use(10)
    clock.advance(120)
    found = counted(source, clock)
    assert [start_s for start_s, _ in found] == [-120, -60, 0]
    assert [counts.total for _, counts in found if counts] == [3, 3, 4]


def test_a_restarted_watcher_goes_on_where_the_one_before_it_stopped(
    server: Server, source: PassiveSource, clock: ManualClock
) -> None:
    server.use(5)
    counted(source, clock)
    server.use(3)
    after = made(server, clock)
    after.restore(source.state())
    assert counted(after, clock) == [(0, Counts(3, 3))]


def test_counters_of_another_server_are_not_continued(
    server: Server, source: PassiveSource, clock: ManualClock
) -> None:
    server.use(5)
    counted(source, clock)
    other = PassiveSource(server, "http://elsewhere", model="m", clock=clock, interval_s=60, thresholds_ms=[150])
    other.restore(source.state())
    assert counted(other, clock) == []


def test_our_own_probes_are_no_traffic_but_evidence(clock: ManualClock) -> None:
    page = ExtensionPage()
    source = made(page, clock)
    page.use(5)
    counted(source, clock)
    page.use(3)
    page.use(20, 0.4, source="probe")
    page.use(9, 0.4, source="bench")
    clock.advance(60)
    harvest = source.collect(int(clock.wall()) - 60)
    (minute,) = harvest.minutes
    assert minute.counts(P95) == Counts(3, 3)
    assert harvest.evidence["classes"] == {"short": [3, 23]}
    assert not harvest.sees_probes


def test_a_server_that_counts_probes_among_users_is_known(
    server: Server, source: PassiveSource, clock: ManualClock
) -> None:
    server.use(5)
    counted(source, clock)
    server.use(5)
    assert source.collect(0).sees_probes


def test_a_histogram_without_the_threshold_is_refused_with_its_edges(server: Server, clock: ManualClock) -> None:
    source = PassiveSource(server, "http://h", model="m", clock=clock, interval_s=60, thresholds_ms=[120])
    server.use(5)
    source.collect(0)
    server.use(600, 0.4)
    harvest = source.collect(60)
    assert harvest.blind
    assert [minute.counts(parse_goal("latency", "p95 <= 120ms")) for minute in harvest.minutes] == [None]
    assert "counts latencies at 5, 10, 20, 30, 50, 75, 100, 125, 150, " in harvest.problem
    assert "not at 120 ms: until it is launched anew with this configuration" in harvest.problem


def test_a_server_that_does_not_answer_is_a_problem_and_no_error(
    server: Server, source: PassiveSource, clock: ManualClock
) -> None:
    server.use(5)
    counted(source, clock)
    server.down = True
    assert "nobody answers" in source.collect(0).problem
    server.down = False
    server.use(4)
    assert sum(counts.total for _, counts in counted(source, clock) if counts) == 4


def test_a_cache_that_is_off_answers_nothing_and_an_idle_server_says_nothing() -> None:
    telemetry = Telemetry()
    directory = cast("Directory", SimpleNamespace(lanes=[]))
    page = Exposition(directory, Cache(1000), telemetry, Processes(lambda: []))
    assert parse_exposition(page.text().decode(), model="m", url="x").cache_hit_ratio is None
    telemetry.request("m", "short", "2xx", cached=False, seconds=0.01)
    assert parse_exposition(page.text().decode(), model="m", url="x").cache_hit_ratio == 0


def test_a_replica_that_counts_from_zero_again_is_counted_from_there(clock: ManualClock) -> None:
    telemetry = Telemetry()
    directory = cast("Directory", SimpleNamespace(lanes=[]))
    page = Exposition(directory, Cache(1000), telemetry, Processes(lambda: []))
    source = made(lambda _: page.text(), clock)
    for round_ in range(2):
        telemetry.request("m", "short", "2xx", cached=False, seconds=0.01)
        for _ in range(5 - 3 * round_):
            telemetry.computed("m", "m-0", "2xx", 0.4)
        evidence = source.collect(0).evidence
        telemetry.computed_by.clear()
    assert evidence["replicas"] == {"m-0": [0, 2]}


@pytest.mark.parametrize("page", ["<html>login</html>", 'slo_request_duration_seconds_bucket{le="x"} 1\n'])
def test_a_page_that_is_no_metrics_is_a_bad_answer(page: str) -> None:
    with pytest.raises(BadAnswer, match="not Prometheus text"):
        parse_exposition(page, model="m", url="http://h")


def test_a_reading_survives_as_json(server: Server) -> None:
    server.use(3)
    reading = parse_exposition(server("x").decode(), model="m", url="x")
    assert reading_from_json(reading.to_json()) == reading


@pytest.mark.parametrize(
    ("passive", "expected"),
    [
        pytest.param(0, True, id="a hung server answers nobody"),
        pytest.param(11, True, id="too few"),
        pytest.param(12, False, id="enough"),
    ],
)
def test_probes_fill_in_when_this_round_is_thin(passive: int, expected: bool) -> None:
    assert needs_probes(passive, 60, interval_s=60, window_s=300) is expected


def vector(*rows: tuple[str, str, float]) -> bytes:
    """An answer of Prometheus; rows of code, edge, increase."""
    body = ",".join(
        f'{{"metric":{{"code":"{code}","le":"{le}","length_class":"short"}},"value":[0,"{value}"]}}'
        for code, le, value in rows
    )
    return f'{{"status":"success","data":{{"resultType":"vector","result":[{body}]}}}}'.encode()


def test_prometheus_is_asked_by_query_and_its_estimates_are_rounded_to_whole_requests() -> None:
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return vector(("2xx", "0.15", 9.6), ("2xx", "+Inf", 11.8), ("5xx", "0.15", 0.9), ("5xx", "+Inf", 1.1))

    source = PrometheusSource(fetch, "http://p:9090/", model='a"b', clock=ManualClock(), interval_s=60,
                              thresholds_ms=[150], selector='cluster="x"')  # fmt: skip
    (minute,) = source.collect(0).minutes
    assert (minute.source, minute.counts(P95)) == ("prometheus", Counts(10, 13))
    assert re.search(r"model%3D%22a%5C%22b%22%2Ccluster", asked[0])


@pytest.mark.parametrize(
    "body",
    [b"<html>", b'{"status":"error","error":"bad query"}', b'{"status":"success","data":{"resultType":"matrix"}}'],
    ids=["a login page", "an error", "no vector"],
)
def test_what_is_no_answer_of_prometheus_is_an_error(body: bytes) -> None:
    with pytest.raises(RequestError):
        read_increase(lambda _: body, query_url("http://p", model="m", seconds=60, at_s=0))


def test_a_prometheus_without_our_series_is_a_problem_that_names_the_model() -> None:
    source = PrometheusSource(lambda _: vector(), "http://p", model="m", clock=ManualClock(), interval_s=60,
                              thresholds_ms=[150])  # fmt: skip
    assert "no series for model 'm'" in source.collect(0).problem


def test_the_page_of_the_real_extension_is_understood() -> None:
    telemetry = Telemetry()
    for length, code, seconds in (("short", "2xx", 0.15), ("long", "2xx", 0.16), ("batch", "2xx", 1.0),
                                  ("short", "429", 0.001), ("short", "4xx", 0.001)):  # fmt: skip
        telemetry.request("m", length, code, cached=False, seconds=seconds)
    telemetry.stage("infer", 0.02)
    telemetry.count("cache", "hit", amount=3)
    telemetry.count("cache", "miss")
    directory = cast("Directory", SimpleNamespace(lanes=[]))
    for replica, code, seconds in (
        ("m-0", "2xx", 0.15),
        ("m-1", "2xx", 0.16),
        ("m-1", "timeout", 1),
        ("m-1", "4xx", 0.1),
    ):
        telemetry.computed("m", replica, code, seconds)
    telemetry.computed("another", "n-0", "2xx", 0.1)
    page = Exposition(directory, Cache(1000), telemetry, Processes(lambda: [])).text().decode()
    reading = parse_exposition(page, model="m", url="x")
    assert reading.minute(start_s=0, source="passive").counts(P95) == Counts(1, 3)
    assert reading.evidence(150)["classes"] == {"short": [1, 2], "long": [0, 1]}
    assert reading.evidence(150)["replicas"] == {"m-0": [1, 1], "m-1": [0, 2]}
    assert reading.evidence(120)["replicas"] == {}, "no edge, so nobody can tell"
    assert (reading.stages["infer"], reading.cache_hit_ratio) == ((0.02, 1), 0.75)


def test_texts_longer_than_the_model_takes_are_counted_since_the_last_look(clock: ManualClock) -> None:
    page = ExtensionPage()
    source = made(page, clock)
    page.use(1)
    found = [source.collect(0).truncated]
    for texts in (5, 7, 0):
        page.cut(texts)
        found.append(source.collect(0).truncated)
    assert found == [0, 5, 7, 0]
