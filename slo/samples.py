"""What one request came to, and what many amount to: samples, and their summary by length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from slo.objective import Judgement, Objective, judge
from slo.record_form import quantised
from slo.stats import nearest_rank, percentile_interval


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. `outcome` is `ok` or the `outcome` of the `RequestError` that ended it."""

    due_s: float
    sent_s: float
    done_s: float
    outcome: str
    length_class: str
    cached: bool = False
    dispatched_s: float | None = None  # by the generator; None where nothing but the sender knew

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"

    @property
    def latency_ms(self) -> float:
        """From the moment the request was due; what an objective is held against."""
        # To the step of a record, so that what is judged now is judged alike when it is read again.
        return round((quantised(self.done_s) - quantised(self.due_s)) * 1000, 4)

    @property
    def service_ms(self) -> float:
        """From the moment it was sent."""
        return (self.done_s - self.sent_s) * 1000

    def good(self, objective: Objective) -> bool:
        """Correct, and within the threshold."""
        return self.ok and self.latency_ms <= objective.threshold_ms


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures over some samples. Percentiles count failures as infinitely slow; means leave them out."""

    name: str
    total: int
    failed: int
    p50_ms: float
    p95_ms: float
    p95_low_ms: float
    p95_high_ms: float
    p99_ms: float
    max_ms: float
    mean_ms: float
    judgement: Judgement
    answered_p50_ms: float = math.nan  # of the answered ones alone
    answered_p95_ms: float = math.nan
    answered_p99_ms: float = math.nan
    answered_max_ms: float = math.nan

    def of_answered(self) -> Summary | None:
        """The figures of what was answered, where some were not and some were; not to be judged."""
        if not 0 < self.failed < self.total or math.isnan(self.answered_p50_ms):
            return None
        return replace(
            self, name="answered", total=self.total - self.failed, failed=0, p50_ms=self.answered_p50_ms,
            p95_ms=self.answered_p95_ms, p95_low_ms=math.nan, p95_high_ms=math.nan, p99_ms=self.answered_p99_ms,
            max_ms=self.answered_max_ms, judgement=replace(self.judgement, total=self.total - self.failed),
        )  # fmt: skip

    @property
    def success_ratio(self) -> float:
        return (self.total - self.failed) / self.total if self.total else float("nan")


def summarize(name: str, samples: Sequence[Sample], objective: Objective, *, weight: float = 1.0) -> Summary:
    """The figures and the verdict over `samples`; for the interval each counts as `weight` independent ones."""
    latencies = sorted(s.latency_ms if s.ok else float("inf") for s in samples)
    answered = [value for value in latencies if value != float("inf")]
    low, high = percentile_interval(latencies, 0.95, weight=weight)
    return Summary(
        name=name,
        total=len(samples),
        failed=len(samples) - len(answered),
        p50_ms=nearest_rank(latencies, 0.50),
        p95_ms=nearest_rank(latencies, 0.95),
        p95_low_ms=low,
        p95_high_ms=high,
        p99_ms=nearest_rank(latencies, 0.99),
        max_ms=nearest_rank(latencies, 1.0),
        mean_ms=sum(answered) / len(answered) if answered else float("nan"),
        judgement=judge(sum(s.good(objective) for s in samples), len(samples), objective),
        answered_p50_ms=nearest_rank(answered, 0.50),
        answered_p95_ms=nearest_rank(answered, 0.95),
        answered_p99_ms=nearest_rank(answered, 0.99),
        answered_max_ms=nearest_rank(answered, 1.0),
    )
