"""
Passes on all threads one after another, or several at a time with few threads each.

A *wide* pass has all threads: the soonest way to one text. Threads that share a pass wait for each other at each of
its steps, so that several *narrow* passes at a time finish much work sooner. Which way a call goes is predicted from
measured costs of both; narrow only if its last pass ends sooner, so that nothing behind it starts later either.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


def after_wide(free_s: Sequence[float], passes_s: Sequence[float]) -> list[float]:
    """When each stream is free again if passes of all streams, taking `passes_s`, follow what they have."""
    return [max(free_s) + sum(passes_s)] * len(free_s)


def after_narrow(free_s: Sequence[float], passes_s: Sequence[float]) -> list[float]:
    """The same for passes of one stream each, each taken in turn by the stream that is free first."""
    free = list(free_s)
    for pass_s in passes_s:
        first = free.index(min(free))
        free[first] += pass_s
    return free


def narrow_is_sooner(free_s: Sequence[float], wide_s: Sequence[float], narrow_s: Sequence[float]) -> bool:
    """Do narrow passes end before wide ones would, and leave no stream busy for longer?"""
    return max(after_narrow(free_s, narrow_s)) < max(after_wide(free_s, wide_s))


class Streams:
    """`count` threads that run passes in the order in which they were handed over.

    A narrow pass takes one thread, a wide one waits until all are free, and holds up what comes after it.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[int], Any], int]] = deque()
        self._busy = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"infer_{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, act: Callable[[int], Result], *, narrow: bool) -> Future[Result]:
        """Have `act(number of the stream)` run; a future that is cancelled in time drops it."""
        future: Future[Result] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the streams are closed")
            self._waiting.append((future, act, 1 if narrow else self.count))
            self._changed.notify()
        return future

    @property
    def idle(self) -> bool:
        """Does nothing run, and nothing wait?"""
        return not (self._busy or self._waiting)

    def close(self) -> None:
        """Drop what waits, end when what runs has."""
        with self._changed:
            self._closed = True
            for future, _, _ in self._waiting:
                future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _startable(self) -> bool:
        return bool(self._waiting) and self._busy + self._waiting[0][2] <= self.count

    def _work(self, number: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._startable() or (self._closed and not self._waiting))
                if not self._waiting:
                    return
                future, act, needed = self._waiting.popleft()
                if not future.set_running_or_notify_cancel():
                    self._changed.notify_all()  # what was behind it may start, and the end may have come
                    continue
                self._busy += needed
                if self._startable():
                    self._changed.notify()
            try:
                result = act(number)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the pass
                self._done(needed)
                future.set_exception(error)
            else:
                self._done(needed)
                future.set_result(result)
            del future, act  # so that an idle thread holds no batch in memory

    def _done(self, needed: int) -> None:
        with self._changed:
            self._busy -= needed
            self._changed.notify_all() if self._closed else self._changed.notify()
