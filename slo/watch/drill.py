"""
Proofs that alerts arrive: `slo alert test` sends a message and its all-clear through every channel at once, past the
outbox; `slo alert drill` shows that a slow service ends as a delivered page, and its end as a delivered all-clear.

A drill has real probes, the real engine and rules, the real channels; only the service is a stand-in that can be slowed
down (`Injector`), so that no user feels it, and the minutes between rounds are skipped rather than waited for. With
`--live` the injector is the server itself, which then holds back every answer, users' included. Times are of two
kinds: minutes of the drill's clock until the engine decided, seconds of the real one until a channel had the message.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from slo.client import EmbeddingsClient
from slo.clock import SystemClock
from slo.http import ApiKey
from slo.objective import Objective
from slo.texts import mix
from slo.watch.alerting.round import Settings
from slo.watch.delivery.outbox import Outbox
from slo.watch.delivery.outbox_store import OutboxStore
from slo.watch.delivery.policy import Attempt, ChannelRoutes
from slo.watch.delivery.senders import LONGEST_SEND_S, Senders, attempt
from slo.watch.delivery.sinks.outcome import Delivered, Outcome, Retry, Sink
from slo.watch.history.store import Store
from slo.watch.model.notification import Notification
from slo.watch.server_health import ServerHealth
from slo.watch.sli.probe import probe_batch
from slo.watch.watcher import Outside, Watcher

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


ROUND_S = 60.0
PROBES = 24  # a round; the guard against low traffic asks for 20 in the shortest long window
HEALTHY_ROUNDS = 6
LONGEST_S = 1800.0


class Injector(Protocol):
    """A service that can be slowed down and healed again."""

    @property
    def endpoint(self) -> str: ...

    def slow_down(self, delay_s: float) -> None: ...

    def heal(self) -> None: ...


class SkippingClock:
    """Real time, plus what was slept: a sleep returns at once and has passed. Starts half an hour ago."""

    def __init__(self) -> None:
        self._skipped_s = -LONGEST_S

    def monotonic(self) -> float:
        return time.perf_counter() + self._skipped_s

    def wall(self) -> float:
        return time.time() + self._skipped_s

    def sleep(self, seconds: float) -> None:
        self._skipped_s += max(0.0, seconds)


@dataclass(kw_only=True)
class Drill:
    """What happened. Minutes since the slowing, or the healing, on the drill's clock; None for what never came."""

    fired_after_s: float | None = None
    resolved_after_s: float | None = None
    severity: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    channels: tuple[str, ...] = ()
    events: dict[str, str] = field(default_factory=dict)  # event id → status

    def delivered(self, channel: str, status: str) -> float | None:
        """Seconds from the decision until `channel` had the first message of `status`; None if it never did."""
        waits = [
            attempt.waited_s
            for attempt in self.attempts
            if attempt.sink == channel
            and self.events.get(attempt.event_id) == status
            and isinstance(attempt.outcome, Delivered)
        ]
        return min(waits, default=None)

    @property
    def proven(self) -> bool:
        """Fired, delivered everywhere, resolved, delivered everywhere."""
        both = (self.fired_after_s, self.resolved_after_s)
        told = [self.delivered(channel, status) for channel in self.channels for status in ("firing", "resolved")]
        return bool(self.channels) and None not in both and None not in told


def run_drill(
    injector: Injector,
    sinks: Mapping[str, Sink],
    routes: ChannelRoutes,
    settings: Settings,
    objective: Objective,
    *,
    model: str,
    runbook: str,
    say: Callable[[str], None],
    api_key: ApiKey | None = None,
) -> Drill:
    """Healthy, slow until it fires, healthy until it resolves. Nothing is kept but the result."""
    clock, drill = SkippingClock(), Drill()
    name = f"drill-{secrets.token_hex(4)}"
    labels = {**settings.labels, "model": f"{model}-drill", "endpoint": injector.endpoint, "drill": name}
    with tempfile.TemporaryDirectory(prefix="slo-drill-") as folder:
        box = OutboxStore(Path(folder) / "outbox.db")
        outbox = Outbox(box, sinks, routes, clock=SystemClock())

        def hand_over(notification: Notification) -> None:
            message = marked(notification)
            drill.channels = tuple(dict.fromkeys((*drill.channels, *outbox.put(message))))
            drill.events[message.event_id] = message.status
            drill.severity = drill.severity or message.severity

        def deliver() -> None:
            drill.attempts += outbox.pump()

        client = EmbeddingsClient(injector.endpoint, model, api_key=api_key, timeout_s=10, source="probe")
        texts = mix(secrets.randbits(32))
        outside = Outside(
            source=None,
            probe=lambda: probe_batch(client, texts, objective, probes=PROBES, bound_s=60, clock=clock),
            health=lambda: ServerHealth(server_up=True, model_up=True),
            hand_over=hand_over,
            deliver=deliver,
            complain=say,
        )
        with client, Store(Path(folder) / "history.db") as store:
            watcher = Watcher(
                store, replace(settings, labels=labels), outside, clock=clock, thin=1, runbook=runbook
            )  # fmt: skip
            _phases(watcher, injector, objective, clock, drill, say)
        drill.attempts += outbox.drain(30)
        box.close()
    return drill


def marked(notification: Notification) -> Notification:
    """Nobody shall take a drill for the real thing."""
    return replace(
        notification,
        title_zh=f"[演练] {notification.title_zh}",
        title_en=f"[drill] {notification.title_en}",
        text_zh=f"**这是 `slo alert drill` 的演练，无需处理。**\n\n{notification.text_zh}",
        text_en=f"**A drill by `slo alert drill`: nothing to do.**\n\n{notification.text_en}",
    )


def _phases(
    watcher: Watcher, injector: Injector, objective: Objective, clock: SkippingClock, drill: Drill,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    for _ in range(HEALTHY_ROUNDS):
        watcher.round()
        clock.sleep(ROUND_S)
    say(f"{HEALTHY_ROUNDS} healthy rounds; now every answer is too slow")
    injector.slow_down(objective.threshold_s + 0.05)
    began_s = clock.wall()
    while "firing" not in drill.events.values() and clock.wall() - began_s < LONGEST_S / 3:
        clock.sleep(ROUND_S)
        watcher.round()
    injector.heal()
    if "firing" not in drill.events.values():
        return
    drill.fired_after_s = clock.wall() - began_s
    say(f"fired ({drill.severity}); now healthy again")
    began_s = clock.wall()
    while "resolved" not in drill.events.values() and clock.wall() - began_s < LONGEST_S / 2:
        clock.sleep(ROUND_S)
        watcher.round()
    if "resolved" in drill.events.values():
        drill.resolved_after_s = clock.wall() - began_s
        say("resolved")
