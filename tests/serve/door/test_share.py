"""How much deferred requests get and may count on, and when refused callers are told to come back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.serve.door.admission import JITTER, LONGEST_S, Comeback
from slo.serve.door.share import CEILING, FLOOR, DeferredShare, FadingRate


def asked(times: float, seconds: float = 40.0) -> tuple[DeferredShare, float]:
    """A share after `seconds` in which `times` the capacity was asked for, and all of it used in time."""
    share, now_s = DeferredShare(5.0), 0.0
    while now_s < seconds:
        share.offered(0.01 * times, now_s)
        share.wanted(0.01 * min(1.0, times), now_s)
        now_s += 0.01
    return share, now_s


def test_a_rate_is_the_amount_per_second_of_late_and_fades() -> None:
    rate = FadingRate(2.0)
    for step in range(2000):
        rate.add(0.3, step / 100)
    assert rate.per_s(20.0) == pytest.approx(30, rel=0.01)
    assert rate.per_s(22.0) == pytest.approx(30 / 2.718, rel=0.01)


@pytest.mark.parametrize(
    ("times", "expected"),
    [(0.0, 1.0), (0.5, 0.42), (1.0, CEILING), (3.0, FLOOR), (100.0, FLOOR)],
)
def test_admission_counts_on_what_is_left_and_on_less_the_more_is_asked_for(times: float, expected: float) -> None:
    share, now_s = asked(times)
    assert share.expected(now_s) == pytest.approx(expected, abs=0.02)


def test_a_storm_of_refused_callers_is_forgotten_in_seconds_however_wild_it_was() -> None:
    share, now_s = asked(1000.0)
    assert share.expected(now_s + 5) > 0.5
    assert share.granted(100.0, 0.0, now_s + 5) == CEILING


@given(st.floats(0, 50), st.floats(0, 1000), st.floats(0, 1000))
def test_the_share_never_falls_to_nothing_and_never_takes_all(times: float, waiting_s: float, oldest_s: float) -> None:
    share, now_s = asked(times, 1.0)
    assert FLOOR <= share.granted(waiting_s, oldest_s, now_s) <= CEILING


def test_the_share_grows_with_what_waits_and_with_its_age() -> None:
    share, now_s = asked(1.0)
    assert share.granted(0.5, 1.0, now_s) == pytest.approx(0.1)
    assert share.granted(0.01, 4.6, now_s) == CEILING


def test_refused_callers_come_back_one_after_another_with_jitter() -> None:
    comeback = Comeback(random.Random(1))
    advised = [comeback.after_s(100.0, 0.2, 0.01) for _ in range(200)]
    for number, after_s in enumerate(advised, 1):
        due_s = 0.2 + 0.01 * number
        assert due_s * (1 - JITTER) <= after_s <= due_s * (1 + JITTER)
    assert len(set(advised)) == 200
    assert comeback.after_s(110.0, 0.2, 0.01) < 0.3, "times that have passed are forgotten"


def test_nobody_is_sent_away_for_long_however_many_were_refused() -> None:
    comeback = Comeback(random.Random(1))
    assert max(comeback.after_s(0.0, 5.0, 1.0) for _ in range(100_000)) <= LONGEST_S * (1 + JITTER)
