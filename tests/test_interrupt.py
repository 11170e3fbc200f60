import os
import signal
import threading
import time

import pytest

from slo.interrupt import StopRequested, StopSwitch, TimeUp, wall_limit


def in_a_moment(number: signal.Signals, after_s: float = 0.05) -> threading.Timer:
    """Sends this process a signal soon."""
    timer = threading.Timer(after_s, os.kill, (os.getpid(), number))
    timer.start()
    return timer


def test_a_wall_limit_ends_any_wait() -> None:
    started = time.monotonic()
    with pytest.raises(TimeUp), wall_limit(0.05):
        time.sleep(5)
    assert time.monotonic() - started < 5


def test_a_wall_limit_that_is_not_reached_leaves_no_trace() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with wall_limit(0.05):
        pass
    time.sleep(0.08)
    assert signal.getsignal(signal.SIGALRM) is handler


def test_a_timer_that_ran_before_goes_on_afterwards() -> None:
    with pytest.raises(TimeUp), wall_limit(0.2):
        with wall_limit(5):
            time.sleep(0.05)
        time.sleep(5)


def test_outside_the_main_thread_a_wall_limit_bounds_nothing_and_does_no_harm() -> None:
    done: list[bool] = []

    def work() -> None:
        with wall_limit(0.01):
            time.sleep(0.05)
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_what_may_be_interrupted(number: signal.Signals) -> None:
    started, handler = time.monotonic(), signal.getsignal(number)
    with StopSwitch() as stop:
        timer = in_a_moment(number)
        with stop.interruptible():
            time.sleep(5)
        pytest.fail("the wait should have ended")
    timer.join()
    assert stop.requested
    assert time.monotonic() - started < 5
    assert signal.getsignal(number) is handler


def test_elsewhere_a_signal_waits_for_the_work_to_be_finished() -> None:
    written: list[str] = []
    with StopSwitch() as stop:
        timer = in_a_moment(signal.SIGTERM, after_s=0)
        timer.join()
        time.sleep(0.02)
        written.append("whole")
        with stop.interruptible():
            pytest.fail("a stop was requested before")
    assert written == ["whole"]


def test_other_errors_pass_through() -> None:
    with pytest.raises(KeyError), StopSwitch():
        raise KeyError


def test_a_stop_request_is_no_ordinary_exception() -> None:
    assert not issubclass(StopRequested, Exception)
    assert not issubclass(TimeUp, Exception)
