"""Stopping early does not make the test wrong more often, and fast answers are not counted first."""

from __future__ import annotations

import random
from statistics import fmean, median

import pytest

from slo.bench.exchange import Exchange
from slo.bench.sequential import SequentialOutcomes, SequentialTest, look_sizes
from slo.objective import Objective, Verdict

GOAL = Objective()


def outcome_at(share: float, seed: int) -> SequentialTest:
    source, test = random.Random(seed), SequentialTest(GOAL)
    while not test.ended:
        test.add(good=source.random() >= share)
    return test


def rate(share: float, verdict: Verdict, count: int = 400) -> float:
    return fmean(outcome_at(share, seed).verdict is verdict for seed in range(count))


def test_looks_grow_by_half_and_end_at_the_most() -> None:
    assert look_sizes(100, 400) == [100, 150, 225, 337, 400]
    assert look_sizes(100, 100) == [100]


def test_a_miss_is_met_and_a_hit_is_missed_in_at_most_5_percent_over_all_looks() -> None:
    assert rate(0.055, Verdict.MET) <= 0.05
    assert rate(0.05, Verdict.MET) <= 0.05
    assert rate(0.05, Verdict.MISSED) <= 0.05


def test_clear_cases_are_decided_and_early() -> None:
    assert rate(0.02, Verdict.MET, 200) >= 0.97
    assert rate(0.12, Verdict.MISSED, 200) >= 0.97
    assert median(outcome_at(0.0, seed).total for seed in range(20)) <= 400
    assert median(outcome_at(0.5, seed).total for seed in range(50)) == 100


def test_before_its_time_only_a_miss_is_concluded() -> None:
    test = SequentialTest(GOAL, met_from=1000)
    while not test.ended:
        test.add(good=True)
    assert test.total >= 1000
    quick = SequentialTest(GOAL, met_from=1000)
    while not quick.ended:
        quick.add(good=False)
    assert (quick.total, quick.verdict) == (100, Verdict.MISSED)


def exchange(due_s: float) -> Exchange:
    made = Exchange(b"", "short")
    made.due_s = made.dispatched_s = made.sent_s = due_s
    return made


def end(made: Exchange, done_s: float, outcome: str = "ok") -> None:
    made.done_s, made.outcome = done_s, outcome


def test_fates_are_counted_in_order_of_due_time() -> None:
    outcomes = SequentialOutcomes(SequentialTest(GOAL))
    slow, quick = exchange(0.0), exchange(0.01)
    outcomes.began(slow)
    outcomes.began(quick)
    end(quick, 0.02)
    outcomes.settle(0.05)
    assert outcomes.test.total == 0
    end(slow, 0.1)
    outcomes.settle(0.1)
    assert (outcomes.test.total, outcomes.test.good) == (2, 2)


def test_what_is_older_than_the_threshold_is_bad_at_once() -> None:
    outcomes = SequentialOutcomes(SequentialTest(GOAL))
    outcomes.began(late := exchange(0.0))
    outcomes.settle(0.15)
    assert outcomes.test.total == 0
    outcomes.settle(0.1501)
    assert (outcomes.test.total, outcomes.test.good) == (1, 0)
    end(late, 0.2)
    outcomes.settle(0.3)
    assert outcomes.test.total == 1


@pytest.mark.parametrize("outcome", ["timeout", "refused", "bad_answer"])
def test_failures_are_bad_and_cached_answers_are_skipped(outcome: str) -> None:
    outcomes = SequentialOutcomes(SequentialTest(GOAL))
    outcomes.began(failed := exchange(0.0))
    outcomes.began(cached := exchange(0.0))
    end(failed, 0.01, outcome)
    end(cached, 0.01)
    cached.cached = True
    outcomes.settle(0.02)
    assert (outcomes.test.total, outcomes.test.good) == (1, 0)
