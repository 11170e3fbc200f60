"""
The store, and what could not be stored yet: one view of the counts, whatever the disk does.

A round whose counts cannot be written keeps them in memory, at most two hours' worth, and tries again with the next
one. Windows are summed over both, so that alerts go on while the disk is full. Reads that fail count as nothing
stored: what is in memory is then all there is. A file that turns out to be damaged is set aside, and a new one begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from slo.errors import StoreError
from slo.stats import Histogram
from slo.watch.history.store import Store
from slo.watch.model.counts import Counts, Minute
from slo.watch.model.objectives import Goal

KEPT_ROUNDS = 120


class BufferedHistory:
    """Counts of one set of goals."""

    def __init__(self, store: Store, goals: Sequence[Goal]) -> None:
        self.store = store
        self.goals = tuple(goals)
        self.problem = ""
        self.renewed = store.set_aside is not None  # since the last round: its file was damaged
        self._waiting: deque[tuple[tuple[Minute, ...], bool]] = deque(maxlen=KEPT_ROUNDS)

    def add(self, minutes: Sequence[Minute], *, maintenance: bool, also: Callable[[], None] = lambda: None) -> None:
        """Store the round, all that waited, and what `also` writes, or none of it: then keep it and set `problem`."""
        if minutes:
            self._waiting.append((tuple(minutes), maintenance))
        try:
            if self.store.damaged:
                self._renew()
            try:
                self._write(also)
            except StoreError:
                if not self.store.damaged:
                    raise
                self._renew()
                self._write(also)
        except StoreError as error:
            self.problem = str(error)
        else:
            self._waiting.clear()
            self.problem = ""

    def _write(self, also: Callable[[], None]) -> None:
        with self.store.transaction():
            for waiting, excused in self._waiting:
                self.store.record(waiting, self.goals, maintenance=excused)
            also()

    def _renew(self) -> None:
        self.store.renew()
        self.renewed = True

    def counts(self, goal: Goal, start_s: float, end_s: float, *, with_maintenance: bool = False) -> Counts:
        """Good and total in `[start_s, end_s)`."""
        found = Counts()
        try:
            found = self.store.counts(goal.event, start_s, end_s, with_maintenance=with_maintenance)
        except StoreError as error:
            self.problem = self.problem or str(error)
        for minute in self._unstored(start_s, end_s, with_maintenance=with_maintenance):
            found += minute.counts(goal) or Counts()
        return found

    def latencies(self, start_s: float, end_s: float) -> tuple[Histogram, int]:
        """Latencies of correct answers in the window, and how many requests brought none.

        Only slices with the edges of the newest one: histograms with different edges do not add.
        """
        minutes = self._unstored(start_s, end_s, with_maintenance=True)
        try:
            minutes = [*self.store.minutes(start_s, end_s, with_maintenance=True), *minutes]
        except StoreError as error:
            self.problem = self.problem or str(error)
        if not minutes:
            return Histogram(), 0
        total = Histogram(minutes[-1].histogram.edges_s)
        alike = [minute for minute in minutes if minute.histogram.edges_s == total.edges_s]
        for minute in alike:
            total.add(minute.histogram)
        return total, sum(sum(minute.failures.values()) for minute in alike)

    def sources(self, start_s: float, end_s: float) -> dict[str, int]:
        """Requests in the window by source."""
        found: dict[str, int] = {}
        minutes = self._unstored(start_s, end_s, with_maintenance=True)
        try:
            minutes = [*self.store.minutes(start_s, end_s, with_maintenance=True), *minutes]
        except StoreError as error:
            self.problem = self.problem or str(error)
        for minute in minutes:
            found[minute.source] = found.get(minute.source, 0) + minute.total
        return found

    def _unstored(self, start_s: float, end_s: float, *, with_maintenance: bool) -> list[Minute]:
        return [
            minute
            for minutes, excused in self._waiting
            for minute in minutes
            if start_s <= minute.start_s < end_s and (with_maintenance or not excused)
        ]
