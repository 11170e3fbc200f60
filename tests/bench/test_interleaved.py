"""Equal services are told apart no more often than stated; different ones are."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from slo.bench.interleaved import Duel, Outcome, duel, interleave
from slo.errors import RunError
from slo.samples import Sample


def sample(ms: float, *, outcome: str = "ok", cached: bool = False) -> Sample:
    return Sample(0.0, 0.0, ms / 1000, outcome, "short", cached)


def rounds(factor: float, seed: int, *, count: int = 8, size: int = 60, apart: float = 0.0) -> Duel:
    """Each round has a mood that both sides share, but for `apart` of it."""
    r, pairs = random.Random(seed), []
    for _ in range(count):
        mood = r.uniform(0.7, 1.5)
        a, b = (mood * r.lognormvariate(0, apart) for _ in range(2))
        pairs.append(
            (
                [sample(a * r.lognormvariate(3, 0.3)) for _ in range(size)],
                [sample(factor * b * r.lognormvariate(3, 0.3)) for _ in range(size)],
            )
        )
    return duel(pairs)


def test_equal_services_are_seldom_told_apart() -> None:
    """5 % as stated, also where each turn has a mood of its own and the rounds are few."""
    assert fmean(rounds(1.0, seed).outcome is not Outcome.NONE for seed in range(40)) <= 0.1
    assert fmean(rounds(1.0, seed, count=5, apart=0.2).outcome is not Outcome.NONE for seed in range(150)) <= 0.09


@pytest.mark.parametrize(("factor", "expected"), [(1.4, Outcome.SLOWER), (0.7, Outcome.FASTER)])
def test_a_difference_of_a_third_is_found_under_changing_moods(factor: float, expected: Outcome) -> None:
    assert fmean(rounds(factor, seed).outcome is expected for seed in range(20)) >= 0.9


def test_one_pair_of_records_gives_one_answer() -> None:
    assert rounds(1.1, 1).to_json() == rounds(1.1, 1).to_json()


def test_failures_are_infinitely_slow() -> None:
    pairs = [([sample(10)] * 20, [sample(10, outcome="timeout")] * 20)] * 6
    found = duel(pairs)
    assert found.b_p95_ms == float("inf")
    assert found.outcome is Outcome.SLOWER


def test_cached_answers_are_left_out() -> None:
    with pytest.raises(RunError, match="no computed answers"):
        duel([([sample(10)], [sample(1, cached=True)])] * 5)


def test_both_are_measured_in_every_round_in_changing_order() -> None:
    calls: list[str] = []

    def measure(name: str) -> list[Sample]:
        calls.append(name)
        return [sample(10)]

    done: list[int] = []
    interleave(lambda _n: measure("A"), lambda _n: measure("B"), rounds=12, seed=1, on_round=done.append)
    pairs = ["".join(calls[i : i + 2]) for i in range(0, 24, 2)]
    assert set(pairs) == {"AB", "BA"}
    assert done == list(range(1, 13))


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(RunError, match="4 rounds"):
        interleave(lambda _n: [], lambda _n: [], rounds=4, seed=1)


def test_two_dead_servers_are_not_equally_fast() -> None:
    dead = [([sample(5, outcome="unreachable")] * 20, [sample(5, outcome="unreachable")] * 20)] * 8
    with pytest.raises(RunError, match="no P95 to compare"):
        duel(dead)
