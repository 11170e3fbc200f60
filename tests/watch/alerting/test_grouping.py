from dataclasses import replace

import pytest

from slo.errors import StoreError
from slo.watch.alerting.alerts import Alert, Phase
from slo.watch.alerting.grouping import (
    Group,
    GroupMember,
    Notice,
    Policy,
    covered,
    endings,
    group_from_json,
    notices,
    tier,
)
from slo.watch.alerting.rules import Rule
from slo.watch.model.notification import Severity

POLICY = Policy(group_interval_s=300, repeat_s=3600)


def rule(name: str, severity: Severity = "page", goal: str = "", recheck_s: float = 0.0) -> Rule:
    return Rule(alert=name, severity=severity, goal=goal, recheck_s=recheck_s)


def entry(of: Rule, *, firing: bool = True, muted: bool = False) -> GroupMember:
    return GroupMember(
        of, Alert(phase=Phase.FIRING if firing else Phase.INACTIVE, since_s=0.0 if firing else None), muted
    )


A, B, WORSE = rule("A"), rule("B"), rule("W", "critical")


def told(*steps: tuple[float, list[GroupMember]]) -> list[str | None]:
    """Kinds of the messages over steps of (minute, alerts)."""
    group = Group()
    kinds: list[str | None] = []
    for minute, entries in steps:
        group, notice = notices(group, entries, minute * 60, POLICY)
        kinds.append(notice.kind if notice else None)
    return kinds


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param([(0, [entry(A)]), (1, [entry(A)])], ["firing", None], id="told once"),
        pytest.param([(0, [entry(A)]), (1, [entry(A), entry(B)]), (5, [entry(A), entry(B)])],
                     ["firing", None, "joined"], id="another alert waits for the group interval"),
        pytest.param([(0, [entry(A)]), (1, [entry(A), entry(WORSE)])], ["firing", "escalated"],
                     id="a more urgent one does not"),
        pytest.param([(0, [entry(WORSE)]), (5, [entry(WORSE), entry(A)])], ["firing", "joined"],
                     id="a less urgent one joins"),
        pytest.param([(0, [entry(A)]), (59, [entry(A)]), (60, [entry(A)])], ["firing", None, "repeat"], id="repeated"),
        pytest.param([(0, [entry(A)]), (2, [entry(A, firing=False)]), (3, [entry(A, firing=False)])],
                     ["firing", "resolved", None], id="resolved once"),
        pytest.param([(0, [entry(A), entry(B)]), (2, [entry(A, firing=False), entry(B)])], ["firing", None],
                     id="not over while one is left"),
        pytest.param([(0, [entry(A, muted=True)]), (2, [entry(A, firing=False)])], [None, None],
                     id="never told, so never resolved"),
        pytest.param([(0, [entry(A, muted=True)]), (2, [entry(A)])], [None, "firing"], id="told when no longer muted"),
        pytest.param([(0, [entry(A)]), (61, [entry(A, muted=True)])], ["firing", None], id="muted: not repeated"),
        pytest.param([(0, [entry(A)]), (1, [])], ["firing", None], id="its rule is gone from the configuration"),
    ],
)  # fmt: skip
def test_what_people_hear(steps: list[tuple[float, list[GroupMember]]], expected: list[str | None]) -> None:
    assert told(*steps) == expected


def message(group: Group, entries: list[GroupMember], now_s: float) -> tuple[Group, Notice]:
    group, notice = notices(group, entries, now_s, POLICY)
    assert notice is not None
    return group, notice


def test_the_leading_alert_changes_only_with_an_escalation() -> None:
    group, first = message(Group(), [entry(B)], 0)
    group, second = message(group, [entry(A), entry(B)], 300)
    group, third = message(group, [entry(A), entry(B), entry(WORSE)], 360)
    group, last = message(group, [entry(of, firing=False) for of in (A, B, WORSE)], 420)
    assert [notice.rules[0].alert for notice in (first, second, third, last)] == ["B", "B", "W", "W"]
    assert (last.severity, last.kind) == ("critical", "resolved")


def test_messages_are_numbered_through_incidents() -> None:
    group, first = message(Group(), [entry(A)], 0)
    group, second = message(group, [entry(A, firing=False)], 60)
    group, third = message(group, [entry(A)], 120)
    assert [notice.sequence for notice in (first, second, third)] == [1, 2, 3]


PAGE = rule("Burn", "page", "latency", recheck_s=300)
CRITICAL = rule("Burn", "critical", "latency")
OTHER = rule("Burn", "page", "availability")


@pytest.mark.parametrize(
    ("critical", "ended_s", "expected"),
    [
        pytest.param(entry(CRITICAL), None, {PAGE.key}, id="the critical one tells it"),
        pytest.param(entry(CRITICAL, muted=True), None, set(), id="a muted one tells nothing"),
        pytest.param(entry(CRITICAL, firing=False), 1000 - 400, {PAGE.key}, id="its own window must forget first"),
        pytest.param(entry(CRITICAL, firing=False), 1000 - 421, set(), id="what goes on after that is news"),
        pytest.param(entry(CRITICAL, firing=False), None, set(), id="there was no critical one"),
    ],
)
def test_a_slower_alert_of_the_same_goal_is_covered(
    critical: GroupMember, ended_s: float | None, expected: set[str]
) -> None:
    ended = {} if ended_s is None else {CRITICAL.key: ended_s}
    assert covered([critical, entry(PAGE), entry(OTHER)], ended, 1000, POLICY) == expected


def test_nothing_is_resolved_while_a_covered_alert_fires_and_the_last_minute_was_bad() -> None:
    group, _ = message(Group(), [entry(CRITICAL)], 0)
    over = entry(CRITICAL, firing=False)
    still = [over, entry(PAGE)]
    group, notice = notices(group, still, 60, POLICY, covered={PAGE.key})
    assert notice is None
    group, notice = message(group, still, 420)  # its cover has ended: news, and not the beginning of another incident
    assert notice.kind == "joined"
    group, notice = message(group, [over, entry(PAGE, firing=False)], 480)
    assert notice.kind == "resolved"


def test_a_covered_alert_that_fires_from_memory_holds_up_no_all_clear() -> None:
    group, _ = message(Group(), [entry(CRITICAL)], 0)
    memory = replace(entry(PAGE), eased=True)
    _, notice = notices(group, [entry(CRITICAL, firing=False), memory], 60, POLICY, covered={PAGE.key})
    assert notice is not None
    assert notice.kind == "resolved"


def test_endings_remember_a_day() -> None:
    assert endings({"old": 0.0, "new": 90_000.0}, [entry(A), entry(B, firing=False)], 100_000) == {
        "new": 90_000.0,
        A.key: 100_000,
    }


def test_what_wakes_people_is_told_apart_from_what_waits() -> None:
    assert [tier(severity) for severity in ("critical", "page", "ticket", "info")] == ["wake", "wake", "work", "work"]


def test_the_group_survives_as_json() -> None:
    group, _ = notices(Group(), [entry(A)], 0, POLICY)
    assert group_from_json(group.to_json()) == group
    with pytest.raises(StoreError):
        group_from_json({"nothing": 1})
