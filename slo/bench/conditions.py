"""
The conditions under which a load runs: a fast event loop, no collector pauses, first call on a core, Ctrl-C heeded.

An exception in a callback ends the run as a `RunError` instead of being logged by the loop and forgotten. The first
Ctrl-C (or SIGTERM) only asks the run to end, so that what was measured is reported; the second one kills it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop

from slo.errors import RunError

T = TypeVar("T")
NICENESS = -15
SAME_SIGNAL_S = 1.0  # `timeout`, make and terminals may deliver one Ctrl-C twice
REAL_TIME = 1  # the lowest real-time priority


class Stopper:
    """Whether the user wants the run to end."""

    requested = False

    def ask(self) -> None:
        """End soon, with a report."""
        self.requested = True


def run_load(main: Callable[[Stopper], Awaitable[T]], stopper: Stopper | None = None) -> T:
    """The result of `main(stopper)`, run under the conditions above."""
    stopper = stopper or Stopper()
    failures: list[BaseException] = []

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        work = asyncio.ensure_future(main(stopper))

        def on_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if error is not None and not isinstance(error, OSError):  # a broken connection ends its request, no more
                failures.append(error)
                work.cancel()

        loop.set_exception_handler(on_error)
        with heeding_signals(loop, stopper):
            try:
                return await work
            except asyncio.CancelledError:
                if failures:
                    raise RunError(f"the load generator failed: {failures[0]!r}") from failures[0]
                raise

    with quiet_collector(), raised_priority():
        result: T = uvloop.run(guarded())
    return result


@contextmanager
def heeding_signals(loop: asyncio.AbstractEventLoop, stopper: Stopper) -> Iterator[None]:
    """SIGINT and SIGTERM ask `stopper` once; after that they do what they always did."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)

    def restore() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    def heed() -> None:
        if not stopper.requested:
            loop.call_later(SAME_SIGNAL_S, restore)
        stopper.ask()

    for number in signals:
        loop.add_signal_handler(number, heed)
    try:
        yield
    finally:
        restore()


@contextmanager
def quiet_collector() -> Iterator[None]:
    """No garbage collection meanwhile: a collection would stop sending for milliseconds."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


@contextmanager
def raised_priority() -> Iterator[None]:
    """Where it is allowed, ahead of everything else on a shared core: real callers have cores of their own.

    Under real-time priority requests leave within a millisecond of their due time on a machine that is otherwise
    busy; without it they would wait for the very server that they measure. The self-check caps the CPU time used.
    """
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(REAL_TIME))
    except PermissionError:
        with _niced():
            yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)


@contextmanager
def _niced() -> Iterator[None]:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, min(before, NICENESS))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def priority_name() -> str:
    """`real-time`, `raised` or `normal`: how this process is scheduled now."""
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
        return "real-time"
    return "raised" if os.getpriority(os.PRIO_PROCESS, 0) < 0 else "normal"
