"""The schedule is carried out as written, and a stall shows in every request that was due meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from slo.bench.collect import Collector
from slo.bench.exchange import Exchange
from slo.bench.open_loop import BACKOFF_S, closed_loop, drain, open_loop
from slo.bench.schedule import constant, poisson
from slo.bench.selfcheck import Instrument, check_run
from slo.clock import SystemClock
from slo.objective import Objective
from slo.stats import nearest_rank
from tests.bench.virtual import Formula, VirtualClock, exchanges, run_virtual

GOAL = Objective()
PAUSE_FROM_S, PAUSE_S = 1030.0, 2.0  # the virtual clock begins at 1000


@pytest.fixture(autouse=True)
def no_neighbours() -> None:
    """In the place of conftest's: here the generator's own limits are what is tested."""


def paused(_exchange: Exchange, now: float) -> float:
    """Answers after 10 ms, but rests for two seconds once."""
    return (PAUSE_FROM_S + PAUSE_S if PAUSE_FROM_S <= now < PAUSE_FROM_S + PAUSE_S else now) + 0.01


async def run_open(clock: VirtualClock, due: list[float], service: Formula) -> Collector:
    collector = Collector(GOAL, clock=clock)
    collector.measure(clock.monotonic())
    assert await open_loop(service, due, iter(exchanges()), collector, clock=clock)
    await drain(collector, clock=clock, patience_s=60)
    return collector


def test_a_pause_of_two_seconds_shows_its_hundred_delayed_arrivals() -> None:
    found = run_virtual(lambda clock: run_open(clock, poisson(50, 60, seed=1), Formula(clock, paused)))
    latencies = sorted(sample.latency_ms for sample in found.kept)
    delayed = [ms for ms in latencies if ms > 11]
    assert 80 <= len(delayed) <= 120
    assert sum(found.computed()[0]) >= 0.9 * len(delayed)
    assert nearest_rank(latencies, 0.99) > 1000
    assert max(latencies) > 1900
    assert len(latencies) == pytest.approx(3000, rel=0.05)


def test_the_same_pause_moves_p95_when_it_comes_more_often() -> None:
    def often(_exchange: Exchange, now: float) -> float:
        phase = now % 15
        return now + max(0.0, 2 - phase) + 0.01

    found = run_virtual(lambda clock: run_open(clock, poisson(50, 60, seed=1), Formula(clock, often)))
    assert nearest_rank(sorted(sample.latency_ms for sample in found.kept), 0.95) > 1000


def test_one_caller_in_a_closed_loop_hides_that_pause() -> None:
    """Why the verdict is never taken from a closed loop."""

    async def main(clock: VirtualClock) -> Collector:
        collector = Collector(GOAL, clock=clock)
        collector.measure(clock.monotonic())
        until = clock.monotonic() + 60
        await closed_loop(
            Formula(clock, paused), 1, iter(exchanges()), collector, clock=clock, stop=lambda now: now >= until
        )
        await drain(collector, clock=clock, patience_s=60)
        return collector

    found = run_virtual(main)
    assert sum(sample.latency_ms > 11 for sample in found.kept) == 1
    assert nearest_rank(sorted(sample.latency_ms for sample in found.kept), 0.99) < 11


def test_every_request_leaves_when_it_is_due() -> None:
    found = run_virtual(lambda clock: run_open(clock, constant(40, 10), Formula(clock, lambda _e, now: now + 0.001)))
    assert len(found.kept) == 400
    assert found.lags_ms.max_ms < 0.01
    assert [sample.due_s for sample in found.samples()] == pytest.approx([i / 40 for i in range(400)], abs=1e-6)


def test_a_late_loop_sends_all_that_is_overdue() -> None:
    async def main(clock: VirtualClock) -> Collector:
        def stalling(exchange: Exchange, now: float) -> float:
            if exchange.sequence == 10:
                clock.sleep(3.0)  # the generator itself stands still
            return now + 0.001

        return await run_open(clock, constant(100, 10), Formula(clock, stalling))

    found = run_virtual(main)
    assert len(found.kept) == 1000
    assert found.lags_ms.max_ms == pytest.approx(3000, rel=0.02)
    check = check_run(found, Instrument(SystemClock()), found.measured_from_s + 10)
    assert any("late" in fault for fault in check.faults)


def test_it_stops_when_asked() -> None:
    async def main(clock: VirtualClock) -> bool:
        collector = Collector(GOAL, clock=clock)
        start = clock.monotonic()
        service = Formula(clock, lambda _e, now: now + 0.001)
        complete = await open_loop(
            service, constant(10, 100), iter(exchanges()), collector, clock=clock, stop=lambda now: now > start + 5
        )
        assert 45 <= collector.discarded <= 55
        return complete

    assert run_virtual(main) is False


def test_an_empty_schedule_ends_at_once() -> None:
    found = run_virtual(lambda clock: run_open(clock, [], Formula(clock, lambda _e, now: now)))
    assert found.total == 0


async def test_real_lag_of_a_blocked_generator_makes_the_run_void() -> None:
    class Blocking:
        """Holds the event loop for 8 ms on every tenth request."""

        def __init__(self) -> None:
            self.on_done: Callable[[Exchange], None] = lambda _exchange: None

        def submit(self, exchange: Exchange) -> None:
            if exchange.sequence % 10 == 0:
                time.sleep(0.008)
            exchange.sent_s = exchange.done_s = clock.monotonic()
            exchange.outcome, exchange.status = "ok", 200
            self.on_done(exchange)

    clock = SystemClock()
    collector, instrument = Collector(GOAL, clock=clock), Instrument(clock)
    collector.measure(clock.monotonic())
    await open_loop(Blocking(), constant(400, 1), iter(exchanges()), collector, clock=clock)
    check = check_run(collector, instrument, clock.monotonic())
    assert any("late" in fault for fault in check.faults)


async def run_closed(clock: VirtualClock, clients: int, service: Formula, seconds: float) -> Collector:
    collector = Collector(Objective(), clock=clock)
    collector.measure(clock.monotonic())
    until = clock.monotonic() + seconds
    await closed_loop(service, clients, iter(exchanges()), collector, clock=clock, stop=lambda now: now >= until)
    await drain(collector, clock=clock, patience_s=60)
    return collector


def test_the_callers_are_always_busy() -> None:
    async def main(clock: VirtualClock) -> tuple[Collector, Formula]:
        service = Formula(clock, lambda _e, now: now + 0.1)
        return await run_closed(clock, 7, service, 10), service

    found, service = run_virtual(main)
    assert service.peak == found.peak_in_flight == 7
    assert abs(found.total - 7 * 100) <= 14
    assert abs(found.mean_in_flight(found.measured_from_s + 10) - 7) < 0.1


def test_nothing_is_sent_after_the_end() -> None:
    found = run_virtual(lambda clock: run_closed(clock, 3, Formula(clock, lambda _e, now: now + 4), 10))
    assert found.total == 9
    assert found.in_flight == 0


def test_a_dead_server_is_asked_gently() -> None:
    async def main(clock: VirtualClock) -> Collector:
        def dead(exchange: Exchange, now: float) -> float:
            exchange.outcome = "unreachable"
            return now

        return await run_closed(clock, 2, Formula(clock, dead), 10)

    assert run_virtual(main).total <= 2 * (10 / BACKOFF_S + 1)


@pytest.mark.parametrize("error", [BrokenPipeError("gone"), ZeroDivisionError("oops")])
def test_what_goes_wrong_in_a_poll_ends_the_load_instead_of_going_on_for_ever(error: Exception) -> None:
    async def main(clock: VirtualClock) -> None:
        collector = Collector(Objective(), clock=clock)

        def stop(_now: float) -> bool:
            raise error

        service = Formula(clock, lambda _e, now: now + 0.1)
        await closed_loop(service, 2, iter(exchanges()), collector, clock=clock, stop=stop)

    with pytest.raises(type(error)):
        run_virtual(main)
