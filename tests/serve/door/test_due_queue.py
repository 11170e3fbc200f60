"""The queue in the order of deadlines, against a plain sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slo.serve.door.due_queue import STEP_S, DueQueue
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
