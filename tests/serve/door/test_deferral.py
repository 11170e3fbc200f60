"""What is promised of the policy `defer`, on virtual time beside `shed`: nobody lost in a burst, in time as many."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from slo.serve.door.lane import Lane
from slo.settings_serve import ServeSection
from tests.serve.virtual import Outcome, Service, SlowReplica, run_virtual

LIMIT_S = 0.150
MAX_WAIT_S = 5.0
MIX = [4, 20, 50]


def served(policy: str, slowness: float = 1.0, noise: float = 0.15, **admission: Any) -> Service:
    settings = ServeSection.model_validate({"admission": {"policy": policy, **admission}})
    return Service([SlowReplica(slowness=slowness, noise=noise)], settings)


def lane_of(service: Service) -> Lane:
    return service.front._directory.lanes[0]


async def warmed(service: Service) -> Service:
    await service.offer(20, 10)
    await asyncio.sleep(5)
    return service


def in_time(outcomes: list[Outcome]) -> int:
    return sum(o.status == 200 and o.took_s <= LIMIT_S for o in outcomes)


@pytest.mark.parametrize("before_s", [0, 4], ids=["from rest", "after two callers at work"])
@pytest.mark.parametrize("slowness", [0.5, 1.0, 1.6])
@pytest.mark.parametrize(("threads", "each"), [(64, 2), (256, 1)])
def test_a_burst_loses_nobody_and_takes_no_longer_than_waiting_in_line_does(
    threads: int, each: int, slowness: float, before_s: float
) -> None:
    async def run(policy: str) -> tuple[list[Outcome], float]:
        service = await warmed(served(policy, slowness))
        await service.crowd(2, before_s)
        began_s = asyncio.get_running_loop().time()
        outcomes = await service.burst(threads, each)
        return outcomes, asyncio.get_running_loop().time() - began_s

    deferred, deferred_s = run_virtual(run("defer"))
    _, queued_s = run_virtual(run("queue"))
    assert {o.status for o in deferred} == {200}
    assert deferred_s < 1.15 * queued_s
    assert in_time(deferred) > 40 / max(1.0, slowness)


@pytest.mark.parametrize("slowness", [0.5, 1.0])
def test_fifty_callers_who_never_rest_lose_nothing_and_are_in_time_nearly_as_often_as_with_shed(
    slowness: float,
) -> None:
    async def run(policy: str) -> list[Outcome]:
        return await (await warmed(served(policy, slowness))).crowd(50, 30)

    deferred, shed = run_virtual(run("defer")), run_virtual(run("shed"))
    assert {o.status for o in deferred} == {200}
    assert in_time(deferred) >= 0.83 * in_time(shed)
    assert max(o.took_s for o in deferred) <= MAX_WAIT_S + 0.5


@pytest.mark.parametrize("slowness", [0.5, 1.0])
def test_at_three_times_the_capacity_nearly_as_many_are_in_time_as_with_shed_and_the_queue_is_bounded(
    slowness: float,
) -> None:
    async def run(policy: str) -> tuple[list[Outcome], int]:
        service = await warmed(served(policy, slowness))
        offering = asyncio.ensure_future(service.offer(400 / slowness, 30, 2))
        most = 0
        while not offering.done():
            await asyncio.sleep(0.25)
            most = max(most, lane_of(service).planner.deferred_tokens)
        return await offering, most

    deferred, most = run_virtual(run("defer"))
    shed, _ = run_virtual(run("shed"))
    assert {o.status for o in deferred} == {200, 429}, "what was let in got its answer"
    assert in_time(deferred) >= 0.9 * in_time(shed)
    late = [o.took_s for o in deferred if o.status == 200 and o.took_s > LIMIT_S]
    assert len(late) > 100, "their share never falls to nothing"
    assert max(late) <= 1.25 * MAX_WAIT_S
    assert most <= 1.25 * MAX_WAIT_S * 3800 / slowness, "no more than can be served in that time"


def test_deferred_texts_take_no_pass_that_the_next_one_in_time_needs_where_a_pass_holds_one_text() -> None:
    async def run(policy: str) -> list[Outcome]:
        service = await warmed(served(policy, 3.5, noise=0.3))
        await service.crowd(8, 5)
        await asyncio.sleep(6)
        return await service.offer(60, 30, 1, [40])

    deferred, shed = run_virtual(run("defer")), run_virtual(run("shed"))
    assert {o.status for o in deferred} == {200, 429}
    assert in_time(deferred) >= 0.87 * in_time(shed)


def test_callers_who_are_refused_come_back_one_after_another_and_are_served() -> None:
    async def run() -> list[Outcome]:
        return await (await warmed(served("defer", max_wait=0.5))).burst(256, 1)

    outcomes = run_virtual(run())
    assert sum(o.status == 200 for o in outcomes) >= 0.97 * len(outcomes)


def test_a_server_that_has_become_slow_defers_what_it_had_admitted_and_answers_it() -> None:
    async def run() -> list[Outcome]:
        replica = SlowReplica(noise=0.02)
        service = Service([replica], ServeSection())
        await service.offer(60, 10)
        replica.slowness = 6.0
        return await service.offer(60, 2, 3)

    outcomes = run_virtual(run())
    assert {o.status for o in outcomes} == {200}
    assert max(o.took_s for o in outcomes) > LIMIT_S


def test_a_deadline_of_ones_own_is_refused_when_it_cannot_be_held_not_deferred() -> None:
    async def run() -> list[Outcome]:
        service = await warmed(served("defer"))
        crowd = [asyncio.ensure_future(service.embed(40)) for _ in range(100)]
        await asyncio.sleep(0.01)
        own = await service.embed(40, deadline_ms=40)
        return [own, *await asyncio.gather(*crowd)]

    own, *others = run_virtual(run())
    assert (own.status, own.took_s) == (429, 0.0)
    assert {o.status for o in others} == {200}


@pytest.mark.parametrize("policy", ["defer", "shed", "queue"])
def test_a_long_deadline_of_a_bulk_request_costs_the_single_ones_nothing(policy: str) -> None:
    async def run() -> tuple[Outcome, list[Outcome]]:
        service = await warmed(served(policy))
        bulk = asyncio.ensure_future(service.embed(*[20] * 200, deadline_ms=60_000))
        await asyncio.sleep(0.05)
        singles = await service.offer(40, 3, 5)
        return await bulk, singles

    bulk, singles = run_virtual(run())
    assert in_time(singles) == len(singles) > 80
    assert bulk.status == 200
    assert bulk.took_s < 6


def test_a_long_deadline_of_a_bulk_request_costs_a_burst_nothing_either() -> None:
    async def run(tokens: int) -> tuple[list[Outcome], Outcome]:
        service = await warmed(served("defer"))
        first = asyncio.ensure_future(service.embed(40))
        await asyncio.sleep(0.002)
        bulk = asyncio.ensure_future(service.embed(*[100] * (tokens // 102), deadline_ms=600_000))
        await asyncio.sleep(0.05)
        singles = [asyncio.ensure_future(service.embed(40)) for _ in range(200)]
        return list(await asyncio.gather(first, *singles)), await bulk

    alone, _ = run_virtual(run(102))
    beside, bulk = run_virtual(run(80_000))
    assert bulk.status == 200
    assert {o.status for o in beside} == {200}
    assert max(o.took_s for o in beside) < 1.2 * max(o.took_s for o in alone)
    assert in_time(beside) > 0.8 * in_time(alone) > 0


@pytest.mark.parametrize(("deadline_ms", "status"), [(600_000, 200), (5_000, 429)])
def test_a_long_deadline_is_held_by_a_server_that_was_idle_too(deadline_ms: float, status: int) -> None:
    async def run() -> Outcome:
        service = await warmed(served("defer"))
        outcome = await service.embed(*[100] * 500, deadline_ms=deadline_ms)
        await asyncio.sleep(2)  # the pass under way comes back
        return outcome

    outcome = run_virtual(run())
    assert outcome.status == status
    assert outcome.took_s > 10 if status == 200 else outcome.took_s == pytest.approx(deadline_ms / 1000)


def test_whatever_deadlines_are_asked_for_the_queue_stays_bounded() -> None:
    async def run() -> tuple[list[int], int]:
        service = await warmed(served("defer", max_queue_tokens=3000))
        asked = [
            asyncio.ensure_future(service.embed(*[20] * 20, deadline_ms=100_000 - 500 * number)) for number in range(50)
        ]
        await asyncio.sleep(0.05)
        most = lane_of(service).planner.online_tokens
        return [o.status for o in await asyncio.gather(*asked)], most

    statuses, most = run_virtual(run())
    assert set(statuses) == {200, 429}
    assert most <= 3000


def test_batch_stands_behind_deferred_and_has_its_pass_a_second() -> None:
    async def run() -> tuple[Outcome, list[Outcome]]:
        service = await warmed(served("defer"))
        singles = [asyncio.ensure_future(service.embed(40)) for _ in range(250)]
        await asyncio.sleep(0.01)
        batch = await service.embed(20, 20, class_="batch")
        return batch, list(await asyncio.gather(*singles))

    batch, singles = run_virtual(run())
    assert batch.status == 200
    assert 1.0 <= batch.took_s < 1.3
    assert {o.status for o in singles} == {200}
