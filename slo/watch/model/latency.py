"""Percentiles from a histogram, with failures as infinitely slow, and how far the truth may be from the figure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from slo.stats import Histogram, rank, rank_interval


@dataclass(frozen=True, slots=True)
class Percentile:
    """Milliseconds. `value` is linear within its bucket; `low` and `high` bound the true percentile.

    The bounds are those of the sample (order statistics at 95 %) widened to the edges of their buckets.
    """

    value_ms: float
    low_ms: float
    high_ms: float


def percentile(histogram: Histogram, failed: int, quantile: float, confidence: float = 0.95) -> Percentile:
    """The quantile of all requests, `failed` ones counted as infinitely slow; NaN without any."""
    total = histogram.total + failed
    if total == 0:
        return Percentile(math.nan, 0.0, math.inf)
    low, high = rank_interval(total, quantile, confidence)
    return Percentile(
        _at_rank(histogram, rank(total, quantile)) * 1000,
        _bucket(histogram, low)[0] * 1000 if low >= 1 else 0.0,
        _bucket(histogram, high)[1] * 1000,
    )


def _bucket(histogram: Histogram, position: int) -> tuple[float, float]:
    """Edges, in seconds, of the bucket that holds the `position`-th smallest value; infinite beyond all answers."""
    seen = 0
    for index, count in enumerate(histogram.counts):
        seen += count
        if position <= seen:
            low = histogram.edges_s[index - 1] if index else 0.0
            return low, histogram.edges_s[index] if index < len(histogram.edges_s) else math.inf
    return math.inf, math.inf


def _at_rank(histogram: Histogram, position: int) -> float:
    if position > histogram.total:
        return math.inf
    low, high = _bucket(histogram, position)
    if math.isinf(high):
        return math.inf
    below = sum(histogram.counts[: histogram.edges_s.index(high)])
    inside = histogram.counts[histogram.edges_s.index(high)]
    return low + (high - low) * (position - below) / inside
