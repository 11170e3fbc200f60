"""
The planner, running: jobs in, passes out to the replicas, results back to everybody who waits.

No host imports: a replica is anything with `embed(texts)`. Every job ends in a vector or an exception, also when an
engine raises, a replica dies, or the server shuts down:

* engine raises → the pass is tried once on another replica. If it fails there, too, only the texts that are to blame
                  fail (halving, if the other half works)
* replica lost  → its jobs go back to the head of the queue once, for another or a fresh replica; the second time: 503.
                  Those that were being computed when it died are suspects: they follow one by one, each alone, and not
                  while that might end the last replica. A text during which two died is not computed any more
* no replica    → 503 as soon as that is known; texts are not kept waiting for something that may never come
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from slo.serve.door.health import BLAMED, Blame, Health, Identity
from slo.serve.door.passes import Embedded, Observer, Replica, ReplicaLost, size_of, vectors_of
from slo.serve.door.planner import Dispatch, Planner
from slo.serve.door.problem import Problem, blamed, engine_fault, not_ready, refused
from slo.serve.door.work import Job, State, Ticket
from slo.serve.engine.cost import TokenEstimate
from slo.serve.telemetry.telemetry import PassTiming

__all__ = ["Batcher", "Embedded", "Observer", "Replica", "ReplicaLost"]


class Batcher:
    """One model's queue on the running event loop."""

    def __init__(
        self,
        planner: Planner,
        estimate: TokenEstimate,
        observer: Observer,
        monotonic: Callable[[], float],
        health: Health | None = None,
        max_bytes: int = 2**62,
    ) -> None:
        self.planner = planner
        self.health = health or Health(0.0)
        self.replicas: list[Replica] = []
        self._wanted = 0  # replicas that the host means to have
        self._blame = Blame()
        self._suspects: deque[Job] = deque()
        self._on_trial: Job | None = None
        self._passes: dict[Identity, deque[list[Job]]] = {}  # handed over, the oldest first
        self._dying: set[Identity] = set()  # lost while passes are still out
        self._max_bytes = max_bytes
        self._bytes = 0  # of all texts that wait or are computed
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
        new = [text for text in texts if text not in self._jobs]
        if self._bytes and self._bytes + sum(map(size_of, new)) > self._max_bytes:
            raise refused("queue_full", "the queue is full: its texts take too much memory", self.running_s(), 1.0)
        if any(self._blame.deaths(text, now_s) >= BLAMED for text in new):
            raise blamed()
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

    def update(self, replicas: Sequence[Replica], *, wanted: int = 0, hold: bool = False) -> None:
        """Serve from these replicas from now on, of which there should be `wanted`.

        With none, everything that waits fails with 503, unless it is to `hold` for one that may recover.
        """
        self.replicas = list(replicas)
        self._wanted = wanted
        self._expecting = False
        if not self.replicas and not hold:
            self._fail_all(not_ready("no replica of the model is ready"))
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
        self._fail_all(not_ready("the server is shutting down"))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _job(self, text: str, tokens: int, terms: Job) -> Job:
        job = self._jobs.get(text)
        if job is None:
            job = self._jobs[text] = replace(terms, text=text, tokens=tokens, tickets=[])
            self._bytes += size_of(text)
            if self._blame.deaths(text, terms.enqueued_s):
                self._suspects.append(job)
                job.state = State.RUNNING  # the planner does not know it
            else:
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
            step = self._trial() or self.planner.decide(now_s, self.replicas)
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

    def _trial(self) -> Dispatch | None:
        """The next suspect, alone in its pass: one at a time, and only if another replica serves on if it dies.

        One that is the only one there should be is no exception to be waited for.
        """
        while self._suspects and (self._suspects[0].state is State.DONE or not self._suspects[0].tickets):
            self.fail([self._suspects.popleft()], not_ready("nobody waits for it"))
        loads = [replica.load for replica in self.replicas]
        safe = len(loads) > 1 or len(loads) >= self._wanted
        free = [index for index, load in enumerate(loads) if len(load.passes_s) < self.planner.in_flight]
        if not (self._suspects and safe and free) or self._on_trial is not None:
            return None
        job = self._on_trial = self._suspects.popleft()
        index = min(free, key=lambda each: len(loads[each].passes_s))
        return Dispatch(index, [job], job.tokens, self.planner.cost.of(job.tokens))

    async def _run(self, replica: Replica, step: Dispatch) -> None:
        try:
            error = await self._attempt(replica, step.jobs)
            if error is not None:
                await self._elsewhere(replica, step, error)
        except asyncio.CancelledError:
            self.fail(step.jobs, not_ready("the server is shutting down"))
            raise
        finally:
            if self._on_trial in step.jobs:
                self._on_trial = None
            replica.load.end(self._now(), step.tokens)
            self.wake()

    async def _elsewhere(self, replica: Replica, step: Dispatch, error: Exception) -> None:
        """Try a failed pass once on another replica. What fails there as well is the texts' fault."""
        others = [other for other in self.replicas if other is not replica]
        if others:
            now_s = self._now()
            other = min(others, key=lambda each: each.load.remaining_s(now_s))
            other.load.start(now_s, step.predicted_s, len(step.jobs), step.tokens)
            try:
                again = await self._attempt(other, step.jobs)
                if again is not None:
                    self.health.excuse(replica.identity)
                    self.health.excuse(other.identity)
                    await self._isolate(other, step.jobs, again)
            finally:
                other.load.end(self._now(), step.tokens)
        else:
            await self._isolate(replica, step.jobs, error)

    async def _attempt(self, replica: Replica, jobs: list[Job]) -> Exception | None:
        """One call. None when its jobs are settled or queued again, else what the engine raised."""
        started_s, (uid, _) = self._now(), replica.identity
        for job in jobs:
            job.replica = uid
        passes = self._passes.setdefault(replica.identity, deque())
        passes.append(jobs)
        self.health.started(replica.identity, started_s, self.planner.cost.of(sum([job.tokens for job in jobs])))
        ok: bool | None = None
        try:
            answer = await replica.embed([job.text for job in jobs])
            vectors = vectors_of(answer, len(jobs))
            ok = True
        except ReplicaLost as error:
            self._retry(replica, jobs, error)
            return None
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is answered to the requests of this pass
            ok = False
            return error
        finally:
            passes.remove(jobs)
            if not passes:
                self._passes.pop(replica.identity, None)
                self._dying.discard(replica.identity)
            self.health.ended(replica.identity, self._now(), ok=ok)
        timing = PassTiming(started_s, self._now() - started_s, answer[3])
        self._learn(replica, jobs, answer, timing)
        for job, vector in zip(jobs, vectors, strict=True):
            self._forget(job)
            if vector is None:
                job.fail(engine_fault("a vector holds a value that is not a number"))
            else:
                self._blame.clear(job.text)
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
        """Jobs of a replica that is gone: back into the queue, or among the suspects."""
        if replica.identity not in self._dying:
            self._dying.add(replica.identity)
            if not error.leaving:
                self._suspect(replica)
        if any(replica is other for other in self.replicas):
            self.replicas = [other for other in self.replicas if other is not replica]
            self._expecting = not self.replicas
            self._observer.lost(replica, leaving=error.leaving)
        problem = not_ready(f"the model process is gone: {error}")
        again: list[Job] = []
        for job in jobs:
            if job in self._suspects or job.state is State.DONE:
                continue
            if job.tickets and (error.leaving or not job.retried):
                job.retried = job.retried or not error.leaving
                again.append(job)
            else:
                self.fail([job], problem)
        self.planner.add_first(again)
        if not (self.replicas or self._expecting):
            self._fail_all(problem)

    def _suspect(self, replica: Replica) -> None:
        """A replica died: what it was computing, the oldest pass, may be why."""
        now_s = self._now()
        for job in self._passes.get(replica.identity, deque([[]]))[0]:
            if self._blame.died(job.text, now_s) >= BLAMED:
                self.fail([job], blamed())
            else:
                self._suspects.append(job)

    def _learn(self, replica: Replica, jobs: list[Job], answer: Embedded, timing: PassTiming) -> None:
        """An engine of several streams begins a pass beside the one before: it occupied what came after that's end."""
        _, tokens, _, stages_ms = answer
        alone_s = timing.dispatched_s + timing.wall_s - replica.load.ended_s
        engine_s = min(alone_s, sum(stages_ms.get(stage, 0.0) for stage in ("infer", "finish")) / 1000)
        self.planner.cost.observe(sum(tokens), engine_s, timing.wall_s, stages_ms.get("wait", 0.0) / 1000)
        self._estimate.observe([job.text for job in jobs], tokens)
        self._observer.passed(len(jobs), sum(tokens), timing)

    def _fail_all(self, problem: Problem) -> None:
        """Everything that waits."""
        self.fail([*self.planner.drain(), *self._suspects], problem)
        self._suspects.clear()

    def fail(self, jobs: Sequence[Job], problem: Problem) -> None:
        """These jobs will not be computed: everybody who waits for them gets the problem."""
        for job in jobs:
            if job.state is not State.DONE:
                self._forget(job)
                job.fail(problem)

    def _forget(self, job: Job) -> None:
        if self._jobs.get(job.text) is job:
            del self._jobs[job.text]
            self._bytes -= size_of(job.text)
