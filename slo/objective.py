"""
What "P95 ≤ 150 ms" means, and when it is proven.

A request is **good** when a correct 2xx answer arrives within the threshold. The instant from which
latency runs is the moment the request was *due* (open loop) or sent (one client, closed loop, passive).
Failures, refusals and timeouts are bad. The objective is met when at least `target` of all requests are
good, which for percentile p = target is the same as P_p ≤ threshold with failures counted as infinitely slow.

The verdict is three-valued, by the exact binomial test at `confidence` (features, B4):

* met       P(X ≤ bad | n, 1−target) ≤ α: so few bad requests would be rare if the objective were missed
* missed    P(X ≥ bad | n, 1−target) ≤ α: so many would be rare if it were met
* unproven  neither: more samples are needed, and `Judgement.advice` says how many
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from slo.errors import ConfigError
from slo.sentences import say
from slo.stats import binomial_cdf
from slo.units import parse_duration, show_ms

_FORM = re.compile(r"\s*p(\d{1,2}(?:\.\d+)?)\s*(?:<=|≤)\s*([\d.]+\s*[a-zµ]+)\s*", re.IGNORECASE)


class Verdict(Enum):
    """Met, missed or unproven, with the exit code that says so."""

    MET = "met"
    MISSED = "missed"
    UNPROVEN = "unproven"

    @property
    def exit_code(self) -> int:
        return {Verdict.MET: 0, Verdict.MISSED: 1, Verdict.UNPROVEN: 3}[self]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """At least `target` of requests good within `threshold_ms`; `str()` gives back `P95 ≤ 150 ms`.

    `longest_stall_s` is how long the service may be late at a stretch because of a stall that a verdict on a run must
    not miss; 0: nobody asks.
    """

    target: float = 0.95
    threshold_ms: float = 150.0
    confidence: float = 0.95
    longest_stall_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ConfigError(f"target {self.target} is not between 0 and 1", hint="P95 has the target 0.95")
        if not self.threshold_ms > 0:
            raise ConfigError(f"threshold {self.threshold_ms} ms is not above zero")
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(f"confidence {self.confidence} is not within [0.5, 1)")
        if not self.longest_stall_s >= 0:
            raise ConfigError(f"longest stall {self.longest_stall_s} s is below zero")

    def __str__(self) -> str:
        threshold = f"{self.threshold_ms:g} ms" if self.threshold_ms < 1000 else show_ms(self.threshold_ms)
        return f"{self.percentile} ≤ {threshold}"

    @property
    def percentile(self) -> str:
        """`P95`."""
        return f"P{self.target * 100:g}"

    @property
    def sureness(self) -> str:
        """The confidence as it is read: `95%`."""
        return f"{round(self.confidence * 100, 6):g}%"

    @property
    def threshold_s(self) -> float:
        return self.threshold_ms / 1000

    @property
    def least_s(self) -> float:
        """How long a run must last to prove it met: as many stalls long as there must be clean samples, 59 at P95."""
        return samples_to_meet(0, self) * self.longest_stall_s

    @property
    def budget(self) -> float:
        """Share of requests that may be bad: 0.05 for P95. Rounded to 1e-12 so that it prints as given."""
        return round(1 - self.target, 12)


def parse_objective(text: str, *, confidence: float = 0.95) -> Objective:
    """Objective written as people say it: `p95 <= 150ms`, `P99≤300 ms`."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not an objective", hint='write it like "p95 <= 150ms"')
    return Objective(
        target=float(match.group(1)) / 100,
        threshold_ms=parse_duration(match.group(2)) * 1000,
        confidence=confidence,
    )


def latency_thresholds_ms(texts: Iterable[str]) -> Iterator[float]:
    """Thresholds of those objectives that are about latency; the others, `errors <= 0.2%` say, have none."""
    for text in texts:
        if _FORM.fullmatch(text):
            yield parse_objective(text).threshold_ms


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict with the counts it rests on and, when unproven, what would decide it."""

    verdict: Verdict
    good: int
    total: int
    objective: Objective
    advice: str = ""

    @property
    def bad(self) -> int:
        return self.total - self.good

    @property
    def good_ratio(self) -> float:
        """Share of good requests; NaN without any."""
        return self.good / self.total if self.total else float("nan")

    def __str__(self) -> str:
        counts = f"{self.good}/{self.total} within {self.objective.threshold_ms:g} ms"
        tail = f" ({self.advice})" if self.advice else ""
        return f"{self.verdict.value}: {self.objective}, {counts}{tail}"


def judge(good: int, total: int, objective: Objective) -> Judgement:
    """The verdict on `good` of `total` requests."""
    if not 0 <= good <= total:
        raise ValueError(f"{good} good of {total}")
    bad, alpha = total - good, 1 - objective.confidence
    # 1 − 0.95 is 0.050000000000000044: compare with a tolerance far below any step of the distribution.
    alpha += 1e-12
    if total and binomial_cdf(bad, total, objective.budget) <= alpha:
        return Judgement(verdict=Verdict.MET, good=good, total=total, objective=objective)
    if total and 1 - binomial_cdf(bad - 1, total, objective.budget) <= alpha:
        return Judgement(verdict=Verdict.MISSED, good=good, total=total, objective=objective)
    needed = samples_to_meet(bad, objective)
    advice = say("more", bad=bad, needed=needed, total=total)
    if total and good / total < objective.target:
        advice = say("likely", confidence=objective.sureness, total=total)
    return Judgement(verdict=Verdict.UNPROVEN, good=good, total=total, objective=objective, advice=advice)


def samples_to_meet(bad: int, objective: Objective) -> int:
    """Fewest samples that prove the objective met with `bad` bad ones among them (59 for none at P95, 95 %)."""
    alpha = 1 - objective.confidence + 1e-12
    low, high = bad, max(1, 2 * bad)
    while binomial_cdf(bad, high, objective.budget) > alpha:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_cdf(bad, middle, objective.budget) <= alpha:
            high = middle
        else:
            low = middle
    return high
