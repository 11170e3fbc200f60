"""
The generic webhook: Alertmanager's v4 body, so that whatever takes Alertmanager's webhooks takes ours, and HMAC.

A notification has Alertmanager's shape here: labels that identify, annotations that explain, times, a fingerprint; the
push to Alertmanager shares it. `X-SLO-Event-Id` names the event (a repetition carries the same), `X-SLO-Timestamp` the
second of sending, and `X-SLO-Signature: sha256=hex(hmac(secret, timestamp + "." + body))` proves both and the body.
2xx is delivery, 408/425/429/5xx are tried again, anything else needs a person.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import orjson

from slo.clock import iso
from slo.watch.delivery.sinks.codes import by_status
from slo.watch.delivery.sinks.outcome import Limit, Outcome, Retry
from slo.watch.delivery.sinks.secret import Secret, mask
from slo.watch.delivery.sinks.transport import Wire, checked_address
from slo.watch.delivery.sinks.wording import Language, text_of, title_of
from slo.watch.model.notification import Notification

ZERO_TIME = "0001-01-01T00:00:00Z"  # how Go writes "not yet"
_FNV_OFFSET, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3


def labels_of(notification: Notification) -> dict[str, str]:
    """The labels, with `alertname` and `severity` in any case; empty ones left out, as Alertmanager does."""
    defaults = {"alertname": "SloAlertTest" if notification.status == "test" else "SloAlert"}
    labels = {**defaults, "severity": notification.severity, **notification.labels}
    return {name: value for name, value in sorted(labels.items()) if value}


def annotations_of(notification: Notification, language: Language) -> dict[str, str]:
    """What the notification brings, and `summary` and `description` in the channel's language, marks included."""
    annotations = {
        **notification.annotations,
        "summary": title_of(notification, language),
        "description": text_of(notification, language),
        "runbook_url": notification.runbook_url,
        "event_id": notification.event_id,
    }
    return {name: value for name, value in annotations.items() if value}


def alert_of(notification: Notification, language: Language) -> dict[str, Any]:
    """One entry of a v4 webhook's `alerts`."""
    labels = labels_of(notification)
    ends = notification.ends_at_s
    return {
        "status": "resolved" if notification.status == "resolved" else "firing",
        "labels": labels,
        "annotations": annotations_of(notification, language),
        "startsAt": iso(notification.starts_at_s),
        "endsAt": ZERO_TIME if ends is None else iso(ends),
        "generatorURL": notification.generator_url,
        "fingerprint": fingerprint(labels),
    }


def fingerprint(labels: dict[str, str]) -> str:
    """What Prometheus and Alertmanager compute: FNV-1a over sorted names and values, each followed by 0xff."""
    value = _FNV_OFFSET
    for name in sorted(labels):
        for byte in (*name.encode(), 0xFF, *labels[name].encode(), 0xFF):
            value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


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
