"""
When a check may stop: planned looks at the count of bad probes, with the error spent across them.

Looking after every probe and stopping at the first good-looking count would prove anything sooner or later. So the
looks are fixed beforehand, and the risk α = 1 − confidence of a wrong "met" is divided among them (alpha spending):

* Look k stops with *met* when at most m_k probes were bad. m_k is the largest count for which the probability of
  stopping there, having passed all looks before, stays within the share of α that is left, computed exactly from
  the binomial distribution with a bad share of just 1 − target. A worse service stops there more rarely still, so
  a service that misses its objective is called met with probability α at most.
* *Missed* is the mirror image, with its own α. Each side ignores that the other could have stopped earlier, which
  only makes the true error smaller.

Most of α goes to the first look, because a healthy server is the usual case and should be proven at once: for P95
at 95 % confidence 60 clean probes suffice (0.95⁶⁰ = 0.046). What is left pays for three later looks, where a
service with a few slow answers among many can still be proven.

The theory wants independent probes. Neighbours in time are not quite that, so nothing is called missed before
`EARLIEST_MISS` probes: one stall of a second or two must not be an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from slo.objective import Objective, Verdict
from slo.stats import binomial_cdf

FIRST_SHARE = 0.93  # of the error of a wrong "met", for the first look: 60 clean probes at P95
GROWTH = (1.0, 2.5, 5.0, 10.0)  # sizes of the looks, as multiples of the first
EARLIEST_MISS = 20
_NEGLIGIBLE = 1e-15


@dataclass(frozen=True, slots=True)
class Look:
    """After `probes`: met with `met_at_most` bad or fewer (−1: never), missed with `missed_at_least` or more."""

    probes: int
    met_at_most: int
    missed_at_least: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The looks in order. `late_alpha` is the error kept for a check that runs out of time between looks."""

    objective: Objective
    looks: tuple[Look, ...]
    late_alpha: float

    @property
    def most(self) -> int:
        """Probes after which no look is left."""
        return self.looks[-1].probes

    def verdict(self, bad: int, total: int) -> Verdict | None:
        """The verdict if `total` is a look that decides; None to go on, unproven after the last look."""
        for look in self.looks:
            if look.probes == total:
                if bad <= look.met_at_most:
                    return Verdict.MET
                if bad >= look.missed_at_least:
                    return Verdict.MISSED
        return Verdict.UNPROVEN if total >= self.most else None

    def out_of_time(self, bad: int, total: int) -> Verdict:
        """Missed if `bad` of `total` proves it within the error kept for this, else unproven."""
        tail = 1 - binomial_cdf(bad - 1, total, self.objective.budget)
        return Verdict.MISSED if bad and tail <= self.late_alpha else Verdict.UNPROVEN


def make_plan(objective: Objective) -> Plan:
    """The plan for `objective`; its first look needs only clean probes to be met."""
    alpha = 1 - objective.confidence
    first = math.ceil(math.log(FIRST_SHARE * alpha) / math.log1p(-objective.budget))
    sizes = [math.ceil(first * factor) for factor in GROWTH]
    later = alpha * (1 - FIRST_SHARE) / (len(sizes) - 1)
    met = _met_bounds(sizes, [alpha * FIRST_SHARE, *[later] * (len(sizes) - 1)], objective.budget)
    early = sorted({size for size in (EARLIEST_MISS,) if size < first})
    steps = [*early, *sizes]
    share = alpha / (len(steps) + 1)
    missed = _missed_bounds(steps, [share] * len(steps), objective.budget)
    looks = [Look(size, -1, bound) for size, bound in zip(early, missed, strict=False)]
    for size, good_bound, bad_bound in zip(sizes, met, missed[len(early) :], strict=True):
        looks.append(Look(size, good_bound, bad_bound if size >= EARLIEST_MISS else size + 1))
    return Plan(objective, tuple(looks), share)


def _met_bounds(sizes: Sequence[int], shares: Sequence[float], bad_share: float) -> list[int]:
    """Per look the largest count that may stop there; a share left unused passes on to the next look."""
    running, taken, left, bounds = {0: 1.0}, 0, 0.0, []
    for size, share in zip(sizes, shares, strict=True):
        running = _after(running, size - taken, bad_share)
        taken, left, bound = size, left + share, -1
        for count in sorted(running):
            if running[count] > left:
                break
            left -= running.pop(count)
            bound = count
        bounds.append(bound)
    return bounds


def _missed_bounds(sizes: Sequence[int], shares: Sequence[float], bad_share: float) -> list[int]:
    """Per look the smallest count that may stop there."""
    running, taken, left, bounds = {0: 1.0}, 0, 0.0, []
    for size, share in zip(sizes, shares, strict=True):
        running = _after(running, size - taken, bad_share)
        taken, left, bound = size, left + share, size + 1
        for count in sorted(running, reverse=True):
            if running[count] > left:
                break
            left -= running.pop(count)
            bound = count
        bounds.append(bound)
    return bounds


def _after(running: dict[int, float], probes: int, bad_share: float) -> dict[int, float]:
    """Distribution of the bad count after `probes` more; terms below 1e-15 are left out."""
    steps = [(k, p) for k in range(probes + 1) if (p := _pmf(k, probes, bad_share)) > _NEGLIGIBLE]
    result: dict[int, float] = {}
    for count, weight in running.items():
        for more, p in steps:
            result[count + more] = result.get(count + more, 0.0) + weight * p
    return result


def _pmf(k: int, n: int, p: float) -> float:
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(choose + k * math.log(p) + (n - k) * math.log1p(-p))
