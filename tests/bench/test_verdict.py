"""The proof of honesty: how often a verdict is wrong, over a thousand services whose truth is known."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from slo.bench.verdict import conclude, effective_size, judge_dependent
from slo.objective import Objective, Verdict
from tests.bench.simulated import MM1_CAPACITY, bad, mm1

GOAL = Objective()


def services(share: float, requests: int, count: int = 1000) -> list[list[int]]:
    return [[int(r.random() < share) for _ in range(requests)] for r in map(random.Random, range(count))]


def share_met(cases: list[list[int]]) -> float:
    return fmean(conclude(case, GOAL).verdict is Verdict.MET for case in cases)


@pytest.mark.parametrize("requests", [200, 1000, 3000])
def test_a_service_with_5_5_percent_bad_is_called_met_in_at_most_5_percent(requests: int) -> None:
    assert share_met(services(0.055, requests)) <= 0.05


def test_a_service_with_exactly_5_percent_bad_is_called_met_in_at_most_5_percent() -> None:
    assert share_met(services(0.05, 1000)) <= 0.05


def test_a_service_with_3_percent_bad_is_called_met_in_at_least_90_percent() -> None:
    assert share_met(services(0.03, 1000)) >= 0.90


def test_a_service_with_8_percent_bad_is_called_missed_in_at_least_90_percent() -> None:
    verdicts = [conclude(case, GOAL).verdict for case in services(0.08, 1000)]
    assert fmean(verdict is Verdict.MISSED for verdict in verdicts) >= 0.90


def test_a_service_at_the_objective_is_called_missed_in_at_most_5_percent() -> None:
    verdicts = [conclude(case, GOAL).verdict for case in services(0.05, 1000)]
    assert fmean(verdict is Verdict.MISSED for verdict in verdicts) <= 0.05


def test_151_ms_never_passes() -> None:
    assert conclude([1] * 10_000, GOAL).verdict is Verdict.MISSED
    assert conclude([1] * 3, GOAL).verdict is not Verdict.MET


def test_58_good_requests_prove_nothing_and_59_do() -> None:
    assert conclude([0] * 58, GOAL).verdict is Verdict.UNPROVEN
    assert conclude([0] * 59, GOAL).verdict is Verdict.MET
    assert conclude([], GOAL).verdict is Verdict.UNPROVEN


def test_a_queue_that_misses_is_seldom_called_met_though_its_requests_depend_on_each_other() -> None:
    """8 % above capacity. Counting its 3000 requests as independent would be wrong three times as often."""
    cases = [bad(mm1(MM1_CAPACITY * 1.04, 3500, seed)[500:]) for seed in range(300)]
    naive = fmean(judge_dependent(len(c) - sum(c), len(c), len(c), GOAL).verdict is Verdict.MET for c in cases)
    assert share_met(cases) <= 0.05
    assert naive >= 3 * share_met(cases)
    assert naive > 0.15


def test_independent_requests_lose_nothing() -> None:
    sizes = [effective_size(case) / 2000 for case in services(0.05, 2000, 200)]
    assert fmean(sizes) >= 0.97
    assert max(sizes) <= 1.0


def test_clusters_weigh_as_one() -> None:
    r = random.Random(1)
    clusters = [value for _ in range(400) for value in [int(r.random() < 0.05)] * 10]
    assert effective_size(clusters) == pytest.approx(400, rel=0.35)


@pytest.mark.parametrize("case", [[], [0], [1, 1, 1, 1], [0] * 100])
def test_what_does_not_vary_weighs_as_it_is(case: list[int]) -> None:
    assert effective_size(case) == len(case)


def test_a_generator_that_failed_makes_the_run_void_whatever_was_measured() -> None:
    for case in ([0] * 1000, [1] * 1000):
        found = conclude(case, GOAL, faults=["too late"])
        assert (found.verdict, found.void) == (Verdict.UNPROVEN, ("too late",))
        assert "too late" in str(found)


def test_a_growing_queue_voids_a_run_that_was_not_missed() -> None:
    assert conclude([0] * 1000, GOAL, drifting="grows").void == ("grows",)
    missed = conclude([0, 1] * 500, GOAL, drifting="grows")
    assert (missed.verdict, missed.void, missed.remarks) == (Verdict.MISSED, (), ("grows",))


def test_wrong_answers_miss_the_objective_however_fast_they_came() -> None:
    found = conclude([0] * 1000, GOAL, wrong=1, compared=40)
    assert found.verdict is Verdict.MISSED
    assert "1 of 40" in found.remarks[0]


def test_an_unproven_verdict_says_why() -> None:
    r = random.Random(3)
    clustered = [value for _ in range(60) for value in [int(r.random() < 0.04)] * 20]
    found = conclude(clustered, GOAL)
    assert found.verdict is Verdict.UNPROVEN
    assert "clusters" in found.judgement.advice
