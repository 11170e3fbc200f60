"""One launch or stop at a time per state directory, and a launch that undoes itself when it is interrupted."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from slo.clock import Clock
from slo.deploy.machine import unwritable
from slo.errors import EnvironmentProblem, Interrupted, StartError
from slo.files import locked, private_folder

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def exclusive(state_dir: Path, *, wait_s: float, clock: Clock, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the state directory alone. The lock is on the folder itself: nothing to clean up, gone with its process.

    Whoever holds it is waited for up to `wait_s`; then `StartError` names them. A folder that had to be created
    disappears again if it is left empty.
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
        _acquire(lock, state_dir, wait_s, clock, on_wait)
        yield
    finally:
        os.close(lock)
        if created:
            with suppress(OSError):  # not empty: a launch has succeeded, or left a log to read
                state_dir.rmdir()


def _acquire(lock: int, state_dir: Path, wait_s: float, clock: Clock, on_wait: Callable[[str], None]) -> None:
    deadline_s = clock.monotonic() + wait_s
    waiting = False
    while not locked(lock):
        pid = _holder(lock)
        who = f"process {pid}" if pid else "another process"
        if clock.monotonic() >= deadline_s:
            raise StartError(
                f"{state_dir}: {who} is launching or stopping the server right now",
                hint="wait for it, or stop it with Ctrl-C",
            )
        if not waiting:
            on_wait(f"{who} is launching or stopping the server; waiting for it")
            waiting = True
        clock.sleep(0.2)


def _holder(lock: int) -> int | None:
    """The process that holds a lock on the open file `lock`, by the kernel's own list."""
    inode = os.fstat(lock).st_ino
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
                return int(words[4])
    return None


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP inside into `Interrupted`; ignore the rest while that is handled."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers belong to the main thread; whoever embeds us there deals with signals
        return

    def interrupt(number: int, _: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(f"stopped by {signal.Signals(number).name}; what this run had started is undone")

    before = {each: signal.getsignal(each) for each in SIGNALS}
    for each in SIGNALS:
        if before[each] is not signal.SIG_IGN:  # nohup has asked for that
            signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler if handler is not None else signal.SIG_DFL)
