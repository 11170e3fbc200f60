"""How a load is doing while it runs, for a display."""

from __future__ import annotations

from dataclasses import dataclass

from slo.bench.collect import Collector
from slo.stats import nearest_rank, percentile_interval


@dataclass(frozen=True, kw_only=True)
class Live:
    """How a load is doing: figures over the last ten seconds; `left_s` None where there is no end in sight."""

    phase: str
    elapsed_s: float
    left_s: float | None
    rate: float
    p95_ms: float
    p95_low_ms: float
    p95_high_ms: float
    good_ratio: float
    in_flight: int
    failed: int


def live(collector: Collector, now_s: float, *, phase: str, until_s: float | None) -> Live:
    """The state of `collector` at `now_s`."""
    window = collector.window(now_s)
    latencies = sorted(latency for _, latency, _ in window)
    low, high = percentile_interval(latencies, 0.95)
    span = min(10.0, max(0.1, now_s - collector.started_s))
    return Live(
        phase=phase,
        elapsed_s=now_s - collector.started_s,
        left_s=None if until_s is None else max(0.0, until_s - now_s),
        rate=len(window) / span,
        p95_ms=nearest_rank(latencies, 0.95),
        p95_low_ms=low,
        p95_high_ms=high,
        good_ratio=sum(good for _, _, good in window) / len(window) if window else float("nan"),
        in_flight=collector.in_flight,
        failed=sum(tally.failed.total() for tally in collector.classes.values()),
    )
