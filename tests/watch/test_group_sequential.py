import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.objective import Objective, Verdict
from slo.stats import binomial_cdf
from slo.watch.group_sequential import EARLIEST_MISS, Plan, make_plan

P95 = Objective()


def outcome(plan: Plan, bad_share: float, source: random.Random) -> tuple[Verdict, int]:
    """Verdict and number of probes of one simulated check."""
    bad = total = 0
    while (verdict := plan.verdict(bad, total)) is None:
        total += 1
        bad += source.random() < bad_share
    return verdict, total


def share_of(verdict: Verdict, bad_share: float, *, runs: int = 1000) -> float:
    source, plan = random.Random(11), make_plan(P95)
    return sum(outcome(plan, bad_share, source)[0] is verdict for _ in range(runs)) / runs


def chance_of(verdict: Verdict, plan: Plan, bad_share: float) -> float:
    """The same exactly: walks the plan probe by probe, an independent way to what `make_plan` computes."""
    running, found = {0: 1.0}, 0.0
    for total in range(1, plan.most + 1):
        after: dict[int, float] = {}
        for bad, weight in running.items():
            after[bad] = after.get(bad, 0.0) + weight * (1 - bad_share)
            after[bad + 1] = after.get(bad + 1, 0.0) + weight * bad_share
        running = {}
        for bad, weight in after.items():
            said = plan.verdict(bad, total)
            if said is None:
                running[bad] = weight
            elif said is verdict:
                found += weight
    return found


@pytest.mark.parametrize("target", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_a_service_at_the_very_limit_is_called_met_or_missed_no_more_often_than_promised(
    target: float, confidence: float
) -> None:
    objective = Objective(target=target, confidence=confidence)
    plan = make_plan(objective)
    assert chance_of(Verdict.MET, plan, objective.budget) <= 1 - confidence + 1e-9
    assert chance_of(Verdict.MISSED, plan, objective.budget) + plan.late_alpha <= 1 - confidence + 1e-9


def test_the_error_is_nearly_used_up_so_that_no_probe_is_wasted() -> None:
    assert chance_of(Verdict.MET, make_plan(P95), 0.05) > 0.047


@pytest.mark.parametrize(
    ("bad_share", "verdict", "least", "most"),
    [
        pytest.param(0.055, Verdict.MET, 0.0, 0.05, id="5.5 % bad is seldom called met"),
        pytest.param(0.10, Verdict.MET, 0.0, 0.005, id="10 % bad practically never"),
        pytest.param(0.03, Verdict.MISSED, 0.0, 0.02, id="3 % bad is seldom called missed"),
        pytest.param(0.01, Verdict.MET, 0.9, 1.0, id="1 % bad is proven good"),
        pytest.param(0.0, Verdict.MET, 1.0, 1.0, id="a clean service always"),
        pytest.param(0.15, Verdict.MISSED, 0.95, 1.0, id="15 % bad is found"),
    ],
)
def test_simulated_services_get_the_verdict_that_they_deserve(
    bad_share: float, verdict: Verdict, least: float, most: float
) -> None:
    assert least <= share_of(verdict, bad_share) <= most


def test_sixty_clean_probes_are_proof_and_fifty_nine_are_not_the_end() -> None:
    plan = make_plan(P95)
    assert plan.verdict(0, 59) is None
    assert plan.verdict(0, 60) is Verdict.MET
    assert plan.verdict(1, 60) is None


def test_nothing_is_missed_in_the_first_moments_however_bad() -> None:
    plan = make_plan(P95)
    assert [plan.verdict(n, n) for n in range(1, EARLIEST_MISS)] == [None] * (EARLIEST_MISS - 1)
    assert plan.verdict(EARLIEST_MISS, EARLIEST_MISS) is Verdict.MISSED


def test_after_the_last_look_the_answer_is_that_nothing_is_proven() -> None:
    plan = make_plan(P95)
    assert plan.verdict(30, plan.most) is Verdict.UNPROVEN


@given(st.integers(0, 60), st.integers(0, 600))
def test_out_of_time_proves_only_what_its_own_share_of_the_error_allows(bad: int, total: int) -> None:
    plan, bad = make_plan(P95), min(bad, total)
    tail = 1 - binomial_cdf(bad - 1, total, 0.05)
    expected = Verdict.MISSED if bad and tail <= plan.late_alpha else Verdict.UNPROVEN
    assert plan.out_of_time(bad, total) is expected


def test_out_of_time_with_all_probes_slow_is_missed_and_with_none_unproven() -> None:
    plan = make_plan(P95)
    assert plan.out_of_time(3, 3) is Verdict.MISSED
    assert plan.out_of_time(0, 0) is Verdict.UNPROVEN
    assert plan.out_of_time(0, 59) is Verdict.UNPROVEN
