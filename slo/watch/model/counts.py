"""
What happened in one slice of time, from one source: the rows that everything else adds up.

Latencies of correct answers are a histogram, everything else is counted by outcome, so any later question of the
form "how many within x ms" can be answered again (exactly where x is an edge). Slices of one source add; slices of
different sources add only where the reader asked for it, and always carry their source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from slo.samples import Sample
from slo.stats import LATENCY_EDGES_S, Histogram
from slo.watch.model.objectives import Goal, latency_event

# passive: the server's own counts; prometheus: the same, by query; probe: our requests; service: `@monitor` in a
# program of the user's own.
Source = Literal["passive", "prometheus", "probe", "service"]
SOURCES: tuple[Source, ...] = ("passive", "prometheus", "probe", "service")

# Outcomes (see `RequestError.outcome`) that say the caller erred. Our own probes never do: theirs count.
CALLER_ERRED = frozenset({"bad_request", "unauthorized"})
WRONG = "bad_answer"
# Requests of the batch class: no deadline is held for them, so they are events of availability alone.
BATCH_ANSWERED = "batch_answered"
BATCH_FAILED = "batch_failed"
BATCH_OUTCOMES = frozenset({BATCH_ANSWERED, BATCH_FAILED})


@dataclass(frozen=True, slots=True)
class Counts:
    """Good ones of a total. Adds."""

    good: int = 0
    total: int = 0

    @property
    def bad(self) -> int:
        return self.total - self.good

    @property
    def bad_ratio(self) -> float:
        """Share of bad ones; NaN without any."""
        return self.bad / self.total if self.total else float("nan")

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.good + other.good, self.total + other.total)


@dataclass(frozen=True, slots=True)
class Slices:
    """Five-minute windows, one per minute: met, missed, and those that nobody can judge for want of requests."""

    good: int = 0
    bad: int = 0
    unknown: int = 0

    @property
    def attainment(self) -> float:
        """Share met of those judged; NaN if none was. Unknown is not good, and is shown beside this figure."""
        judged = self.good + self.bad
        return self.good / judged if judged else float("nan")

    def __add__(self, other: Slices) -> Slices:
        return Slices(self.good + other.good, self.bad + other.bad, self.unknown + other.unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """Requests that finished within `[start_s, start_s + length_s)`, wall-clock seconds.

    `histogram` holds correct answers; `outcomes` the rest by name. `good` overrides the histogram for a latency event
    whose threshold is no edge, where whoever counted compared the raw latencies. `checked` are answers whose vectors
    were looked at: those of probes, and of nobody else.
    """

    start_s: int
    source: Source
    length_s: int = 60
    histogram: Histogram = field(default_factory=Histogram)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    good: Mapping[str, int] = field(default_factory=dict)
    checked: Counts | None = None

    @property
    def total(self) -> int:
        """Requests, those of the batch class left out."""
        return self.histogram.total + sum(self.failures.values())

    @property
    def empty(self) -> bool:
        """Nothing of any class."""
        return not self.total and not any(self.outcomes.values())

    @property
    def failures(self) -> dict[str, int]:
        """The outcomes, those of the batch class left out."""
        return {name: number for name, number in self.outcomes.items() if name not in BATCH_OUTCOMES}

    def counts(self, goal: Goal) -> Counts | None:
        """Good and total for `goal`; None where this slice cannot tell: no edge at the threshold, no vector seen."""
        if goal.kind == "availability":
            batch = self.outcomes.get(BATCH_ANSWERED, 0)
            answered = self.histogram.total + self.outcomes.get(WRONG, 0) + batch
            return Counts(answered, self.total + batch + self.outcomes.get(BATCH_FAILED, 0))
        if goal.kind == "correctness":
            return self.checked
        if goal.event in self.good:
            return Counts(self.good[goal.event], self.total)
        assert goal.threshold_ms is not None  # noqa: S101
        edge = matching_edge(self.histogram.edges_s, goal.threshold_ms)
        return None if edge is None else Counts(self.histogram.within(edge), self.total)


def matching_edge(edges_s: Iterable[float], threshold_ms: float) -> float | None:
    """The edge that is `threshold_ms`, allowing for 0.15 · 1000 being 150.00000000000003; None if there is none."""
    return next((edge for edge in edges_s if abs(edge * 1000 - threshold_ms) < 1e-9 * threshold_ms), None)


def minute_of(
    samples: Iterable[Sample],
    *,
    start_s: int,
    source: Source,
    thresholds_ms: Iterable[float],
    length_s: int = 60,
    edges_s: tuple[float, ...] = LATENCY_EDGES_S,
) -> Minute:
    """The samples as one slice, good ones counted from raw latencies for each of `thresholds_ms`."""
    histogram, outcomes = Histogram(edges_s), Counter[str]()
    good = dict.fromkeys(thresholds_ms, 0)
    for sample in samples:
        if not sample.ok:
            if source == "probe" or sample.outcome not in CALLER_ERRED:
                outcomes[sample.outcome] += 1
            continue
        # By way of milliseconds, as the comparison below: 150 ms then falls on the edge 0.15 in both.
        histogram.observe(sample.latency_ms / 1000)
        for threshold_ms in good:
            good[threshold_ms] += sample.latency_ms <= threshold_ms
    return Minute(
        start_s=start_s,
        source=source,
        length_s=length_s,
        histogram=histogram,
        outcomes=dict(outcomes),
        good={latency_event(threshold_ms): number for threshold_ms, number in good.items()},
        checked=Counts(histogram.total, histogram.total + outcomes[WRONG]) if source == "probe" else None,
    )
