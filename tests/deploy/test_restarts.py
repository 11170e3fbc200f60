"""When a dead server is started again, and when a silent one counts as hung: decided on numbers alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slo.deploy.restarts import CAP_S, HANG_CHECKS, HANG_S, STEADY_S, Restarts, SilentChecks


def test_a_first_death_is_repaired_at_once_and_a_crash_loop_is_slowed_down() -> None:
    restarts, now_s, pauses = Restarts(), 0.0, []
    restarts.started(now_s)
    for _ in range(9):
        now_s += 1
        pauses.append(restarts.died(now_s))
        assert not restarts.due(now_s + pauses[-1] - 0.001)
        now_s += pauses[-1]
        assert restarts.due(now_s)
        restarts.started(now_s)
    assert pauses == [0.0, 2.0, 4.0, 8.0, 16.0, 32.0, CAP_S, CAP_S, CAP_S]
    assert (restarts.failures, restarts.total) == (9, 9)
    assert restarts.died(now_s + STEADY_S) == 0.0, "it has lived: a new story"
    assert (restarts.failures, restarts.total) == (1, 10)


@given(lives=st.lists(st.floats(0, 1000), min_size=1, max_size=50))
def test_a_pause_never_exceeds_the_cap_and_no_start_comes_before_it(lives: list[float]) -> None:
    restarts, now_s = Restarts(), 0.0
    restarts.started(now_s)
    for life_s in lives:
        now_s += life_s
        pause_s = restarts.died(now_s)
        assert 0 <= pause_s <= CAP_S
        assert restarts.due(now_s) == (pause_s == 0)
        now_s += pause_s
        restarts.started(now_s)
        assert not restarts.due(now_s + 1e6)


def test_a_start_that_fails_for_long_is_no_life() -> None:
    restarts = Restarts()
    restarts.started(0.0)
    restarts.died(1.0)
    assert restarts.died(1.0 + 2 * STEADY_S) > 0, "it did not live meanwhile"


def test_a_hang_takes_time_and_questions() -> None:
    silence = SilentChecks(HANG_S, 190.0)
    assert not silence.record(200.0, answered=True)
    outcomes = [silence.record(200.0 + 2.5 * (number + 1), answered=False) for number in range(6)]
    assert outcomes.index(True) == max(HANG_CHECKS, int(HANG_S / 2.5)) - 1
    silence.begin(990.0)
    assert not silence.record(1000.0, answered=False)
    assert not silence.record(1001.0, answered=True)
    assert not silence.record(1100.0, answered=False), "one missed answer, however late it is noticed, is no hang"
