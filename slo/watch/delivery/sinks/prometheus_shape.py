"""
A notification in Alertmanager's shape: labels that identify, annotations that explain, times, a fingerprint.

Shared by the webhook, which speaks what Alertmanager sends, and by the push, which speaks what it receives.
"""

from __future__ import annotations

from typing import Any

from slo.clock import iso
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
