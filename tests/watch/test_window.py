import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.objective import Objective, Verdict
from slo.stats import nearest_rank
from slo.watch.window import Batch, Window

P95 = Objective()


def test_a_window_adds_counts_and_takes_percentiles_of_all_values() -> None:
    window = Window(length_s=300, interval_s=60)
    window.add(Batch(0.0, 60, [10.0] * 60))
    window.add(Batch(60.0, 0, [math.inf] * 60))
    judgement = window.judgement(P95)
    assert (judgement.good, judgement.total, judgement.verdict) == (60, 120, Verdict.MISSED)
    assert (window.latency_ms(0.5), window.latency_ms(0.51)) == (10.0, math.inf)


@pytest.mark.parametrize("shift_s", [-0.02, 0.0, 0.02])
def test_five_minutes_are_five_checks_even_when_they_start_some_milliseconds_off(shift_s: float) -> None:
    window = Window(length_s=300, interval_s=60)
    for minute in range(20):
        window.add(Batch(minute * 60 + shift_s * (minute % 2), 1, [1.0]))
        assert window.judgement(P95).total == min(minute + 1, 5)


def test_a_window_shorter_than_the_interval_holds_the_last_check() -> None:
    window = Window(length_s=1, interval_s=60)
    for minute in range(3):
        window.add(Batch(minute * 60.0, 1, [float(minute)]))
        assert (window.judgement(P95).total, window.latency_ms(1.0)) == (1, float(minute))


def test_an_empty_window_knows_nothing() -> None:
    window = Window(length_s=300, interval_s=60)
    assert window.judgement(P95).verdict is Verdict.UNPROVEN
    assert math.isnan(window.latency_ms(0.95))


@given(st.lists(st.lists(st.floats(0, 1000), max_size=8), min_size=1, max_size=12))
def test_a_window_equals_a_recount_of_the_last_five_minutes(minutes: list[list[float]]) -> None:
    window = Window(length_s=300, interval_s=60)
    for index, values in enumerate(minutes):
        window.add(Batch(index * 60.0, sum(v <= 150 for v in values), values))
    last = [value for values in minutes[-5:] for value in values]
    judgement = window.judgement(P95)
    assert (judgement.good, judgement.total) == (sum(v <= 150 for v in last), len(last))
    if last:
        assert window.latency_ms(0.95) == nearest_rank(sorted(last), 0.95)
