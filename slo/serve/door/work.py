"""
What the queue knows: a `Job`, one text to be computed once, and a `Ticket`, one request waiting for some of them.

Several requests may wait for one job (identical texts in flight), and a request for several jobs. A job that nobody
waits for any more is dropped before it is computed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from slo.serve.door.cache import Vector
from slo.serve.telemetry.telemetry import PassTiming


class State(Enum):
    """Life of a job; a job never goes back from DONE."""

    QUEUED = 1
    RUNNING = 2
    DONE = 3
    DROPPED = 4


@dataclass(slots=True, eq=False)
class Job:
    """One text. `tokens` is an estimate until it is done; `replica` is the uid of the one that was asked last.

    `due_s` orders the queue: when an online job ought to be done, when a batch job came. `deferrable`: once it cannot
    be in time it becomes `deferred`, and is served after those that can.
    """

    text: str
    tokens: int
    online: bool
    enqueued_s: float
    due_s: float = math.nan  # the planner's default
    deferrable: bool = False
    deferred: bool = False
    queue: object = None  # where it waits
    state: State = State.QUEUED
    retried: bool = False
    tickets: list[Ticket] = field(default_factory=list)
    vector: Vector | None = None
    timing: PassTiming | None = None
    replica: str = ""

    def finish(self, vector: Vector, timing: PassTiming) -> None:
        """Give the result to everybody who waits, once: a suspect may be computed by its old pass and on trial."""
        if self.state is State.DONE:
            return
        self.state, self.vector, self.timing = State.DONE, vector, timing
        for ticket in self.tickets:
            ticket.one_done(self)

    def fail(self, error: Exception) -> None:
        """Give the error to everybody who waits, unless they have their result."""
        if self.state is State.DONE:
            return
        self.state = State.DONE
        for ticket in self.tickets:
            ticket.failed(error)


class Ticket:
    """One request's claim on its jobs. `future` ends when the last of them is done, or with the first error."""

    __slots__ = ("future", "jobs", "last", "remaining")

    def __init__(self, jobs: Sequence[Job], loop: asyncio.AbstractEventLoop) -> None:
        self.jobs = jobs
        self.future: asyncio.Future[None] = loop.create_future()
        self.last: Job | None = None
        distinct = {id(job): job for job in jobs}
        self.remaining = len(distinct)
        for job in distinct.values():
            job.tickets.append(self)

    @property
    def replica(self) -> str:
        """Uid of the replica that gave the last vector, or else of one that owes some; empty while all are queued."""
        if self.remaining == 0 and self.last is not None:
            return self.last.replica
        return next((job.replica for job in self.jobs if job.vector is None and job.replica), "")

    def one_done(self, job: Job) -> None:
        """One of the jobs has its vector."""
        self.remaining -= 1
        self.last = job
        if self.remaining == 0 and not self.future.done():
            self.future.set_result(None)

    def failed(self, error: Exception) -> None:
        """One of the jobs will never have one."""
        if not self.future.done():
            self.future.set_exception(error)


def waited(last: PassTiming, since_s: float, queued_s: float) -> dict[str, float]:
    """Where a request that came at `since_s` waited for its last pass, in ms: without gap or overlap.

    `call` is the way to the model process and back; `joined` is the rest of a pass that was under way already.
    """
    if last.dispatched_s < since_s:
        return {"joined": max(0.0, last.dispatched_s + last.wall_s - since_s) * 1000}
    return {"queue": queued_s * 1000, **last.stages_ms, "call": last.call_s * 1000}
