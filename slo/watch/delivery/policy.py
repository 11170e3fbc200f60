"""
Where a message goes, how often an undelivered one is tried, and what one try brought.

Channels are chosen by severity; where its channel does not take it, a message goes to the fallback.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from slo.clock import iso
from slo.watch.delivery.sinks.outcome import Delivered, Failed, Outcome, Retry
from slo.watch.model.notification import Notification, Severity

# Sent before all others, and out of the reserve of a limited robot.
URGENT_RANK = 1


@dataclass(frozen=True, kw_only=True)
class ChannelRoutes:
    """`channels` are all that exist; a severity without a row of its own goes to all of them."""

    channels: Sequence[str]
    by_severity: Mapping[Severity, Sequence[str]] = field(default_factory=dict)
    fallback: Sequence[str] = ()

    def channels_for(self, notification: Notification) -> tuple[str, ...]:
        """Where `notification` goes. A resolve goes where its alert went, since its severity is the same."""
        return tuple(self.by_severity.get(notification.severity) or self.channels)

    def fallback_for(self, channel: str) -> tuple[str, ...]:
        """Where a message for `channel` goes instead."""
        return tuple(name for name in self.fallback if name != channel)


def rank_of(notification: Notification) -> int:
    """Order of sending, lowest first: critical, resolves, then by severity."""
    if notification.severity == "critical":
        return 0
    if notification.status == "resolved":
        return URGENT_RANK
    return {"page": 2, "ticket": 3, "info": 4}[notification.severity]


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Pauses double from `first_s` to `cap_s`, each cut by chance to between half and all of it.

    After `fallback_after` attempts an urgent message also goes to the fallback; after `give_up_s` it is dead.
    """

    first_s: float = 5.0
    cap_s: float = 300.0
    fallback_after: int = 3
    give_up_s: float = 6 * 3600.0

    def gives_up(self, waited_s: float, attempts: int) -> bool:
        """Was it tried for long enough? Not by the clock alone, which may have jumped: by a good part of the tries."""
        return waited_s >= self.give_up_s and attempts >= self.give_up_s / self.cap_s / 4

    def pause_s(self, attempts: int, chance: random.Random) -> float:
        """Seconds until the next attempt after `attempts` failed ones."""
        longest = min(self.cap_s, self.first_s * 2.0 ** min(attempts - 1, 30))
        return longest * chance.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at one channel: for logs, metrics and the screen. Free of secrets, as outcomes are."""

    event_id: str
    sink: str
    title: str
    messages: int
    waited_s: float
    outcome: Outcome

    @property
    def delivered(self) -> bool:
        return isinstance(self.outcome, Delivered)

    def __str__(self) -> str:
        many = f" ({self.messages} messages in one)" if self.messages > 1 else ""
        match self.outcome:
            case Delivered(detail=detail):
                result = f"delivered{f' ({detail})' if detail else ''}"
            case Retry(reason=reason, diagnosis=diagnosis):
                result = f"not delivered, trying again: {reason}{f' → {diagnosis}' if diagnosis else ''}"
            case Failed(reason=reason, diagnosis=diagnosis):
                result = f"refused: {reason} → {diagnosis}"
        return f"{self.sink}: {result}: {self.title}{many}"


RESULTS = ("delivered", "retry", "failed")


def metric_text(channels: Iterable[str], totals: Mapping[tuple[str, str], int], failed_s: Mapping[str, float]) -> str:
    """Attempts by channel and result, and when each last lost a message, as Prometheus text.

    All that may ever be there is there from the start, at zero: the first refusal is an increase, too.
    """
    name, last = "slo_alert_notifications_total", "slo_alert_last_failure_timestamp_seconds"
    known = sorted({*channels, *(channel for channel, _ in totals)})
    totals = dict.fromkeys(((channel, result) for channel in known for result in RESULTS), 0) | dict(totals)
    rows = [f'{name}{{channel="{channel}",result="{result}"}} {n}' for (channel, result), n in sorted(totals.items())]
    head = f"# HELP {name} Attempts to deliver an alert, by channel and result.\n# TYPE {name} counter\n"
    rows += [f"# HELP {last} When a message was refused or given up, by channel; 0 for never.\n# TYPE {last} gauge"]
    rows += [f'{last}{{channel="{channel}"}} {failed_s.get(channel, 0.0):.3f}' for channel in known]
    return head + "".join(f"{row}\n" for row in rows)


def in_words(channel: str, state: str, count: int, since_s: float, reason: str) -> str:
    """`dingtalk: 2 dead since 2026-11-23T14:10:58.123Z, last: code 310000: …`."""
    return f"{channel}: {count} {state} since {iso(since_s)}{f', last: {reason}' if reason else ''}"
