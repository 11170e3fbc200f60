import time

import pytest

from slo.clock import ManualClock, SystemClock, iso


def test_sleeping_on_a_manual_clock_takes_no_time_and_moves_both_hands() -> None:
    clock, started = ManualClock(monotonic_s=5.0, wall_s=1000.0), time.perf_counter()
    clock.sleep(86400.0)
    assert (clock.monotonic(), clock.wall()) == (86405.0, 87400.0)
    assert time.perf_counter() - started < 1


def test_a_jump_of_the_wall_clock_leaves_durations_alone() -> None:
    clock = ManualClock(monotonic_s=5.0, wall_s=1000.0)
    clock.jump_wall(-3600.0)
    assert (clock.monotonic(), clock.wall()) == (5.0, -2600.0)


def test_a_negative_sleep_is_none() -> None:
    clock = ManualClock()
    clock.sleep(-1)
    SystemClock().sleep(-1)
    assert clock.monotonic() == 0.0


def test_the_system_clock_runs_forward() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0.005)
    assert clock.monotonic() - before >= 0.005
    assert abs(clock.wall() - time.time()) < 1


@pytest.mark.parametrize(
    ("wall_s", "text"), [(0.0, "1970-01-01T00:00:00.000Z"), (1_700_000_000.1234, "2023-11-14T22:13:20.123Z")]
)
def test_a_timestamp_is_utc_with_milliseconds(wall_s: float, text: str) -> None:
    assert iso(wall_s) == text
