"""One message on its way to one channel, what is sent at once, and how a notification is written to disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from slo.units import show_duration
from slo.watch.alerting.words import duration_zh
from slo.watch.delivery.sinks.outcome import Outcome
from slo.watch.model.notification import Notification

LATE_WORD_S = 300.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message on its way to one channel.

    `rank` orders by urgency; `instead_of` names the channel that it was meant for, if that failed. `overtook` says of
    an all-clear that it has overtaken its alert.
    """

    seq: int
    sink: str
    rank: int
    attempts: int
    doubtful: bool
    instead_of: str
    enqueued_s: float
    notification: Notification
    overtook: bool = False

    def worded(self, now: float) -> Notification:
        """The message, saying so if it is late, may have been sent before, or comes by another channel than meant."""
        n, late_s = self.notification, now - self.enqueued_s
        if self.overtook:
            n = replace(
                n,
                text_zh=f"{n.text_zh}\n\n（告警消息当时未能送达，现与恢复一并通知。）",
                text_en=f"{n.text_en}\n\n(The alert itself could not be delivered in time; this tells of both.)",
            )
        elif late_s >= LATE_WORD_S:
            n = replace(
                n,
                text_zh=f"{n.text_zh}\n\n（本消息迟到 {duration_zh(late_s)}：通道此前不可用。）",
                text_en=f"{n.text_en}\n\n({show_duration(late_s)} late: the channel was not available.)",
            )
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
class SendJob:
    """Claimed entries, the one message that tells of them, and what became of it.

    A `repeat` is of an alert that was delivered: nothing is claimed, and it goes on until `until_s`.
    """

    entries: tuple[Delivery, ...]
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
