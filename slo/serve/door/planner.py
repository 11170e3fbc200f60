"""
Which texts go into the next pass, on which replica, and when. No input or output: the clock is an argument.

* Order is first come, first served; online texts go before batch texts.
* A pass holds at most `pass_tokens` tokens (it should take a third of the deadline, no more) and `max_items` texts.
* A free replica takes what is there at once. One exception, when requests come in company: a replica that has just
  finished a pass of several texts waits for the next ones, at most `max_wait_s` after the oldest of them came.
* A busy replica gets its next pass shortly before it is predicted to finish (`lead_s`): handed over earlier the pass
  could not grow, handed over later the engine would stand idle for the length of a call. This adds no wait, since the
  engine could not have started.
* Batch texts start only on a free replica, in smaller passes while online traffic is about. When they have waited for a
  second they take the next pass, of a busy replica too: one a second, so that they neither harm nor starve.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from slo.serve.door.cost import PassCost
from slo.serve.door.work import Job, State

MIN_PASS_TOKENS = 32
PASS_SHARE = 0.3  # of the deadline: waiting for the running pass and riding in the next leaves a third in reserve
QUIET_S = 1.0  # without online texts for so long, batch texts may have whole passes
STARVED_S = 1.0  # batch texts get one pass after so long, whatever else waits


@dataclass(slots=True)
class Load:
    """What one replica is doing. Kept by whoever dispatches."""

    passes_s: deque[float] = field(default_factory=deque)  # predicted seconds of each pass handed over
    tokens: int = 0
    busy_until_s: float = 0.0
    free_since_s: float = -1e9
    last_items: int = 0

    def start(self, now_s: float, predicted_s: float, items: int, tokens: int) -> None:
        """A pass is handed over."""
        self.passes_s.append(predicted_s)
        self.tokens += tokens
        self.busy_until_s = max(now_s, self.busy_until_s) + predicted_s
        self.last_items = items

    def end(self, now_s: float, tokens: int) -> None:
        """The oldest pass is back: predictions for the others start anew from here."""
        self.passes_s.popleft()
        self.tokens -= tokens
        self.busy_until_s = now_s + sum(self.passes_s)
        if not self.passes_s:
            self.free_since_s = now_s

    def remaining_s(self, now_s: float) -> float:
        """Predicted seconds until it is free; at least a little while something runs."""
        return max(self.busy_until_s - now_s, 0.001) if self.passes_s else 0.0


class Target(Protocol):
    """Anything that carries a `Load`."""

    @property
    def load(self) -> Load: ...


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
        self, cost: PassCost, *, max_tokens: int, max_items: int, max_wait_s: float, in_flight: int, deadline_s: float
    ) -> None:
        self.cost = cost
        self.max_tokens = max_tokens
        self.max_items = max_items
        self.max_wait_s = max_wait_s
        self.in_flight = in_flight
        self.deadline_s = deadline_s
        self.online_tokens = 0
        self.batch_tokens = 0
        self._online: deque[Job] = deque()
        self._batch: deque[Job] = deque()
        self._online_seen_s = -1e9
        self._batch_ran_s = -1e9

    def __len__(self) -> int:
        """Jobs waiting, dropped ones that have not been swept included."""
        return len(self._online) + len(self._batch)

    @property
    def pass_tokens(self) -> int:
        """Most tokens of one pass, so that it takes no more than its share of the deadline."""
        return min(self.max_tokens, max(MIN_PASS_TOKENS, self.cost.tokens_within(self.deadline_s * PASS_SHARE)))

    @property
    def lead_s(self) -> float:
        """How long before a replica falls free its next pass is handed over."""
        return min(0.015, self.cost.overhead_s + 0.05 * self.cost.of(self.pass_tokens))

    def add(self, job: Job) -> None:
        """Queue a job at the end of its class."""
        self._count(job, 1)
        if job.online:
            self._online_seen_s = max(self._online_seen_s, job.enqueued_s)
        (self._online if job.online else self._batch).append(job)

    def add_first(self, jobs: Sequence[Job]) -> None:
        """Queue jobs again, before all others of their class, in their order."""
        for job in reversed(jobs):
            job.state = State.QUEUED
            self._count(job, 1)
            (self._online if job.online else self._batch).appendleft(job)

    def promote(self, job: Job) -> None:
        """An online request has joined a queued batch job."""
        self._batch.remove(job)
        self._count(job, -1)
        job.online = True
        self.add(job)

    def drop(self, job: Job) -> None:
        """Nobody waits for this queued job any more: it no longer counts, and will not be computed."""
        job.state = State.DROPPED
        self._count(job, -1)

    def drain(self) -> list[Job]:
        """Take all waiting jobs out."""
        jobs = [job for queue in (self._online, self._batch) for job in queue if job.state is State.QUEUED]
        self._online.clear()
        self._batch.clear()
        self.online_tokens = self.batch_tokens = 0
        return jobs

    def decide(self, now_s: float, targets: Sequence[Target]) -> Dispatch | float | None:
        """The next step: a pass to start now, an instant at which to ask again, or None: wait for an event."""
        _sweep(self._online)
        _sweep(self._batch)
        open_targets = [i for i, target in enumerate(targets) if len(target.load.passes_s) < self.in_flight]
        if not open_targets or not (self._online or self._batch):
            return None
        index = min(open_targets, key=lambda i: (targets[i].load.remaining_s(now_s), targets[i].load.free_since_s))
        load = targets[index].load
        starved = bool(self._batch) and now_s - max(self._batch_ran_s, self._batch[0].enqueued_s) >= STARVED_S
        if self._batch and (starved or not (load.passes_s or self._online)):
            at_s = self._hand_over_s(load) if load.passes_s else now_s
            if at_s > now_s:
                return at_s
            quiet = now_s - self._online_seen_s >= QUIET_S
            self._batch_ran_s = now_s
            return self._take(self._batch, index, self.pass_tokens if quiet else self.pass_tokens // 2)
        if not self._online:
            return None
        at_s = self._start_at_s(load)
        return self._take(self._online, index, self.pass_tokens) if at_s <= now_s else at_s

    def _start_at_s(self, load: Load) -> float:
        """When the oldest online text may be handed to this replica."""
        if load.passes_s:
            return self._hand_over_s(load)
        oldest_s = self._online[0].enqueued_s
        in_company = load.last_items > 1 and 0 <= oldest_s - load.free_since_s < self.max_wait_s
        if in_company and self.online_tokens < self.pass_tokens and len(self._online) < self.max_items:
            return oldest_s + self.max_wait_s
        return oldest_s

    def _hand_over_s(self, load: Load) -> float:
        """When a busy replica gets its next pass."""
        return load.busy_until_s - self.lead_s

    def _take(self, queue: deque[Job], target: int, limit: int) -> Dispatch:
        jobs: list[Job] = []
        tokens = 0
        while queue and len(jobs) < self.max_items:
            job = queue[0]
            if job.state is State.QUEUED:
                if jobs and tokens + job.tokens > limit:
                    break
                self._count(job, -1)
                job.state = State.RUNNING
                jobs.append(job)
                tokens += job.tokens
            queue.popleft()
        return Dispatch(target, jobs, tokens, self.cost.of(tokens))

    def _count(self, job: Job, sign: int) -> None:
        if job.online:
            self.online_tokens += sign * job.tokens
        else:
            self.batch_tokens += sign * job.tokens


def _sweep(queue: deque[Job]) -> None:
    """Let dropped jobs at the head go; the others go when they get there."""
    while queue and queue[0].state is not State.QUEUED:
        queue.popleft()
