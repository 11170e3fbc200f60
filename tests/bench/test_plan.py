"""A plan follows from the cost of a token, and its model shows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.bench.plan import (
    HEADROOM,
    Model,
    Timed,
    concurrency,
    fit_line,
    median_of,
    plan_clients,
    plan_rate,
    repeated_p95_ms,
    slowdown,
)
from slo.bench.queueing import Cost, closed_latencies
from slo.errors import RunError
from slo.objective import Objective

COST = Cost(fixed_s=0.006, token_s=0.0003)
MODEL = Model(
    idle=Cost(fixed_s=0.006, token_s=0.0003), slowdown=1.0, sizes=(6, 22, 52), most_tokens=160,
    objective=Objective(), cores_per_replica=2,
)  # fmt: skip


def model(cost: Cost = COST, *, factor: float = 1.0, cores: int = 2) -> Model:
    return Model(
        idle=cost, slowdown=factor, sizes=(6, 22, 52), most_tokens=160, objective=Objective(), cores_per_replica=cores
    )


def test_the_line_is_found_again() -> None:
    found = fit_line([Timed(tokens=t, seconds=COST.pass_s(t)) for t in (6, 22, 52, 200, 400)])
    assert (found.fixed_s, found.token_s) == pytest.approx((COST.fixed_s, COST.token_s))


def test_costs_are_never_negative() -> None:
    found = fit_line([Timed(tokens=10, seconds=0.02), Timed(tokens=100, seconds=0.01)])
    assert found.fixed_s >= 0
    assert found.token_s > 0


def test_one_size_gives_no_line() -> None:
    with pytest.raises(RunError, match="two sizes"):
        fit_line([Timed(tokens=10, seconds=0.02)] * 3)


@pytest.mark.parametrize("factor", [1.0, 1.4, 2.0])
def test_the_slowdown_under_load_is_found_from_the_throughput(factor: float) -> None:
    slow = Cost(fixed_s=COST.fixed_s * factor, token_s=COST.token_s * factor)
    latencies = closed_latencies(16, [22] * 4000, slow, most_tokens=160)
    throughput = 16 / (sum(latencies) / len(latencies))
    assert slowdown(COST, [22], throughput, clients=16, most_tokens=160) == pytest.approx(factor, rel=0.02)


def test_more_requests_need_more_replicas_in_proportion() -> None:
    capacity = model().capacity
    assert plan_rate(model(), capacity * HEADROOM).replicas == 1
    assert plan_rate(model(), capacity * HEADROOM * 1.01).replicas == 2
    ten = plan_rate(model(), capacity * HEADROOM * 10)
    assert (ten.replicas, ten.cores) == (10, 20)
    assert ten.p95_ms <= 150
    assert ten.unbatched < ten.capacity


def test_a_slower_machine_needs_more() -> None:
    assert plan_rate(model(factor=2), 200).replicas > plan_rate(model(), 200).replicas


def test_callers_are_spread_until_they_are_served_in_time() -> None:
    planned = plan_clients(model(), 50)
    assert planned.replicas > 1
    assert planned.p95_ms <= 150
    assert model().closed_p95_ms(-(-50 // (planned.replicas - 1))) > 150
    assert plan_clients(model(), 1).replicas == 1


def test_thousands_of_callers_need_replicas_in_proportion() -> None:
    hundred = plan_clients(model(), 100)
    many = plan_clients(model(), 20_000)
    assert many.replicas == pytest.approx(200 * hundred.replicas, rel=0.15)
    assert many.p95_ms <= 150


def test_one_fast_replica_may_hold_thousands_of_callers() -> None:
    wide = replace(model(Cost(fixed_s=0.001, token_s=0.0000005)), most_tokens=1_000_000)
    fast = plan_clients(wide, 9000)
    assert fast.p95_ms <= 150
    assert fast.replicas == 1


def test_what_one_request_alone_exceeds_cannot_be_planned() -> None:
    slow = model(Cost(fixed_s=0.2, token_s=0.001))
    with pytest.raises(RunError, match="alone takes"):
        plan_rate(slow, 1)
    with pytest.raises(RunError, match="alone takes"):
        plan_clients(slow, 1)


def test_a_plan_is_plain_data_without_what_is_not_known() -> None:
    data = plan_rate(model(), 10).to_json()
    assert data["check_measured_ms"] is None
    assert data["idle"]["token_s"] == COST.token_s


def test_no_answer_is_no_point() -> None:
    with pytest.raises(RunError, match="22 tokens"):
        median_of(22, [])


@pytest.mark.parametrize(
    ("measured_ms", "said"),
    [(100.0, ""), (124.0, ""), (81.0, ""), (150.0, "1.50 times"), (70.0, "at least"), (math.inf, "failed"),
     (math.nan, "failed")],
)  # fmt: skip
def test_a_check_that_went_otherwise_is_doubt_in_words(measured_ms: float, said: str) -> None:
    planned = replace(plan_rate(model(), 100), check_rate=50.0, check_predicted_ms=100.0, check_measured_ms=measured_ms)
    assert (said in planned.doubt) if said else planned.doubt == ""


def test_without_a_check_there_is_no_doubt() -> None:
    assert plan_rate(model(), 100).doubt == ""


def test_what_is_held_is_held_and_one_more_is_not() -> None:
    found = concurrency(MODEL, 50, replicas=1, hit_s=math.nan)
    assert MODEL.closed_p95_ms(found.held) <= 150 < MODEL.closed_p95_ms(found.held + 1)
    assert (found.cores, math.isnan(found.hit_ratio)) == (2, True)
    assert concurrency(MODEL, 50, replicas=3, hit_s=math.nan).held == 3 * found.held
    assert plan_clients(MODEL, found.held).replicas == 1
    assert plan_clients(MODEL, found.held + 1).replicas == 2


def test_the_share_of_hits_is_enough_and_a_little_less_is_not() -> None:
    found = concurrency(MODEL, 50, replicas=1, hit_s=0.002)
    assert 0 < found.hit_ratio < 0.95  # hits alone would hold it from there on
    assert found.p95_ms <= 150
    assert repeated_p95_ms(MODEL, 50, found.hit_ratio - 0.05, 0.002)[0] > 150
    assert found.computed_p95_ms > found.p95_ms


def test_callers_who_are_held_anyway_need_no_repeats() -> None:
    assert concurrency(MODEL, 1, replicas=1, hit_s=0.002).hit_ratio == 0
    assert math.isnan(concurrency(MODEL, 50, replicas=1, hit_s=0.2).hit_ratio)  # a cache slower than the promise


@settings(max_examples=30, deadline=None)
@given(clients=st.integers(1, 60), ratio=st.floats(0, 1), hit_ms=st.floats(0.1, 50))
def test_every_text_is_answered_once_and_hits_take_what_hits_take(clients: int, ratio: float, hit_ms: float) -> None:
    sizes = [0 if (i * 0.618) % 1 < ratio else 22 for i in range(400)]
    latencies = closed_latencies(clients, sizes, MODEL.cost, most_tokens=160, hit_s=hit_ms / 1000)
    hits = sum(latency == hit_ms / 1000 for latency in latencies)
    assert hits == sizes.count(0)
    assert len(latencies) <= 400
    assert len(latencies) >= 400 - clients  # the last ones are still out
    assert all(latency >= MODEL.cost.pass_s(22) - 1e-9 for latency in latencies if latency != hit_ms / 1000)


def test_a_faster_machine_holds_more() -> None:
    fast = replace(MODEL, slowdown=0.5)
    assert concurrency(fast, 50, replicas=1, hit_s=0.002).held > concurrency(MODEL, 50, replicas=1, hit_s=0.002).held


@pytest.mark.parametrize("hit_s", [math.nan, 0.002])
def test_what_is_not_known_is_null(hit_s: float) -> None:
    data = concurrency(MODEL, 50, replicas=1, hit_s=hit_s).to_json()
    assert (data["hit_ratio"] is None) is math.isnan(hit_s)
