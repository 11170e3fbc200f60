"""Promises for the tests of exporters."""

from __future__ import annotations

from slo.report.promise import BurnWindow, Promise

P95 = Promise(
    model="gte-base-zh", name="latency", title="P95 ≤ 150 ms", alert="LatencyBudgetBurn", target=0.95,
    threshold_s=0.15,
    windows=(
        BurnWindow(severity="critical", long_s=120, short_s=60, factor=16),
        BurnWindow(severity="critical", long_s=300, short_s=60, factor=8),
        BurnWindow(severity="page", long_s=1800, short_s=300, factor=5.5),
        BurnWindow(severity="ticket", long_s=21600, short_s=1800, factor=3),
        BurnWindow(severity="ticket", long_s=259200, short_s=21600, factor=1),
    ),
)  # fmt: skip

P99 = Promise(
    model="bge-m3", name="latency", title="P99 ≤ 300 ms", alert="LatencyBudgetBurn", target=0.99, threshold_s=0.3,
    windows=(
        BurnWindow(severity="critical", long_s=3600, short_s=300, factor=14.4),
        BurnWindow(severity="page", long_s=21600, short_s=1800, factor=6),
        BurnWindow(severity="ticket", long_s=86400, short_s=7200, factor=3),
    ),
    period_days=28, min_total=50, min_bad=3,
)  # fmt: skip

AVAILABLE = Promise(
    model="gte-base-zh", name="availability", title="errors ≤ 0.2 %", alert="AvailabilityBudgetBurn", target=0.998,
    threshold_s=None,
    windows=(
        BurnWindow(severity="critical", long_s=3600, short_s=300, factor=14.4),
        BurnWindow(severity="page", long_s=21600, short_s=1800, factor=6),
    ),
)  # fmt: skip

# Windows of seconds, for a real Prometheus that scrapes every second.
QUICK = Promise(
    model="gte-base-zh", name="latency", title="P95 ≤ 150 ms", alert="LatencyBudgetBurn", target=0.95,
    threshold_s=0.15, windows=(BurnWindow(severity="critical", long_s=15, short_s=4, factor=8),),
)  # fmt: skip
