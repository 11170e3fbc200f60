"""How many callers are held: unique texts, more cores, and repeats, which the model keeps apart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.bench.concurrency import concurrency, repeated_p95_ms
from slo.bench.plan import Model, plan_clients
from slo.bench.queueing import Cost, closed_latencies
from slo.objective import Objective

MODEL = Model(
    idle=Cost(fixed_s=0.006, token_s=0.0003), slowdown=1.0, sizes=(6, 22, 52), most_tokens=160,
    objective=Objective(), cores_per_replica=2,
)  # fmt: skip


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
