"""Slack incoming webhook: a coloured attachment of mrkdwn sections; the body `ok` is delivery, nothing else."""

from __future__ import annotations

from typing import Any

import orjson

from slo.watch.delivery.sinks.codes import SLACK, UNKNOWN_BODY, by_status
from slo.watch.delivery.sinks.outcome import Delivered, Failed, Limit, Outcome, Retry
from slo.watch.delivery.sinks.secret import Secret, mask
from slo.watch.delivery.sinks.transport import Wire, checked_address
from slo.watch.delivery.sinks.wording import Language, cut, slack_mrkdwn, text_of, title_of
from slo.watch.model.notification import Notification

LONGEST_SECTION = 3000  # characters
COLOURS = {"critical": "#d32f2f", "page": "#f57c00", "ticket": "#1976d2", "info": "#757575"}
GREEN = "#388e3c"


class SlackSink:
    """One webhook, about a message a second."""

    repeat_every_s: float | None = None
    digest_bytes = 6000
    limit: Limit | None = Limit(per_minute=60, burst=1, reserve=0.0, block_s=30)

    def __init__(self, address: Secret, *, wire: Wire, language: Language = "zh") -> None:
        self._address = checked_address(address, "slack")
        self._wire = wire
        self._language = language

    def __repr__(self) -> str:
        return f"slack at the {self._address}"

    def send(self, notification: Notification, now: float) -> Outcome:  # noqa: ARG002 - nothing is signed
        body = orjson.dumps(self.document(notification))
        headers = {"Content-Type": "application/json"}
        reply = self._wire.post(self._address.reveal(), body, headers, self._address)
        if isinstance(reply, Retry):
            return reply
        answer = mask(reply.text.strip(), self._address)
        if reply.status == 200:
            if answer == "ok":
                return Delivered()
            return Retry(reason=f"answer is not ok: {answer[:120]}", diagnosis=UNKNOWN_BODY)
        if answer in SLACK and reply.status < 500:
            return Failed(reason=f"HTTP {reply.status}: {answer}", diagnosis=SLACK[answer])
        return by_status(reply.status, answer, reply.retry_after_s)

    def document(self, notification: Notification) -> dict[str, Any]:
        """The body. `text` is what a phone's lock screen shows."""
        title = slack_mrkdwn(title_of(notification, self._language))[:300]
        text = slack_mrkdwn(cut(text_of(notification, self._language), 4 * LONGEST_SECTION))
        colour = GREEN if notification.status == "resolved" else COLOURS[notification.severity]
        sections = [f"*{title}*", *_sections(text)]
        blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": part}} for part in sections]
        return {"text": title, "attachments": [{"color": colour, "blocks": blocks}]}


def _sections(text: str) -> list[str]:
    """`text` in pieces of at most 3000 characters, parted at line ends where there are any."""
    pieces: list[str] = []
    rest = text.strip()
    while rest:
        end = len(rest) if len(rest) <= LONGEST_SECTION else rest.rfind("\n", 1, LONGEST_SECTION)
        end = end if end > 0 else LONGEST_SECTION
        pieces.append(rest[:end])
        rest = rest[end:].lstrip("\n")
    return pieces
