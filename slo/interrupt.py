"""
Ending a wait from outside: a hard wall bound, and a stop by SIGTERM or Ctrl-C within a moment.

Both raise from a signal handler, the one way to leave a blocking read in Python at once (a socket timeout bounds
each read, not their sum). Signals belong to the main thread; elsewhere `wall_limit` bounds nothing, and whoever
uses it checks the clock as well.

This module is the first that a command imports, so it imports little itself.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class TimeUp(BaseException):
    """The wall bound was reached. Not an `Exception`: no library may take it for one of its own."""


class StopRequested(BaseException):
    """SIGTERM or SIGINT arrived. Not an `Exception`, as above."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: whatever heeds Ctrl-C heeds it alike."""


def end_at_once() -> None:
    """From now on SIGINT and SIGTERM end this process with one line: for as long as there is nothing to undo.

    Importing a command takes a second or more, and an exception in the middle of it would be a traceback.
    """
    _handle(_leave)


@contextmanager
def ending(*, at_once: bool = False) -> Iterator[None]:
    """Inside, SIGINT raises KeyboardInterrupt and SIGTERM `Terminated`; or, `at_once`, as `end_at_once` has it."""
    before = _handle(_leave if at_once else _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Have both signals handled by `handler`, one that nohup or a shell has turned off apart; what there was before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return {number: signal.signal(number, handler) for number, was in found.items() if was is not signal.SIG_IGN}


def _leave(number: int, _frame: FrameType | None) -> None:
    os.write(2, b"stopped\n")
    os._exit(128 + number)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def wall_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeUp` in the block after `seconds`, whatever it waits for. A timer that ran before goes on after."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TimeUp

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    before, _ = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if before:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, before - (time.monotonic() - started)))


class StopSwitch:
    """Turns SIGTERM and SIGINT into `StopRequested`, but only inside `interruptible()`.

    Elsewhere the request waits, so that a line or a record being written is finished first. Use with `with`.
    """

    def __init__(self) -> None:
        self.requested = False
        self._open = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSwitch:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        return kind is StopRequested

    def stop(self) -> None:
        """Ask for the stop."""
        self.requested = True
        if self._open:
            self._open = False  # raise once: the clean-up on the way out is not interrupted again
            raise StopRequested

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self.stop()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that a stop may leave at any point."""
        self._open = True
        try:
            if self.requested:
                raise StopRequested
            yield
        finally:
            self._open = False
