"""A generator that failed makes its run void; one that did well does not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from slo.bench.selfcheck import Instrument, self_check
from slo.clock import ManualClock
from slo.objective import Objective

FINE: dict[str, Any] = {
    "late": 0, "total": 1000, "lag_p99_ms": 1.0, "lag_max_ms": 9.0, "cpu_share": 0.2, "mean_in_flight": 10.0,
    "arrivals_times_stay": 10.1, "clock_drift": 0.0,
}  # fmt: skip


def test_a_good_run_has_no_faults() -> None:
    check = self_check(**FINE, objective=Objective())
    assert (check.faults, check.remarks) == ((), ())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"late": 17}, "late"),
        ({"cpu_share": 0.8}, "core"),
        ({"arrivals_times_stay": 9.4}, "lost"),
        ({"arrivals_times_stay": 10.6}, "lost"),
        ({"clock_drift": 0.011}, "clock"),
        ({"steal": 0.11}, "host"),
    ],
)
def test_each_limit_makes_the_run_void(change: dict[str, float], word: str) -> None:
    (fault,) = self_check(**FINE | change, objective=Objective()).faults
    assert word in fault


@pytest.mark.parametrize(
    "change", [{"late": 10}, {"late": 2, "total": 100}, {"cpu_share": 0.79}, {"clock_drift": 0.01}, {"steal": 0.1}]
)
def test_the_limit_itself_is_allowed(change: dict[str, float]) -> None:
    assert not self_check(**FINE | change, objective=Objective()).faults


def test_small_flaws_are_remarked() -> None:
    check = self_check(**FINE | {"lag_p99_ms": 4.6, "clock_drift": 0.002}, objective=Objective())
    assert not check.faults
    assert len(check.remarks) == 2


def test_a_run_without_requests_has_nothing_to_fault() -> None:
    nothing = FINE | {"total": 0, "lag_p99_ms": math.nan, "mean_in_flight": math.nan, "arrivals_times_stay": math.nan}
    check = self_check(**nothing, objective=Objective())
    assert not check.faults
    assert check.to_json()["lag_p99_ms"] is None


def test_a_wall_clock_that_jumps_is_noticed() -> None:
    clock = ManualClock()
    instrument = Instrument(clock)
    clock.advance(60)
    assert instrument.readings()[1] == pytest.approx(0)
    clock.jump_wall(-3)
    assert instrument.readings()[1] == pytest.approx(0.05)
