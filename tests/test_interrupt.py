import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import pytest

from slo.cli.main import run
from slo.interrupt import StopRequested, StopSwitch, TimeUp, ending, wall_limit


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


ROOT = Path(__file__).parent.parent
# Sends itself the signal when the module of that name is about to be imported.
WHILE_IMPORTING = """
import os, runpy, sys

moment, number, program = sys.argv[1], int(sys.argv[2]), sys.argv[3]

class Finder:
    def find_spec(self, name, path, target=None):
        if name == moment:
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Finder())
sys.argv = sys.argv[3:]
(runpy.run_path if program.endswith(".py") else runpy.run_module)(program, run_name="__main__")
"""
LAUNCHER = str(ROOT / "launch_model_server.py")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("moment", ["click", "slo.config", "numpy", "slo.deploy.launch"])
@pytest.mark.parametrize("program", [[LAUNCHER], ["slo", "launch"]], ids=["script", "command"])
def test_a_signal_while_a_command_is_imported_is_one_line(
    tmp_path: Path, program: list[str], moment: str, number: signal.Signals
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WHILE_IMPORTING, moment, str(number.value), *program],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "stopped\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_while_a_command_works_ends_it_by_an_exception(number: signal.Signals) -> None:
    undone = []

    @click.command()
    def work() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            undone.append(True)

    before = signal.getsignal(number)
    assert run(work, []) == 128 + number
    assert undone == [True]
    assert signal.getsignal(number) is before


def test_a_signal_that_the_shell_has_turned_off_stays_off() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ending():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
