"""
Which alerts there are: one `Rule` each, made from the goals and the burn-rate tables; and whether its condition holds.

============================ =========== =============================================================
alert                        severity    condition
============================ =========== =============================================================
LatencyBudgetBurn            by table    burn rate of the latency goal over a pair of windows
AvailabilityBudgetBurn       by table    the same for errors
CorrectnessBudgetBurn        by table    the same for wrong vectors
P95AboveObjective            ticket      the plain rule: percentile of the last five minutes too high
NoData                       page        nothing was measured for longer than the grace time
ErrorBudgetSpent             ticket      nothing is left of the period's budget
HistoryNotWritable           ticket      counts cannot be stored (disk full, permissions)
RemediationFailed            page        an automatic action failed or did not help
============================ =========== =============================================================

Names are labels of Alertmanager and headings of `docs/runbook.md`; they never change with the numbers. The `Rulebook`
is all rules of one watch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from slo.stats import wilson
from slo.watch.budget.budget import Budget, BudgetPeriod, burn_rate
from slo.watch.budget.burn import BurnTable, Finding, Guard, Pair, breached, by_severity, chosen, lint
from slo.watch.model.counts import Counts
from slo.watch.model.notification import Severity
from slo.watch.model.objectives import Goal, Kind

BURN_ALERTS: Mapping[Kind, str] = {
    "latency": "LatencyBudgetBurn",
    "availability": "AvailabilityBudgetBurn",
    "correctness": "CorrectnessBudgetBurn",
}
P95_ALERT = "P95AboveObjective"
NO_DATA_ALERT = "NoData"
SPENT_ALERT = "ErrorBudgetSpent"
STORE_ALERT = "HistoryNotWritable"
REMEDIATION_ALERT = "RemediationFailed"
WATCHER_ALERT = "WatcherSilent"  # raised by whoever watches the watcher: a second process, or a dead-man's switch
DELIVERY_ALERT = "AlertsUndelivered"  # by Prometheus: a channel that is down cannot tell of itself
SERVER_ALERT = "ServerDown"  # by Prometheus: a server that it cannot scrape has no figures to alert on
ALERTS = (
    *BURN_ALERTS.values(),
    P95_ALERT,
    NO_DATA_ALERT,
    SPENT_ALERT,
    STORE_ALERT,
    REMEDIATION_ALERT,
    WATCHER_ALERT,
    DELIVERY_ALERT,
    SERVER_ALERT,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One alert that may fire. `goal` is a goal's name, or empty for alerts about the watch itself.

    It fires after its condition held for `for_s`, and resolves after it was clear for `clear_s`: one evaluation more
    than the first clear one, so that a single good minute between bad ones ends nothing. `recheck_s` is how long the
    condition may go on by itself after the trouble is over: its short window.
    """

    alert: str
    severity: Severity
    goal: str = ""
    for_s: float = 0.0
    clear_s: float = 60.0
    recheck_s: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.alert}/{self.goal}/{self.severity}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What one evaluation found: does the condition hold? None: nobody can say, so nothing changes.

    `values` are the figures behind it, for the message.
    """

    active: bool | None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnRule:
    """A burn-rate alert of one severity: any of `pairs` will do."""

    rule: Rule
    goal: Goal
    pairs: tuple[Pair, ...]
    guard: Guard

    @property
    def lengths_s(self) -> frozenset[float]:
        """All window lengths that it looks at."""
        return frozenset(length_s for pair in self.pairs for length_s in (pair.long_s, pair.short_s))


def burn_rules(goal: Goal, table: BurnTable, *, period_s: float, interval_s: float) -> list[BurnRule]:
    """One rule per severity of `table`, with its windows scaled to `period_s`; rows that can never fire left out."""
    usable = [pair for pair in table.scaled(period_s, interval_s, goal.budget) if pair.threshold(goal.budget) < 1]
    return [
        BurnRule(
            rule=Rule(
                alert=BURN_ALERTS[goal.kind],
                severity=severity,
                goal=goal.name,
                clear_s=interval_s,
                recheck_s=max(pair.short_s for pair in pairs),
            ),
            goal=goal,
            pairs=pairs,
            guard=table.guard,
        )
        for severity, pairs in by_severity(usable).items()
    ]


def read_burn(rule: BurnRule, counts: Mapping[float, Counts], *, age_s: float) -> Condition:
    """The burn rule's condition; `counts` maps each window length in seconds to its counts.

    A pair is left alone until the history, `age_s` old, fills half its long window: one bad minute in the first hour
    is not 1 × over three days.
    """
    budget = rule.goal.budget
    states = [
        breached(pair, counts[pair.long_s], counts[pair.short_s], budget, rule.guard)
        if pair.long_s <= 2 * age_s
        else False
        for pair in rule.pairs
    ]
    active = True if True in states else None if all(state is None for state in states) else False
    pair = rule.pairs[states.index(True)] if True in states else rule.pairs[0]
    return Condition(
        active=active,
        values={
            "burn_long": burn_rate(counts[pair.long_s], budget),
            "burn_short": burn_rate(counts[pair.short_s], budget),
            "long_s": pair.long_s,
            "short_s": pair.short_s,
            "factor": pair.factor,
        },
    )


def p95_rule(goal: Goal, *, interval_s: float) -> Rule:
    """The plain rule: percentile above the threshold in the last five minutes, three evaluations in a row."""
    return Rule(
        alert=P95_ALERT, severity="ticket", goal=goal.name, for_s=2 * interval_s, clear_s=interval_s, recheck_s=300.0
    )


def read_p95(goal: Goal, window: Counts, *, min_total: int = 20, z: float = 3.0) -> Condition:
    """More than the budget bad in the window, beyond what chance explains.

    P95 > 150 ms says that more than 5 % were slower. z = 3: evaluated every minute for a month, a service that sits
    just within its objective must not trip it by luck.
    """
    if window.total < min_total:
        return Condition(active=None if window.total == 0 else False)
    return Condition(
        active=wilson(window.bad, window.total, z)[0] > goal.budget, values={"bad_ratio": window.bad_ratio}
    )


def check_names(rules: Sequence[Rule]) -> None:
    """Raise `ValueError` if two rules share a key: they would overwrite each other's state."""
    keys = [rule.key for rule in rules]
    doubled = {key for key in keys if keys.count(key) > 1}
    if doubled:
        raise ValueError(f"alert rules defined twice: {', '.join(sorted(doubled))}")


