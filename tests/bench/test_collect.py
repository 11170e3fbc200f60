"""What is noted is complete, bounded, and keeps warm-up and cache apart."""

from __future__ import annotations

from array import array

import pytest

from slo.bench.collect import BAD, CACHED, GOOD, Collector, Second
from slo.bench.exchange import Exchange, parse_timing
from slo.clock import ManualClock
from slo.objective import Objective
from slo.stats import Integral

GOAL = Objective()


def collector(clock: ManualClock, *, keep: int = 1000) -> Collector:
    return Collector(GOAL, clock=clock, keep=keep)


def one(into: Collector, clock: ManualClock, *, ms: float = 10, outcome: str = "ok", cached: bool = False) -> Exchange:
    exchange = Exchange(b"", "short")
    exchange.due_s = exchange.dispatched_s = exchange.sent_s = clock.monotonic()
    into.begin(exchange)
    clock.advance(ms / 1000)
    exchange.done_s, exchange.outcome, exchange.cached = clock.monotonic(), outcome, cached
    into.finish(exchange)
    return exchange


def test_the_warmup_counts_nowhere_but_in_the_series() -> None:
    clock = ManualClock()
    found = collector(clock)
    one(found, clock)
    found.measure(clock.monotonic())
    one(found, clock)
    assert (found.discarded, found.total, len(found.kept)) == (1, 1, 1)
    assert found.series()[0]["due"] == 2


def test_cached_answers_are_counted_apart() -> None:
    clock = ManualClock()
    found = collector(clock)
    found.measure(clock.monotonic())
    for kind in ({"cached": True}, {}, {"ms": 151}, {"outcome": "refused"}):
        one(found, clock, **kind)
    assert list(found.flags) == [CACHED, GOOD, BAD, BAD]
    assert (found.total, found.good, found.cached.total) == (3, 1, 1)
    assert found.refusals_ms.total == 1
    assert [summary.total for summary in found.summaries()] == [3]


def test_150_ms_is_good_and_the_next_float_is_not() -> None:
    clock = ManualClock(monotonic_s=0.0)
    found = collector(clock)
    found.measure(0.0)
    exchange = Exchange(b"", "short")
    exchange.due_s = exchange.dispatched_s = exchange.sent_s = 0.0
    found.begin(exchange)
    exchange.done_s, exchange.outcome = 0.15, "ok"
    found.finish(exchange)
    assert list(found.flags) == [GOOD]
    assert one(found, clock, ms=151).outcome == "ok"
    assert list(found.flags) == [GOOD, BAD]


def test_a_long_run_keeps_a_uniform_part_and_exact_counts() -> None:
    clock = ManualClock()
    found = collector(clock, keep=200)
    found.measure(clock.monotonic())
    for number in range(2000):
        one(found, clock, ms=1 if number < 1000 else 300)
    assert found.thinned
    assert len(found.kept) == 200
    assert (found.total, found.good) == (2000, 1000)
    assert sum(s.latency_ms < 150 for s in found.kept) == pytest.approx(100, abs=35)
    assert found.summaries()[0].p95_ms == pytest.approx(300, rel=0.006)


def test_samples_are_in_seconds_of_the_run() -> None:
    clock = ManualClock(monotonic_s=500.0)
    found = collector(clock)
    found.measure(clock.monotonic())
    clock.advance(2)
    one(found, clock)
    assert found.samples()[0].due_s == pytest.approx(2.0)


def test_a_wrong_answer_becomes_bad_afterwards() -> None:
    clock = ManualClock()
    found = collector(clock)
    found.measure(clock.monotonic())
    exchange = one(found, clock)
    found.mark_wrong(exchange.sequence, "short")
    assert (found.good, list(found.flags), found.kept[0].outcome) == (0, [BAD], "bad_answer")
    assert found.summaries()[0].failed == 1


def test_littles_law_holds_by_integration() -> None:
    clock = ManualClock(monotonic_s=0.0)
    found = collector(clock)
    found.measure(0.0)
    for _ in range(10):
        one(found, clock, ms=100)
        clock.advance(0.1)
    assert found.mean_in_flight(clock.monotonic()) == pytest.approx(0.5)
    assert found.stay_s / clock.monotonic() == pytest.approx(0.5)


def test_an_integral_of_steps() -> None:
    area = Integral()
    area.change(1.0, +2)
    area.change(3.0, -1)
    assert area.value(4.0) == pytest.approx(2 * 2 + 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"infer;dur=20.5", [("infer", 20.5)]),
        (b'queue;desc="w";dur=1, infer; dur=2', [("queue", 1.0), ("infer", 2.0)]),
        (b"miss, x;dur=fast, y;dur=3", [("y", 3.0)]),
        (b"", []),
    ],
)
def test_server_timing_is_read_as_written(value: bytes, expected: list[tuple[str, float]]) -> None:
    assert parse_timing(value) == expected


def test_a_second_in_which_many_failed_has_no_p95() -> None:
    second = Second(0, warmup=False)
    second.latencies_ms.extend([10.0] * 90)
    second.failed = 5
    assert second.row(0.0)["p95_ms"] is None
    second.failed = 4
    assert (second.row(0.0)["p50_ms"], second.row(0.0)["p95_ms"]) == (10.0, 10.0)
    second.latencies_ms, second.failed = array("f"), 3
    assert second.row(0.0)["p50_ms"] is None
