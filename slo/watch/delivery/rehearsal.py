"""`slo alert test`: a message and its all-clear through every channel at once, past the outbox."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from slo.watch.alerting.notification import Notification
from slo.watch.delivery.senders import LONGEST_SEND_S, Senders, attempt
from slo.watch.delivery.sinks.outcome import Delivered, Outcome, Retry, Sink

Step = Literal["firing", "resolved"]


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """What one channel made of one step."""

    channel: str
    step: Step
    outcome: Outcome
    took_s: float

    @property
    def delivered(self) -> bool:
        return isinstance(self.outcome, Delivered)

    @property
    def said(self) -> str:
        """The provider's words, and the explanation in both languages."""
        match self.outcome:
            case Delivered(detail=detail):
                return detail or "ok"
            case Retry(reason=reason, diagnosis=None):
                return reason
            case Retry(reason=reason, diagnosis=diagnosis):
                return f"{reason}\n{diagnosis.zh}\n{diagnosis.en}" if diagnosis else reason
            case _:
                return f"{self.outcome.reason}\n{self.outcome.diagnosis.zh}\n{self.outcome.diagnosis.en}"


def rehearse(
    sinks: Mapping[str, Sink], model: str, now: float, *, longest_send_s: float = LONGEST_SEND_S
) -> Iterator[Rehearsed]:
    """All channels side by side, results as they come. One that did not take the message is not sent the all-clear."""
    message = test_message(model, now)
    over = replace(
        message, event_id=f"{message.event_id}-over", status="resolved", ends_at_s=now,
        title_zh=f"[测试·恢复] {model} 告警通道正常", title_en=f"[test resolved] {model}: this channel works",
    )  # fmt: skip
    senders: Senders[tuple[Step, float]] = Senders(longest_send_s)

    def start(name: str, step: Step, notification: Notification) -> None:
        job = (step, time.perf_counter())
        senders.start(name, job, partial(attempt, sinks[name], notification, now))

    for name in sinks:
        start(name, "firing", message)
    while senders.waiting:
        for name, (step, started_s), outcome, _ in senders.ended(0.25):
            result = Rehearsed(channel=name, step=step, outcome=outcome, took_s=time.perf_counter() - started_s)
            yield result
            if result.delivered and step == "firing":
                start(name, "resolved", over)


def test_message(model: str, now: float) -> Notification:
    """A notification that nobody can take for a real one."""
    event_id = f"test-{secrets.token_hex(6)}"
    return Notification(
        event_id=event_id,
        status="test",
        severity="info",
        title_zh=f"[测试] {model} 告警通道测试",
        title_en=f"[test] {model}: a test of this alert channel",
        text_zh="这是 `slo alert test` 发出的测试消息，**无需处理**。",
        text_en="Sent by `slo alert test`. **Nothing to do.**",
        labels={"alertname": "SloAlertTest", "model": model},
        starts_at_s=now - 1,
        group_key=event_id,
    )
