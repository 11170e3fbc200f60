"""A channel in memory that answers as told, and an outbox around it on a clock that moves only when told."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

from slo.clock import ManualClock
from slo.watch.delivery.outbox import Outbox
from slo.watch.delivery.outbox_store import OutboxStore
from slo.watch.delivery.policy import ChannelRoutes, RetryPolicy
from slo.watch.delivery.sinks.outcome import Delivered, Limit, Outcome, Sink
from slo.watch.model.notification import Notification

Answer = Callable[[Notification], Outcome]


class FakeSink:
    """Keeps what it was sent, with the time."""

    digest_bytes = 12_000

    def __init__(
        self, answer: Answer = lambda _: Delivered(), *, limit: Limit | None = None, repeat_every_s: float | None = None
    ) -> None:
        self.answer = answer
        self.limit = limit
        self.repeat_every_s = repeat_every_s
        self.sent: list[tuple[float, Notification]] = []

    @property
    def ids(self) -> list[str]:
        return [notification.event_id for _, notification in self.sent]

    def send(self, notification: Notification, now: float) -> Outcome:
        self.sent.append((now, notification))
        return self.answer(notification)


def outbox_in(
    folder: Path, sinks: Mapping[str, Sink], clock: ManualClock, *, fallback: tuple[str, ...] = (),
    policy: RetryPolicy | None = None, routes: ChannelRoutes | None = None,
) -> Outbox:  # fmt: skip
    """An outbox over the database in `folder`; another one over the same is what a new process sees."""
    return Outbox(
        OutboxStore(folder / "outbox.db"), sinks, routes or ChannelRoutes(channels=tuple(sinks), fallback=fallback),
        clock=clock, policy=policy, chance=random.Random(1),
    )  # fmt: skip


def pump_for(outbox: Outbox, clock: ManualClock, seconds: int, step_s: float = 1.0) -> None:
    """Let `seconds` pass, pumping each `step_s`."""
    for _ in range(round(seconds / step_s)):
        outbox.pump()
        clock.advance(step_s)
