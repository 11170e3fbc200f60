"""
What a watch is set to do, what one round of it found, and the one word for that.

The word is the most urgent alert that fires. While none does, it says what the last minutes show: nobody measured
anything, agreed maintenance, an objective missed beyond chance that is not alerted of yet, one missed perhaps by
chance (unproven), or "ok". So "ok" never stands beside an alert that fires or a percentile that is too high, and
RECOVERED comes when the last alert has ended, not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from slo.objective import Judgement, Verdict
from slo.stats import Histogram
from slo.watch.alerting.alerts import Alert, AlertChange
from slo.watch.alerting.grouping import Notice, Policy, Tier
from slo.watch.alerting.rules import Rule, Rulebook
from slo.watch.budget.budget import Budget, BudgetPeriod
from slo.watch.history.compaction import Retention
from slo.watch.model.counts import Counts
from slo.watch.model.notification import SEVERITIES
from slo.watch.model.objectives import Goal
from slo.watch.model.silences import Maintenance


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is watched, and how. Durations in seconds.

    A silence of the service beyond `bad_after_s` counts windows as missed: unknown is forgiven for a while, not for
    ever.
    """

    goals: tuple[Goal, ...]
    rulebook: Rulebook
    period: BudgetPeriod
    labels: Mapping[str, str]
    interval_s: int = 60
    window_s: int = 300
    bad_after_s: float = 600.0
    policy: Policy = field(default_factory=Policy)
    retention: Retention = field(default_factory=Retention)

    @property
    def group_key(self) -> str:
        return "/".join(value for _, value in sorted(self.labels.items()))


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round found. `windows` are the last `window_s` by goal, `histogram` and `failed` their latencies.

    `suppressed` says why alerts are not told, by key: muted by a silence or agreed maintenance, or covered by another.
    """

    at_s: float
    slot_s: int
    windows: Mapping[str, Counts]
    budgets: tuple[Budget, ...]
    histogram: Histogram
    failed: int
    sources: Mapping[str, int]
    alerts: Mapping[str, Alert]
    rules: Mapping[str, Rule]
    window_s: float = 300.0
    changes: tuple[tuple[Rule, AlertChange], ...] = ()
    notices: tuple[tuple[Tier, Notice], ...] = ()
    suppressed: Mapping[str, str] = field(default_factory=dict)
    maintenance: Maintenance | None = None
    problem: str = ""

    @property
    def firing(self) -> tuple[Rule, ...]:
        return tuple(rule for key, rule in self.rules.items() if self.alerts[key].firing)

    def budget_of(self, goal: str) -> Budget | None:
        """The budget of the goal called so."""
        return next((budget for budget in self.budgets if budget.goal.name == goal), None)


def labels_of(rule: Rule, common: Mapping[str, str]) -> dict[str, str]:
    """Labels of an alert: its identity, with no value that changes."""
    goal = {"slo": rule.goal} if rule.goal else {}
    return {"alertname": rule.alert, "severity": rule.severity, **goal, **common}


class WatchState(Enum):
    """How things stand after a round; the first four are the severity of the worst alert that fires."""

    CRITICAL = "critical"
    PAGE = "page"
    TICKET = "ticket"
    INFO = "info"
    NO_DATA = "no-data"
    EXCUSED = "excused"
    MISSED = "missed"
    UNPROVEN = "unproven"
    OK = "ok"

    @property
    def exit_code(self) -> int:
        """0 ok, 1 missed or alerted, 3 nothing known for sure."""
        return {WatchState.OK: 0, WatchState.NO_DATA: 3, WatchState.EXCUSED: 3, WatchState.UNPROVEN: 3}.get(self, 1)


class Announcement(Enum):
    """What is worth a line of its own."""

    ALERT = "ALERT"
    EASED = "EASED"
    RECOVERED = "RECOVERED"


def state_of(found: Round, window: Judgement, *, measured: bool) -> WatchState:
    """The word for a round; `window` judges its last minutes, `measured` says whether it brought anything itself."""
    severity = min((rule.severity for rule in found.firing), key=SEVERITIES.index, default=None)
    if severity is not None:
        return WatchState(severity)
    if not measured:
        return WatchState.NO_DATA
    if found.maintenance is not None:
        return WatchState.EXCUSED
    if window.verdict is Verdict.MISSED:
        return WatchState.MISSED
    if not window.total:  # requests, and nobody can say how fast they were
        return WatchState.UNPROVEN
    return WatchState.UNPROVEN if window.bad > window.objective.budget * window.total + 1e-9 else WatchState.OK


def event_of(found: Round) -> Announcement | None:
    """ALERT: people are told of an alert, or of a more urgent one. RECOVERED: nothing fires any more.

    EASED: people are told that what woke them is over, and something that wakes nobody, or says the same later, fires.
    """
    if news(found):
        return Announcement.ALERT
    if found.firing:
        over = any(name == "wake" and notice.kind == "resolved" for name, notice in found.notices)
        return Announcement.EASED if over else None
    return Announcement.RECOVERED if any(change is AlertChange.RESOLVED for _, change in found.changes) else None


def news(found: Round) -> list[Notice]:
    """The news of this round for people, the most urgent first."""
    return [notice for _, notice in found.notices if notice.kind in ("firing", "escalated")]
