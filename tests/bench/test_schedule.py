"""Due times are pure functions of their seed, and have the rates and shapes that they claim."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.bench.schedule import (
    MOST_REQUESTS,
    constant,
    gamma,
    parse_arrivals,
    poisson,
    ramp,
    read_trace,
    step,
    write_trace,
)
from slo.errors import ConfigError

HEADER = '{"format": 1, "kind": "arrivals"}\n'


def test_what_is_written_is_read_back_sorted_and_shifted(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.jsonl", [(12.0, (4,)), (10.0, (20, 20))])
    trace = read_trace(tmp_path / "t.jsonl")
    assert (trace.due_s, trace.chars) == ([0.0, 2.0], [(20, 20), (4,)])
    assert trace.duration_s == 4.0


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "holds no arrivals"),
        (HEADER, "holds no arrivals"),
        ('{"kind": "run"}\n', ":1: not an arrival"),
        (HEADER + "nonsense\n", ":2: not an arrival"),
        (HEADER + '{"t": 1, "chars": [4]}\n{"t": 0, "chars": [4]}\n', ":3: not an arrival: times go back"),
        (HEADER + '{"t": 1, "chars": []}\n', ":2: not an arrival: lengths"),
        (HEADER + '{"t": 1, "chars": [0]}\n', ":2: not an arrival: lengths"),
        (HEADER + '{"t": 1}\n', ":2: not an arrival"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=where):
        read_trace(tmp_path / "t.jsonl")


def variation(due: Sequence[float]) -> float:
    """Coefficient of variation of the gaps."""
    gaps = [b - a for a, b in pairwise(due)]
    return statistics.stdev(gaps) / statistics.fmean(gaps)


def test_poisson_has_its_rate_and_the_variation_of_independent_callers() -> None:
    due = poisson(50, 1000, seed=1)
    assert len(due) == pytest.approx(50_000, rel=0.02)
    assert variation(due) == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize(("shape", "expected"), [(0.25, 2.0), (1.0, 1.0), (4.0, 0.5)])
def test_gamma_keeps_the_rate_and_varies_by_its_shape(shape: float, expected: float) -> None:
    due = gamma(50, 2000, shape, seed=2)
    assert len(due) == pytest.approx(100_000, rel=0.03)
    assert variation(due) == pytest.approx(expected, rel=0.03)


def test_constant_begins_at_zero_and_keeps_its_distance() -> None:
    assert constant(4, 1) == [0.0, 0.25, 0.5, 0.75]
    assert constant(3, 1) == pytest.approx([0.0, 1 / 3, 2 / 3])


def test_ramp_goes_from_rate_to_rate() -> None:
    due = ramp(10, 110, 100, seed=3)
    first, last = sum(t < 10 for t in due), sum(t >= 90 for t in due)
    assert len(due) == pytest.approx(6000, rel=0.05)
    assert first == pytest.approx(150, rel=0.25)
    assert last == pytest.approx(1050, rel=0.1)


def test_ramp_may_start_or_end_at_nothing() -> None:
    assert len(ramp(0, 20, 100, seed=1)) == pytest.approx(1000, rel=0.12)
    assert len(ramp(20, 0, 100, seed=1)) == pytest.approx(1000, rel=0.12)


def test_steps_follow_one_another() -> None:
    due = step([(10, 100), (50, 100)], seed=4)
    assert sum(t < 100 for t in due) == pytest.approx(1000, rel=0.1)
    assert sum(t >= 100 for t in due) == pytest.approx(5000, rel=0.06)


@given(st.floats(0.5, 200), st.floats(0.5, 20), st.floats(0.2, 5), st.integers(0, 2**31))
def test_due_times_ascend_within_the_duration_and_repeat_with_their_seed(
    rate: float, seconds: float, shape: float, seed: int
) -> None:
    for due in (gamma(rate, seconds, shape, seed), ramp(rate, 2 * rate, seconds, seed), step([(rate, seconds)], seed)):
        assert all(a <= b for a, b in pairwise(due))
        assert all(0 <= t < seconds * (1 + 1e-9) for t in due)
    assert poisson(rate, seconds, seed) == poisson(rate, seconds, seed)


@pytest.mark.parametrize("text", ["poisson", "constant", "gamma:0.5", "ramp:10:20", "step:10@10s,20@5s"])
def test_patterns_are_written_as_documented(text: str) -> None:
    schedule = parse_arrivals(text, rate=20, duration_s=10, seed=1)
    assert schedule.name == text
    assert len(schedule.due_s) > 50
    assert schedule.steady is (not text.startswith(("ramp", "step")))


def test_replay_repeats_times_and_lengths(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace.jsonl", [(5.0, (4,)), (5.5, (20, 50)), (7.0, (4,))])
    schedule = parse_arrivals(f"replay:{tmp_path / 'trace.jsonl'}", rate=None, duration_s=None, seed=1)
    assert list(schedule.due_s) == [0.0, 0.5, 2.0]
    assert schedule.chars == [(4,), (20, 50), (4,)]
    assert schedule.duration_s == 3.0


@pytest.mark.parametrize(
    ("text", "rate", "duration_s", "message"),
    [
        ("poisson", None, 10.0, "--rate is needed"),
        ("poisson", 10.0, None, "--duration is needed"),
        ("poisson", -1.0, 10.0, "not above zero"),
        ("constant", float("nan"), 10.0, "not above zero"),
        ("gamma:x", 10.0, 10.0, "'x' is not a number"),
        ("gamma:0", 10.0, 10.0, "shape 0 is not above zero"),
        ("ramp:1", None, 10.0, "is not a number"),
        ("ramp:-1:5", None, 10.0, "not above zero"),
        ("step:10", None, None, "lacks its duration"),
        ("step:10@5x", None, None, "is not a duration"),
        ("replay:/nowhere", None, None, "/nowhere: cannot be read"),
        ("uniform", 1.0, 1.0, "is no arrival pattern"),
        ("poisson", 1e6, 86400.0, "more than a schedule holds"),
    ],
)
def test_what_is_no_pattern_says_why(text: str, rate: float | None, duration_s: float | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_arrivals(text, rate=rate, duration_s=duration_s, seed=1)


def test_a_schedule_has_a_limit_that_suits_a_long_run() -> None:
    assert MOST_REQUESTS >= 50 * 86400
