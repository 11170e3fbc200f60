"""
Jobs in the order in which they are due, and how many tokens lie before a given instant.

Jobs that are due within the same `STEP_S` go first come, first served. Dropped and moved jobs are passed over when
their turn comes.
"""

from __future__ import annotations

import heapq
from collections import deque

from slo.serve.door.work import Job, State

STEP_S = 0.01


class DueQueue:
    """Jobs by `due_s`. `tokens` counts those that wait."""

    def __init__(self) -> None:
        self.tokens = 0
        self._jobs: dict[int, deque[Job]] = {}
        self._counts: dict[int, int] = {}  # tokens that wait, by step
        self._steps: list[int] = []  # a heap of the keys of `_jobs`
        self._number = 0

    def __len__(self) -> int:
        """Jobs waiting, dropped and moved ones that have not been passed over yet included."""
        return self._number

    def add(self, job: Job, *, first: bool = False) -> None:
        """Queue a job; `first`: before the others of its step."""
        step = _step(job)
        if step not in self._jobs:
            self._jobs[step] = deque()
            self._counts[step] = 0
            heapq.heappush(self._steps, step)
        self._jobs[step].appendleft(job) if first else self._jobs[step].append(job)
        job.queue = self
        self._count(job, 1)
        self._number += 1

    def forget(self, job: Job) -> None:
        """The job is dropped or has moved: it no longer counts, and will be passed over."""
        job.queue = None
        self._count(job, -1)

    def first(self) -> Job | None:
        """The job that is due first; it stays."""
        while self._steps:
            step = self._steps[0]
            jobs = self._jobs[step]
            while jobs:
                job = jobs[0]
                if job.queue is self and job.state is State.QUEUED and _step(job) == step:
                    return job
                jobs.popleft()
                self._number -= 1
            heapq.heappop(self._steps)
            del self._jobs[step], self._counts[step]
        return None

    def take(self) -> Job | None:
        """The job that is due first; it is no longer here."""
        job = self.first()
        if job is not None:
            self._jobs[self._steps[0]].popleft()
            self._number -= 1
            self.forget(job)
        return job

    def last(self) -> Job | None:
        """The job that is due last; it stays."""
        for step in sorted(self._jobs, reverse=True):
            for job in reversed(self._jobs[step]):
                if job.queue is self and job.state is State.QUEUED and _step(job) == step:
                    return job
        return None

    def ahead(self, due_s: float) -> int:
        """Tokens of the jobs that go before one that is due at `due_s`."""
        last = int(due_s / STEP_S)
        return sum([tokens for step, tokens in self._counts.items() if step <= last])

    def drain(self) -> list[Job]:
        """Take all jobs out."""
        found: list[Job] = []
        while (job := self.take()) is not None:
            found.append(job)
        return found

    def _count(self, job: Job, sign: int) -> None:
        self.tokens += sign * job.tokens
        self._counts[_step(job)] += sign * job.tokens


def _step(job: Job) -> int:
    return int(job.due_s / STEP_S)
