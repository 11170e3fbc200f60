"""
The generic webhook: Alertmanager's v4 body, so that whatever takes Alertmanager's webhooks takes ours, and HMAC.

`X-SLO-Event-Id` names the event (a repetition carries the same), `X-SLO-Timestamp` the second of sending, and
`X-SLO-Signature: sha256=hex(hmac(secret, timestamp + "." + body))` proves both and the body.
2xx is delivery, 408/425/429/5xx are tried again, anything else needs a person.
"""

from __future__ import annotations

import hashlib
import hmac

import orjson

from slo.watch.delivery.sinks.codes import by_status
from slo.watch.delivery.sinks.limiter import Limit
from slo.watch.delivery.sinks.outcome import Outcome, Retry
from slo.watch.delivery.sinks.prometheus_shape import alert_of
from slo.watch.delivery.sinks.secret import Secret, mask
from slo.watch.delivery.sinks.wire import Wire, checked_address
from slo.watch.delivery.sinks.wording import Language
from slo.watch.model.notification import Notification


class WebhookSink:
    """Posts to `address`; signs when there is a `secret`."""

    limit: Limit | None = None
    repeat_every_s: float | None = None
    digest_bytes = 100_000

    def __init__(
        self, address: Secret, *, wire: Wire, secret: Secret | None = None, language: Language = "zh",
        external_url: str = "",
    ) -> None:  # fmt: skip
        self._address = checked_address(address, "webhook")
        self._secret = secret
        self._wire = wire
        self._language = language
        self._external_url = external_url

    def __repr__(self) -> str:
        return f"webhook at the {self._address}"

    def send(self, notification: Notification, now: float) -> Outcome:
        body = self.body(notification)
        stamp = str(int(now))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "xinference-slo",
            "X-SLO-Event-Id": notification.event_id,
            "X-SLO-Timestamp": stamp,
        }
        secrets = [self._address]
        if self._secret:
            headers["X-SLO-Signature"] = f"sha256={sign(self._secret, stamp, body)}"
            secrets.append(self._secret)
        reply = self._wire.post(self._address.reveal(), body, headers, *secrets)
        if isinstance(reply, Retry):
            return reply
        return by_status(reply.status, mask(reply.text, *secrets), reply.retry_after_s)

    def body(self, notification: Notification) -> bytes:
        """The v4 document of a group of one."""
        alert = alert_of(notification, self._language)
        document = {
            "version": "4",
            "groupKey": notification.group_key,
            "truncatedAlerts": 0,
            "status": alert["status"],
            "receiver": "xinference-slo",
            "groupLabels": {"alertname": alert["labels"]["alertname"]},
            "commonLabels": alert["labels"],
            "commonAnnotations": alert["annotations"],
            "externalURL": self._external_url,
            "alerts": [alert],
        }
        return orjson.dumps(document)


def sign(secret: Secret, timestamp: str, body: bytes) -> str:
    """Hex HMAC-SHA256 of `timestamp.body`."""
    return hmac.new(secret.reveal().encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
