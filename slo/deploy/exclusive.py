"""
One launch or stop at a time per state directory, and a launch that undoes itself when it is interrupted.

While a process can be interrupted so, it is called `slo-launch` (as `ps -o comm` shows): a stop from elsewhere then
knows whom to tell, and one that was halted (Ctrl-Z, SIGSTOP) does not keep a server down for ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from slo.clock import Clock
from slo.deploy.machine import unwritable
from slo.deploy.state import halted
from slo.errors import EnvironmentProblem, Interrupted, StartError
from slo.files import locked, private_folder
from slo.tied import PR_GET_NAME, PR_SET_NAME, prctl

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NAME = b"slo-launch"
HALTED_S = 10.0  # a halted launch is left alone for so long: Ctrl-Z and `bg` come in a row
UNDO_S = 45.0  # what a launch that was told to end may take to undo itself
LAPSE_S = 5.0  # between two looks at who holds the lock


class Holder:
    """Whoever holds the lock of a state directory, looked at again and again by one who wants it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pid = 0
        self._looked_s = 0.0
        self._runs_s = 0.0  # when it was last seen not halted
        self._told_s: float | None = None

    @property
    def told(self) -> bool:
        """Was it told to end?"""
        return self._told_s is not None

    def look(self, lock: int, *, breaks_off: bool = False) -> int | None:
        """Its pid. A launch that was halted `HALTED_S` ago is told to undo itself; with `breaks_off`, any launch is."""
        pid, certain = _holder(lock)
        now_s = self._clock.monotonic()
        if pid != self._pid:
            self._pid, self._runs_s, self._told_s = pid, now_s, None
        if now_s - self._looked_s > LAPSE_S:  # nothing is known of the time since
            self._runs_s = now_s
        self._looked_s = now_s
        if not certain or not _launches(pid):
            return pid or None
        if not halted(pid):
            self._runs_s = now_s
        if self._told_s is None:
            if breaks_off or now_s - self._runs_s >= HALTED_S:
                self._told_s = now_s
                _signal(pid, signal.SIGTERM, signal.SIGCONT)
        elif now_s - self._told_s > UNDO_S:
            _signal(pid, signal.SIGKILL)
        return pid


@contextmanager
def exclusive(
    state_dir: Path,
    *,
    wait_s: float,
    clock: Clock,
    on_wait: Callable[[str], None],
    breaks_off: bool = False,
    holder: Holder | None = None,
) -> Iterator[bool]:
    """Hold the state directory alone. The lock is on the folder itself: nothing to clean up, gone with its process.

    Whoever holds it is waited for up to `wait_s`; then `StartError` names them. With `breaks_off`, a launch that holds
    it is told to undo itself, and waited for until it has; True inside if there was one. Who asks again and again
    without waiting hands in a `holder`, which remembers. A folder that had to be created disappears again if it is left
    empty.
    """
    created = not state_dir.exists()
    try:
        private_folder(state_dir)
        lock = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        reason = unwritable(state_dir) or error.strerror
        raise EnvironmentProblem(
            f"{state_dir}: the state directory cannot be used: {reason}", hint="set state_dir to another place"
        ) from error
    try:
        yield _acquire(lock, state_dir, wait_s, clock, on_wait, holder or Holder(clock), breaks_off=breaks_off)
    finally:
        os.close(lock)
        if created:
            with suppress(OSError):  # not empty: a launch has succeeded, or left a log to read
                state_dir.rmdir()


def _acquire(
    lock: int, state_dir: Path, wait_s: float, clock: Clock, on_wait: Callable[[str], None], holder: Holder, *,
    breaks_off: bool,
) -> bool:  # fmt: skip
    deadline_s = clock.monotonic() + wait_s
    told: int | None = 0
    broken_off = False
    while not locked(lock):
        pid = holder.look(lock, breaks_off=breaks_off)
        who = f"process {pid}" if pid else "another process"
        ends = breaks_off and holder.told
        broken_off = broken_off or ends
        if pid != told:
            deadline_s = max(deadline_s, clock.monotonic() + UNDO_S + 5.0) if ends else deadline_s
            on_wait(
                f"{who} is launching the server: it is told to undo that; waiting for it" if ends
                else f"{who} is launching or stopping the server; waiting for it"
            )  # fmt: skip
            told = pid
        if clock.monotonic() >= deadline_s:
            is_halted = pid is not None and halted(pid)
            raise StartError(
                f"{state_dir}: {who} is launching or stopping the server right now"
                + (", and was halted" if is_halted else ""),
                hint=f"kill -CONT {pid} lets it go on, kill {pid} ends it" if is_halted
                else "wait for it, or stop it with Ctrl-C",
            )  # fmt: skip
        clock.sleep(0.2)
    return broken_off


def _holder(lock: int) -> tuple[int, bool]:
    """The process that holds a lock on the open file `lock`, by the kernel's own list, 0 if it does not say.

    Some file systems show another device there than elsewhere; then it is not certain.
    """
    at = os.fstat(lock)
    exact = f"{os.major(at.st_dev):02x}:{os.minor(at.st_dev):02x}:{at.st_ino}"
    perhaps = 0
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5] == exact:
                return int(words[4]), True
            if len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(f":{at.st_ino}"):
                perhaps = int(words[4])
    return perhaps, False


def _launches(pid: int) -> bool:
    """Is it a process that undoes what it has done when it is told to end?"""
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().strip() == NAME
    except OSError:
        return False


def _signal(pid: int, *numbers: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        for number in numbers:
            os.kill(pid, number)


@contextmanager
def _named() -> Iterator[None]:
    """This thread, and so the process if it is its first one, under another name."""
    before = ctypes.create_string_buffer(16)
    with suppress(OSError, AttributeError):  # no Linux
        prctl(PR_GET_NAME, before)
        prctl(PR_SET_NAME, ctypes.c_char_p(NAME))
    try:
        yield
    finally:
        with suppress(OSError, AttributeError):
            prctl(PR_SET_NAME, before)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP inside into `Interrupted`; ignore the rest while that is handled."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers belong to the main thread; whoever embeds us there deals with signals
        return

    def interrupt(number: int, _: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(
            f"stopped by {signal.Signals(number).name}; what this run had started is undone", signal_number=number
        )

    before = {each: signal.getsignal(each) for each in SIGNALS}
    for each in SIGNALS:
        if before[each] is not signal.SIG_IGN:  # nohup has asked for that
            signal.signal(each, interrupt)
    try:
        with _named():
            yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler if handler is not None else signal.SIG_DFL)
