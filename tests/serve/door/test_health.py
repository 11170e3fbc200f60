"""When a model process is fit, in doubt, or dead: time is an argument here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.serve.door.health import FAILURES, SLOW_PASSES, Blame, Fitness, Health

BEFORE = ("m-rep0", "127.0.0.1:9")
WHO, OTHER = ("m-rep0", "127.0.0.1:1"), ("m-rep1", "127.0.0.1:2")
TICK_S = 0.5


class Life:
    """Lets time pass. `answers(now)` says whether the process tells its status at that time."""

    def __init__(self, patience_s: float = 8.0) -> None:
        self.health = Health(patience_s)
        self.now_s = 1000.0
        self.health.tick(self.now_s)
        self.health.answered(WHO, self.now_s)

    def until(
        self,
        fitness: Fitness,
        limit_s: float,
        *,
        answers: bool = False,
        computing: bool = False,
        tick_s: float = TICK_S,
    ) -> float | None:
        """Seconds until it is judged so; None if it is not within the limit."""
        start_s = self.now_s
        while self.now_s - start_s < limit_s:
            self.now_s += tick_s
            self.health.tick(self.now_s)
            if answers:
                self.health.answered(WHO, self.now_s)
            if self.health.judge(WHO, self.now_s, computing=computing).fitness is fitness:
                return self.now_s - start_s
        return None

    def passes(
        self, count: int, took_s: float, predicted_s: float, who: tuple[str, str] = WHO, ok: bool = True
    ) -> None:
        for _ in range(count):
            self.health.started(who, self.now_s, predicted_s)
            self.now_s += took_s
            self.health.tick(self.now_s)
            self.health.answered(WHO, self.now_s)
            self.health.ended(who, self.now_s, ok=ok)


def test_a_hung_process_gets_no_more_passes_soon_and_is_dead_a_little_later() -> None:
    assert Life().until(Fitness.SILENT, 60) == pytest.approx(2.5, abs=TICK_S)
    assert Life().until(Fitness.DEAD, 60) == pytest.approx(8, abs=TICK_S)


def test_a_process_that_computes_without_answering_is_given_more_time() -> None:
    assert Life().until(Fitness.DEAD, 60, computing=True) == pytest.approx(20, abs=TICK_S)


def test_a_process_that_answers_again_serves_again() -> None:
    life = Life()
    assert life.until(Fitness.SILENT, 5) is not None
    assert life.until(Fitness.FIT, 1, answers=True) is not None


def test_a_pass_that_does_not_come_back_is_a_wedged_process_although_its_status_is_answered() -> None:
    life = Life()
    life.health.started(WHO, life.now_s, 0.03)
    assert life.until(Fitness.DOUBTED, 60, answers=True) == pytest.approx(2.5, abs=TICK_S)
    assert life.until(Fitness.DEAD, 60, answers=True) == pytest.approx(5.5, abs=TICK_S)


def test_a_pass_of_8192_tokens_on_a_slow_processor_is_none() -> None:
    life = Life()
    life.health.started(WHO, life.now_s, 8192 * 0.0004)
    assert life.until(Fitness.DOUBTED, 30, answers=True, computing=True) is None
    assert life.until(Fitness.DEAD, 40, answers=True, computing=True) is None


def test_passes_that_come_back_one_after_the_other_are_progress_however_long_the_line() -> None:
    life = Life()
    for _ in range(2):
        life.health.started(WHO, life.now_s, 0.5)
    for _ in range(60):
        assert life.until(Fitness.DEAD, 2, answers=True) is None
        life.health.ended(WHO, life.now_s, ok=True)
        life.health.started(WHO, life.now_s, 0.5)


@pytest.mark.parametrize("stall_s", [3.0, 30.0, 3600.0])
def test_a_judge_that_stood_still_itself_holds_the_time_against_nobody(stall_s: float) -> None:
    life = Life()
    life.health.started(WHO, life.now_s, 0.03)
    assert life.until(Fitness.DEAD, stall_s, tick_s=stall_s) is None
    assert life.until(Fitness.DEAD, 60) == pytest.approx(8, abs=TICK_S), "a hung process is found afterwards"


def test_a_process_that_had_to_be_ended_is_followed_by_one_that_is_given_more_time() -> None:
    life = Life()
    life.health.was_ended(BEFORE, life.now_s)
    assert life.until(Fitness.DEAD, 60) == pytest.approx(16, abs=TICK_S)
    life.health.was_ended(WHO, life.now_s)
    assert life.until(Fitness.DEAD, 1) == TICK_S, "once dead it stays so while it is silent"
    life = Life()
    for _ in range(9):
        life.health.was_ended(BEFORE, life.now_s)
    assert life.until(Fitness.DEAD, 60) == pytest.approx(16, abs=TICK_S), (
        "no more than twice: half a minute is promised"
    )


def test_failures_in_a_row_ask_for_a_test_and_its_result_decides() -> None:
    life = Life()
    life.passes(FAILURES - 1, 0.01, 0.01, ok=False)
    assert life.health.judge(WHO, life.now_s, computing=False).fitness is Fitness.FIT
    life.passes(1, 0.01, 0.01, ok=False)
    verdict = life.health.judge(WHO, life.now_s, computing=False)
    assert (verdict.fitness, verdict.test) == (Fitness.DOUBTED, True)
    life.health.tested(WHO, None)
    assert life.health.judge(WHO, life.now_s, computing=False).fitness is Fitness.FIT
    life.passes(FAILURES, 0.01, 0.01, ok=False)
    life.health.tested(WHO, "CUDA error")
    assert life.health.judge(WHO, life.now_s, computing=False).fitness is Fitness.DEAD


def test_an_engine_that_fails_after_each_start_is_not_started_in_a_loop() -> None:
    life = Life()
    ends = 0
    for _ in range(int(120 / TICK_S)):
        who = ("m-rep0", f"127.0.0.1:{ends}")
        life.now_s += TICK_S
        life.health.tick(life.now_s)
        life.health.answered(who, life.now_s)
        life.health.tested(who, "no such operation")
        if life.health.judge(who, life.now_s, computing=False).fitness is Fitness.DEAD:
            life.health.was_ended(who, life.now_s)
            ends += 1
    assert 2 <= ends <= 6


def test_one_of_two_that_is_much_slower_is_ended_and_one_alone_or_a_single_stall_is_not() -> None:
    life = Life()
    life.passes(100, 0.3, 0.03)
    assert life.health.judge(WHO, life.now_s, computing=True).fitness is Fitness.FIT, "nobody to compare with"
    life.passes(SLOW_PASSES, 0.03, 0.03, OTHER)
    assert life.health.judge(WHO, life.now_s, computing=True).fitness is Fitness.DEAD
    life.health.was_ended(BEFORE, life.now_s)
    assert life.health.judge(WHO, life.now_s, computing=True).fitness is Fitness.DOUBTED, "a slow machine stays slow"
    life = Life()
    life.passes(SLOW_PASSES, 0.03, 0.03)
    life.passes(SLOW_PASSES, 0.03, 0.03, OTHER)
    life.passes(1, 1.9, 0.03)
    assert life.health.judge(WHO, life.now_s, computing=True).fitness is Fitness.FIT


def test_a_process_that_is_being_stopped_is_left_alone() -> None:
    life = Life()
    life.health.left(WHO, life.now_s)
    assert life.until(Fitness.DEAD, 100, answers=True) is None, "draining may take a while"
    assert life.health.fitness(WHO) is Fitness.LEAVING
    life.health.keep([])
    assert life.health.fitness(WHO) is Fitness.LEAVING, "it is still listed as ready for a while"


EVENTS: dict[str, Callable[[Life], None]] = {
    "answer": lambda life: life.health.answered(WHO, life.now_s),
    "start": lambda life: life.health.started(WHO, life.now_s, 0.05),
    "end": lambda life: life.health.ended(WHO, life.now_s, ok=True),
}


@given(st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.floats(0.0, 2.0)), max_size=60))
def test_whoever_answers_and_brings_back_its_passes_in_time_is_never_dead(steps: list[tuple[str, float]]) -> None:
    life = Life()
    out = 0
    for name, pause_s in steps:
        life.now_s += pause_s
        life.health.tick(life.now_s)
        if name == "end" and out == 0:
            continue
        out += {"start": 1, "end": -1}.get(name, 0)
        EVENTS[name](life)
        life.health.answered(WHO, life.now_s)
        if out > 1:
            life.health.ended(WHO, life.now_s, ok=True)
            out -= 1
        if out:  # what is out comes back within the time of this step
            life.health.ended(WHO, life.now_s, ok=True)
            out = 0
        assert life.health.judge(WHO, life.now_s, computing=False).fitness in (Fitness.FIT, Fitness.DOUBTED)


def test_blame_grows_with_each_death_and_goes_with_a_result_or_time() -> None:
    blame = Blame()
    assert [blame.died("t", 0.0), blame.died("t", 1.0), blame.deaths("t", 1.0), blame.deaths("u", 1.0)] == [1, 2, 2, 0]
    assert blame.deaths("t", 2000.0) == 0
    blame.died("t", 3000.0)
    blame.clear("t")
    assert blame.deaths("t", 3000.0) == 0
    for index in range(2 * Blame.MOST):
        blame.died(f"t{index}", 4000.0)
    assert sum(blame.deaths(f"t{index}", 4000.0) for index in range(2 * Blame.MOST)) == Blame.MOST
