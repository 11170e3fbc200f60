"""One message on its way to one channel, what is sent at once, and how a notification is written to disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from slo.watch.alerting.notification import Notification
from slo.watch.delivery.sinks.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Entry:
    """One message on its way to one channel.

    `rank` orders by urgency; `instead_of` names the channel that it was meant for, if that failed.
    """

    seq: int
    sink: str
    rank: int
    attempts: int
    doubtful: bool
    instead_of: str
    enqueued_s: float
    notification: Notification

    def worded(self) -> Notification:
        """The message, saying so if it may have been sent before or comes by another channel than meant."""
        n = self.notification
        if self.doubtful:
            n = replace(n, title_zh=f"[重发] {n.title_zh}", title_en=f"[resent] {n.title_en}")
        if self.instead_of:
            n = replace(
                n,
                text_zh=f"{n.text_zh}\n\n（备用通道：{self.instead_of} 未能送达）",
                text_en=f"{n.text_en}\n\n(by fallback: {self.instead_of} did not deliver)",
            )
        return n


@dataclass(slots=True, eq=False)
class Job:
    """Claimed entries, the one message that tells of them, and what became of it.

    A `repeat` is of an alert that was delivered: nothing is claimed, and it goes on until `until_s`.
    """

    entries: tuple[Entry, ...]
    message: Notification
    digest: bool = False
    repeat: bool = False
    until_s: float | None = None
    outcome: Outcome | None = None

    @property
    def channel(self) -> str:
        return self.entries[0].sink


def encode(notification: Notification) -> str:
    """JSON of a notification, for the disk. A half of a surrogate pair, which no channel could send, becomes `?`."""
    data = {name: getattr(notification, name) for name in Notification.__dataclass_fields__}
    data |= {"labels": dict(notification.labels), "annotations": dict(notification.annotations)}
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode()


def decode(body: str) -> Notification:
    """The notification that `encode` wrote; fields of later versions are left out."""
    known = set(Notification.__dataclass_fields__)
    return Notification(**{name: value for name, value in json.loads(body).items() if name in known})
