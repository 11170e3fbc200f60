"""What is old is thrown away only when two clocks agree on it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from slo.watch.checkpoint import ClockCheck, next_slot
from slo.watch.history.store import Store
from tests.watch.simulated import Simulation, traffic

DAY = 86400.0
NOW = 1_700_000_000.0


def test_a_clock_far_ahead_for_a_moment_is_not_believed() -> None:
    agreement = ClockCheck(NOW)
    assert agreement.look(NOW + 60, 0)
    assert not agreement.look(NOW + 40 * DAY, 8)
    assert agreement.look(NOW + 128, 68), "it is right again"


def test_a_clock_that_is_wrong_at_the_start_is_not_believed_until_a_day_has_passed_in_step() -> None:
    agreement = ClockCheck(NOW)
    for hour in range(24):
        assert not agreement.look(NOW + 40 * DAY + 3600 * hour, 3600.0 * hour)
    assert agreement.look(NOW + 41 * DAY, DAY), "the machine was off that long"


def test_a_restart_meanwhile_does_not_make_it_believed() -> None:
    first = ClockCheck(NOW)
    first.look(NOW + 40 * DAY, 0)
    assert not ClockCheck(first.believed_s).look(NOW + 40 * DAY + 60, 0)


def test_a_new_history_has_nothing_to_lose() -> None:
    assert ClockCheck(None).look(NOW, 0)


@pytest.mark.parametrize("restart", [False, True])
def test_eight_seconds_forty_days_ahead_lose_nothing_of_the_budget(tmp_path: Path, restart: bool) -> None:
    with Store(tmp_path / "history.db") as store:
        simulation = Simulation(store, period="7d")
        simulation.run(120, {"good": 60})
        before = store.query("SELECT * FROM minutes ORDER BY start_s")
        ahead_s = simulation.clock.wall() + 500 * DAY
        if restart:
            simulation.restart()
        slot_s = simulation.engine.slot_s(ahead_s)
        simulation.engine.round([traffic(slot_s, good=60)], ahead_s, monotonic_s=simulation.clock.monotonic() + 8)
        after = store.query("SELECT * FROM minutes WHERE start_s < ? ORDER BY start_s", (slot_s,))
        assert after == before


@pytest.mark.parametrize(
    ("now_s", "last", "expected"),
    [
        pytest.param(185.0, None, 120, id="the first round closes the minute before it"),
        pytest.param(240.001, 120, 180, id="a round on time"),
        pytest.param(239.998, 120, 180, id="a few milliseconds early is not the same minute again"),
        pytest.param(299.0, 120, 180, id="late, but the minute is still the next"),
        pytest.param(900.0, 120, 840, id="after a pause the clock decides"),
        pytest.param(65.0, 7200, 0, id="a clock that was put back decides"),
    ],
)
def test_a_round_belongs_to_the_minute_after_the_last_one(now_s: float, last: int | None, expected: int) -> None:
    assert next_slot(now_s, last, 60) == expected


@pytest.mark.parametrize("jitter_s", [0.0, 0.4, -0.4])
def test_rounds_that_jitter_around_the_full_minute_leave_no_minute_out(jitter_s: float) -> None:
    slots, last = [], None
    for index in range(1, 50):
        last = next_slot(60.0 * index + jitter_s * (-1) ** index, last, 60)
        slots.append(last)
    assert [after - before for before, after in pairwise(slots)] == [60] * 48
