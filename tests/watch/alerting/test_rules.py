"""The rules over weeks, without a disk: counts from prefix sums."""

import random
from itertools import accumulate

import pytest

from slo.watch.alerting.alerts import Alert, AlertChange, step
from slo.watch.alerting.rules import Rule, make_rulebook, read_burn
from slo.watch.budget.budget import parse_period
from slo.watch.budget.burn import Guard, Pair, breached, chosen, lint, load_tables
from slo.watch.model.counts import Counts
from slo.watch.model.objectives import Goal, parse_goal, parse_goals

TABLES = load_tables()
P95 = parse_goal("latency", "p95 <= 150ms")
MONTH = parse_period("30d")


def fired(goal: Goal, bad: list[int], total: int) -> list[tuple[int, Rule]]:
    """Minute and rule of every alert over minutes with `total` requests each, so many of them bad."""
    book = make_rulebook([goal], TABLES, period=MONTH)
    sums = [0, *accumulate(bad)]
    alerts: dict[str, Alert] = {}
    found = []
    for minute in range(1, len(bad) + 1):

        def counts(_: Goal, length_s: float, end: int = minute) -> Counts:
            start = max(0, end - int(length_s // 60))
            number = (end - start) * total
            return Counts(number - (sums[end] - sums[start]), number)

        for burn in book.burn:
            windows = {length_s: counts(goal, length_s) for length_s in burn.lengths_s}
            reading = read_burn(burn, windows, age_s=minute * 60)
            alert, change = step(alerts.get(burn.rule.key, Alert()), burn.rule, reading, minute * 60.0)
            alerts[burn.rule.key] = alert
            if change is AlertChange.FIRED:
                found.append((minute, burn.rule))
    return found


@pytest.mark.parametrize("total", [12, 60, 600], ids=["fewest probes", "a request a second", "ten a second"])
def test_thirty_days_at_four_percent_wake_nobody(total: int) -> None:
    source = random.Random(total)
    spread = (0.04 * 0.96 * total) ** 0.5
    bad = [min(total, max(0, round(source.gauss(0.04 * total, spread)))) for _ in range(30 * 24 * 60)]
    assert [rule.severity for _, rule in fired(P95, bad, total) if rule.severity in ("critical", "page")] == []


def test_thirty_days_just_beyond_the_budget_are_a_ticket_and_no_page() -> None:
    found = fired(P95, [36] * (10 * 24 * 60), 600)  # 6 % bad
    assert {rule.severity for _, rule in found} == {"ticket"}


@pytest.mark.parametrize(
    ("long", "short", "expected"),
    [
        pytest.param(Counts(300, 600), Counts(60, 120), True, id="half is bad"),
        pytest.param(Counts(300, 600), Counts(120, 120), False, id="over already: the short window is clear"),
        pytest.param(Counts(590, 600), Counts(0, 120), False, id="just begun: the long window is clear"),
        pytest.param(Counts(0, 1), Counts(0, 1), False, id="one bad out of one"),
        pytest.param(Counts(15, 19), Counts(0, 4), False, id="fewer than twenty"),
        pytest.param(Counts(6, 10**4), Counts(0, 0), None, id="no request in the short window"),
        pytest.param(Counts(360, 600), Counts(72, 120), False, id="exactly at the threshold"),
    ],
)
def test_a_pair_is_breached_when_both_windows_are(long: Counts, short: Counts, expected: bool | None) -> None:
    pair = Pair(severity="critical", long_s=300, short_s=60, factor=8)
    assert breached(pair, long, short, 0.05, Guard()) is expected


@pytest.mark.parametrize(
    ("preset", "goal", "error"),
    [
        pytest.param("google", "p90 <= 150ms", False, id="14.4 × 10 % would ask for more than all requests: 80 % do"),
        pytest.param("google", "p95 <= 150ms", False, id="14.4 × 5 % asks for 72 %"),
        pytest.param("p95", "p95 <= 150ms", False, id="the table that is made for it"),
    ],
)
def test_no_row_asks_for_more_than_can_happen(preset: str, goal: str, error: bool) -> None:
    book = make_rulebook([parse_goal("latency", goal)], TABLES, period=MONTH, preset=preset)
    assert any(finding.level == "error" for finding in book.findings) is error
    assert all(pair.threshold(burn.goal.budget) < 1 for burn in book.burn for pair in burn.pairs)


def test_lint_says_how_much_must_be_slow() -> None:
    pair = Pair(severity="page", long_s=3600, short_s=300, factor=14.4)
    (finding,) = lint("latency", [pair], 0.05, 30 * 86400)
    assert (finding.level, "above 72% bad" in finding.message) == ("warning", True)


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        pytest.param("30d", [(120, 60), (300, 60), (1800, 300), (21600, 1800), (259200, 21600)], id="as written"),
        pytest.param("7d", [(120, 60), (120, 60), (420, 120), (5040, 420), (60480, 5040)], id="a week"),
        pytest.param("24h", [(120, 60), (120, 60), (120, 60), (720, 60), (8640, 720)], id="a day"),
    ],
)
def test_windows_follow_the_period_and_never_fall_below_what_can_be_seen(
    period: str, expected: list[tuple[float, float]]
) -> None:
    pairs = TABLES["p95"].scaled(parse_period(period).length_s, 60, 0.05)
    assert [(pair.long_s, pair.short_s) for pair in pairs] == expected


def test_small_budgets_take_the_strict_table_by_themselves() -> None:
    goals = parse_goals({"latency": "p95 <= 150ms", "availability": "errors <= 0.2%"})
    assert [chosen(TABLES, "auto", goal.budget).name for goal in goals] == ["p95", "strict"]


def test_a_young_history_is_not_judged_over_windows_that_it_cannot_fill() -> None:
    found = fired(P95, [60] * 60, 600)  # 10 % bad from the first minute on
    assert found == []
    found = fired(P95, [120] * (4 * 60), 600)  # 20 % bad
    assert [(minute // 60, rule.severity) for minute, rule in found] == [(3, "ticket")]
