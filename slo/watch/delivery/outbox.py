"""
The outbox: a notification is on disk before anybody tries to send it, and stays until a channel took it.

Persist → send → mark. Killed between the first two, it is sent once by whoever comes next; killed between the last
two, it is sent once more, marked 重发 and with the same event id, so that a receiver can tell. A channel that fails is
tried again with growing, jittered pauses; one that refuses for good, stays down or asks for silence has the fallback
told as well, and unless it refused, keeps what is its own: a fallback that has the message already, or is throttled
itself, must not be where it ends. What nobody took is `dead`, stays visible and can be revived. Channels are served
side by side: a slow one holds up none, what comes in meanwhile included, and one that hangs is left alone, its messages
told to the fallback, until it comes back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from slo.clock import Clock
from slo.watch.delivery.digest import merge
from slo.watch.delivery.outbox_file import Delivery, OutboxDamaged, SendJob
from slo.watch.delivery.outbox_store import LONGEST_WAIT_S, OutboxStore
from slo.watch.delivery.policy import URGENT_RANK, Attempt, ChannelRoutes, RetryPolicy, in_words, metric_text, rank_of
from slo.watch.delivery.senders import LONGEST_SEND_S, Senders, attempt
from slo.watch.delivery.sinks.outcome import Delivered, Failed, Outcome, Retry, Sink, TokenBucket
from slo.watch.model.notification import Notification

_AFTER_RESOLVE_S = 300.0  # how long a receiver that forgets (Alertmanager) is reminded of a resolve
_DIGEST_READS = 2000
_LOOK_S = 0.25  # while a channel is slow: how often the others are looked after


class Outbox:
    """Takes notifications in with `put`, sends what is due with `pump`. One thread, any number of processes."""

    def __init__(
        self, store: OutboxStore, sinks: Mapping[str, Sink], routes: ChannelRoutes, *, clock: Clock,
        policy: RetryPolicy | None = None, chance: random.Random | None = None, longest_send_s: float = LONGEST_SEND_S,
        damage: Callable[[Path, float], Notification] | None = None,
    ) -> None:  # fmt: skip
        """After `longest_send_s` the others go on without a channel; `damage` words what to say of a damaged file."""
        self._store = store
        self._sinks = dict(sinks)
        self._routes = routes
        self._clock = clock
        self._policy = policy or RetryPolicy()
        self._chance = chance or random.Random()
        self._senders: Senders[SendJob] = Senders(longest_send_s)
        self._damage = damage
        self.worked_s = float("-inf")  # on the monotonic clock: when something was last sent, or nothing was to be

    def put(self, notification: Notification) -> tuple[str, ...]:
        """Persist `notification` for the channels that its severity is routed to, and name them.

        The same event id put twice is one message. Raises `StoreError` if the disk does not take it: then `send_now`.
        """
        channels = self._routes.channels_for(notification)
        try:
            channels = self._add(notification, channels)
        except OutboxDamaged:  # set aside by now
            channels = self._add(notification, channels)
        self._tell_of_damage()
        return channels

    def _add(self, notification: Notification, channels: tuple[str, ...]) -> tuple[str, ...]:
        if notification.status == "resolved":  # also where it was told of while it was less urgent
            channels = self._store.notified_channels(notification.group_key) or channels
        self._store.add(notification, channels, rank_of(notification), self._clock.wall())
        return channels

    def _tell_of_damage(self) -> None:
        """Say what happened to what waited in files that had to be set aside."""
        while self._store.set_aside and self._damage is not None:
            message = self._damage(self._store.set_aside[0], self._clock.wall())
            self._store.add(message, self._routes.channels_for(message), rank_of(message), self._clock.wall())
            self._store.set_aside.pop(0)

    def send_now(self, notification: Notification) -> list[Attempt]:
        """Without the disk: one try at each channel, nothing remembered. For when `put` failed."""
        entry = Delivery(0, "", rank_of(notification), 0, False, "", self._clock.wall(), notification)
        for name in self._routes.channels_for(notification):
            if name in self._sinks and self._senders.free(name):
                job = SendJob((replace(entry, sink=name),), notification)
                self._senders.start(name, job, partial(self._send, job))
        attempts = []
        while self._senders.waiting:
            attempts += [self._attempt(job, outcome) for _, job, outcome, _ in self._senders.ended(_LOOK_S)]
        return attempts

    def close(self) -> None:
        """Close its file."""
        self._store.close()

    def pump(self) -> list[Attempt]:
        """Send all that is due now; what was tried. Nothing if another process is just doing it."""
        with self._store.sole_sender() as mine:
            if not mine:
                return []
            self._tell_of_damage()
            self._store.recover()
            self._give_up_unconfigured()
            self._store.prune(self._clock.wall())
            attempts = self._deliveries()
            self.worked_s = self._clock.monotonic()
            return attempts

    def drain(self, limit_s: float) -> list[Attempt]:
        """Pump until nothing is due soon, at most `limit_s`: for commands that end after one check."""
        attempts, until_s = self.pump(), self._clock.monotonic() + limit_s
        while (rest_s := until_s - self._clock.monotonic()) > 0:
            pause_s = self.next_in_s()
            if pause_s is None or pause_s > rest_s:
                break
            self._clock.sleep(max(0.05, pause_s))
            attempts += self.pump()
        return attempts

    def next_in_s(self) -> float | None:
        """Seconds until `pump` has something to try; None when there is nothing to do."""
        due_s = self._store.next_due_s()
        return None if due_s is None else max(0.0, due_s - self._clock.wall())

    def totals(self) -> dict[tuple[str, str], int]:
        """Attempts by channel and result: `delivered`, `retry`, `failed`."""
        return self._store.totals()

    def metrics(self) -> str:
        """The channels' figures as Prometheus text."""
        return metric_text(self._sinks, self._store.totals(), self._store.last_failures())

    def undelivered(self) -> list[str]:
        """A line for each channel with messages that wait or were given up; empty when all is delivered."""
        return [in_words(*state) for state in self._store.states()]

    def _deliveries(self) -> list[Attempt]:
        attempts: list[Attempt] = []
        claimed: list[SendJob] = []
        try:
            self._serve(claimed, attempts)
        except BaseException:
            # A stop, a full disk, no thread to be had: what is under way is waited for and marked. It would be sent
            # again otherwise.
            while self._senders.waiting:
                self._senders.ended(_LOOK_S)
            for job in claimed:
                if job.outcome is not None:
                    self._settle(job, job.outcome)
            raise
        return attempts

    def _serve(self, claimed: list[SendJob], attempts: list[Attempt]) -> None:
        """All channels side by side until none has anything due; `claimed` are the jobs not yet marked.

        A channel that failed is left alone until the next pump, so that each costs one time-out at most.
        """
        failed: set[str] = set()
        idle = list(self._sinks)
        self._take_in(claimed, attempts, failed, 0.0)  # what came back since the last pump
        looked_s = self._clock.monotonic()
        while True:
            for name in idle:
                job = self._next_job(name) if name not in failed else None
                if job is not None:
                    claimed.append(job)
                    self._senders.start(name, job, partial(self._send, job))
            self.worked_s = self._clock.monotonic()
            if not self._senders.waiting:
                return
            idle = self._take_in(claimed, attempts, failed, _LOOK_S)
            if not idle or self.worked_s - looked_s >= _LOOK_S:
                idle, looked_s = list(self._sinks), self.worked_s

    def _take_in(
        self, claimed: list[SendJob], attempts: list[Attempt], failed: set[str], wait_s: float
    ) -> list[str]:  # fmt: skip
        """Mark what became of the sends that ended; the channels that may get their next message at once."""
        ready = []
        for name, job, outcome, late in self._senders.ended(wait_s):
            if late and isinstance(outcome, Retry):
                continue  # it was marked so when its time was over
            if not job.repeat or not isinstance(outcome, Delivered):  # a repeat that arrives is no news
                attempts.append(self._attempt(job, outcome))
            if self._settle(job, outcome):
                ready.append(name)
            else:
                failed.add(name)
            if job in claimed:
                claimed.remove(job)
        return ready

    def _next_job(self, name: str) -> SendJob | None:
        """Claim what `name` gets next: one message, a digest of many, a repeat, or nothing for now."""
        if not self._senders.free(name):
            if self._senders.hangs(name):
                self._leave(name, self._clock.wall() + self._policy.first_s, "channel hangs")
            return None
        now, limit = self._clock.wall(), self._sinks[name].limit
        gate = None if limit is None else self._store.gate(name, limit, now)
        if gate is not None and gate.blocked(now):
            # Asked before what is due, since a message behind another one of its alert is not due, and is to be told
            # all the same.
            self._leave(name, gate.closed_until_s, "channel throttled")
            return None
        self._store.overtake(name, now)
        head = self._store.due(name, now)
        if not head:
            return self._repeat(name, now)
        return self._claimed(head, None) if gate is None else self._through(gate, head, now)

    def _leave(self, name: str, until_s: float, reason: str) -> None:
        """`name` gets nothing before `until_s`: others are told meanwhile, this channel then."""
        fallback = self._routes.fallback_for(name)
        self._store.postpone(name, until_s, self._clock.wall(), pass_on=fallback, reason=reason)

    def _through(self, gate: TokenBucket, head: list[Delivery], now: float) -> SendJob | None:
        """What a robot's limit lets pass. In a crowd the last token goes to a digest, which tells of all the rest."""
        name, urgent = head[0].sink, head[0].rank <= URGENT_RANK
        crowded = self._store.waiting(name, now) > gate.limit.burst
        if crowded and (gate.last_token(now) or not gate.allows(now, urgent=urgent)) and gate.take_digest(now):
            return self._digest(name, gate, now)
        if gate.take(now, urgent=urgent):
            return self._claimed(head, gate)
        self._store.postpone(name, gate.next_s(now, urgent=urgent), now)
        return None

    def _digest(self, name: str, gate: TokenBucket, now: float) -> SendJob | None:
        entries = self._store.due(name, now, _DIGEST_READS)
        digest = merge([entry.notification for entry in entries], self._sinks[name].digest_bytes, now)
        if digest is None:
            return self._claimed(entries[:1], gate)
        told = set(digest.members)
        members = tuple(entry for entry in entries if entry.notification.event_id in told)
        self._store.claim(members, gate, digest.notification.event_id)
        return SendJob(members, digest.notification, digest=True)

    def _claimed(self, entries: list[Delivery], gate: TokenBucket | None) -> SendJob:
        self._store.claim(entries, gate)
        return SendJob((entries[0],), entries[0].worded(self._clock.wall()))

    def _send(self, job: SendJob) -> Outcome:
        job.outcome = attempt(self._sinks[job.channel], job.message, self._clock.wall())
        return job.outcome

    def _settle(self, job: SendJob, outcome: Outcome) -> bool:
        """Record the outcome; true if the channel may get its next message at once."""
        now, name = self._clock.wall(), job.channel
        if job.repeat:
            self._store.repeat(name, job.message, now + (self._sinks[name].repeat_every_s or 0.0), job.until_s)
            return True
        match outcome:
            case Delivered():
                self._store.settle(job.entries, "merged" if job.digest else "delivered", now, count="delivered")
                if not job.digest:
                    self._remember(name, job.message, now)
                return True
            case Failed(reason=reason):
                fallback = self._routes.fallback_for(name)
                self._store.settle(job.entries, "dead", now, reason=reason, count="failed", pass_on=fallback)
                return True
            case Retry():
                self._put_back(job.entries, outcome, name, now)
                return False

    def _put_back(self, entries: tuple[Delivery, ...], outcome: Retry, name: str, now: float) -> None:
        """Not delivered: wait, tell the fallback as well, or give up."""
        limit, fallback = self._sinks[name].limit, self._routes.fallback_for(name)
        attempts = max(entry.attempts for entry in entries) + 1
        throttled = False
        if outcome.throttled and limit is not None:
            throttled, gate = True, self._store.gate(name, limit, now)
            gate.throttle(now, outcome.after_s)
            self._store.note_retry(name, gate)
            due_s = gate.closed_until_s
        else:
            self._store.note_retry(name, None)
            due_s = now + max(outcome.after_s or 0.0, self._policy.pause_s(attempts, self._chance))
        for entry in entries:
            over = self._policy.gives_up(now - entry.enqueued_s, attempts)
            loud = throttled or (attempts >= self._policy.fallback_after and entry.rank <= URGENT_RANK + 1)
            self._store.settle(
                (entry,),
                "dead" if over else "pending",
                now,
                reason=outcome.reason,
                due_s=min(due_s, now + LONGEST_WAIT_S),
                doubtful=outcome.doubtful,
                pass_on=fallback if over or loud else (),
            )

    def _remember(self, name: str, message: Notification, now: float) -> None:
        every_s = self._sinks[name].repeat_every_s
        if every_s is not None and message.status != "test":
            # An alert that says itself when it ends is reminded of until then.
            until_s = now + _AFTER_RESOLVE_S if message.status == "resolved" else message.ends_at_s
            self._store.repeat(name, message, now + every_s, until_s)

    def _repeat(self, name: str, now: float) -> SendJob | None:
        """What a receiver that forgets is to be reminded of. A resolve has replaced the repeat of its alert."""
        for message, until_s in self._store.repeats_due(name, now):
            if self._sinks[name].repeat_every_s is None:
                self._store.forget(name, message.group_key)
                continue
            entry = Delivery(0, name, rank_of(message), 0, False, "", now, message)
            return SendJob((entry,), message, repeat=True, until_s=until_s)
        return None

    def _attempt(self, job: SendJob, outcome: Outcome) -> Attempt:
        waited_s = self._clock.wall() - min(entry.enqueued_s for entry in job.entries)
        return Attempt(
            event_id=job.message.event_id,
            sink=job.channel,
            title=job.message.title_en,
            messages=len(job.entries),
            waited_s=max(0.0, waited_s),
            outcome=outcome,
        )

    def _give_up_unconfigured(self) -> None:
        """Channels that were taken out of the configuration while messages waited for them."""
        now = self._clock.wall()
        for name, entries in self._store.unconfigured(list(self._sinks), now).items():
            fallback = [sink for sink in self._routes.fallback_for(name) if sink in self._sinks]
            self._store.settle(entries, "dead", now, reason="channel no longer configured", pass_on=fallback)
