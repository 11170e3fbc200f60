from contextlib import nullcontext
from datetime import timedelta

import pytest
import schedule

from slo.clock import ManualClock, SystemClock
from slo.watch.rhythm import Rhythm


def test_a_job_runs_at_once_and_then_at_a_steady_rate_however_long_it_takes() -> None:
    clock, starts = ManualClock(), list[float]()

    def job() -> None:
        starts.append(clock.monotonic())
        clock.advance(7.0)

    Rhythm(job, interval_s=60, clock=clock).run(5, nullcontext)
    assert starts == [0.0, 60.0, 120.0, 180.0, 240.0]


def test_runs_that_were_missed_are_not_replayed() -> None:
    clock, starts = ManualClock(), list[float]()

    def job() -> None:
        starts.append(clock.monotonic())
        clock.advance(200.0 if len(starts) == 1 else 1.0)

    Rhythm(job, interval_s=60, clock=clock).run(3, nullcontext)
    assert starts == [0.0, 260.0, 320.0]


@pytest.mark.parametrize(
    ("jump", "expected"),
    [
        pytest.param(timedelta(hours=1), [0.0, 60.0, 120.0], id="put back"),
        pytest.param(timedelta(hours=-1), [0.0, 0.0, 60.0], id="put forward"),
    ],
)
def test_a_wall_clock_that_jumps_does_not_silence_it(jump: timedelta, expected: list[float]) -> None:
    clock, starts, jumps = ManualClock(), list[float](), [jump]
    rhythm = Rhythm(lambda: starts.append(clock.monotonic()), interval_s=60, clock=clock)

    class JumpOnce(nullcontext[None]):
        def __enter__(self) -> None:
            # Seen from the job, a clock put back by an hour moves the next run an hour away; put forward, it is due.
            for entry in rhythm.scheduler.get_jobs():
                assert entry.next_run is not None
                entry.next_run += jumps.pop() if jumps else timedelta(0)

    rhythm.run(3, JumpOnce)
    assert starts == expected


def test_it_keeps_to_its_rate_on_the_real_clock_and_off_the_global_scheduler() -> None:
    clock, starts = SystemClock(), list[float]()
    Rhythm(lambda: starts.append(clock.monotonic()), interval_s=0.1, clock=clock).run(6, nullcontext)
    assert starts[-1] - starts[0] == pytest.approx(0.5, abs=0.09)
    assert schedule.get_jobs() == []
