"""So many callers, no more and no fewer, and none of them hammers a dead server."""

from __future__ import annotations

import pytest

from slo.bench.closed_loop import BACKOFF_S, closed_loop
from slo.bench.collect import Collector
from slo.bench.exchange import Exchange
from slo.bench.open_loop import drain
from slo.objective import Objective
from tests.bench.virtual import Formula, VirtualClock, exchanges, run_virtual


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
