import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.stats import Histogram, histogram_of, nearest_rank
from slo.watch.model.latency import percentile


def test_failures_stand_above_every_answer() -> None:
    found = percentile(histogram_of([0.02] * 90), 10, 0.95)
    assert math.isinf(found.value_ms)
    assert math.isinf(found.high_ms)


def test_without_requests_nothing_is_claimed() -> None:
    found = percentile(Histogram(), 0, 0.95)
    assert math.isnan(found.value_ms)
    assert (found.low_ms, found.high_ms) == (0.0, math.inf)


@given(st.lists(st.floats(0.001, 9.0), min_size=1, max_size=300), st.integers(0, 20))
@settings(max_examples=60)
def test_the_bounds_hold_the_percentile_of_the_raw_values(latencies_s: list[float], failed: int) -> None:
    found = percentile(histogram_of(latencies_s), failed, 0.95)
    true_ms = 1000 * nearest_rank(sorted([*latencies_s, *[math.inf] * failed]), 0.95)
    assert found.low_ms <= true_ms or true_ms == pytest.approx(found.low_ms)
    assert found.high_ms >= true_ms or true_ms == pytest.approx(found.high_ms)
