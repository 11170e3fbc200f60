"""
What one message to a person says, whatever channel carries it.

A `Notification` is a finished value: the alert engine decided that it goes out and `message.py` wrote its texts. A
channel only gives it the channel's shape. `event_id` names this one message: a retry carries the same id, so that a
receiver can tell a repetition from news; the alert's own identity is `group_key` and `labels`, which hold no
changing values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["firing", "resolved", "test"]
Severity = Literal["critical", "page", "ticket", "info"]

# Most urgent first: who sorts by this sends the critical ones before the rest.
SEVERITIES: tuple[Severity, ...] = ("critical", "page", "ticket", "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message, ready to be enqueued. Times are wall-clock seconds since the epoch, UTC.

    `text_zh` and `text_en` are Markdown of headings, lists, bold, inline code and links only: what every channel
    can show. `ends_at_s` is None while the alert fires.
    """

    event_id: str
    status: Status
    severity: Severity
    title_zh: str
    title_en: str
    text_zh: str
    text_en: str
    starts_at_s: float
    group_key: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ends_at_s: float | None = None
    runbook_url: str = ""
    generator_url: str = ""
