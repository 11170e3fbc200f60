"""
The promises that are watched: each says which requests count, which of them are good, and how many must be.

============ ======================== ============================== =======================================
kind         written                  counted                        good
============ ======================== ============================== =======================================
latency      `p95 <= 150ms`           every request                  correct answer within the threshold
availability `errors <= 0.2%`         every request                  answered, whatever it took
correctness  `wrong <= 0.1%`          every answered request         right number of finite vectors, right size
============ ======================== ============================== =======================================

Failures, refusals and timeouts are bad for latency and availability. A caller's own mistake (4xx other than 429 in
passive traffic) is nobody's event: it is left out before counting, see `counts.py`.

One objective has two attainments, and both are shown, since "98.7 %" alone says neither:

* occurrences   share of requests that were good
* time slices   share of five-minute windows, one ending each minute, in which the objective was met
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from slo.errors import ConfigError
from slo.objective import parse_objective

Kind = Literal["latency", "availability", "correctness"]

_RATE = re.compile(r"\s*(errors|wrong)\s*(?:<=|≤|<)\s*([\d.]+)\s*%\s*", re.IGNORECASE)
_KINDS: Mapping[str, Kind] = {"errors": "availability", "wrong": "correctness"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """At least `target` of the counted requests good. `threshold_ms` is set for latency alone."""

    name: str
    kind: Kind
    target: float
    threshold_ms: float | None = None

    @property
    def budget(self) -> float:
        """Share of requests that may be bad; rounded to 1e-12 so that 1 − 0.95 is 0.05."""
        return round(1 - self.target, 12)

    @property
    def event(self) -> str:
        """What "good" means, without the target: counts stored under it stay valid when the target changes."""
        return self.kind if self.threshold_ms is None else latency_event(self.threshold_ms)

    @property
    def slice_event(self) -> str:
        """What a "good window" means; unlike `event` it depends on the target."""
        return f"{self.event}@{self.target:.10g}"

    def __str__(self) -> str:
        if self.threshold_ms is not None:
            return f"P{self.target * 100:g} ≤ {self.threshold_ms:g} ms"
        return f"{'errors' if self.kind == 'availability' else 'wrong'} ≤ {self.budget * 100:g} %"


def latency_event(threshold_ms: float) -> str:
    """The name under which requests within `threshold_ms` are counted: `latency<=150ms`."""
    return f"latency<={threshold_ms:g}ms"


def parse_goal(name: str, text: str) -> Goal:
    """The goal written as `p95 <= 150ms`, `errors <= 0.2%` or `wrong <= 0.1%`.

    Raises `ConfigError` for any other text, and for a rate outside (0 %, 100 %).
    """
    match = _RATE.fullmatch(text)
    if match is None:
        try:
            objective = parse_objective(text)
        except ConfigError as error:
            raise ConfigError(
                f"{text!r} is not an objective",
                hint='write it like "p95 <= 150ms", "errors <= 0.2%" or "wrong <= 0.1%"',
            ) from error
        return Goal(name=name, kind="latency", target=objective.target, threshold_ms=objective.threshold_ms)
    try:
        allowed = float(match.group(2)) / 100
    except ValueError as error:
        raise ConfigError(f"{match.group(2)!r} is not a percentage", hint="write it like 0.2%") from error
    if not 0 < allowed < 1:
        raise ConfigError(f"{text!r} allows {allowed:.0%}", hint="give a rate above 0 % and below 100 %")
    return Goal(name=name, kind=_KINDS[match.group(1).lower()], target=round(1 - allowed, 12))


def parse_goals(texts: Mapping[str, str]) -> tuple[Goal, ...]:
    """One goal per entry, in order. Two that count the same event would alert twice, so that is a `ConfigError`."""
    goals = tuple(parse_goal(name, text) for name, text in texts.items())
    seen: dict[tuple[str, float], str] = {}
    for goal in goals:
        twin = seen.setdefault((goal.event, goal.target), goal.name)
        if twin != goal.name:
            raise ConfigError(f"{twin!r} and {goal.name!r} promise the same", hint="remove one of them")
    return goals
