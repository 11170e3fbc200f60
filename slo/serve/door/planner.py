"""
Which texts go into the next pass, on which replica, and when. No input or output: the clock is an argument.

* Online texts go earliest deadline first, so those that came together with the same deadline first come, first served.
  Deferred texts (they cannot be in time any more) go oldest first, with the share of the passes that `share` gives them
  while others wait, and with whole passes while none do. Batch texts go when neither waits.
* Online texts whose own deadline leaves them time enough go after deferred ones: it is no way to the front.
* A pass holds at most `pass_tokens` tokens (it should take a third of the deadline, no more) and `max_items` texts.
* A free replica takes what is there at once. One exception, when requests come in company: a replica that has just
  finished a pass of several texts waits for the next ones, at most `max_wait_s` after the oldest of them came.
* A busy replica gets its next pass shortly before it is predicted to finish (`lead_s`): handed over earlier the pass
  could not grow, handed over later the engine would stand idle for the length of a call. This adds no wait, since the
  engine could not have started.
* While online traffic is about, batch texts start only on a free replica, in smaller passes, and fill what a pass of
  the last online texts leaves of such a smaller one: that costs their tokens alone, and those texts half of the time
  they have left at most. While there is none they have large passes, handed over ahead like those of online texts.
* When batch texts have waited for a second they take the next pass, of a busy replica too: one a second, so that they
  neither harm nor starve. So they stand behind deferred texts, which lose this one smaller pass a second to them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from slo.serve.door.due_queue import DeferredShare, DueQueue
from slo.serve.door.passes import ReplicaLoad
from slo.serve.door.work import Job, State
from slo.serve.engine.cost import PassCost

MIN_PASS_TOKENS = 32
PASS_SHARE = 0.3  # of the deadline: waiting for the running pass and riding in the next leaves a third in reserve
GRACE_SHARE = 0.1  # of the deadline: while far too much keeps coming, the next text that can be in time is that near
BESIDE_SHARE = 0.75  # of a pass: as large may it become by batch texts while online traffic is about
BULK_SHARE = 0.5  # of the deadline, for a pass of batch texts alone: an online text that comes just then is in time
QUIET_S = 1.0  # without online texts for so long, batch texts may have whole passes
STARVED_S = 1.0  # batch texts get one pass after so long, whatever else waits


class PassTarget(Protocol):
    """Anything that carries a `ReplicaLoad`."""

    @property
    def load(self) -> ReplicaLoad: ...


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Start these jobs on that target (its index) now."""

    target: int
    jobs: list[Job]
    tokens: int
    predicted_s: float


