"""When and where texts go: a simulated replica and a manual clock, over many random arrivals."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.serve.door.passes import ReplicaLoad
from slo.serve.door.planner import BESIDE_SHARE, STARVED_S, Dispatch, Planner
from slo.serve.door.work import Job, State
from slo.serve.engine.cost import PassCost

WAIT_S = 0.002


@dataclass
class Machine:
    """A replica of the simulation."""

    load: ReplicaLoad = field(default_factory=ReplicaLoad)
    ends: list[tuple[float, int]] = field(default_factory=list)  # when passes end, and their tokens


def planner(cost: PassCost | None = None, **changes: float) -> Planner:
    options = {"max_tokens": 160, "max_items": 64, "max_wait_s": WAIT_S, "in_flight": 2, "deadline_s": 0.15, **changes}
    return Planner(cost or PassCost(), **options)  # type: ignore[arg-type]


def job(text: str, now_s: float = 0.0, tokens: int = 20, online: bool = True) -> Job:
    return Job(text, tokens, online, now_s)


def texts(step: Dispatch | float | None) -> list[str]:
    assert isinstance(step, Dispatch)
    return [each.text for each in step.jobs]


def test_a_lone_text_on_an_idle_replica_starts_at_once() -> None:
    plan = planner()
    plan.add(job("a", 5.0))
    assert texts(plan.decide(5.0, [Machine()])) == ["a"]


def test_texts_go_first_come_first_served_up_to_the_tokens_of_a_pass() -> None:
    plan = planner()
    limit = plan.pass_tokens
    for name in "abcd":
        plan.add(job(name, tokens=limit // 2))
    assert texts(plan.decide(0.0, [Machine()])) == ["a", "b"]
    assert plan.online_tokens == 2 * (limit // 2)


def test_a_text_larger_than_a_pass_goes_alone() -> None:
    plan = planner()
    plan.add(job("big", tokens=500))
    plan.add(job("small"))
    assert texts(plan.decide(0.0, [Machine()])) == ["big"]


def test_a_pass_is_capped_by_its_share_of_the_deadline() -> None:
    cost = PassCost()
    for _ in range(300):
        for tokens in (20, 160):
            cost.observe(tokens, 0.010 + 0.001 * tokens, 0.2, 0.0)
    assert planner(cost).pass_tokens == pytest.approx(35, abs=2)
    assert planner(cost, deadline_s=10.0).pass_tokens == 160


def test_a_busy_replica_gets_its_next_pass_just_before_it_is_free() -> None:
    plan, machine = planner(), Machine()
    machine.load.start(0.0, 0.050, 1, 100)
    plan.add(job("a", 0.01))
    at_s = plan.decide(0.01, [machine])
    assert at_s == pytest.approx(0.050 - plan.lead_s)
    assert texts(plan.decide(0.050 - plan.lead_s, [machine])) == ["a"]


def test_no_replica_gets_more_passes_than_allowed() -> None:
    plan, machine = planner(), Machine()
    for _ in range(2):
        machine.load.start(0.0, 0.05, 1, 100)
    plan.add(job("a"))
    assert plan.decide(1.0, [machine]) is None


def test_the_replica_that_is_free_soonest_is_chosen() -> None:
    plan, busy, free = planner(), Machine(), Machine()
    busy.load.start(0.0, 0.05, 1, 100)
    plan.add(job("a"))
    step = plan.decide(0.0, [busy, free])
    assert isinstance(step, Dispatch)
    assert step.target == 1


def test_company_is_awaited_briefly_after_a_pass_of_several() -> None:
    plan, machine = planner(), Machine()
    machine.load.start(0.0, 0.05, 8, 100)
    machine.load.end(0.05, 100)
    plan.add(job("a", 0.051))
    assert plan.decide(0.051, [machine]) == pytest.approx(0.051 + WAIT_S)
    assert texts(plan.decide(0.053, [machine])) == ["a"]


def test_company_is_not_awaited_after_a_pass_of_one() -> None:
    plan, machine = planner(), Machine()
    machine.load.start(0.0, 0.05, 1, 10)
    machine.load.end(0.05, 10)
    plan.add(job("a", 0.051))
    assert texts(plan.decide(0.051, [machine])) == ["a"]


def test_online_goes_first_and_batch_fills_a_smaller_pass_beside_it() -> None:
    plan = planner()
    for index in range(20):
        plan.add(job(f"batch{index}", online=False, tokens=10))
    plan.add(job("online", tokens=10))
    with_online, alone = plan.decide(0.0, [Machine()]), plan.decide(0.0, [Machine()])
    for step in (with_online, alone):
        assert isinstance(step, Dispatch)
        assert plan.pass_tokens // 2 < step.tokens <= plan.pass_tokens * BESIDE_SHARE
    assert texts(with_online)[:2] == ["online", "batch0"]
    assert texts(alone)[0].startswith("batch")


def test_batch_rides_only_with_the_last_online_texts_and_not_with_deferred_ones() -> None:
    plan = planner()
    plan.add(job("batch", online=False, tokens=10))
    for index in range(20):
        plan.add(job(f"online{index}", tokens=20))
    assert "batch" not in texts(plan.decide(0.0, [Machine()]))
    plan = planner()
    plan.add(job("batch", online=False, tokens=10))
    late = job("deferred", tokens=20)
    late.deferred = True
    plan.add(late)
    assert texts(plan.decide(0.0, [Machine()]))[0] == "deferred"


@settings(max_examples=200)
@given(
    due_s=st.floats(0.001, 0.3), busy_s=st.floats(0, 0.1), online=st.integers(1, 150),
    batch=st.lists(st.integers(1, 150), min_size=1, max_size=30),
)  # fmt: skip
def test_who_rides_along_takes_half_of_the_time_that_is_left_at_most(
    due_s: float, busy_s: float, online: int, batch: list[int]
) -> None:
    plan, machine = planner(), Machine()
    if busy_s:
        machine.load.start(0.0, busy_s, 1, 100)
    now_s = max(0.0, busy_s - plan.lead_s)
    urgent = job("online", now_s, tokens=online)
    urgent.due_s = now_s + due_s
    plan.add(urgent)
    for index, tokens in enumerate(batch):
        plan.add(job(f"batch{index}", now_s, online=False, tokens=tokens))
    step = plan.decide(now_s, [machine])
    assert isinstance(step, Dispatch)
    assert texts(step)[0] == "online"
    if len(step.jobs) > 1:
        start_s = now_s + machine.load.remaining_s(now_s)
        assert start_s + plan.cost.of(step.tokens) + plan.cost.overhead_s <= urgent.due_s
        assert step.tokens <= plan.pass_tokens * BESIDE_SHARE


def test_beside_online_traffic_batch_is_not_handed_to_a_busy_replica() -> None:
    plan, machine = planner(), Machine()
    plan.add(job("online", 0.0))
    assert texts(plan.decide(0.0, [machine])) == ["online"]
    machine.load.start(0.0, 0.05, 1, 100)
    plan.add(job("batch", online=False))
    assert plan.decide(0.049, [machine]) is None


def test_without_online_traffic_batch_has_large_passes_that_are_handed_over_ahead() -> None:
    plan, machine = planner(max_tokens=512), Machine()
    for index in range(40):
        plan.add(job(f"batch{index}", 0.0, online=False, tokens=50))
    first = plan.decide(0.0, [machine])
    assert isinstance(first, Dispatch)
    assert plan.pass_tokens < first.tokens <= plan.bulk_tokens
    machine.load.start(0.0, first.predicted_s, len(first.jobs), first.tokens)
    hand_over_s = first.predicted_s - plan.lead_s
    assert plan.decide(0.001, [machine]) == pytest.approx(hand_over_s)
    second = plan.decide(hand_over_s, [machine])
    assert isinstance(second, Dispatch)
    machine.load.start(hand_over_s, second.predicted_s, len(second.jobs), second.tokens)
    online = job("online", hand_over_s)
    plan.add(online)
    machine.load.end(first.predicted_s, first.tokens)
    at_s = plan.decide(first.predicted_s, [machine])
    assert isinstance(at_s, float)
    step = plan.decide(at_s, [machine])
    assert texts(step)[0] == "online"
    assert isinstance(step, Dispatch)
    done_s = at_s + machine.load.remaining_s(at_s) + step.predicted_s + plan.cost.overhead_s
    assert done_s <= online.due_s, "an online text that comes while such passes run is in time"


def test_batch_is_not_starved_by_online_traffic_that_never_ends() -> None:
    plan, machine = planner(), Machine()
    plan.add(job("batch", 0.0, online=False))
    plan.add(job("online", STARVED_S))
    assert texts(plan.decide(STARVED_S, [machine])) == ["batch"]


def test_batch_that_has_waited_for_a_second_takes_the_next_pass_of_a_replica_that_is_never_free() -> None:
    plan, machine = planner(), Machine()
    plan.add(job("batch1", 0.0, online=False, tokens=200))
    plan.add(job("batch2", 0.0, online=False, tokens=200))
    plan.add(job("online", 0.5))
    machine.load.start(STARVED_S, 0.050, 1, 100)
    hand_over_s = STARVED_S + 0.050 - plan.lead_s
    assert plan.decide(STARVED_S, [machine]) == pytest.approx(hand_over_s)
    assert texts(plan.decide(hand_over_s, [machine])) == ["batch1"]
    assert texts(plan.decide(hand_over_s, [machine])) == ["online"], "one pass a second, no more"


def test_a_dropped_job_is_never_handed_out_and_no_longer_counts() -> None:
    plan = planner()
    jobs = [job("a"), job("b"), job("c")]
    for each in jobs:
        plan.add(each)
    plan.drop(jobs[1])
    assert plan.online_tokens == 40
    assert texts(plan.decide(0.0, [Machine()])) == ["a", "c"]


def test_a_batch_job_that_an_online_request_wants_too_is_promoted() -> None:
    plan = planner()
    slow = [job(name, online=False) for name in "ab"]
    for each in slow:
        plan.add(each)
    plan.promote(slow[1], job("b", 0.0))
    assert (plan.online_tokens, plan.batch_tokens) == (20, 20)
    assert texts(plan.decide(0.0, [Machine()])) == ["b", "a"]


def test_jobs_given_back_come_first_again() -> None:
    plan = planner()
    for name in "abc":
        plan.add(job(name))
    step = plan.decide(0.0, [Machine()])
    assert isinstance(step, Dispatch)
    plan.add(job("d"))
    plan.add_first(step.jobs)
    assert texts(plan.decide(0.0, [Machine()])) == ["a", "b", "c", "d"]


def simulate(seed: int, arrivals: int, rate: float, machines: int, noise: float) -> list[tuple[Job, float, float]]:
    """Poisson arrivals against machines that take their predicted time × noise. Job, dispatched, longest idle wait."""
    rng, plan = random.Random(seed), planner()
    targets = [Machine() for _ in range(machines)]
    now_s, count, done = 0.0, 0, []
    next_s = rng.expovariate(rate)
    while count < arrivals or len(plan) or any(t.ends for t in targets):
        while True:
            step = plan.decide(now_s, targets)
            if not isinstance(step, Dispatch):
                break
            target = targets[step.target]
            began_s = max(now_s, target.ends[-1][0] if target.ends else now_s)
            idle_from_s = target.load.free_since_s if not target.ends else now_s
            took_s = step.predicted_s * rng.uniform(1 - noise, 1 + noise)
            target.load.start(now_s, step.predicted_s, len(step.jobs), step.tokens)
            target.ends.append((began_s + took_s, step.tokens))
            for each in step.jobs:
                assert each.state is State.RUNNING
                done.append((each, now_s, now_s - max(each.enqueued_s, idle_from_s)))
        wake_s = min(
            [t.ends[0][0] for t in targets if t.ends]
            + ([next_s] if count < arrivals else [])
            + ([step] if step is not None else [])
        )
        now_s = max(now_s, wake_s)
        for target in targets:
            while target.ends and target.ends[0][0] <= now_s:
                target.load.end(now_s, target.ends.pop(0)[1])
        if count < arrivals and next_s <= now_s:
            plan.add(job(f"t{count}", now_s, rng.choice([6, 22, 52])))
            count += 1
            next_s += rng.expovariate(rate)
    assert plan.online_tokens == plan.batch_tokens == 0
    return done


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(1, 400), st.integers(1, 3), st.floats(0, 0.5))
def test_every_text_is_handed_out_once_in_order_and_never_waits_longer_than_the_bound_for_a_free_replica(
    seed: int, rate: float, machines: int, noise: float
) -> None:
    done = simulate(seed, 400, rate, machines, noise)
    assert [each.text for each, _, _ in done] == [f"t{i}" for i in range(400)]
    assert max(idle_s for _, _, idle_s in done) <= WAIT_S + 1e-9


def test_the_bound_holds_over_a_hundred_thousand_arrivals() -> None:
    done = simulate(7, 100_000, 60.0, 2, 0.3)
    assert len(done) == 100_000
    assert max(idle_s for _, _, idle_s in done) <= WAIT_S + 1e-9