SEEN_S = 7 * 86400.0  # of history, before a longer budget may be called spent

CountsOf = Callable[[Goal, float], Counts]


@dataclass(frozen=True, kw_only=True)
class Rulebook:
    """The rules, in the order in which they are evaluated."""

    burn: tuple[BurnRule, ...]
    p95: tuple[tuple[Rule, Goal], ...]
    spent: tuple[tuple[Rule, Goal], ...]
    no_data: Rule
    store: Rule
    remediation: Rule
    no_data_after_s: float
    window_s: float
    guard: Guard
    findings: tuple[Finding, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        return (
            *(burn.rule for burn in self.burn),
            *(rule for rule, _ in (*self.p95, *self.spent)),
            self.no_data,
            self.store,
            self.remediation,
        )

    @property
    def longest_s(self) -> float:
        """How far back a window looks: minutes must be kept that long."""
        return max((pair.long_s for burn in self.burn for pair in burn.pairs), default=self.window_s)

    def readings(
        self,
        *,
        counts: CountsOf,
        budgets: Iterable[Budget],
        silent_s: float | None,
        store_problem: bool,
        failed_action: bool,
        age_s: float,
    ) -> dict[str, Condition]:
        """Every rule's condition. `silent_s` is None while silence is agreed; `age_s` is the history's age."""
        by_goal = {budget.goal.name: budget for budget in budgets}
        found: dict[str, Condition] = {}
        for burn in self.burn:
            lengths = {length for pair in burn.pairs for length in (pair.long_s, pair.short_s)}
            found[burn.rule.key] = read_burn(
                burn, {length: counts(burn.goal, length) for length in lengths}, age_s=age_s
            )
        for rule, goal in self.p95:
            found[rule.key] = read_p95(goal, counts(goal, self.window_s), min_total=self.guard.min_total)
        for rule, goal in self.spent:
            found[rule.key] = self._spent(by_goal[goal.name])
        found[self.no_data.key] = Condition(
            active=None if silent_s is None else silent_s > self.no_data_after_s,
            values={} if silent_s is None else {"silent_s": silent_s},
        )
        found[self.store.key] = Condition(active=store_problem)
        found[self.remediation.key] = Condition(active=failed_action)
        return found

    def _spent(self, budget: Budget) -> Condition:
        """Nothing left, beyond chance, of a budget seen long enough: a bad first hour spends no month's budget."""
        counts = budget.counts
        seen = budget.observed_s >= min(budget.period.length_s, SEEN_S)
        enough = seen and counts.total >= self.guard.min_total and counts.bad >= self.guard.min_bad
        proven = enough and wilson(counts.bad, counts.total, self.guard.z)[0] > budget.goal.budget
        return Condition(
            active=None if counts.total == 0 else budget.remaining <= 0 and proven,
            values={"consumed": budget.consumed},
        )


def make_rulebook(
    goals: Iterable[Goal],
    tables: Mapping[str, BurnTable],
    *,
    period: BudgetPeriod,
    presets: Mapping[str, str] | None = None,
    preset: str = "auto",
    interval_s: int = 60,
    window_s: float = 300.0,
    no_data_after_s: float = 300.0,
) -> Rulebook:
    """The rules for `goals`; `presets` names a table per goal, `preset` for all others.

    What lint notices is in `findings`: a row that can never fire is left out, and an error there.
    """
    goals = tuple(goals)
    burn: list[BurnRule] = []
    findings: list[Finding] = []
    for goal in goals:
        table = chosen(tables, (presets or {}).get(goal.name, preset), goal.budget)
        pairs: tuple[Pair, ...] = table.scaled(period.length_s, interval_s, goal.budget)
        findings += lint(f"{goal.name} ({goal})", pairs, goal.budget, period.length_s)
        burn += burn_rules(goal, table, period_s=period.length_s, interval_s=interval_s)
    return Rulebook(
        burn=tuple(burn),
        p95=tuple((p95_rule(goal, interval_s=interval_s), goal) for goal in goals if goal.kind == "latency"),
        spent=tuple(
            (Rule(alert=SPENT_ALERT, severity="ticket", goal=goal.name, clear_s=3600.0), goal) for goal in goals
        ),
        no_data=Rule(alert=NO_DATA_ALERT, severity="page", clear_s=0.0),
        store=Rule(alert=STORE_ALERT, severity="ticket", clear_s=interval_s),
        remediation=Rule(alert=REMEDIATION_ALERT, severity="page", clear_s=interval_s),
        no_data_after_s=no_data_after_s,
        window_s=window_s,
        guard=Guard(),
        findings=tuple(findings),
    )
