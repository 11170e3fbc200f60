"""
The planner, running: jobs in, passes out to the replicas, results back to everybody who waits.

No host imports: a replica is anything with `embed(texts)`. Every job ends in a vector or an exception, also when an
engine raises, a replica dies, or the server shuts down:

* engine raises → only that pass fails, and of it only the texts that are to blame (halving, if the other half works)
* replica lost  → its jobs go back to the head of the queue once, for another or a fresh replica; the second time: 503
* no replica    → 503 as soon as that is known; texts are not kept waiting for something that may never come
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from slo.serve.door.cache import Vector
from slo.serve.door.cost import TokenEstimate
from slo.serve.door.planner import Dispatch, Load, Planner
from slo.serve.door.problem import Problem, engine_fault, not_ready
from slo.serve.door.work import Job, PassTiming, State, Ticket

# What an engine answers: float32 vectors row by row, tokens after truncation, truncated?, milliseconds by stage.
Embedded = tuple[bytes, list[int], list[bool], dict[str, float]]


class ReplicaLost(Exception):
    """The replica cannot be reached, or is not the one that it was."""


class Replica(Protocol):
    """One model process; `identity` is its uid and address."""

    identity: tuple[str, str]

    @property
    def load(self) -> Load: ...

    async def embed(self, texts: list[str]) -> Embedded:
        """Raises `ReplicaLost`, or whatever the engine raised."""
        ...


class Observer(Protocol):
    """Who wants to know what happened."""

    def computed(self, replica: Replica, text: str, vector: Vector) -> None:
        """A vector is there."""
        ...

    def passed(self, texts: int, tokens: int, timing: PassTiming) -> None:
        """A pass succeeded."""
        ...

    def lost(self, replica: Replica) -> None:
        """A replica was given up; the list of replicas should be read anew."""
        ...


class Batcher:
    """One model's queue on the running event loop."""

    def __init__(
        self, planner: Planner, estimate: TokenEstimate, observer: Observer, monotonic: Callable[[], float]
    ) -> None:
        self.planner = planner
        self.replicas: list[Replica] = []
        self._estimate = estimate
        self._observer = observer
        self._now = monotonic
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._awake = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._expecting = False  # all replicas are lost, and whoever watches them is looking for fresh ones

    def running_s(self) -> float:
        """Predicted seconds until a replica is free, on average over the replicas."""
        now_s = self._now()
        return sum(replica.load.remaining_s(now_s) for replica in self.replicas) / max(1, len(self.replicas))

    def in_flight(self, text: str) -> Job | None:
        """The job that is computing this text already."""
        return self._jobs.get(text)

    def submit(
        self, texts: Sequence[str], tokens: Sequence[int], *, online: bool, due_s: float | None = None,
        deferred: bool = False, deferrable: bool = False,
    ) -> Ticket:  # fmt: skip
        """Queue what is not in flight yet. `tokens` are estimates; the rest is as `Job` has it."""
        if self._closed or not (self.replicas or self._expecting):
            raise not_ready("no replica of the model is ready")
        now_s = self._now()
        if due_s is None or not online:
            due_s = now_s + (self.planner.deadline_s if online else 0.0)
        terms = Job("", 0, online, now_s, due_s, deferrable, deferred)
        jobs = [self._job(text, count, terms) for text, count in zip(texts, tokens, strict=True)]
        ticket = Ticket(jobs, self._loop)
        self.wake()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """The request no longer waits: jobs that only it wanted are dropped unless they run already."""
        for job in {id(job): job for job in ticket.jobs}.values():
            if ticket in job.tickets:
                job.tickets.remove(ticket)
            if not job.tickets and job.state is State.QUEUED:
                self.planner.drop(job)
                self._forget(job)
        ticket.future.cancel()

    def update(self, replicas: Sequence[Replica]) -> None:
        """Serve from these replicas from now on. With none, everything that waits fails with 503."""
        self.replicas = list(replicas)
        self._expecting = False
        if not self.replicas:
            self.fail(self.planner.drain(), not_ready("no replica of the model is ready"))
        self.wake()

    def wake(self) -> None:
        """Look at the queue once the requests that are ready in this turn of the loop have queued up."""
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._pump)

    async def close(self) -> None:
        """Fail what waits, and wait for nothing."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.fail(self.planner.drain(), not_ready("the server is shutting down"))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _job(self, text: str, tokens: int, terms: Job) -> Job:
        job = self._jobs.get(text)
        if job is None:
            job = self._jobs[text] = replace(terms, text=text, tokens=tokens, tickets=[])
            self.planner.add(job)
        elif terms.online and job.state is State.QUEUED:
            self.planner.promote(job, terms)
        return job

    def _pump(self) -> None:
        self._awake = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while not self._closed:
            now_s = self._now()
            step = self.planner.decide(now_s, self.replicas)
            if isinstance(step, Dispatch):
                replica = self.replicas[step.target]
                replica.load.start(now_s, step.predicted_s, len(step.jobs), step.tokens)
                task = self._loop.create_task(self._run(replica, step))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                continue
            if step is not None:
                self._timer = self._loop.call_later(max(0.0, step - now_s), self._pump)
            return

    async def _run(self, replica: Replica, step: Dispatch) -> None:
        try:
            error = await self._attempt(replica, step.jobs)
            if error is not None:
                await self._isolate(replica, step.jobs, error)
        except asyncio.CancelledError:
            self.fail(step.jobs, not_ready("the server is shutting down"))
            raise
        finally:
            replica.load.end(self._now(), step.tokens)
            self.wake()

    async def _attempt(self, replica: Replica, jobs: list[Job]) -> Exception | None:
        """One call. None when its jobs are settled or queued again, else what the engine raised."""
        started_s, uid = self._now(), replica.identity[0]
        for job in jobs:
            job.replica = uid
        try:
            answer = await replica.embed([job.text for job in jobs])
            vectors = _vectors(answer, len(jobs))
        except ReplicaLost as error:
            self._retry(replica, jobs, error)
            return None
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is answered to the requests of this pass
            return error
        timing = PassTiming(started_s, self._now() - started_s, answer[3])
        self._learn(jobs, answer, timing)
        for job, vector in zip(jobs, vectors, strict=True):
            self._forget(job)
            if vector is None:
                job.fail(engine_fault("a vector holds a value that is not a number"))
            else:
                job.finish(vector, timing)
                self._observer.computed(replica, job.text, vector)
        return None

    async def _isolate(self, replica: Replica, jobs: list[Job], error: Exception) -> None:
        """Find the text to blame by halves; when both halves fail, the engine itself is to blame."""
        if len(jobs) > 1:
            middle = len(jobs) // 2
            halves = (jobs[:middle], jobs[middle:])
            errors = [await self._attempt(replica, half) for half in halves]
            if None in errors:
                for half, again in zip(halves, errors, strict=True):
                    if again is not None:
                        await self._isolate(replica, half, again)
                return
        self.fail(jobs, error if isinstance(error, Problem) else engine_fault(f"{type(error).__name__}: {error}"))

    def _retry(self, replica: Replica, jobs: list[Job], error: ReplicaLost) -> None:
        again = [job for job in jobs if not job.retried and job.tickets]
        self.fail(
            [job for job in jobs if job.retried or not job.tickets], not_ready(f"the model process is gone: {error}")
        )
        for job in again:
            job.retried = True
        self.planner.add_first(again)
        self.replicas = [other for other in self.replicas if other is not replica]
        if not self.replicas:
            self._expecting = True
        self._observer.lost(replica)

    def _learn(self, jobs: list[Job], answer: Embedded, timing: PassTiming) -> None:
        _, tokens, _, stages_ms = answer
        engine_s = sum(stages_ms.get(stage, 0.0) for stage in ("infer", "finish")) / 1000
        self.planner.cost.observe(sum(tokens), engine_s, timing.wall_s, stages_ms.get("wait", 0.0) / 1000)
        self._estimate.observe([job.text for job in jobs], tokens)
        self._observer.passed(len(jobs), sum(tokens), timing)

    def fail(self, jobs: Sequence[Job], problem: Problem) -> None:
        """These jobs will not be computed: everybody who waits for them gets the problem."""
        for job in jobs:
            if job.state is not State.DONE:
                self._forget(job)
                job.fail(problem)

    def _forget(self, job: Job) -> None:
        if self._jobs.get(job.text) is job:
            del self._jobs[job.text]


def _vectors(answer: Embedded, expected: int) -> list[Vector | None]:
    """One vector per text, None for one that holds NaN or infinity. Raises `ValueError` if the counts do not fit."""
    packed, tokens, truncated, _ = answer
    if len(tokens) != expected or len(truncated) != expected or not packed or len(packed) % (4 * expected):
        raise ValueError(f"{len(packed)} bytes, {len(tokens)} counts for {expected} texts")
    finite = np.isfinite(np.frombuffer(packed, dtype="<f4").reshape(expected, -1)).all(axis=1).tolist()
    size = len(packed) // expected
    return [
        Vector(packed[i * size : (i + 1) * size], tokens[i], truncated[i]) if finite[i] else None
        for i in range(expected)
    ]
