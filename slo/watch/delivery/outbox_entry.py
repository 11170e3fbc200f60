"""One message on its way to one channel, and how a notification is written to disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from slo.watch.alerting.notification import Notification


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


def encode(notification: Notification) -> str:
    """JSON of a notification, for the disk. A half of a surrogate pair, which no channel could send, becomes `?`."""
    data = {name: getattr(notification, name) for name in Notification.__dataclass_fields__}
    data |= {"labels": dict(notification.labels), "annotations": dict(notification.annotations)}
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode()


def decode(body: str) -> Notification:
    """The notification that `encode` wrote; fields of later versions are left out."""
    known = set(Notification.__dataclass_fields__)
    return Notification(**{name: value for name, value in json.loads(body).items() if name in known})
