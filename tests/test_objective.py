import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.errors import ConfigError
from slo.objective import Objective, Verdict, judge, parse_objective, samples_to_meet

P95 = Objective()
CAREFUL = Objective(confidence=0.99)

# Fewest samples that prove P95 with so many bad ones among them; the second row as in MLPerf LoadGen.
FEWEST = {
    0.95: {0: 59, 1: 93, 2: 124, 3: 153, 5: 208, 10: 336, 20: 577, 40: 1036, 80: 1919},
    0.99: {0: 90, 1: 130, 2: 165, 3: 198, 5: 259, 10: 398, 20: 656, 40: 1139, 80: 2057},
}
MOST_BAD = {
    100: (1, 0),
    200: (4, 3),
    300: (8, 6),
    500: (16, 13),
    1000: (38, 34),
    2000: (83, 77),
    5000: (224, 214),
    10000: (463, 449),
}


@pytest.mark.parametrize(
    ("confidence", "bad", "fewest"), [(c, bad, n) for c, row in FEWEST.items() for bad, n in row.items()]
)
def test_the_fewest_samples_for_a_proof_are_those_of_the_tables(confidence: float, bad: int, fewest: int) -> None:
    objective = Objective(confidence=confidence)
    assert samples_to_meet(bad, objective) == fewest
    assert judge(fewest - bad, fewest, objective).verdict is Verdict.MET
    assert judge(fewest - bad - 1, fewest - 1, objective).verdict is not Verdict.MET


@pytest.mark.parametrize(("n", "bad"), MOST_BAD.items())
def test_the_most_bad_samples_that_still_prove_it_are_those_of_the_tables(n: int, bad: tuple[int, int]) -> None:
    for objective, most in zip((P95, CAREFUL), bad, strict=True):
        assert judge(n - most, n, objective).verdict is Verdict.MET
        assert judge(n - most - 1, n, objective).verdict is Verdict.UNPROVEN


@pytest.mark.parametrize(
    ("good", "total", "verdict"),
    [
        pytest.param(0, 0, Verdict.UNPROVEN, id="nothing measured"),
        pytest.param(58, 58, Verdict.UNPROVEN, id="one clean sample too few"),
        pytest.param(59, 59, Verdict.MET, id="just enough"),
        pytest.param(0, 1, Verdict.MISSED, id="the chance of a bad one is just alpha"),
        pytest.param(1, 2, Verdict.UNPROVEN, id="one bad of two"),
        pytest.param(278, 300, Verdict.MISSED, id="22 bad of 300"),
        pytest.param(279, 300, Verdict.UNPROVEN, id="21 bad of 300"),
    ],
)
def test_a_verdict_needs_proof_either_way(good: int, total: int, verdict: Verdict) -> None:
    assert judge(good, total, P95).verdict is verdict


@given(st.integers(0, 400), st.integers(0, 400))
def test_one_more_good_sample_never_makes_a_verdict_worse(good: int, bad: int) -> None:
    order = [Verdict.MISSED, Verdict.UNPROVEN, Verdict.MET]
    before, after = (judge(g, g + bad, P95).verdict for g in (good, good + 1))
    assert order.index(after) >= order.index(before)


def test_a_chance_of_exactly_alpha_counts_as_proof_despite_float_error() -> None:
    assert judge(0, 2, Objective(target=0.5, confidence=0.75)).verdict is Verdict.MISSED


def test_advice_comes_with_what_is_unproven_and_only_then() -> None:
    assert "59 samples" in judge(10, 10, P95).advice
    assert "likely missed" in judge(280, 300, P95).advice
    assert judge(59, 59, P95).advice == ""


def test_a_service_at_5_5_percent_bad_is_called_met_in_less_than_five_of_a_hundred_runs() -> None:
    source = random.Random(3)
    called_met = sum(
        judge(sum(source.random() >= 0.055 for _ in range(500)), 500, P95).verdict is Verdict.MET for _ in range(1000)
    )
    assert called_met <= 50


def test_a_service_at_3_percent_bad_is_proven_by_a_thousand_samples_nine_times_of_ten() -> None:
    source = random.Random(4)
    called_met = sum(
        judge(sum(source.random() >= 0.03 for _ in range(1000)), 1000, P95).verdict is Verdict.MET for _ in range(200)
    )
    assert called_met >= 180


@pytest.mark.parametrize(("good", "total"), [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(good: int, total: int) -> None:
    with pytest.raises(ValueError, match="good of"):
        judge(good, total, P95)


@pytest.mark.parametrize(
    ("text", "target", "threshold_ms", "shown"),
    [
        ("p95 <= 150ms", 0.95, 150.0, "P95 ≤ 150 ms"),
        ("P99≤300 ms", 0.99, 300.0, "P99 ≤ 300 ms"),
        ("p99.9 <= 1.5s", 0.999, 1500.0, "P99.9 ≤ 1.50 s"),
    ],
)
def test_an_objective_is_read_as_people_say_it(text: str, target: float, threshold_ms: float, shown: str) -> None:
    objective = parse_objective(text)
    assert objective.target == pytest.approx(target)
    assert objective.threshold_ms == pytest.approx(threshold_ms)
    assert str(objective) == shown
    assert parse_objective(text.upper().replace("MS", "ms").replace("S", "s")) == objective


@pytest.mark.parametrize(
    "text", ["", "95 <= 150ms", "p95 < 150ms", "p95 <= 150", "p95 <= fast", "p0 <= 1s", "p95 <= 0ms"]
)
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_objective(text)


@pytest.mark.parametrize(
    "changes", [{"target": 1.0}, {"target": 0.0}, {"threshold_ms": 0.0}, {"confidence": 1.0}, {"confidence": 0.4}]
)
def test_an_objective_outside_its_range_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Objective(**changes)


def test_the_budget_prints_as_given() -> None:
    assert [str(Objective(target=t).budget) for t in (0.95, 0.99, 0.999)] == ["0.05", "0.01", "0.001"]


def test_verdicts_carry_the_exit_codes_of_the_contract() -> None:
    assert {v.value: v.exit_code for v in Verdict} == {"met": 0, "missed": 1, "unproven": 3}


def test_a_judgement_reads_as_a_sentence() -> None:
    assert str(judge(59, 59, P95)) == "met: P95 ≤ 150 ms, 59/59 within 150 ms"
