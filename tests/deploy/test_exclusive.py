"""One launch at a time, and a launch that is interrupted says so once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slo.clock import ManualClock
from slo.deploy.exclusive import exclusive, interruptible
from slo.errors import EnvironmentProblem, Interrupted, StartError

HOLDER = """
import sys
from pathlib import Path
from slo.clock import SystemClock
from slo.deploy.exclusive import exclusive
with exclusive(Path(sys.argv[1]), wait_s=0.0, clock=SystemClock(), on_wait=print):
    print("held", flush=True)
    sys.stdin.read()
"""


def ignore(_: str) -> None:
    """Nobody is told."""


def test_whoever_holds_the_lock_is_named_after_the_wait(tmp_path: Path) -> None:
    clock, said = ManualClock(), list[str]()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(StartError, match=f"process {holder.pid} is launching"),
            exclusive(tmp_path, wait_s=10.0, clock=clock, on_wait=said.append),
        ):
            raise AssertionError("two at once")
        assert clock.monotonic() >= 10.0
        assert said == [f"process {holder.pid} is launching or stopping the server; waiting for it"]
        holder.stdin.close()
        holder.wait()
    with exclusive(tmp_path, wait_s=0.0, clock=clock, on_wait=said.append):
        pass


def test_an_empty_state_directory_does_not_outlive_a_failed_launch(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with (
        pytest.raises(StartError, match="no luck"),
        exclusive(state, wait_s=0.0, clock=ManualClock(), on_wait=ignore),
    ):
        raise StartError("no luck")
    assert not state.exists()


def test_a_state_directory_that_existed_stays(tmp_path: Path) -> None:
    with exclusive(tmp_path, wait_s=0.0, clock=ManualClock(), on_wait=ignore):
        pass
    assert tmp_path.exists()


@pytest.mark.parametrize("place", ["/proc/none", "/dev/null", "/dev/null/state"])
def test_an_unusable_state_directory_is_named(place: str) -> None:
    with (
        pytest.raises(EnvironmentProblem, match=f"{place}: the state directory"),
        exclusive(Path(place), wait_s=0.0, clock=ManualClock(), on_wait=ignore),
    ):
        raise AssertionError("entered")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_the_first_signal_interrupts_and_the_next_ones_do_not_disturb_the_undoing(number: signal.Signals) -> None:
    def default(_number: int, _frame: object) -> None:
        raise AssertionError("nobody handled it")

    outside = signal.signal(number, default)  # under nohup SIGHUP comes in ignored
    undone = []
    with pytest.raises(Interrupted, match=number.name) as caught, interruptible():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            undone.append(True)
    assert undone == [True]
    assert caught.value.exit_code == 130
    assert signal.signal(number, outside) is default


def test_a_signal_that_nohup_has_turned_off_stays_off() -> None:
    outside = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, outside)
