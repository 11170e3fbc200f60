"""
Exact counts and a fine histogram of latencies, for runs too long to keep every sample.

Counts (total, good, failures by outcome) are exact, so verdicts are. Percentiles come from log-spaced bins of 1 %
width: at most 0.5 % off, for display only. Failures stand above every bin. Tallies add.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slo.objective import Objective, judge
from slo.samples import Sample, Summary
from slo.stats import rank, rank_interval

_STEP = math.log(1.01)
_LEAST_MS = 0.01


@dataclass(kw_only=True)
class Tally:
    """Counts of the samples it was shown; `bins` maps a bin index to its count of answered requests."""

    total: int = 0
    good: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    bins: Counter[int] = field(default_factory=Counter)
    sum_ms: float = 0.0
    max_ms: float = 0.0

    def count(self, sample: Sample, objective: Objective) -> None:
        """Count one sample."""
        self.total += 1
        if not sample.ok:
            self.failed[sample.outcome] += 1
            return
        latency = sample.latency_ms
        self.good += latency <= objective.threshold_ms
        self._bin(latency)

    def observe(self, milliseconds: float) -> None:
        """Count a duration that no objective is held against."""
        self.total += 1
        self._bin(milliseconds)

    def _bin(self, milliseconds: float) -> None:
        self.bins[math.floor(math.log(max(milliseconds, _LEAST_MS) / _LEAST_MS) / _STEP)] += 1
        self.sum_ms += milliseconds
        self.max_ms = max(self.max_ms, milliseconds)

    def add(self, other: Tally) -> None:
        """Count all that `other` counted."""
        self.total += other.total
        self.good += other.good
        self.failed += other.failed
        self.bins += other.bins
        self.sum_ms += other.sum_ms
        self.max_ms = max(self.max_ms, other.max_ms)

    @property
    def answered(self) -> int:
        return self.total - self.failed.total()

    def quantile_ms(self, q: float) -> float:
        """Nearest rank over all requests, failures being infinite; within 0.5 %; NaN when empty."""
        return self.at_rank(rank(self.total, q)) if self.total else math.nan

    def at_rank(self, position: int) -> float:
        """The `position`-th smallest latency in ms; 0 below the first, infinite above the last answered one."""
        if position < 1:
            return 0.0
        below = 0
        for index in sorted(self.bins):
            below += self.bins[index]
            if below >= position:
                return min(self.max_ms, _LEAST_MS * math.exp((index + 0.5) * _STEP))
        return math.inf

    def summary(self, name: str, objective: Objective, *, weight: float = 1.0) -> Summary:
        """The same figures that `summarize` gives over samples."""
        low, high = rank_interval(self.total, 0.95, weight=weight)
        return Summary(
            name=name,
            total=self.total,
            failed=self.failed.total(),
            p50_ms=self.quantile_ms(0.50),
            p95_ms=self.quantile_ms(0.95),
            p95_low_ms=self.at_rank(low),
            p95_high_ms=self.at_rank(high) if high <= self.total else math.inf,
            p99_ms=self.quantile_ms(0.99),
            max_ms=math.inf if self.failed else self.max_ms if self.total else math.nan,
            mean_ms=self.sum_ms / self.answered if self.answered else math.nan,
            judgement=judge(self.good, self.total, objective),
            answered_p50_ms=self._answered_ms(0.50),
            answered_p95_ms=self._answered_ms(0.95),
            answered_p99_ms=self._answered_ms(0.99),
            answered_max_ms=self.max_ms if self.answered else math.nan,
        )

    def _answered_ms(self, q: float) -> float:
        return self.at_rank(rank(self.answered, q)) if self.answered else math.nan

    def within(self, threshold_ms: float) -> tuple[int, int]:
        """Fewest and most of those that were answered within `threshold_ms`, as far as the bins tell."""
        edge = math.log(max(threshold_ms, _LEAST_MS) / _LEAST_MS) / _STEP
        low, high = math.floor(edge - 1e-6), math.floor(edge + 1e-6)
        return (
            sum(count for index, count in self.bins.items() if index < low),
            sum(count for index, count in self.bins.items() if index <= high),
        )

    def sum_beyond(self, threshold_ms: float) -> float:
        """Sum in ms of what stands in bins above that of `threshold_ms`; within 0.5 %."""
        edge = math.floor(math.log(max(threshold_ms, _LEAST_MS) / _LEAST_MS) / _STEP)
        return math.fsum(n * _LEAST_MS * math.exp((i + 0.5) * _STEP) for i, n in self.bins.items() if i > edge)

    def at_edge(self, threshold_ms: float) -> int:
        """How many stand in the bin of `threshold_ms`."""
        return self.bins[math.floor(math.log(max(threshold_ms, _LEAST_MS) / _LEAST_MS) / _STEP)]

    def to_json(self) -> dict[str, Any]:
        """Plain data; `bins` as `[index, count]` pairs."""
        return {
            "total": self.total, "good": self.good, "failed": dict(self.failed),
            "bins": sorted(self.bins.items()), "sum_ms": self.sum_ms, "max_ms": self.max_ms,
        }  # fmt: skip


def summaries_of(classes: Mapping[str, Tally], objective: Objective, *, weight: float = 1.0) -> list[Summary]:
    """Per class, then overall where there are several; `weight` as in `summarize`."""
    parts = [tally.summary(name, objective, weight=weight) for name, tally in classes.items()]
    if len(parts) < 2:
        return parts
    whole = Tally()
    for tally in classes.values():
        whole.add(tally)
    return [*parts, whole.summary("overall", objective, weight=weight)]


def tally_from_json(data: dict[str, Any]) -> Tally:
    """The tally that `to_json` described."""
    return Tally(
        total=data["total"], good=data["good"], failed=Counter(data["failed"]),
        bins=Counter(dict(data["bins"])), sum_ms=data["sum_ms"], max_ms=data["max_ms"],
    )  # fmt: skip
