"""
Many notifications in one message: what is left to say when a robot may not be spoken to any faster.

Equal titles become one line with a count, most urgent first. Nothing critical is ever only counted: what does not fit
stays out of the digest and waits. The rest that does not fit is counted by severity.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slo.watch.alerting.words import SEVERITY_ZH, STATUS_ZH
from slo.watch.model.notification import SEVERITIES, Notification, Severity

_MARKS = {"firing": "🔴", "resolved": "🟢", "test": "🔵"}
_NAMES_ZH = {"resolved": STATUS_ZH["resolved"], **{str(name): zh for name, zh in SEVERITY_ZH.items()}}
_REST_ZH = "另有 {} 条未列出：{}（`slo alert status` 查看全部）"
_REST_EN = "{} more, not listed: {} (`slo alert status` shows all)"
_ROOM_FOR_REST = 300  # bytes kept for the line that counts the rest


@dataclass(frozen=True, slots=True)
class Digest:
    """The merged message, and the event ids that it tells of."""

    notification: Notification
    members: tuple[str, ...]


def merge(notifications: Sequence[Notification], room: int, now: float) -> Digest | None:
    """A digest of `notifications`, its text within `room` bytes; None when not even one line fits.

    Order of equals is kept. The digest is as severe as the worst firing member, and its id follows from its members'.
    """
    ordered = sorted(notifications, key=_rank)
    listed, rest = _listed(ordered, room - _ROOM_FOR_REST)
    if not listed:
        return None
    counted = [n for n in rest if n.severity != "critical"]
    members = [n for group in listed.values() for n in group] + counted
    # Counted, not listed: the severities, since names would not fit.
    more: Counter[Severity] = Counter(n.severity for n in counted)
    worst = min((n for n in members if n.status != "resolved"), key=_rank, default=members[0])
    resolved = all(n.status == "resolved" for n in members)
    ids = tuple(n.event_id for n in members)
    return Digest(
        Notification(
            event_id=f"digest-{hashlib.sha256(' '.join(sorted(ids)).encode()).hexdigest()[:24]}",
            status="resolved" if resolved else worst.status,
            severity=worst.severity,
            title_zh=f"合并 {len(members)} 条告警：{_counts(members, _NAMES_ZH)}",
            title_en=f"{len(members)} alerts in one message: {_counts(members, {})}",
            text_zh=_text(listed, lambda n: n.title_zh, _rest(more, _NAMES_ZH, _REST_ZH)),
            text_en=_text(listed, lambda n: n.title_en, _rest(more, {}, _REST_EN)),
            labels={"alertname": "SloAlertDigest"},
            starts_at_s=min(n.starts_at_s for n in members),
            ends_at_s=now if resolved else None,
            group_key="digest",
        ),
        ids,
    )


def _rank(notification: Notification) -> tuple[int, int]:
    return SEVERITIES.index(notification.severity), notification.status == "resolved"


def _key(notification: Notification) -> tuple[str, str, str]:
    return notification.status, notification.severity, notification.title_zh


def _line(notification: Notification, title: str, count: int) -> str:
    times = f" ×{count}" if count > 1 else ""
    return f"- {_MARKS[notification.status]} {' '.join(title.split())[:120]}{times}"


def _listed(
    ordered: Sequence[Notification], room: int
) -> tuple[dict[tuple[str, str, str], list[Notification]], list[Notification]]:
    """Groups of equal titles as far as their lines fit, and those left over."""
    groups: dict[tuple[str, str, str], list[Notification]] = {}
    for notification in ordered:
        groups.setdefault(_key(notification), []).append(notification)
    listed: dict[tuple[str, str, str], list[Notification]] = {}
    rest: list[Notification] = []
    for key, members in groups.items():
        # Both languages may be shown, one after the other.
        size = sum(len(_line(members[0], t, 9999).encode()) + 1 for t in (members[0].title_zh, members[0].title_en))
        if size <= room and not rest:
            listed[key] = members
            room -= size
        else:
            rest += members
    return listed, rest


def _counts(members: Sequence[Notification], names: Mapping[str, str]) -> str:
    """`critical 3 · page 14 · resolved 2`, by their `names`."""
    found = Counter("resolved" if n.status == "resolved" else n.severity for n in members)
    return " · ".join(f"{names.get(name, name)} {found[name]}" for name in (*SEVERITIES, "resolved") if found[name])


def _rest(more: Counter[Severity], names: Mapping[str, str], form: str) -> str:
    """The line that counts what is not listed; empty when all is."""
    kinds = [f"{names.get(severity, severity)} {more[severity]}" for severity in SEVERITIES if more[severity]]
    return form.format(sum(more.values()), " · ".join(kinds)) if kinds else ""


def _text(
    listed: dict[tuple[str, str, str], list[Notification]], title: Callable[[Notification], str], rest: str
) -> str:
    lines = [_line(group[0], title(group[0]), len(group)) for group in listed.values()]
    return "\n".join([*lines, f"\n{rest}"] if rest else lines)
