"""
Jobs in the order in which they are due, and how many tokens lie before a given instant.

Jobs that are due within the same `STEP_S` go first come, first served. Dropped and moved jobs are passed over when
their turn comes.

**Deferred requests** (`DeferredShare`): how much of the engine they get while requests that can be in time want it too.

* Never less than `FLOOR`: a deferred request always comes nearer to its turn.
* As much as brings those that wait through within `max_wait_s`, at most `CEILING`; all of that, once the oldest is
  about to wait longer.
* What cannot be through within `max_wait_s` with all that is refused, the newest first: a burst that has turned out
  to be more.
* Admission counts on what the others leave, and at least on `CEILING`, as long as what is asked for is about what can
  be done: a burst, or callers who ask again when they have their answer. Where far more is asked for (`EASY` to `HARD`
  times as much), it counts on less, down to `FLOOR`: to defer then only puts the same number of others out of time.

What is asked for, and what the others want, are rates over the last seconds, in seconds of engine time per second.
"""

from __future__ import annotations

import heapq
import math
from collections import deque

from slo.serve.door.work import Job, State

STEP_S = 0.01
FLOOR = 0.04
CEILING = 0.2
EASY = 1.6  # times what can be done
HARD = 2.4
OFFERED_MEMORY_S = 3.0
WANTED_MEMORY_S = 1.5
AGED = 0.9  # of the longest wait
SLACK = 1.25
MARGIN = 1.15  # passes take longer than predicted when others use the processor as well


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


class FadingRate:
    """Amount per second over about the last `memory_s`; counted up to `most_per_s`, so that it is soon forgotten."""

    def __init__(self, memory_s: float, most_per_s: float = math.inf) -> None:
        self._memory_s = memory_s
        self._most = most_per_s * memory_s
        self._sum = self._at_s = 0.0

    def add(self, amount: float, now_s: float) -> None:
        """So much happened now."""
        self._sum = min(self._most, self._faded(now_s) + amount)
        self._at_s = now_s

    def per_s(self, now_s: float) -> float:
        """The rate now."""
        return self._faded(now_s) / self._memory_s

    def _faded(self, now_s: float) -> float:
        return self._sum * math.exp(-max(0.0, now_s - self._at_s) / self._memory_s)


class DeferredShare:
    """One model's; all amounts are seconds of one engine divided by the number of engines."""

    def __init__(self, max_wait_s: float) -> None:
        self.max_wait_s = max_wait_s
        self._offered = FadingRate(OFFERED_MEMORY_S, 1.5 * HARD)
        self._wanted = FadingRate(WANTED_MEMORY_S)

    def offered(self, work_s: float, now_s: float) -> None:
        """An online request asks for so much, whatever becomes of it."""
        self._offered.add(work_s, now_s)

    def wanted(self, work_s: float, now_s: float) -> None:
        """So much is handed over that requests which can be in time wanted, or had to give up for deferred ones."""
        self._wanted.add(work_s, now_s)

    def granted(self, waiting_s: float, oldest_s: float, now_s: float) -> float:
        """The share now, with `waiting_s` of deferred work, the oldest of it for `oldest_s`."""
        if oldest_s >= self.max_wait_s * AGED:
            return CEILING
        return min(self._most(now_s), max(FLOOR, waiting_s / self.max_wait_s))

    def expected(self, now_s: float) -> float:
        """The share that admission may count on."""
        return max(self._most(now_s), 1 - MARGIN * self._wanted.per_s(now_s))

    def strained(self, now_s: float) -> bool:
        """Is far more asked for than can be done?"""
        return self._offered.per_s(now_s) >= HARD

    def hopeless(self, waiting_s: float, waited_s: float, now_s: float) -> bool:
        """Will what has waited for `waited_s`, `waiting_s` of deferred work up to its end, wait far too long?"""
        return waited_s + waiting_s / self.expected(now_s) > SLACK * self.max_wait_s

    def _most(self, now_s: float) -> float:
        excess = (self._offered.per_s(now_s) - EASY) / (HARD - EASY)
        return CEILING + (FLOOR - CEILING) * min(1.0, max(0.0, excess))
