"""
What people hear of the alerts, and when; pure. Alertmanager's semantics, without needing Alertmanager.

Two groups for one model at one endpoint: what wakes people (critical, page) and what waits for the morning (ticket,
info). A recovery is thus told when nobody need be awake any more, even if a ticket stays open for days. Alerts of one
group are told together:

* firing     the first alert of a quiet group, at once: an evaluation is a minute of waiting already
* escalated  a more urgent alert than any told so far, at once
* joined     another alert, no more urgent: after `group_interval_s` since the last message
* repeat     nothing new for `repeat_s`, still firing
* resolved   nothing told is firing any more, and nothing new that is more than the memory of its windows; only if
             firing was told

Covered alerts: when a burn is critical, the pages and tickets of the same goal say the same thing later and longer.
They are not told while a more urgent alert of their goal fires, nor until their own windows have had the time to
forget it. What still fires then is news. Nor is anything called resolved while a covered alert of the group fires and
the last minute still missed its goal: it would be told again a few minutes later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from slo.errors import StoreError
from slo.watch.alerting.alerts import Alert
from slo.watch.alerting.rules import Rule
from slo.watch.model.notification import SEVERITIES, Severity

Tier = Literal["wake", "work"]
TIERS: tuple[Tier, ...] = ("wake", "work")
NoticeKind = Literal["firing", "escalated", "joined", "repeat", "resolved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Waits in seconds."""

    group_interval_s: float = 300.0
    repeat_s: float = 4 * 3600.0
    slack_s: float = 120.0  # beyond a covered alert's own short window


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What was told about one group. `sequence` numbers its messages, so that each has an identity that survives.

    `lead` is the alert that the messages are headed by: the first one of the highest severity so far. It changes with
    an escalation only, so that a receiver which goes by labels sees one alert begin and end.
    """

    lead: str = ""
    told: tuple[str, ...] = ()
    severity: Severity | None = None
    started_s: float | None = None
    last_s: float | None = None
    sequence: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `group_from_json` reads it."""
        return asdict(self)


def group_from_json(data: dict[str, Any]) -> Group:
    """The state that `to_json` described. Raises `StoreError` if it is not one."""
    try:
        return Group(**{**data, "told": tuple(data["told"])})
    except (KeyError, TypeError) as error:
        raise StoreError(f"not a group's state: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message to write: `rules` are the alerts it is about, the leading one first."""

    kind: NoticeKind
    severity: Severity
    rules: tuple[Rule, ...]
    started_s: float
    sequence: int


@dataclass(frozen=True, slots=True)
class GroupMember:
    """An alert as grouping sees it. `eased`: its goal was met in the last minute, so it fires from memory."""

    rule: Rule
    alert: Alert
    muted: bool = False
    eased: bool = False


def tier(severity: Severity) -> Tier:
    """`wake` or `work`."""
    return "wake" if severity in ("critical", "page") else "work"


def notices(
    group: Group, entries: Sequence[GroupMember], now_s: float, policy: Policy, *, covered: Collection[str] = ()
) -> tuple[Group, Notice | None]:
    """What to tell of one group after one evaluation: at most one message, and the group's state after it.

    `entries` are the alerts of the group, `covered` the keys of those that another alert tells already.
    """
    news = _by_urgency(
        entry for entry in entries if entry.alert.firing and not entry.muted and entry.rule.key not in covered
    )
    told = _by_urgency(entry for entry in entries if entry.alert.firing and entry.rule.key in group.told)
    if not news and not told:
        goes_on = any(entry.alert.firing and not entry.muted and not entry.eased for entry in entries)
        return (group, None) if goes_on else _resolved(group, entries)
    shown = _by_urgency({entry.rule.key: entry for entry in (*news, *told) if not entry.muted}.values())
    kind = _kind(group, news, now_s, policy) if shown else None
    if kind is None:
        return group, None
    severity = shown[0].rule.severity
    started_s = group.started_s
    if started_s is None:
        started_s = min(now_s if entry.alert.since_s is None else entry.alert.since_s for entry in shown)
    after = replace(
        group,
        lead=shown[0].rule.key if kind in ("firing", "escalated") else group.lead,
        told=tuple(dict.fromkeys((*group.told, *(entry.rule.key for entry in shown)))),
        severity=_worst(severity, group.severity),
        started_s=started_s,
        last_s=now_s,
        sequence=group.sequence + 1,
    )
    return after, Notice(
        kind=kind, severity=severity, rules=_led_by(after.lead, shown), started_s=started_s, sequence=after.sequence
    )


def _kind(group: Group, news: Sequence[GroupMember], now_s: float, policy: Policy) -> NoticeKind | None:
    if group.severity is None or group.last_s is None:
        return "firing"
    fresh = [entry for entry in news if entry.rule.key not in group.told]
    if any(_urgency(entry.rule.severity) < _urgency(group.severity) for entry in fresh):
        return "escalated"
    waited_s = now_s - group.last_s
    if fresh and waited_s >= policy.group_interval_s:
        return "joined"
    return "repeat" if waited_s >= policy.repeat_s else None


def _resolved(group: Group, entries: Sequence[GroupMember]) -> tuple[Group, Notice | None]:
    if group.severity is None or group.started_s is None:
        return group, None
    rules = _led_by(group.lead, _by_urgency(entry for entry in entries if entry.rule.key in group.told))
    after = Group(sequence=group.sequence + 1)
    if not rules:  # the rules that were told are no longer configured: nothing left to say it of
        return after, None
    return after, Notice(
        kind="resolved", severity=group.severity, rules=rules, started_s=group.started_s, sequence=after.sequence
    )


def covered(entries: Sequence[GroupMember], ended: Mapping[str, float], now_s: float, policy: Policy) -> frozenset[str]:
    """Keys of alerts that a more urgent one of the same goal tells, or told until a moment ago; see the module."""
    return frozenset(entry.rule.key for entry in entries if _is_covered(entry, entries, ended, now_s, policy))


def endings(ended: Mapping[str, float], entries: Sequence[GroupMember], now_s: float) -> dict[str, float]:
    """When each alert that could be told was last seen firing; what is older than a day covers nothing."""
    kept = {key: at_s for key, at_s in ended.items() if now_s - at_s < 86400}
    return {**kept, **{entry.rule.key: now_s for entry in entries if entry.alert.firing and not entry.muted}}


def _is_covered(
    entry: GroupMember, entries: Sequence[GroupMember], ended: Mapping[str, float], now_s: float, policy: Policy
) -> bool:
    for other in entries:
        if other.rule.goal != entry.rule.goal or _urgency(other.rule.severity) >= _urgency(entry.rule.severity):
            continue
        if other.alert.firing and not other.muted:
            return True
        ended_s = ended.get(other.rule.key)
        if ended_s is not None and 0 <= now_s - ended_s < entry.rule.recheck_s + policy.slack_s:
            return True
    return False


def _urgency(severity: Severity) -> int:
    return SEVERITIES.index(severity)


def _led_by(lead: str, entries: Sequence[GroupMember]) -> tuple[Rule, ...]:
    return tuple(entry.rule for entry in sorted(entries, key=lambda entry: entry.rule.key != lead))


def _worst(a: Severity, b: Severity | None) -> Severity:
    return a if b is None or _urgency(a) < _urgency(b) else b


def _by_urgency(entries: Iterable[GroupMember]) -> list[GroupMember]:
    return sorted(entries, key=lambda entry: (_urgency(entry.rule.severity), entry.rule.key))
