"""Every request of a run has the same chance to be recorded, whatever the sessions and however fast they went."""

from __future__ import annotations

from statistics import fmean

import pytest

from slo.bench.fair import FairSample, Row
from slo.records import Sample


def sample(number: int, outcome: str = "ok") -> Sample:
    return Sample(float(number), number + 0.001, number + 0.01, outcome, "short")


def fed(fair: FairSample, count: int, first: int = 0) -> FairSample:
    for number in range(first, first + count):
        fair.offer(sample(number))
    return fair


def test_a_short_run_is_kept_whole_and_in_order() -> None:
    fair = fed(FairSample(100, "a"), 100)
    assert [found.due_s for found in fair.samples()] == [float(n) for n in range(100)]


def test_a_long_run_stays_bounded_and_uniform() -> None:
    places = [found.due_s for seed in range(20) for found in fed(FairSample(200, str(seed)), 20_000).samples()]
    assert 20 * 100 <= len(places) <= 20 * 200
    assert fmean(places) == pytest.approx(10_000, rel=0.03)
    assert fmean(place < 5_000 for place in places) == pytest.approx(0.25, abs=0.03)


def test_sessions_count_by_their_requests_and_not_by_their_number() -> None:
    """A first session of 15 000 requests, killed; then two of 2 500, each restored from what was written down."""
    early = 0
    whole = 0
    for seed in range(20):
        written: list[Row] = []
        for session, (first, count) in enumerate(((0, 15_000), (15_000, 2_500), (17_500, 2_500))):
            fair = FairSample(200, f"{seed}/{session}")
            fair.restore(written)
            for start in range(first, first + count, 500):
                fed(fair, 500, start)
                written.append(fair.take())
        assert len(fair.samples()) <= 200
        early += sum(found.due_s < 15_000 for found in fair.samples())
        whole += len(fair.samples())
    assert early / whole == pytest.approx(0.75, abs=0.03)


def test_what_is_written_grows_with_the_logarithm_of_the_run() -> None:
    fair, written = FairSample(1000, "a"), 0
    for start in range(0, 200_000, 1000):
        written += len(fed(fair, 1000, start).take()["rows"])
    assert written <= 1000 * 6  # 1 + ½·log₂(200) = 4.8; a halving leaves a little more or less than half


def test_restored_samples_are_the_same_and_times_are_those_of_the_run() -> None:
    first = FairSample(10, "a", shift_s=5.0)
    first.offer(sample(1, "timeout"))
    again = FairSample(10, "b")
    again.restore([first.take()])
    assert again.samples() == [Sample(6.0, 6.001, 6.01, "timeout", "short", False)]
