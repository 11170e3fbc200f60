import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.objective import parse_objective
from slo.stats import LATENCY_EDGES_S, Histogram, histogram_of
from slo.watch.budget.replay import replay, within
from slo.watch.model.counts import Minute


def minute(start_s: int, *latencies_s: float, failed: int = 0) -> Minute:
    return Minute(
        start_s=start_s, source="probe", histogram=histogram_of(latencies_s),
        outcomes={"timeout": failed} if failed else {},
    )  # fmt: skip


def test_at_an_edge_the_answer_is_exact() -> None:
    found = replay([minute(0, 0.1, 0.125, 0.13, failed=1)], parse_objective("p50 <= 125ms"), start_s=0, end_s=60)
    assert found.exact
    assert found.attainment == (0.5, 0.5, 0.5)
    assert (found.met, found.total, found.failed) == (True, 4, 1)


def test_between_edges_bounds_are_given_and_the_guess_lies_between() -> None:
    found = within(histogram_of([0.09, 0.105, 0.11, 0.12, 0.2]), 0.12)
    assert (found.low, found.high) == (1, 4)
    assert found.guess == pytest.approx(1 + 3 * 0.8)


@given(
    st.lists(st.floats(0.001, 20.0), min_size=1, max_size=80),
    st.one_of(st.sampled_from(LATENCY_EDGES_S), st.floats(0.002, 15.0)),
)
@settings(max_examples=80)
def test_the_bounds_hold_the_true_count(latencies_s: list[float], limit_s: float) -> None:
    found = within(histogram_of(latencies_s), limit_s)
    true = sum(value <= limit_s for value in latencies_s)
    assert found.low <= true <= found.high
    assert found.low <= found.guess <= found.high
    if limit_s in LATENCY_EDGES_S:
        assert found.low == found.high


def test_what_the_bounds_do_not_decide_is_undecided() -> None:
    found = replay([minute(0, *[0.11] * 10)], parse_objective("p95 <= 110ms"), start_s=0, end_s=60)
    assert (found.met, found.windows) == (None, (0, 1, 0))
    assert found.consumed[0] == 0
    assert found.consumed[1] == pytest.approx(20.0)


def test_windows_are_five_minutes_and_silent_ones_are_not_judged() -> None:
    minutes = [minute(60 * index, 0.02) for index in range(5)] + [minute(600, 0.4), minute(660)]
    found = replay(minutes, parse_objective("p95 <= 150ms"), start_s=0, end_s=900)
    assert found.windows == (1, 0, 1)


def test_an_empty_history_decides_nothing() -> None:
    found = replay([], parse_objective("p95 <= 150ms"), start_s=0, end_s=60)
    assert found.met is None
    assert math.isnan(found.attainment[0])


def test_a_week_of_minutes_takes_no_time() -> None:
    source = random.Random(1)
    histogram = Histogram()
    for _ in range(1000):
        histogram.observe(source.expovariate(20))
    minutes = [Minute(start_s=60 * index, source="passive", histogram=histogram) for index in range(7 * 1440)]
    found = replay(minutes, parse_objective("p95 <= 140ms"), start_s=0, end_s=7 * 86400)
    assert found.total == 1000 * 7 * 1440
    assert found.good.low == 7 * 1440 * histogram.within(0.125)
