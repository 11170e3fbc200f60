"""Who hears of what: channels by severity, and where a message goes when its channel does not take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slo.watch.model.notification import Notification, Severity

# Sent before all others, and out of the reserve of a limited robot.
URGENT_RANK = 1


@dataclass(frozen=True, kw_only=True)
class Routes:
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
