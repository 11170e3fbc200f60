"""
What if the objective had been another? Answered from the stored histograms, in moments.

How many requests were within a limit is known exactly where the limit is an edge of the histogram. Elsewhere the two
edges around it bound the answer, and the figure between them is linear interpolation: a guess, shown as one. Failures
are bad under any limit.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from slo.objective import Objective
from slo.stats import Histogram
from slo.watch.budget.budget import consumed
from slo.watch.model.counts import Counts, Minute, matching_edge


@dataclass(frozen=True, slots=True)
class Within:
    """Requests within a limit: at least `low`, at most `high`, by interpolation `guess`; all equal when exact."""

    low: int
    guess: float
    high: int

    def __add__(self, other: Within) -> Within:
        return Within(self.low + other.low, self.guess + other.guess, self.high + other.high)


def within(histogram: Histogram, limit_s: float) -> Within:
    """How many were ≤ `limit_s`."""
    edge = matching_edge(histogram.edges_s, limit_s * 1000)
    if edge is not None:
        exact = histogram.within(edge)
        return Within(exact, exact, exact)
    place = bisect_left(histogram.edges_s, limit_s)
    low, inside = sum(histogram.counts[:place]), histogram.counts[place]
    if place == len(histogram.edges_s):  # beyond the last edge nothing bounds how long an answer took
        return Within(low, low, low + inside)
    below = histogram.edges_s[place - 1] if place else 0.0
    return Within(low, low + inside * (limit_s - below) / (histogram.edges_s[place] - below), low + inside)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The period under another objective. `windows` are five-minute windows: good for sure, undecided, bad for sure."""

    objective: Objective
    start_s: float
    end_s: float
    good: Within
    total: int
    failed: int
    windows: tuple[int, int, int]
    sources: dict[str, int]

    @property
    def exact(self) -> bool:
        return self.good.low == self.good.high

    @property
    def attainment(self) -> tuple[float, float, float]:
        """Share of good requests: lower bound, guess, upper bound; NaN without requests."""
        if not self.total:
            return math.nan, math.nan, math.nan
        return self.good.low / self.total, self.good.guess / self.total, self.good.high / self.total

    @property
    def consumed(self) -> tuple[float, float]:
        """Share of the budget spent: at least, at most."""
        budget = self.objective.budget
        return (
            consumed(Counts(self.good.high, self.total), budget),
            consumed(Counts(self.good.low, self.total), budget),
        )

    @property
    def met(self) -> bool | None:
        """Would it have been met? None when the bounds do not decide, and without requests."""
        low, _, high = self.attainment
        if low >= self.objective.target:
            return True
        return False if high < self.objective.target else None


def replay(minutes: Iterable[Minute], objective: Objective, *, start_s: float, end_s: float) -> Replay:
    """The stored slices, held against `objective`. Windows are non-overlapping five minutes from `start_s`."""
    good, total, failed = Within(0, 0, 0), 0, 0
    sources: dict[str, int] = {}
    windows: dict[int, tuple[Within, int]] = {}
    for minute in minutes:
        found = within(minute.histogram, objective.threshold_s)
        good, total = good + found, total + minute.total
        failed += sum(minute.failures.values())
        sources[minute.source] = sources.get(minute.source, 0) + minute.total
        key = int(minute.start_s - start_s) // 300
        before, number = windows.get(key, (Within(0, 0, 0), 0))
        windows[key] = before + found, number + minute.total
    verdicts = [_verdict(found, number, objective) for found, number in windows.values() if number]
    return Replay(
        objective=objective,
        start_s=start_s,
        end_s=end_s,
        good=good,
        total=total,
        failed=failed,
        windows=(verdicts.count(True), verdicts.count(None), verdicts.count(False)),
        sources=sources,
    )


def _verdict(found: Within, total: int, objective: Objective) -> bool | None:
    # As counts: a share of exactly the target is met, whatever the last bit of a quotient says.
    needed = objective.target * total - 1e-9
    if found.low >= needed:
        return True
    return False if found.high < needed else None
