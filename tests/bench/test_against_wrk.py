"""Cross-check with an independent tool: Debian's `wrk` on a server that answers at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.bench_client import our_callers, session, wrk
from slo.bench.load import LoadPlan, load_once
from slo.bench.schedule import parse_arrivals
from slo.objective import Verdict
from tests.real_servers import program as installed

pytestmark = pytest.mark.quiet

Start = Callable[..., str]
CALLERS = 8


def test_our_figures_are_those_of_wrk_within_a_few_percent(program: Start, tmp_path: Path) -> None:
    """In turns, three times each, the quietest of each: 8 callers of a server that answers each after 20 ms."""
    installed("wrk")
    endpoint = program("batch_server.py", "--fixed", 20, "--apart")
    to = session(endpoint)
    pairs = [(wrk(endpoint, tmp_path, 2, CALLERS), our_callers(to.reseeded(n), tmp_path, 2, CALLERS)) for n in range(3)]
    theirs, ours = zip(*pairs, strict=True)
    assert min(f.p50_ms for f in ours) == pytest.approx(min(f.p50_ms for f in theirs), rel=0.05)
    assert max(f.rate for f in ours) == pytest.approx(max(f.rate for f in theirs), rel=0.05)


def test_the_generator_itself_makes_1500_requests_a_second_and_leaves_them_on_time(program: Start) -> None:
    """On one core, answers of 768 floats; every fiftieth is parsed."""
    to = session(program("null_server.py", 768))
    schedule = parse_arrivals("poisson", rate=1500, duration_s=3, seed=1)
    run = load_once(to, LoadPlan(schedule=schedule, warmup_s=0.3))
    check = run.details["self_check"]
    assert run.verdict is Verdict.MET, (run.void, check)
    assert len(run.samples) == len(schedule.due_s)
    assert check["cpu_share"] < 0.8


def test_at_200_per_second_requests_leave_within_5_ms(program: Start) -> None:
    schedule = parse_arrivals("poisson", rate=200, duration_s=3, seed=1)
    run = load_once(session(program("null_server.py", 768)), LoadPlan(schedule=schedule, warmup_s=0.3))
    assert run.details["self_check"]["lag_p99_ms"] <= 5
