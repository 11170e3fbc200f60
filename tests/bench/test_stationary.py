"""Ramps are found, noise is let pass: rates over many seeds."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import fmean

import pytest

from slo.bench.stationary import blocks, drift, settled, student, trend
from tests.bench.simulated import md1


@pytest.mark.parametrize(
    ("confidence", "freedom", "expected"),
    [(0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 3, 3.182), (0.95, 5, 2.571), (0.95, 10, 2.228), (0.95, 30, 2.042),
     (0.99, 3, 5.841), (0.99, 10, 3.169), (0.99, 60, 2.660), (0.95, 1e6, 1.960)],
)  # fmt: skip
def test_students_quantiles_are_those_of_the_tables(confidence: float, freedom: float, expected: float) -> None:
    assert student(confidence, freedom) == pytest.approx(expected, rel=0.02)


def test_a_line_is_its_own_trend() -> None:
    found = trend([10.0, 12.0, 14.0, 16.0])
    assert (found.rise, found.low, found.high, found.mean) == pytest.approx((6, 6, 6, 13))
    assert found.significant


def test_a_constant_has_no_trend() -> None:
    assert not trend([5.0] * 10).significant
    assert not trend([0.0] * 10).significant


def test_two_values_tell_nothing() -> None:
    assert not trend([1.0, 9.0]).significant


def share(seeds: int, hit: Callable[[random.Random], bool]) -> float:
    return fmean(hit(random.Random(seed)) for seed in range(seeds))


def test_white_noise_has_a_significant_trend_no_more_often_than_stated() -> None:
    assert share(1000, lambda r: trend([r.gauss(100, 20) for _ in range(20)]).significant) <= 0.065


def test_remembering_noise_is_forgiven() -> None:
    """AR(1) with 0.6: the plain interval would cry wolf in about a quarter of cases."""

    def walk(r: random.Random) -> bool:
        values, level = [], 0.0
        for _ in range(60):
            level = 0.6 * level + r.gauss(0, 10)
            values.append(100 + level)
        return trend(values).significant

    assert share(500, walk) <= 0.10


def test_a_warmup_with_noise_settles_soon() -> None:
    assert share(500, lambda r: settled([r.gauss(30, 3) for _ in range(8)])) >= 0.9


def test_a_warmup_that_still_falls_does_not() -> None:
    assert share(500, lambda r: settled([100 - 8 * i + r.gauss(0, 3) for i in range(8)])) <= 0.02


def test_a_warmup_settles_once_its_start_lies_behind() -> None:
    falling = [300.0, 200.0, 100.0, 60.0]
    assert not settled([*falling, 30.0, 31.0])
    assert settled([*falling, *[30.0, 31.0, 29.0, 30.5, 30.0, 29.5, 30.0, 31.0, 29.0, 30.0]])


def queue_by_second(rate: float, seconds: int, seed: int) -> tuple[list[float], list[float]]:
    """In flight and mean latency in ms per second of an M/D/1 queue that serves 100 requests per second."""
    latencies = md1(rate, int(rate * seconds), seed, service_s=0.01)
    size = int(rate)
    waits = [fmean(latencies[i : i + size]) * 1000 for i in range(0, len(latencies) - size, size)]
    return [rate * wait / 1000 for wait in waits], waits


@pytest.mark.parametrize(("rate", "most"), [(50, 0.01), (80, 0.02), (90, 0.05)])
def test_a_stable_queue_does_not_drift(rate: float, most: float) -> None:
    assert fmean(drift(*queue_by_second(rate, 60, seed)) is not None for seed in range(200)) <= most


@pytest.mark.parametrize(("rate", "least"), [(105, 0.8), (115, 0.99), (150, 0.99)])
def test_an_overloaded_queue_drifts(rate: float, least: float) -> None:
    assert fmean(drift(*queue_by_second(rate, 60, seed)) is not None for seed in range(200)) >= least


def test_a_short_run_is_not_judged() -> None:
    assert drift([1.0, 100.0] * 4, [1.0, 100.0] * 4) is None


def test_the_reason_names_the_figures() -> None:
    reason = drift([float(i) for i in range(60)], [10.0 * i for i in range(60)])
    assert reason is not None
    assert "above capacity" in reason


def test_blocks_are_equal_and_drop_the_start() -> None:
    assert blocks([99.0, 1, 1, 2, 2, 3, 3], 3) == [1, 2, 3]
    assert blocks([1.0, 2.0], 20) == [1, 2]
