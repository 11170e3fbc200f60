"""What a watch is set to do, and what one round of it found: the values that the engine takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slo.stats import Histogram
from slo.watch.alerting.alerts import Alert, Change
from slo.watch.alerting.grouping import Notice, Policy, Tier
from slo.watch.alerting.rulebook import Rulebook
from slo.watch.alerting.rules import Rule
from slo.watch.budget.budget import Budget
from slo.watch.budget.period import Period
from slo.watch.history.compaction import Retention
from slo.watch.model.counts import Counts
from slo.watch.model.maintenance import Maintenance
from slo.watch.model.objectives import Goal


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is watched, and how. Durations in seconds.

    A silence of the service beyond `bad_after_s` counts windows as missed: unknown is forgiven for a while, not for
    ever.
    """

    goals: tuple[Goal, ...]
    rulebook: Rulebook
    period: Period
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

    `unheard` says why alerts are not told, by key: muted by a silence or agreed maintenance, or covered by another one.
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
    changes: tuple[tuple[Rule, Change], ...] = ()
    notices: tuple[tuple[Tier, Notice], ...] = ()
    unheard: Mapping[str, str] = field(default_factory=dict)
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
