"""
Push to Alertmanager's v2 API, to every peer of a cluster: peers exchange silences and what was notified, not alerts.

An alert lives there until its `endsAt`: a firing one is pushed with now + 4 × `repeat_every_s` and again before
that, so that it resolves by itself soon after the watcher has died (when the heartbeat rule speaks up instead).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import orjson

from slo.clock import iso
from slo.watch.delivery.sinks.codes import by_status
from slo.watch.delivery.sinks.outcome import Delivered, Limit, Outcome, Retry
from slo.watch.delivery.sinks.secret import Secret, mask
from slo.watch.delivery.sinks.transport import Wire, checked_address
from slo.watch.delivery.sinks.webhook import annotations_of, labels_of
from slo.watch.delivery.sinks.wording import Language
from slo.watch.model.notification import Notification

LIFETIMES = 4  # a firing alert survives this many missed repeats, less one


class AlertmanagerSink:
    """Pushes to `peers` (base addresses); delivered when one of them took it, since each notifies by itself."""

    limit: Limit | None = None
    digest_bytes = 100_000

    def __init__(
        self, peers: Sequence[Secret], *, wire: Wire, repeat_every_s: float = 60.0, language: Language = "zh"
    ) -> None:
        self._peers = [checked_address(peer, "alertmanager") for peer in peers]
        self.repeat_every_s: float | None = repeat_every_s
        self._lifetime_s = LIFETIMES * repeat_every_s
        self._wire = wire
        self._language = language

    def __repr__(self) -> str:
        return f"alertmanager with {len(self._peers)} peers"

    def send(self, notification: Notification, now: float) -> Outcome:
        body = orjson.dumps([self.alert(notification, now)])
        # Side by side: a peer that is down would take the time of all others. Each push ends by itself.
        with ThreadPoolExecutor(max_workers=len(self._peers)) as pool:
            pushed = pool.map(lambda peer: self._push(peer, body), self._peers)
        outcomes = [
            (urlsplit(peer.reveal()).hostname, outcome) for peer, outcome in zip(self._peers, pushed, strict=True)
        ]
        refused = [(host, outcome) for host, outcome in outcomes if not isinstance(outcome, Delivered)]
        if len(refused) == len(outcomes):
            return refused[0][1]
        return Delivered(detail="; ".join(f"{host}: {outcome.reason}" for host, outcome in refused))

    def alert(self, notification: Notification, now: float) -> dict[str, object]:
        """The pushed item. A resolve ends now at the latest: Alertmanager ignores one that lies ahead."""
        ends = min(now + self._lifetime_s, notification.ends_at_s or math.inf)
        if notification.status == "resolved":
            ends = now if notification.ends_at_s is None else min(notification.ends_at_s, now)
        alert: dict[str, object] = {
            "labels": labels_of(notification),
            "annotations": annotations_of(notification, self._language),
            "startsAt": iso(min(notification.starts_at_s, ends)),
            "endsAt": iso(ends),
        }
        if notification.generator_url:
            alert["generatorURL"] = notification.generator_url
        return alert

    def _push(self, peer: Secret, body: bytes) -> Outcome:
        url = f"{peer.reveal().rstrip('/')}/api/v2/alerts"
        reply = self._wire.post(url, body, {"Content-Type": "application/json"}, peer)
        if isinstance(reply, Retry):
            return reply
        return by_status(reply.status, mask(reply.text, *_credentials(peer)), reply.retry_after_s)


def _credentials(peer: Secret) -> tuple[Secret, ...]:
    """A peer's address is worth masking only if it carries a password."""
    return (peer,) if "@" in peer.reveal() else ()
