"""The search finds a known answer, says when it does not know, and never claims what no full run has proven."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean, quantiles

import pytest

from slo.bench.capacity import Capacity, Probe, climb, find_capacity, largest_met
from slo.bench.edge import SLOPE
from slo.bench.probes import coarse_test, fine_test
from slo.bench.queueing import md1_capacity
from slo.bench.sequential import SequentialTest
from slo.bench.verdict import conclude, effective_size
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
    """The search as `slo capacity` does it, on a simulated queue; two seconds of each probe are not counted."""
    seeds = itertools.count(seed * 1000)

    def rated(kind: Callable[[Objective, float], SequentialTest]) -> Callable[[float], Probe]:
        def probe(rate: float) -> Probe:
            test = kind(GOAL, rate)
            for latency in queue(rate, test.looks[-1] + int(2 * rate) + 50, next(seeds))[int(2 * rate) :]:
                test.add(good=latency <= THRESHOLD_S)
            return Probe(load=rate, verdict=test.verdict, total=test.total, good=test.good, p95_ms=0,
                         seconds=test.total / rate + 2, effective=effective_size(test.bad))  # fmt: skip

        return probe

    def confirm(rate: float) -> Probe:
        seconds = 0.0
        for factor in (1, 2):
            requests = factor * max(2000, int(rate * 60))
            latencies = queue(rate, requests + 500, next(seeds))[500:]
            case, latencies_ms = bad(latencies), [latency * 1000 for latency in latencies]
            found = conclude(case, GOAL, latencies_ms=latencies_ms, seconds=requests / rate)
            verdict, seconds = found.verdict, seconds + requests / rate + 5
            if verdict is not Verdict.UNPROVEN:
                break
        return Probe(load=rate, verdict=verdict, total=len(case), good=len(case) - sum(case), p95_ms=0,
                     seconds=seconds, effective=effective_size(case), purpose="confirm")  # fmt: skip

    return find_capacity(rated(coarse_test), confirm, fine=rated(fine_test), floor=5)


@pytest.mark.parametrize(("queue", "truth"), [(md1, MD1_CAPACITY), (mm1, MM1_CAPACITY)], ids=["M/D/1", "M/M/1"])
def test_the_capacity_of_a_known_queue_is_found_within_7_percent(queue: Queue, truth: float) -> None:
    """Every one of thirty searches; of the 400 with other seeds, `python -m tests.bench.test_capacity` says more."""
    found = [searched(queue, seed) for seed in range(30)]
    errors = [result.best / truth - 1 for result in found]
    assert max(map(abs, errors)) <= 0.07
    assert abs(fmean(errors)) <= 0.015
    assert fmean(result.low <= truth <= result.high for result in found) >= 0.85
    assert fmean(result.confirmed for result in found) >= 0.95
    assert all(result.rate <= truth * 1.02 for result in found if result.confirmed)
    searching = [sum(p.seconds for p in result.probes if p.purpose == "search") for result in found]
    assert fmean(searching) <= 300
    assert max(searching) <= 400


@pytest.mark.parametrize("truth", [5.0, 7.3, 63.0, 1500.0])
def test_a_sharp_edge_is_found_though_a_probe_has_only_a_hundred_requests(truth: float) -> None:
    found = find_capacity(edge(truth), edge(truth), floor=5)
    assert found.best == pytest.approx(truth, rel=0.07)
    assert found.rate <= truth
    assert found.bounded and found.confirmed
    assert found.recommended == pytest.approx(0.8 * found.rate)


def test_the_estimate_is_never_beyond_what_was_tried() -> None:
    """Where the generator fails, not the service, the search must not extrapolate past it."""

    def probe(rate: float) -> Probe:
        return replace(edge(1e9)(rate), void=rate > 70, verdict=Verdict.UNPROVEN if rate > 70 else Verdict.MET)

    found = find_capacity(probe, edge(1e9), floor=5)
    assert 60 <= found.best <= 70
    assert not found.bounded, "the generator's limit is none of the server's"


@pytest.mark.parametrize("truth", [650.0, 700.0, 800.0, 1200.0, 3000.0])
def test_a_stall_that_fails_a_doubling_does_not_hold_the_search_below_the_truth(truth: float) -> None:
    stalls = iter([True])

    def probe(rate: float) -> Probe:
        if rate == 640 and next(stalls, False):
            return replace(edge(0)(rate), total=1920, good=1700)
        good = int(9000 / (1 + (0.05 / 0.95) * (rate / truth) ** SLOPE))
        return replace(edge(truth)(rate), total=9000, good=good)

    found = find_capacity(probe, probe, floor=5)
    assert found.best == pytest.approx(min(truth, 2000), rel=0.07)
    assert found.bounded is (truth < 2000)
    assert found.confirmed


def test_a_service_faster_than_the_ceiling_is_at_least_that() -> None:
    found = find_capacity(edge(1e9), edge(1e9), floor=5, ceiling=100)
    assert (found.best, found.low, found.high, found.bounded) == (100, 100, 100, False)


def test_a_floor_that_fails_ends_the_search() -> None:
    found = find_capacity(edge(3), edge(3), floor=5)
    assert (found.best, found.rate, found.confirmed, len(found.probes)) == (0, 0, False, 1)


def test_a_confirmation_that_fails_backs_off_and_at_last_gives_up() -> None:
    never = find_capacity(edge(60), edge(0), floor=5)
    assert not never.confirmed
    tried = [probe.load for probe in never.probes[-3:]]
    assert [tried[1] / tried[0], tried[2] / tried[1]] == pytest.approx([0.95, 0.95])
    assert tried[0] <= 60
    assert never.best < tried[2], "three full runs that failed have moved the estimate"
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


def main() -> None:
    """The distribution of errors over many searches, for whoever wants to see it."""
    for name, queue, truth in (("M/D/1", md1, MD1_CAPACITY), ("M/M/1", mm1, MM1_CAPACITY)):
        found = [searched(queue, seed) for seed in range(1000, 1200)]
        errors = sorted(100 * (result.best / truth - 1) for result in found)
        searching = fmean(sum(p.seconds for p in r.probes if p.purpose == "search") for r in found)
        print(
            f"{name}, truth {truth:.1f}/s, {len(found)} searches of {searching:.0f} s, with confirmation "
            f"{fmean(sum(p.seconds for p in r.probes) for r in found):.0f} s",
            f"within 7 % {fmean(abs(e) <= 7 for e in errors):.1%}, mean {fmean(errors):+.2f} %, from {errors[0]:+.1f} "
            f"to {errors[-1]:+.1f} %, every 15th percentile from the 5th: "
            + ", ".join(f"{value:+.1f}" for value in quantiles(errors, n=20)[::3]),
            f"interval holds in {fmean(r.low <= truth <= r.high for r in found):.0%}; confirmed "
            f"{fmean(r.confirmed for r in found):.0%}, at {fmean(r.rate for r in found) / truth:.1%} of the truth, "
            f"beyond it {fmean(r.confirmed and r.rate > truth for r in found):.1%}",
            sep="\n  ",
        )


if __name__ == "__main__":
    main()
