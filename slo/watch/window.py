"""
A sliding window over the last checks: counts are added, percentiles come from the values themselves.

Age is measured on the monotonic clock, so that a corrected wall clock neither empties the window nor keeps it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from slo.objective import Judgement, Objective, judge
from slo.stats import nearest_rank


@dataclass(frozen=True, slots=True)
class Batch:
    """What one check counted, at `at_s` on the monotonic clock. A failure has infinite latency."""

    at_s: float
    good: int
    latencies_ms: Sequence[float]

    @property
    def total(self) -> int:
        return len(self.latencies_ms)


class Window:
    """The checks of the last `length_s`; with one every `interval_s`, always the same number of them."""

    def __init__(self, *, length_s: float, interval_s: float) -> None:
        # Half an interval of slack: a check that starts some milliseconds early must not make it six of five.
        self._keep_s = max(length_s - interval_s / 2, interval_s / 2)
        self._batches: deque[Batch] = deque()

    def add(self, batch: Batch) -> None:
        """Count `batch`, and forget what is too old by then."""
        self._batches.append(batch)
        self.forget(batch.at_s)

    def forget(self, now_s: float) -> None:
        """Drop what is older than the window at `now_s`."""
        while self._batches and now_s - self._batches[0].at_s > self._keep_s:
            self._batches.popleft()

    def judgement(self, objective: Objective) -> Judgement:
        """The verdict over everything in the window."""
        return judge(sum(b.good for b in self._batches), sum(b.total for b in self._batches), objective)

    def latency_ms(self, quantile: float) -> float:
        """Nearest-rank percentile over everything in the window; NaN when it is empty."""
        return nearest_rank(sorted(value for b in self._batches for value in b.latencies_ms), quantile)
