"""The closed forms agree with simulation, and simulation with what must be."""

from __future__ import annotations

from statistics import fmean

import pytest

from slo.bench.queueing import (
    Cost,
    batch_capacity,
    batch_latencies,
    closed_latencies,
    highest,
    md1_capacity,
    md1_wait_cdf,
)
from slo.bench.schedule import poisson
from tests.bench.simulated import SERVICE_S, md1

COST = Cost(fixed_s=0.006, token_s=0.0003)


@pytest.mark.parametrize(("rate", "wait_s"), [(20, 0.01), (40, 0.03), (50, 0.1), (60, 0.135)])
def test_the_md1_formula_is_what_a_queue_does(rate: float, wait_s: float) -> None:
    waits = [latency - SERVICE_S for latency in md1(rate, 150_000, seed=4)]
    assert md1_wait_cdf(rate, SERVICE_S, wait_s) == pytest.approx(
        sum(w <= wait_s + 1e-9 for w in waits) / len(waits), abs=0.02
    )


def test_nobody_waits_in_an_empty_queue_and_all_do_in_an_overloaded_one() -> None:
    assert md1_wait_cdf(40, SERVICE_S, 0.0) == pytest.approx(1 - 40 * SERVICE_S)
    assert md1_wait_cdf(70, SERVICE_S, 10.0) == 0.0
    assert md1_capacity(0.2, 0.15, 0.95) == 0.0


def test_a_cap_of_one_request_is_a_queue_without_batching() -> None:
    due = poisson(40, 50, seed=5)
    batched = batch_latencies(due, [30] * len(due), COST, most_tokens=30)
    free, plain = 0.0, []
    for moment in due:
        free = max(free, moment) + COST.pass_s(30)
        plain.append(free - moment)
    assert batched == pytest.approx(plain)


def test_batching_takes_all_that_waits_up_to_the_cap() -> None:
    latencies = batch_latencies([0.0, 0.001, 0.002, 0.003], [10, 10, 10, 10], COST, most_tokens=20)
    first = COST.pass_s(10)
    assert latencies[0] == pytest.approx(first)
    assert latencies[1] == pytest.approx(first + COST.pass_s(20) - 0.001)
    assert latencies[3] == pytest.approx(first + COST.pass_s(20) + COST.pass_s(10) - 0.003)


def test_a_request_above_the_cap_is_served_alone() -> None:
    assert batch_latencies([0.0], [500], COST, most_tokens=100) == pytest.approx([COST.pass_s(500)])


def test_closed_loop_obeys_littles_law() -> None:
    latencies = closed_latencies(16, [20] * 4000, COST, most_tokens=80)
    throughput = 4 / COST.pass_s(80)  # four at a time
    assert fmean(latencies[100:]) == pytest.approx(16 / throughput, rel=0.02)


def test_one_caller_sees_the_cost_of_a_pass() -> None:
    assert closed_latencies(1, [20] * 10, COST, most_tokens=80) == pytest.approx([COST.pass_s(20)] * 10)


def test_batching_raises_capacity() -> None:
    batched = batch_capacity([22], COST, most_tokens=160, threshold_s=0.15, target=0.95, seed=1)
    alone = batch_capacity([22], COST, most_tokens=22, threshold_s=0.15, target=0.95, seed=1)
    assert batched > 1.3 * alone
    assert alone == pytest.approx(md1_capacity(COST.pass_s(22), 0.15, 0.95), rel=0.05)


@pytest.mark.parametrize("truth", [0.5, 3.0, 77.7])
def test_highest_finds_the_edge(truth: float) -> None:
    assert highest(lambda rate: rate <= truth, 100) == pytest.approx(truth, rel=0.01)


def test_highest_is_nothing_where_nothing_holds() -> None:
    assert highest(lambda _rate: False, 100) == 0.0
