"""
What an exporter needs to know of an objective; it knows nothing of who evaluates it or how it is stored.

The SLI of all exports, in counts of `slo_request_duration_seconds`:

* counted   every request but the caller's own mistakes (code 4xx; 429 is ours). latency: without those of the batch
            class, since no deadline is held for them (`slo watch` leaves them out, too)
* good      latency: code 2xx within the threshold, at which the server that `make launch` starts has an edge.
            availability: code 2xx

Failures are in the denominator only, so they are bad. Without any request there is no ratio: the rules record nothing
rather than 0/0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from slo.errors import ConfigError
from slo.stats import edge_label

METRIC = "slo_request_duration_seconds"
ONLINE = 'length_class!="batch"'
Severity = Literal["critical", "page", "ticket", "info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnWindow:
    """One burn-rate row: more than `factor` × budget over both windows (seconds)."""

    severity: Severity
    long_s: int
    short_s: int
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """At least `target` of the requests to `model` good. `threshold_s` makes it one of latency."""

    model: str
    name: str
    title: str
    alert: str
    target: float
    threshold_s: float | None
    windows: tuple[BurnWindow, ...]
    period_days: int = 30
    min_total: int = 20
    min_bad: int = 5

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.model):
            raise ConfigError(f"{self.model!r} cannot stand in a query")

    @property
    def id(self) -> str:
        """`gte-base-zh-latency`."""
        return f"{self.model}-{self.name}"

    @property
    def budget(self) -> float:
        """Rounded: 1 − 0.95 must print as 0.05."""
        return round(1 - self.target, 12)

    @property
    def counted(self) -> str:
        """Selector of the requests that count."""
        online = "" if self.threshold_s is None else f"{ONLINE},"
        return f'{METRIC}_count{{model="{self.model}",{online}code!="4xx"}}'

    @property
    def good(self) -> str:
        """Selector of the good ones."""
        if self.threshold_s is None:
            return f'{METRIC}_count{{model="{self.model}",code="2xx"}}'
        return f'{METRIC}_bucket{{model="{self.model}",{ONLINE},code="2xx",le="{edge_label(self.threshold_s)}"}}'

    def severities(self) -> dict[Severity, tuple[BurnWindow, ...]]:
        """Rows that can fire, by severity, in the table's order."""
        found: dict[Severity, tuple[BurnWindow, ...]] = {}
        for window in self.windows:
            if window.factor * self.budget < 1:
                found[window.severity] = (*found.get(window.severity, ()), window)
        return found


def promql_window(seconds: int) -> str:
    """`300` → `5m`; whole units, as rule names have them."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def literal(value: float) -> str:
    """A number as people write it: at most ten figures, no exponent."""
    text = f"{value:.10f}".rstrip("0").rstrip(".")
    return text or "0"
