"""No window of 60 seconds sees more than the limit, whatever is asked for and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.watch.delivery.sinks.outcome import Limit, TokenBucket

waits = st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=300)


@given(waits, st.sampled_from([Limit(), Limit(cost=2), Limit(per_minute=60, burst=1, reserve=0.0)]))
def test_no_minute_sees_more_than_the_limit(steps: list[tuple[float, bool]], limit: Limit) -> None:
    now, gate, taken = 1000.0, TokenBucket.fresh(limit, 1000.0), []
    for wait_s, urgent in steps:
        now += wait_s
        if gate.take(now, urgent=urgent):
            taken.append(now)
    for start in taken:
        assert limit.cost * sum(1 for at in taken if start <= at < start + 60) <= limit.per_minute


def test_ordinary_messages_leave_a_reserve_that_urgent_ones_may_use() -> None:
    gate = TokenBucket.fresh(Limit(), 0.0)
    assert [gate.take(0.0, urgent=False) for _ in range(5)] == [True, True, True, False, False]
    assert [gate.take(0.0, urgent=True) for _ in range(3)] == [True, True, False]


def test_a_send_that_costs_two_takes_two_tokens() -> None:
    gate = TokenBucket.fresh(Limit(cost=2), 0.0)
    assert [gate.take(0.0, urgent=True) for _ in range(3)] == [True, True, False]


@given(st.floats(0, 100), st.booleans())
def test_next_s_names_the_instant_at_which_a_send_is_allowed(used_s: float, urgent: bool) -> None:
    gate = TokenBucket.fresh(Limit(), 0.0)
    while gate.take(used_s, urgent=True):
        pass
    next_s = gate.next_s(used_s, urgent=urgent)
    assert not gate.allows(used_s, urgent=urgent)
    assert gate.allows(next_s + 1e-6, urgent=urgent)


def test_a_throttle_closes_the_gate_for_the_providers_time_or_its_usual_one() -> None:
    gate = TokenBucket.fresh(Limit(block_s=600), 0.0)
    gate.throttle(0.0, None)
    assert (gate.blocked(599.9), gate.blocked(600.0)) == (True, False)
    gate.throttle(0.0, 5.0)
    assert (gate.blocked(4.9), gate.blocked(5.0)) == (True, False)


def test_a_clock_that_goes_back_gives_no_tokens() -> None:
    gate = TokenBucket.fresh(Limit(), 1000.0)
    while gate.take(1000.0, urgent=True):
        pass
    assert not gate.take(10.0, urgent=True)
    assert not gate.take(11.0, urgent=True)
    assert gate.take(14.1, urgent=True)


def test_a_digest_goes_once_a_minute() -> None:
    gate = TokenBucket.fresh(Limit(), 1000.0)
    assert [gate.take_digest(now) for now in (1000.0, 1030.0, 1059.0, 1060.0)] == [True, False, False, True]


@pytest.mark.parametrize("wrong", [{"burst": 20}, {"cost": 6}, {"cost": 0}])
def test_a_limit_that_cannot_be_kept_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a limit needs"):
        Limit(**wrong)
