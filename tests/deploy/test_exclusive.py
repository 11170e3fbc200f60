"""One launch at a time, and a launch that is interrupted says so once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slo.clock import ManualClock, SystemClock
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

# A launch, as far as others can see it.
LAUNCH = """
import sys
from pathlib import Path
from slo.clock import SystemClock
from slo.deploy.exclusive import exclusive, interruptible
from slo.errors import Interrupted
try:
    with interruptible(), exclusive(Path(sys.argv[1]), wait_s=0.0, clock=SystemClock(), on_wait=print):
        print("held", flush=True)
        sys.stdin.read()
except Interrupted as stop:
    print("undone", flush=True)
    sys.exit(stop.exit_code)
"""


@contextmanager
def launching(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that launches something in `folder` for as long as nobody stops it."""
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


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
    assert caught.value.exit_code == 128 + number
    assert signal.signal(number, outside) is default


def test_a_signal_that_nohup_has_turned_off_stays_off() -> None:
    outside = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, outside)


@pytest.mark.parametrize("is_halted", [False, True], ids=["at work", "halted"])
def test_a_stop_has_a_launch_undone_first(tmp_path: Path, is_halted: bool) -> None:
    said = list[str]()
    with launching(tmp_path) as launch:
        if is_halted:
            launch.send_signal(signal.SIGSTOP)
        with exclusive(tmp_path, wait_s=0.0, clock=SystemClock(), on_wait=said.append, breaks_off=True) as broken_off:
            assert broken_off
        assert launch.stdout is not None
        assert launch.stdout.read() == b"undone\n"
        assert launch.wait() == 128 + signal.SIGTERM
    assert said == [f"process {launch.pid} is launching the server: it is told to undo that; waiting for it"]


def test_whoever_is_not_launching_is_waited_for_but_not_told_to_end(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        with (
            pytest.raises(StartError, match=r"and was halted\n  → kill -CONT"),
            exclusive(tmp_path, wait_s=99.0, clock=ManualClock(), on_wait=ignore, breaks_off=True),
        ):
            raise AssertionError("two at once")
        assert holder.poll() is None
        holder.send_signal(signal.SIGCONT)
        holder.stdin.close()


def test_a_halted_launch_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slo.deploy.exclusive.HALTED_S", 0.5)
    with launching(tmp_path) as launch:
        launch.send_signal(signal.SIGSTOP)
        with exclusive(tmp_path, wait_s=60.0, clock=SystemClock(), on_wait=ignore):
            pass
        assert launch.wait() == 128 + signal.SIGTERM


def test_a_launch_that_cannot_undo_itself_is_killed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slo.deploy.exclusive.UNDO_S", 0.5)
    with launching(tmp_path) as launch:
        os.kill(launch.pid, signal.SIGSTOP)
        monkeypatch.setattr("slo.deploy.exclusive._signal", lambda pid, *numbers: os.kill(pid, numbers[0]))  # no CONT
        with exclusive(tmp_path, wait_s=60.0, clock=SystemClock(), on_wait=ignore, breaks_off=True):
            pass
        assert launch.wait() == -signal.SIGKILL
