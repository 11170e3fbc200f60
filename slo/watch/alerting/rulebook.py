"""All alert rules of one watch, and the reading of each from the counts of a round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from slo.stats import wilson
from slo.watch.alerting.rules import (
    NO_DATA_ALERT,
    REMEDIATION_ALERT,
    SPENT_ALERT,
    STORE_ALERT,
    BurnRule,
    Reading,
    Rule,
    burn_rules,
    p95_rule,
    read_burn,
    read_p95,
)
from slo.watch.budget.budget import Budget
from slo.watch.budget.burn import Finding, Guard, Pair, Table, lint
from slo.watch.budget.period import Period
from slo.watch.budget.tables import chosen
from slo.watch.model.counts import Counts
from slo.watch.model.objectives import Goal

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
    ) -> dict[str, Reading]:
        """Every rule's condition. `silent_s` is None while silence is agreed; `age_s` is the history's age."""
        by_goal = {budget.goal.name: budget for budget in budgets}
        found: dict[str, Reading] = {}
        for burn in self.burn:
            lengths = {length for pair in burn.pairs for length in (pair.long_s, pair.short_s)}
            found[burn.rule.key] = read_burn(
                burn, {length: counts(burn.goal, length) for length in lengths}, age_s=age_s
            )
        for rule, goal in self.p95:
            found[rule.key] = read_p95(goal, counts(goal, self.window_s), min_total=self.guard.min_total)
        for rule, goal in self.spent:
            found[rule.key] = self._spent(by_goal[goal.name])
        found[self.no_data.key] = Reading(
            active=None if silent_s is None else silent_s > self.no_data_after_s,
            values={} if silent_s is None else {"silent_s": silent_s},
        )
        found[self.store.key] = Reading(active=store_problem)
        found[self.remediation.key] = Reading(active=failed_action)
        return found

    def _spent(self, budget: Budget) -> Reading:
        """Nothing left, beyond chance, of a budget seen long enough: a bad first hour spends no month's budget."""
        counts = budget.counts
        seen = budget.observed_s >= min(budget.period.length_s, SEEN_S)
        enough = seen and counts.total >= self.guard.min_total and counts.bad >= self.guard.min_bad
        proven = enough and wilson(counts.bad, counts.total, self.guard.z)[0] > budget.goal.budget
        return Reading(
            active=None if counts.total == 0 else budget.remaining <= 0 and proven,
            values={"consumed": budget.consumed},
        )


def make_rulebook(
    goals: Iterable[Goal],
    tables: Mapping[str, Table],
    *,
    period: Period,
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
