"""
Has it settled, and does it stay so? Trends in block means, with an interval that knows of autocorrelation.

A trend is the least-squares line through means of equal blocks. Its standard error is widened by √((1+r)/(1−r)),
where r is the lag-1 autocorrelation of the residuals, since queue lengths remember; its interval is Student's. A
warm-up is over when the later half of its blocks shows no trend. A run drifts when both its in-flight count and its
latency rise beyond doubt and by much: then the rate exceeds the capacity, every percentile depends on the run's
length, and there is no number to report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, fmean

from slo.sentences import say

LEAST_BLOCKS = 6
SETTLED_RISE = 0.25  # of the mean, across the later half of the warm-up, if it is not significant
FLAT_RISE = 0.10  # … and if it is
DRIFT_RISE = 0.5  # of the mean, across the whole run
DRIFT_CONFIDENCE = 0.99


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Change from the first to the last block as the fitted line has it, with its interval; `mean` for scale."""

    rise: float
    low: float
    high: float
    mean: float

    @property
    def significant(self) -> bool:
        """Does the interval leave out zero?"""
        return self.low > 0 or self.high < 0

    @property
    def relative(self) -> float:
        """Rise as a share of the mean; 0 for a mean of 0."""
        return self.rise / self.mean if self.mean else 0.0


def trend(values: Sequence[float], confidence: float = 0.95) -> Trend:
    """The trend of block means. With fewer than 3 values nothing is known: the interval is infinite."""
    n = len(values)
    mean = fmean(values) if n else math.nan
    if n < 3:
        return Trend(rise=0.0, low=-math.inf, high=math.inf, mean=mean)
    centre = (n - 1) / 2
    spread = sum((i - centre) ** 2 for i in range(n))
    slope = sum((i - centre) * value for i, value in enumerate(values)) / spread
    residuals = [value - mean - slope * (i - centre) for i, value in enumerate(values)]
    squares = sum(r * r for r in residuals)
    if squares <= 1e-24 * max(1.0, mean * mean):
        low = high = slope
    else:
        lag1 = sum(a * b for a, b in pairwise(residuals)) / squares
        lag1 = min(0.95, max(0.0, lag1 + (1 + 4 * lag1) / n))  # small samples underrate it (Kendall 1954)
        variance = squares / (n - 2) / spread * (1 + lag1) / (1 - lag1)
        half = student(confidence, n - 2) * math.sqrt(variance)
        low, high = slope - half, slope + half
    return Trend(rise=slope * (n - 1), low=low * (n - 1), high=high * (n - 1), mean=mean)


def student(confidence: float, freedom: float) -> float:
    """Two-sided Student quantile. Exact for 1 and 2 degrees of freedom, else Hill's expansion (below 1 % off)."""
    tail = (1 - confidence) / 2
    if freedom < 2:
        return 1 / math.tan(math.pi * tail)
    if freedom < 3:
        p = 1 - tail
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    z = NormalDist().inv_cdf(1 - tail)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (i + 1) for i, term in enumerate(terms))


def settled(values: Sequence[float]) -> bool:
    """Is a warm-up with these block means over? The later half (at least six) must be free of a trend."""
    if len(values) < LEAST_BLOCKS:
        return False
    later = trend(values[-max(LEAST_BLOCKS, len(values) // 2) :])
    return abs(later.relative) <= (FLAT_RISE if later.significant else SETTLED_RISE)


def drift(in_flight: Sequence[float], latency: Sequence[float]) -> str | None:
    """Why a run counts as drifting, from its per-second in-flight counts and latencies; None if it does not.

    Needs ten seconds; both must rise significantly and by at least half of their mean.
    """
    if min(len(in_flight), len(latency)) < 10:
        return None
    queue, wait = (trend(blocks(values, 20), DRIFT_CONFIDENCE) for values in (in_flight, latency))
    if not (_rises(queue) and _rises(wait) and queue.rise >= 1):
        return None
    return say(
        "growing",
        first=f"{queue.mean - queue.rise / 2:.0f}",
        last=f"{queue.mean + queue.rise / 2:.0f}",
        from_ms=f"{max(0.0, wait.mean - wait.rise / 2):.0f}",
        to_ms=f"{wait.mean + wait.rise / 2:.0f}",
    )


def blocks(values: Sequence[float], count: int) -> list[float]:
    """Means of at most `count` equal blocks; what is left over at the start is dropped."""
    size = max(1, len(values) // count)
    start = len(values) % size
    return [fmean(values[i : i + size]) for i in range(start, len(values), size)]


def _rises(found: Trend) -> bool:
    return found.low > 0 and found.relative >= DRIFT_RISE
