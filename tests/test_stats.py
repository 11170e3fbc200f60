import math
import random
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slo.stats import (
    LATENCY_EDGES_S,
    Histogram,
    binomial_cdf,
    histogram_of,
    nearest_rank,
    percentile_interval,
    rank,
    rank_interval,
    wilson,
)

latencies = st.floats(0, 20, allow_nan=False)


@given(st.lists(latencies, min_size=1, max_size=60), st.integers(1, 100))
def test_the_nearest_rank_is_the_least_value_that_enough_values_reach(values: list[float], percent: int) -> None:
    found = nearest_rank(sorted(values), percent / 100)
    reaching = [v for v in values if 100 * sum(other <= v for other in values) >= percent * len(values)]
    assert found == min(reaching)


def test_the_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(nearest_rank([], 0.95))


@given(st.integers(1, 10**6) | st.integers(1, 1000).map(lambda thousands: 1000 * thousands), st.integers(1, 1000))
@example(100, 70)  # 0.07 * 100 == 7.000000000000001
def test_the_rank_has_no_float_error(n: int, thousandths: int) -> None:
    assert rank(n, thousandths / 1000) == max(1, math.ceil(Fraction(thousandths, 1000) * n))


@pytest.mark.parametrize("quantile", [0.0, -0.5, 1.1])
def test_a_quantile_outside_its_range_is_refused(quantile: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        rank(10, quantile)


@given(st.integers(0, 40), st.integers(-1, 41), st.integers(0, 20))
def test_the_binomial_sum_agrees_with_exact_fractions(n: int, k: int, twentieths: int) -> None:
    p = Fraction(twentieths, 20)
    exact = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(min(k, n) + 1))
    assert binomial_cdf(k, n, float(p)) == pytest.approx(float(exact), abs=1e-10)


def test_the_binomial_sum_agrees_with_exact_fractions_for_thousands() -> None:
    p, n, k = Fraction(1, 20), 2000, 83
    exact = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
    assert binomial_cdf(k, n, 0.05) == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize(
    ("n", "low", "high"),
    [
        (100, 90, 100),
        (200, 184, 197),
        (500, 465, 485),
        (1000, 936, 964),
        (2000, 1880, 1920),
        (5000, 4719, 4781),
        (10000, 9457, 9543),
    ],
)
def test_the_ranks_around_p95_are_those_of_the_tables(n: int, low: int, high: int) -> None:
    found = rank_interval(n, 0.95)
    assert abs(found[0] - low) <= 1
    assert abs(found[1] - high) <= 1


def test_the_interval_of_p95_holds_the_truth_as_often_as_it_claims() -> None:
    source, truth, hits = random.Random(7), -math.log(0.05), 0
    for _ in range(1000):
        low, high = percentile_interval(sorted(source.expovariate(1) for _ in range(200)), 0.95)
        hits += low <= truth <= high
    assert hits >= 940  # 95 % promised; 940 is 1.5 standard deviations below


def test_too_few_values_bound_a_percentile_by_zero_and_infinity() -> None:
    assert percentile_interval([], 0.95) == (0.0, math.inf)
    assert percentile_interval([1.0, 2.0, 3.0], 0.95)[1] == math.inf
    assert percentile_interval([1.0], 0.05)[0] == 0.0


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_wilson_interval_contains_what_was_seen_and_stays_a_share(bad: int, total: int) -> None:
    bad = min(bad, total)
    low, high = wilson(bad, total)
    assert 0 <= low <= bad / total + 1e-12
    assert bad / total - 1e-12 <= high <= 1


def test_wilson_knows_a_published_value_and_says_nothing_about_nothing() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.lists(latencies, max_size=80), st.lists(latencies, max_size=80))
def test_adding_histograms_is_counting_both(a: list[float], b: list[float]) -> None:
    both = histogram_of(a)
    both.add(histogram_of(b))
    together = histogram_of([*a, *b])
    assert both.counts == together.counts
    assert both.sum_s == pytest.approx(together.sum_s)


@given(st.lists(latencies, max_size=80), st.sampled_from(LATENCY_EDGES_S))
def test_counts_within_an_edge_are_exact(values: list[float], edge: float) -> None:
    assert histogram_of(values).within(edge) == sum(value <= edge for value in values)


@pytest.mark.parametrize(("seconds", "within"), [(0.15, 1), (math.nextafter(0.15, 1), 0), (0.1499, 1)])
def test_a_latency_of_exactly_150_ms_is_within_150_ms(seconds: float, within: int) -> None:
    assert histogram_of([seconds]).within(0.15) == within


def test_a_count_within_something_that_is_no_edge_is_refused() -> None:
    with pytest.raises(ValueError, match="not an edge"):
        Histogram().within(0.151)


def test_histograms_of_different_shape_do_not_mix() -> None:
    with pytest.raises(ValueError, match="edges"):
        Histogram().add(Histogram(edges_s=(1.0,)))
    with pytest.raises(ValueError, match="counts"):
        Histogram(counts=[0, 0])


@given(st.lists(st.floats(0, 9.9), min_size=1, max_size=80), st.integers(1, 100))
def test_an_estimated_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], percent: int) -> None:
    histogram, truth = histogram_of(values), nearest_rank(sorted(values), percent / 100)
    index = sum(edge < truth for edge in LATENCY_EDGES_S)
    low = LATENCY_EDGES_S[index - 1] if index else 0.0
    assert low <= histogram.quantile(percent / 100) <= LATENCY_EDGES_S[index]


def test_the_quantile_of_an_empty_histogram_is_unknown_and_beyond_the_last_edge_infinite() -> None:
    assert math.isnan(Histogram().quantile(0.5))
    assert histogram_of([11.0]).quantile(0.95) == math.inf


@given(st.integers(1, 5000), st.floats(0.01, 1.0))
def test_dependent_values_give_a_wider_interval_around_the_same_percentile(n: int, weight: float) -> None:
    low, high = rank_interval(n, 0.95)
    wide_low, wide_high = rank_interval(n, 0.95, weight=weight)
    assert 0 <= wide_low <= low + 1
    assert min(high, n) - 1 <= wide_high <= n + 1
    assert rank_interval(n, 0.95, weight=1.0) == (low, high)
