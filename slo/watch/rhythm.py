"""
A job at a steady rate, by the `schedule` library on a scheduler of its own.

`schedule` goes by the local wall clock, counts the interval from the end of the job, and would pause for an hour
when the clock is put back by one. So the next run is set from the monotonic clock after each run, a run that the
wall clock withholds is made all the same, and one that it calls for early (a machine woken from suspension) is
welcome. Missed runs are not replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

import schedule

from slo.clock import Clock


class Rhythm:
    """Runs `job` at once and then every `interval_s`."""

    def __init__(self, job: Callable[[], None], *, interval_s: float, clock: Clock) -> None:
        self.scheduler = schedule.Scheduler()
        self._interval_s = interval_s
        self._clock = clock
        self._due_s = clock.monotonic()
        # The library's annotation says int; its arithmetic is timedelta(seconds=…), which takes fractions.
        self.scheduler.every(interval_s).seconds.do(job)  # type: ignore[arg-type, unused-ignore]

    def run(self, times: int | None, sleeping: Callable[[], AbstractContextManager[None]]) -> None:
        """Run the job `times` times (None: for ever), waiting inside `sleeping()`."""
        done = 0
        while times is None or done < times:
            if done:
                with sleeping():
                    self._wait()
            started_s = self._clock.monotonic()
            self.scheduler.run_all()
            done += 1
            self._plan(started_s)

    def _wait(self) -> None:
        """Until the monotonic clock or the scheduler says that the job is due."""
        while (left_s := self._due_s - self._clock.monotonic()) > 0:
            idle_s = self.scheduler.idle_seconds
            if idle_s is not None and idle_s <= 0:
                return
            # In steps, to see a wall clock that was put forward.
            self._clock.sleep(min(left_s, 1.0))

    def _plan(self, started_s: float) -> None:
        """Due one interval after it was due last (or ran early), or after now if that has passed."""
        now_s = self._clock.monotonic()
        self._due_s = min(self._due_s, started_s) + self._interval_s
        if self._due_s <= now_s:
            self._due_s = now_s + self._interval_s
        for job in self.scheduler.get_jobs():
            job.next_run = datetime.now() + timedelta(seconds=self._due_s - now_s)
