"""What is old is thrown away only when two clocks agree on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slo.watch.history.agreement import Agreement
from slo.watch.history.store import Store
from tests.watch.simulated import Simulation, traffic

DAY = 86400.0
NOW = 1_700_000_000.0


def test_a_clock_far_ahead_for_a_moment_is_not_believed() -> None:
    agreement = Agreement(NOW)
    assert agreement.look(NOW + 60, 0)
    assert not agreement.look(NOW + 40 * DAY, 8)
    assert agreement.look(NOW + 128, 68), "it is right again"


def test_a_clock_that_is_wrong_at_the_start_is_not_believed_until_a_day_has_passed_in_step() -> None:
    agreement = Agreement(NOW)
    for hour in range(24):
        assert not agreement.look(NOW + 40 * DAY + 3600 * hour, 3600.0 * hour)
    assert agreement.look(NOW + 41 * DAY, DAY), "the machine was off that long"


def test_a_restart_meanwhile_does_not_make_it_believed() -> None:
    first = Agreement(NOW)
    first.look(NOW + 40 * DAY, 0)
    assert not Agreement(first.believed_s).look(NOW + 40 * DAY + 60, 0)


def test_a_new_history_has_nothing_to_lose() -> None:
    assert Agreement(None).look(NOW, 0)


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
