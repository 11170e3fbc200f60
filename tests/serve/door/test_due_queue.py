"""The queue in the order of deadlines, against a plain sorted list."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.serve.door.admission import JITTER, LONGEST_S, Comeback
from slo.serve.door.due_queue import CEILING, FLOOR, STEP_S, DeferredShare, DueQueue, FadingRate
from slo.serve.door.work import Job, State


def job(text: str, due_s: float, tokens: int = 10) -> Job:
    return Job(text, tokens, True, 0.0, due_s)


def texts(queue: DueQueue) -> list[str]:
    return [each.text for each in queue.drain()]


def test_earliest_deadline_first_and_first_come_first_served_among_equals() -> None:
    queue = DueQueue()
    for name, due_s in (("late", 60.0), ("a", 0.15), ("b", 0.15), ("soon", 0.05), ("c", 0.151)):
        queue.add(job(name, due_s))
    assert (queue.ahead(0.04), queue.ahead(0.05), queue.ahead(0.155), queue.ahead(99)) == (0, 10, 40, 50)
    assert texts(queue) == ["soon", "a", "b", "c", "late"]
    assert (queue.tokens, len(queue)) == (0, 0)


def test_a_job_that_has_moved_to_an_earlier_place_is_handed_out_once() -> None:
    queue = DueQueue()
    jobs = [job("a", 1.0), job("b", 2.0), job("c", 3.0)]
    for each in jobs:
        queue.add(each)
    queue.forget(jobs[2])
    jobs[2].due_s = 0.5
    queue.add(jobs[2])
    assert queue.ahead(0.7) == 10
    assert queue.tokens == 30
    assert texts(queue) == ["c", "a", "b"]


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 50), st.sampled_from(["keep", "drop", "move"]))))
def test_order_tokens_and_what_is_ahead_are_those_of_a_sorted_list(rows: list[tuple[float, int, str]]) -> None:
    queue, kept = DueQueue(), list[Job]()
    for number, (due_s, tokens, fate) in enumerate(rows):
        each = job(str(number), due_s, tokens)
        queue.add(each)
        if fate != "keep":
            queue.forget(each)
            each.state = State.DROPPED if fate == "drop" else each.state
        if fate == "move":
            each.due_s += 1
            queue.add(each)
        if fate != "drop":
            kept.append(each)
    kept.sort(key=lambda each: int(each.due_s / STEP_S))
    assert queue.tokens == sum(each.tokens for each in kept)
    for due_s in (0.0, 0.5, 1.7, 9.0):
        assert queue.ahead(due_s) == sum(j.tokens for j in kept if int(j.due_s / STEP_S) <= int(due_s / STEP_S))
    last = queue.last()
    assert (last.text if last else None) == (kept[-1].text if kept else None)
    assert texts(queue) == [each.text for each in kept]
    assert (queue.tokens, len(queue)) == (0, 0)


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
