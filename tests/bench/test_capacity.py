"""The search finds a known answer, says when it does not know, and never claims what no full run has proven."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from statistics import fmean

import pytest

from slo.bench.capacity import Capacity, Probe, climb, find_capacity, largest_met
from slo.bench.queueing import md1_capacity
from slo.bench.sequential import SequentialTest
from slo.bench.verdict import conclude
from slo.objective import Objective, Verdict
from tests.bench.simulated import MM1_CAPACITY, SERVICE_S, THRESHOLD_S, bad, md1, mm1

GOAL = Objective()
MD1_CAPACITY = md1_capacity(SERVICE_S, THRESHOLD_S, 0.95)
Queue = Callable[[float, int, int], list[float]]


def edge(truth: float) -> Callable[[float], Probe]:
    """A probe that knows."""

    def probe(rate: float) -> Probe:
        verdict = Verdict.MET if rate <= truth else Verdict.MISSED
        return Probe(load=rate, verdict=verdict, total=100, good=100 if rate <= truth else 50, p95_ms=1)

    return probe


def searched(queue: Queue, seed: int) -> Capacity:
    """The search as `slo capacity` does it, on a simulated queue."""
    seeds = itertools.count(seed * 1000)

    def probe(rate: float) -> Probe:
        met_from = max(100, int(rate * 15))
        test = SequentialTest(GOAL, most=max(met_from, min(3000, int(rate * 60))), met_from=met_from)
        for latency in queue(rate, test.looks[-1] + int(2 * rate), next(seeds))[int(2 * rate) :]:
            test.add(good=latency <= THRESHOLD_S)
        return Probe(load=rate, verdict=test.verdict, total=test.total, good=test.good, p95_ms=0)

    def confirm(rate: float) -> Probe:
        for factor in (1, 2):
            requests = factor * max(2000, int(rate * 60))
            case = bad(queue(rate, requests + 500, next(seeds))[500:])
            verdict = conclude(case, GOAL).verdict
            if verdict is not Verdict.UNPROVEN:
                break
        return Probe(load=rate, verdict=verdict, total=len(case), good=len(case) - sum(case), p95_ms=0)

    return find_capacity(probe, confirm, floor=5)


@pytest.mark.parametrize(("queue", "truth"), [(md1, MD1_CAPACITY), (mm1, MM1_CAPACITY)], ids=["M/D/1", "M/M/1"])
def test_the_capacity_of_a_known_queue_is_found_within_7_percent(queue: Queue, truth: float) -> None:
    found = [searched(queue, seed) for seed in range(20)]
    errors = [result.best / truth - 1 for result in found]
    assert fmean(abs(error) <= 0.075 for error in errors) >= 0.9
    assert abs(fmean(errors)) <= 0.04
    assert fmean(result.confirmed for result in found) >= 0.9
    assert all(result.rate <= truth * 1.02 for result in found if result.confirmed)


@pytest.mark.parametrize("truth", [5.0, 7.3, 63.0, 1500.0])
def test_a_sharp_edge_is_bracketed_to_the_precision(truth: float) -> None:
    found = find_capacity(edge(truth), edge(truth), floor=5, precision=0.05)
    assert 0.95 * truth <= found.best <= truth
    assert found.rate == pytest.approx(0.95 * found.best)
    assert found.bounded and found.confirmed
    assert found.recommended == pytest.approx(0.8 * found.rate)


def test_a_service_faster_than_the_ceiling_is_at_least_that() -> None:
    found = find_capacity(edge(1e9), edge(1e9), floor=5, ceiling=100)
    assert (found.best, found.bounded) == (100, False)


def test_a_floor_that_fails_ends_the_search() -> None:
    found = find_capacity(edge(3), edge(3), floor=5)
    assert (found.best, found.rate, found.confirmed, len(found.probes)) == (0, 0, False, 1)


def test_a_confirmation_that_fails_backs_off_and_at_last_gives_up() -> None:
    never = find_capacity(edge(60), edge(0), floor=5)
    assert not never.confirmed
    assert [probe.load for probe in never.probes[-3:]] == pytest.approx([never.best * 0.95**n for n in (1, 2, 3)])
    second = find_capacity(edge(60), edge(55), floor=5)
    assert second.confirmed
    assert second.rate <= 55


@pytest.mark.parametrize(
    ("verdict", "good", "void", "likely"),
    [
        (Verdict.MET, 100, False, True),
        (Verdict.UNPROVEN, 95, False, True),
        (Verdict.UNPROVEN, 94, False, False),
        (Verdict.UNPROVEN, 100, True, False),
        (Verdict.MISSED, 95, False, False),
    ],
)
def test_an_unproven_probe_goes_by_its_share_and_a_void_one_has_failed(
    verdict: Verdict, good: int, void: bool, likely: bool
) -> None:
    assert Probe(load=1, verdict=verdict, total=100, good=good, p95_ms=1, void=void).likely is likely


def test_it_cools_down_between_any_two_probes() -> None:
    events: list[str] = []

    def probe(rate: float) -> Probe:
        events.append("probe")
        return edge(20)(rate)

    find_capacity(probe, probe, floor=5, cool_down=lambda: events.append("cool"))
    assert events == (["probe", "cool"] * len(events))[: len(events)]
    assert events[-1] == "probe"


def test_the_ladder_ends_after_two_misses_and_its_result_has_no_gaps() -> None:
    probes = climb(edge(5))
    assert [probe.load for probe in probes] == [1, 2, 5, 10, 20]
    assert largest_met(probes) == 5
    assert largest_met([edge(0)(1), edge(5)(2)]) == 0


def test_a_probe_that_failed_altogether_has_no_percentile_in_json() -> None:
    assert Probe(load=1, verdict=Verdict.MISSED, total=1, good=0, p95_ms=float("inf")).to_json()["p95_ms"] is None