class Planner:
    """The queue of one model and the decisions about it."""

    def __init__(
        self, cost: PassCost, *, max_tokens: int, max_items: int, max_wait_s: float, in_flight: int, deadline_s: float,
        max_deferred_s: float = 5.0,
    ) -> None:  # fmt: skip
        self.cost = cost
        self.max_tokens = max_tokens
        self.max_items = max_items
        self.max_wait_s = max_wait_s
        self.in_flight = in_flight
        self.deadline_s = deadline_s
        self.share = DeferredShare(max_deferred_s)
        self._online, self._deferred, self._batch = DueQueue(), DueQueue(), DueQueue()
        self._online_seen_s = -1e9
        self._batch_ran_s = -1e9
        self._owed = 0.0  # tokens of their share that deferred texts have not had yet

    def __len__(self) -> int:
        """Jobs waiting, dropped ones that have not been swept included."""
        return len(self._online) + len(self._deferred) + len(self._batch)

    @property
    def online_tokens(self) -> int:
        """Tokens that wait and are to be in time."""
        return self._online.tokens

    @property
    def deferred_tokens(self) -> int:
        return self._deferred.tokens

    @property
    def batch_tokens(self) -> int:
        return self._batch.tokens

    @property
    def pass_tokens(self) -> int:
        """Most tokens of one pass, so that it takes no more than its share of the deadline."""
        return min(self.max_tokens, max(MIN_PASS_TOKENS, self.cost.tokens_within(self.deadline_s * PASS_SHARE)))

    @property
    def bulk_tokens(self) -> int:
        """Most tokens of a pass of batch texts while there is no online traffic."""
        return min(self.max_tokens, max(MIN_PASS_TOKENS, self.cost.tokens_within(self.deadline_s * BULK_SHARE)))

    @property
    def _beside_tokens(self) -> int:
        return int(self.pass_tokens * BESIDE_SHARE)

    @property
    def lead_s(self) -> float:
        """How long before a replica falls free its next pass is handed over."""
        return min(0.015, self.cost.overhead_s + 0.05 * self.cost.of(self.pass_tokens))

    def work_s(self, tokens: int) -> float:
        """Seconds of one engine for so many tokens in full passes."""
        return tokens * self.cost.of(self.pass_tokens) / self.pass_tokens

    def online_tokens_before(self, due_s: float) -> int:
        """Tokens to be in time that go before a text which is due at `due_s`."""
        return self._online.ahead(due_s)

    def add(self, job: Job) -> None:
        """Queue a job in its class, where it is due."""
        if math.isnan(job.due_s):
            job.due_s = job.enqueued_s + (self.deadline_s if job.online else 0.0)
        if job.online:
            self._online_seen_s = max(self._online_seen_s, job.enqueued_s)
        self._queue_of(job).add(job)

    def add_first(self, jobs: Sequence[Job]) -> None:
        """Queue jobs again, before all others that are due with them, in their order."""
        for job in reversed(jobs):
            job.state = State.QUEUED
            self._queue_of(job).add(job, first=True)

    def promote(self, job: Job, terms: Job) -> None:
        """An online request with these `terms` has joined a queued job: it goes where the more urgent of both would."""
        if not job.online or (terms.deferred, terms.due_s) < (job.deferred, job.due_s):
            self._queue_of(job).forget(job)
            job.online, job.due_s = True, terms.due_s
            job.deferred, job.deferrable = terms.deferred, terms.deferrable
            self.add(job)

    def drop(self, job: Job) -> None:
        """Nobody waits for this queued job any more: it no longer counts, and will not be computed."""
        job.state = State.DROPPED
        self._queue_of(job).forget(job)

    def drain(self) -> list[Job]:
        """Take all waiting jobs out."""
        return [job for queue in (self._online, self._deferred, self._batch) for job in queue.drain()]

    def decide(self, now_s: float, targets: Sequence[PassTarget]) -> Dispatch | float | None:
        """The next step: a pass to start now, an instant at which to ask again, or None: wait for an event."""
        open_targets = [i for i, target in enumerate(targets) if len(target.load.passes_s) < self.in_flight]
        if not open_targets:
            return None
        index = min(open_targets, key=lambda i: (targets[i].load.remaining_s(now_s), targets[i].load.free_since_s))
        load = targets[index].load
        self._defer_late(now_s + load.remaining_s(now_s))
        online, batch = self._online.first() or self._deferred.first(), self._batch.first()
        starved = batch is not None and now_s - max(self._batch_ran_s, batch.enqueued_s) >= STARVED_S
        quiet = now_s - self._online_seen_s >= QUIET_S
        if batch is not None and (starved or not online) and (starved or quiet or not load.passes_s):
            at_s = self._hand_over_s(load) if load.passes_s else now_s
            if at_s > now_s:
                return at_s
            self._batch_ran_s = now_s
            return self._dispatch(index, self._taken(self._batch, self.bulk_tokens if quiet else self._beside_tokens))
        if online is None:
            return None
        at_s = self._start_at_s(load, online)
        expected = now_s - self._online_seen_s < self.deadline_s  # the next text that can be in time
        if online.deferred and expected and self.share.strained(now_s):
            at_s = (load.busy_until_s if load.passes_s else load.free_since_s) + self.deadline_s * GRACE_SHARE
        if at_s > now_s:
            return at_s
        jobs = self._next_online(now_s, len(targets))
        return self._dispatch(index, jobs + self._filling(jobs, now_s, now_s + load.remaining_s(now_s)))

    def _start_at_s(self, load: ReplicaLoad, oldest: Job) -> float:
        """When the first online text may be handed to this replica."""
        if load.passes_s:
            return self._hand_over_s(load)
        in_company = load.last_items > 1 and 0 <= oldest.enqueued_s - load.free_since_s < self.max_wait_s
        if in_company and self.online_tokens + self.deferred_tokens < self.pass_tokens and len(self) < self.max_items:
            return oldest.enqueued_s + self.max_wait_s
        return oldest.enqueued_s

    def _hand_over_s(self, load: ReplicaLoad) -> float:
        """When a busy replica gets its next pass."""
        return load.busy_until_s - self.lead_s

    def _defer_late(self, free_s: float) -> None:
        """Jobs that cannot be in time even if they start at `free_s` stand aside for those that can."""
        while (job := self._online.first()) is not None and job.deferrable:
            if free_s + self.cost.of(job.tokens) + self.cost.overhead_s <= job.due_s:
                return
            self._online.forget(job)
            job.deferred = True
            self._deferred.add(job)

    def granted_share(self, now_s: float, replicas: int) -> float:
        """The share of the engine's time that deferred texts take from the others now."""
        oldest = self._deferred.first()
        if oldest is None:
            return 0.0
        return self.share.granted(self.work_s(self.deferred_tokens) / replicas, now_s - oldest.enqueued_s, now_s)

    def hopeless(self, now_s: float, replicas: int) -> list[Job]:
        """Deferred jobs that will have waited far too long, the newest first, taken out."""
        jobs: list[Job] = []
        while (job := self._deferred.last()) is not None:
            if not self.share.hopeless(self.work_s(self.deferred_tokens) / replicas, now_s - job.enqueued_s, now_s):
                break
            self._deferred.forget(job)
            jobs.append(job)
        return jobs

    def _next_online(self, now_s: float, replicas: int) -> list[Job]:
        """A pass of texts that can be in time, with deferred ones that are owed it; without the former, of those."""
        limit, share, oldest = self.pass_tokens, self.granted_share(now_s, replicas), self._deferred.first()
        owed: list[Job] = []
        if oldest is not None and self._owed >= oldest.tokens and self._online.first() is not None:
            owed = self._taken(self._deferred, min(limit, int(self._owed)))
            self._owed -= _tokens(owed)
        urgent_s = now_s + self.deadline_s + self.work_s(self.online_tokens) / replicas
        timely = self._taken(self._online, limit, owed, due_s=urgent_s)
        jobs = owed + timely
        if jobs:  # what was owed, others would have had
            self.share.wanted((self.cost.of(_tokens(jobs)) + self.cost.overhead_s) / replicas, now_s)
        if oldest is not None:
            self._owed = min(self._owed + share * _tokens(jobs), max(limit, oldest.tokens))
        if (later := self._online.first()) is not None and later.due_s > urgent_s:
            jobs += self._taken(self._deferred, limit, jobs)
            jobs += self._taken(self._online, limit, jobs)
        return jobs or self._taken(self._deferred, limit)

    def _filling(self, jobs: Sequence[Job], now_s: float, free_s: float) -> list[Job]:
        """Batch texts that ride with `jobs`, the last that wait, in a pass that starts at `free_s`."""
        if self._batch.first() is None or self._online.first() is not None or self._deferred.first() is not None:
            return []
        left_s = min(job.due_s for job in jobs) - free_s - self.cost.overhead_s
        limit = min(self._beside_tokens, self.cost.tokens_within(left_s / 2))
        riding = self._taken(self._batch, limit, jobs)
        self._batch_ran_s = now_s if riding else self._batch_ran_s
        return riding

    def _taken(self, queue: DueQueue, limit: int, beside: Sequence[Job] = (), due_s: float = math.inf) -> list[Job]:
        """Jobs from the head of `queue`, due by `due_s`, for a pass of `limit` tokens with those `beside` them."""
        jobs: list[Job] = []
        tokens = _tokens(beside)
        while (job := queue.first()) is not None and len(jobs) + len(beside) < self.max_items:
            if job.due_s > due_s or ((jobs or beside) and tokens + job.tokens > limit):
                break
            queue.take()
            job.state = State.RUNNING
            jobs.append(job)
            tokens += job.tokens
        return jobs

    def _dispatch(self, target: int, jobs: list[Job]) -> Dispatch:
        tokens = _tokens(jobs)
        return Dispatch(target, jobs, tokens, self.cost.of(tokens))

    def _queue_of(self, job: Job) -> DueQueue:
        return self._batch if not job.online else self._deferred if job.deferred else self._online


def _tokens(jobs: Sequence[Job]) -> int:
    return sum([job.tokens for job in jobs])
