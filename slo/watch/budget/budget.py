"""
Error budget arithmetic; pure. T is the target, B = 1 − T the budget as a share of requests (Google SRE Workbook, 5).

* attainment   good / total
* burn rate    b(w) = (bad/total over w) / B; 1 spends exactly the budget in one period, 1/B is the most there is
* consumed     bad in period / (B · total in period); may exceed 1
* remaining    1 − consumed; negative once overspent
* exhaustion   remaining · period / b(w), at constant traffic; never, when b(w) ≤ 1: a rolling period then forgets
               bad requests at least as fast as new ones come

All from counts; a percentage is never stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from slo.watch.budget.period import Period
from slo.watch.model.counts import Counts, Slices
from slo.watch.model.objectives import Goal


def attainment(counts: Counts) -> float:
    """Share of good requests; NaN without any."""
    return counts.good / counts.total if counts.total else math.nan


def burn_rate(counts: Counts, budget: float) -> float:
    """How many times faster than allowed the budget goes; NaN without requests."""
    return counts.bad_ratio / budget


def consumed(counts: Counts, budget: float) -> float:
    """Share of the period's budget that is spent: 0 untouched, 1 spent, above 1 overspent. 0 without requests."""
    return counts.bad / (budget * counts.total) if counts.total else 0.0


def exhaustion_s(remaining: float, period_s: float, burn: float) -> float:
    """Seconds until nothing is left at this burn rate: 0 when spent, infinite when it will not be."""
    if remaining <= 0:
        return 0.0
    if math.isnan(burn) or burn <= 1:
        return math.inf
    return remaining * period_s / burn


def may_still_fail(counts: Counts, budget: float, expected: float) -> int:
    """Requests that may still be bad among the `expected` next ones, with the whole then exactly within budget."""
    # 1e-9: 0.05 · 100 is 5.000000000000001 on some paths and 4.999… on others; a whole request is meant.
    return max(0, math.floor(budget * (counts.total + expected) - counts.bad + 1e-9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One goal's budget in one period. `recent` are the counts from which the present burn rate is taken.

    `counts` leave maintenance out, `with_maintenance` holds everything: both are reported. `observed_s` is how much of
    the period the history covers: a budget seen for an hour swings more than one seen for a month.
    """

    goal: Goal
    period: Period
    counts: Counts
    with_maintenance: Counts
    recent: Counts
    slices: Slices = field(default_factory=Slices)
    observed_s: float = 0.0
    expected_today: float = 0.0

    @property
    def attainment(self) -> float:
        return attainment(self.counts)

    @property
    def burn(self) -> float:
        return burn_rate(self.recent, self.goal.budget)

    @property
    def consumed(self) -> float:
        return consumed(self.counts, self.goal.budget)

    @property
    def remaining(self) -> float:
        return 1 - self.consumed

    @property
    def remaining_with_maintenance(self) -> float:
        return 1 - consumed(self.with_maintenance, self.goal.budget)

    @property
    def remaining_s(self) -> float:
        """What is left, as seconds of total outage at even traffic: 30 d at 95 % start with 36 h."""
        return max(0.0, self.remaining) * self.goal.budget * self.period.length_s

    @property
    def exhaustion_s(self) -> float:
        return exhaustion_s(self.remaining, self.period.length_s, self.burn)

    @property
    def may_still_fail_today(self) -> int:
        """Requests that may be bad until midnight, if traffic goes on as in the last day."""
        return may_still_fail(self.counts, self.goal.budget, self.expected_today)

    def __str__(self) -> str:
        return (
            f"{self.goal}: {self.counts.good}/{self.counts.total} good, "
            f"{self.remaining:.1%} of the {self.period} budget left, burning at {self.burn:.2f}×"
        )
