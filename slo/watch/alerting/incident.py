"""What the worst moment of an incident was, from the minutes that the history kept of it; pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from slo.stats import Histogram
from slo.watch.model.latency import percentile

LOOKS = 400  # windows at most: a long incident is looked at in larger steps

Latencies = Callable[[float, float], tuple[Histogram, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """The highest percentile of any window in milliseconds, infinite where failures exceed what it leaves out, and the
    largest share of requests that failed in any one interval. NaN and 0 without requests."""

    latency_ms: float
    failed: float


def worst_of(
    latencies: Latencies, *, start_s: float, end_s: float, interval_s: float, window_s: float, quantile: float
) -> Worst:
    """Look at every window that ends within the incident; `latencies(start, end)` gives its answers and failures."""
    step_s = interval_s * max(1, math.ceil((end_s - start_s) / interval_s / LOOKS))
    latency_ms, failed = math.nan, 0.0
    at_s = end_s
    while at_s > start_s:
        value_ms = percentile(*latencies(at_s - window_s, at_s), quantile).value_ms
        if not math.isnan(value_ms) and not value_ms <= latency_ms:
            latency_ms = value_ms
        histogram, lost = latencies(at_s - step_s, at_s)
        if lost:
            failed = max(failed, lost / (histogram.total + lost))
        at_s -= step_s
    return Worst(latency_ms=latency_ms, failed=failed)
