"""What a pass costs, learnt from passes; tokens and usual sizes, learnt from texts; how far off predictions are."""

import random

import pytest

from slo.serve.engine.cost import BestRate, Headroom, PassCost, TokenEstimate, TwoTermFit, UsualSize


def test_finds_both_terms_of_a_line() -> None:
    fit, rng = TwoTermFit(0.008, 0.0004, memory=80, scale=100), random.Random(1)
    for _ in range(400):
        tokens = rng.randint(5, 200)
        fit.observe(1, tokens, (0.005 + 0.00026 * tokens) * rng.uniform(0.95, 1.05))
    assert fit.p == pytest.approx(0.005, rel=0.2)
    assert fit.q == pytest.approx(0.00026, rel=0.1)


def test_passes_of_one_size_scale_the_first_guess_instead_of_inventing_a_slope() -> None:
    cost = PassCost()
    for _ in range(300):
        cost.observe(22, 0.010, 0.013, 0.0)
    assert cost.of(22) == pytest.approx(0.010, rel=0.05)
    assert cost.of(160) > 2 * cost.of(22)


def test_a_machine_that_becomes_slower_is_followed_within_a_few_memories() -> None:
    cost, rng = PassCost(), random.Random(2)
    for factor in (1.0, 1.6):
        for _ in range(300):
            tokens = rng.randint(5, 160)
            cost.observe(tokens, factor * (0.005 + 0.00026 * tokens), 0.1, 0.0)
    assert cost.of(80) == pytest.approx(1.6 * (0.005 + 0.00026 * 80), rel=0.1)


def test_the_best_rate_is_not_moved_by_an_engine_that_becomes_slower() -> None:
    cost, rng = PassCost(), random.Random(4)
    assert cost.at_best_s(400, 1) is None
    for factor in (2.0, 1.0, 5.0):
        for _ in range(200):
            cost.observe(rng.randint(5, 160), factor * 0.040 * rng.uniform(0.85, 1.15), 9.9, 0.0)
            cost.observe(160, factor * 0.048 * rng.uniform(0.85, 1.15), 9.9, 0.0)
    found = cost.at_best_s(400, 1)
    assert found is not None
    assert found == pytest.approx(400 * 0.048 / 160 + 0.004, rel=0.25)
    assert cost.of(160) > 0.15


def test_small_passes_say_nothing_about_the_best_rate_and_another_engine_begins_anew() -> None:
    best = BestRate()
    for _ in range(1000):
        best.observe(BestRate.LARGE_TOKENS - 1, 1e-6)
    assert best.token_s is None
    for _ in range(BestRate.PASSES):
        best.observe(100, 0.03)
    assert best.token_s == pytest.approx(0.0003)
    best.renew()
    assert best.token_s is None


@pytest.mark.parametrize("engine_s", [0.0, 1e-9, 5.0])
def test_no_observation_makes_a_cost_that_is_zero_or_negative(engine_s: float) -> None:
    cost = PassCost()
    for tokens in (1, 500, 1, 500):
        cost.observe(tokens, engine_s, engine_s, 0.0)
        assert cost.of(1) > 0
        assert cost.of(500) > 0


def test_a_chinese_character_is_a_token_from_the_start() -> None:
    assert TokenEstimate().of("今天天气很好") == 8
    assert 4 <= TokenEstimate().of("embedding models") <= 9


def test_tokens_of_english_are_learnt_without_spoiling_chinese() -> None:
    estimate = TokenEstimate()
    for _ in range(50):
        estimate.observe(["a" * 40, "字" * 30], [2 + 20, 2 + 30])
    assert estimate.of("a" * 100) == pytest.approx(52, abs=3)
    assert estimate.of("字" * 100) == pytest.approx(102, abs=3)


def test_an_estimate_never_exceeds_what_the_model_takes() -> None:
    assert TokenEstimate(max_tokens=128).of("字" * 5000) == 128


@pytest.mark.parametrize("text", ["\ud800", "a", "😀😀", " "], ids=["surrogate", "ascii", "emoji", "space"])
def test_every_text_has_an_estimate(text: str) -> None:
    assert 3 <= TokenEstimate().of(text) <= 512


def test_headroom_finds_the_99th_percentile_of_the_ratio() -> None:
    headroom, rng = Headroom(), random.Random(3)
    for index in range(20_000):
        headroom.observe(0.6, rng.uniform(0.8, 1.6), index * 0.001)
    assert headroom.factor(0.6, 20.0) == pytest.approx(1.59, abs=0.08)


def test_headroom_of_small_predictions_says_nothing_about_large_ones() -> None:
    headroom = Headroom()
    for index in range(500):
        headroom.observe(0.1, 2.0, index * 0.01)
    assert headroom.factor(0.1, 5.0) > 1.8
    assert headroom.factor(0.9, 5.0) == pytest.approx(Headroom.FIRST)


def test_headroom_falls_back_when_it_sees_nothing_any_more() -> None:
    headroom = Headroom()
    for _ in range(500):
        headroom.observe(0.9, 3.0, 0.0)
    high = headroom.factor(0.9, 0.0)
    assert high == pytest.approx(Headroom.RANGE[1])
    assert headroom.factor(0.9, 60.0) == pytest.approx(Headroom.FIRST, rel=0.01)


def test_an_engines_own_measurement_is_the_first_guess_but_not_the_last() -> None:
    cost = PassCost()
    cost.assume(0.004, 0.0002)
    assert cost.of(100) == pytest.approx(0.024)
    cost.observe(100, 0.030, 0.033, 0.0)
    cost.assume(1.0, 1.0)
    assert 0.024 < cost.of(100) < 0.030


@pytest.mark.parametrize(
    ("sizes", "low", "high"),
    [
        pytest.param((6, 22, 52), 44, 66, id="a third long: the long ones"),
        pytest.param((6,) * 30 + (500,), 5, 40, id="one in thirty long: not the long ones"),
        pytest.param((200,), 180, 230, id="all of one size"),
    ],
)
def test_the_usual_size_is_what_nine_in_ten_stay_within(sizes: tuple[int, ...], low: int, high: int) -> None:
    usual, rng = UsualSize(), random.Random(5)
    seen = []
    for _ in range(3000):
        usual.observe(rng.choice(sizes))
        seen.append(usual.tokens)
    assert low <= sorted(seen[300:])[1350] <= high
